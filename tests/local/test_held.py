"""A finished run leaves nothing behind: no thread, no tensor, no open file."""

from __future__ import annotations

import gc
import weakref

import pytest

import glowgenius as gg
from glowgenius.errors import ConfigError
from tests.benchmarks.held import held, measure

ROWS = gg.Dataset.from_records([{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(4)])


@pytest.fixture(autouse=True)
def own_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("GLOWGENIUS_CACHE", str(tmp_path / "cache"))


def flat(figures):
    first = figures[0]
    return all((one.threads, one.files) == (first.threads, first.files) for one in figures) and all(
        one.tensor_mb <= first.tensor_mb + 0.01 for one in figures
    )


def test_runs_that_are_dropped_leave_nothing(tiny):
    assert flat(measure(tiny(), runs=8, rank=8, every=3))


def test_runs_through_transformers_leave_nothing(tiny):
    assert flat(measure(tiny("gemma3"), runs=4, rank=8, every=1))


@pytest.fixture
def result(tiny):
    config = gg.TrainingConfig(num_epochs=1, batch_size=4, learning_rate=1e-3)
    return gg.SupervisedTrainer(str(tiny()), lora=gg.LoRAConfig(rank=8), config=config).train(ROWS)


def test_a_result_that_is_closed_gives_its_model_back(result):
    with result as same:
        assert same is result
        assert result.sampler.generate("What is 3?", max_tokens=2) is not None
        open_run = held(1)
        client = weakref.ref(result._client)
    gc.collect()
    assert client() is None
    assert held(1).tensor_mb < open_run.tensor_mb / 2
    assert held(1).threads < open_run.threads
    result.close()
    assert result.history.train_loss
    assert result.final_checkpoint.step == 1
    for use in (lambda: result.sampler, lambda: result.save_adapter("nowhere")):
        with pytest.raises(ConfigError) as caught:
            use()
        assert str(caught.value) == (
            "this TrainingResult was closed, so it has no model any more; use its samplers inside of the with block, "
            "or do not call close() before"
        )


def test_a_run_that_fails_leaves_nothing(tiny):
    class Broken(gg.Callback):
        def on_step_end(self, event):
            raise RuntimeError("broken")

    def fail():
        config = gg.TrainingConfig(num_epochs=1, batch_size=4, learning_rate=1e-3)
        trainer = gg.SupervisedTrainer(str(tiny()), lora=gg.LoRAConfig(rank=8), config=config, callbacks=[Broken()])
        with pytest.raises(RuntimeError, match="broken"):
            trainer.train(ROWS)

    figures = []
    for number in range(4):
        fail()
        figures.append(held(number))
    assert flat(figures[1:])


def test_a_run_without_a_folder_leaves_nothing_on_the_disk(result, tmp_path):
    [store] = list((tmp_path / "cache" / "temporary").glob("*/*"))
    assert result.final_checkpoint.state_path.startswith(str(store))
    adapter = result.save_adapter(tmp_path / "adapter")
    sampler = result.sampler
    result.close()
    assert not store.exists()
    assert sampler.generate("What is 3?", max_tokens=2) is not None
    assert (adapter / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "cache" / "checkpoints").exists()


def test_a_service_that_was_given_a_folder_keeps_its_checkpoints_there(service, tiny, tmp_path):
    config = gg.TrainingConfig(num_epochs=1, batch_size=4, learning_rate=1e-3)
    trainer = gg.SupervisedTrainer(str(tiny()), lora=gg.LoRAConfig(rank=2), service=service, config=config)
    path = trainer.train(ROWS).final_checkpoint.state_path
    gc.collect()
    assert path.startswith(str(tmp_path / "checkpoints"))
    assert service.create_training_client_from_state(path).result().get_info().lora_rank == 2
