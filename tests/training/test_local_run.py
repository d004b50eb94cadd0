"""Whole runs on the real local engine, with a tiny random model: nothing here is scripted."""

from __future__ import annotations

import pytest

from glowgenius.lora.config import LoRAConfig
from glowgenius.training import EarlyStopping, SupervisedTrainer, TrainingConfig
from tests.support.killing import Killed
from tests.support.tiny_models import write_tiny_model
from tests.support.training import Recorder, questions

pytest.importorskip("torch")

TRAIN, HELD_OUT = questions(6), questions(2, prefix="E")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture
def trainer_of(model):
    from glowgenius.local import ServiceClient

    services = []

    def make(folder, *, callbacks=(), **settings):
        services.append(ServiceClient(checkpoint_directory=folder / "checkpoints", device="cpu"))
        chosen = {"batch_size": 2, "num_epochs": 2, "learning_rate": 0.02, "save_every": 2, "eval_every": 3, **settings}
        return SupervisedTrainer(
            str(model),
            lora=LoRAConfig(rank=4, alpha=16.0),
            service=services[-1],
            config=TrainingConfig(output_dir=folder, **chosen),
            callbacks=callbacks,
        )

    yield make
    for service in services:
        service.close().result(timeout=60)


def adapter_of(result, folder):
    return (result.save_adapter(folder) / "adapter_model.safetensors").read_bytes()


def test_it_learns(trainer_of, tmp_path):
    recorder = Recorder()
    run = trainer_of(tmp_path, callbacks=[recorder, EarlyStopping()], num_epochs=12)
    result = run.train(TRAIN, HELD_OUT)
    assert result.history.train_loss[-1] < 0.5 * result.history.train_loss[0]
    assert result.history.series("eval_loss")[0][0] == 0
    parameters = LoRAConfig(rank=4).parameter_count(run.base_model)
    assert recorder.events[0].header[1].endswith(f"seed 0; {parameters:,} trained parameters")
    assert recorder.events[0].header[0] == "engine: local, because service= was given"
    before = run.base_sampler().answer_nll(TRAIN)
    after = result.sampler.answer_nll(TRAIN)
    assert sum(after) < sum(before)


def test_a_killed_run_is_resumed_to_the_same_bits(trainer_of, tmp_path):
    whole = trainer_of(tmp_path / "whole").train(TRAIN, HELD_OUT)

    def die(event):
        if event.step == 5:
            raise Killed

    with pytest.raises(Killed):
        trainer_of(tmp_path / "broken", callbacks=[Recorder(on_step_end=die)]).train(TRAIN, HELD_OUT)
    resumed = trainer_of(tmp_path / "broken").train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert resumed.history == whole.history
    assert adapter_of(resumed, tmp_path / "one") == adapter_of(whole, tmp_path / "other")


def test_the_reported_loss_is_the_engines_own_mean(trainer_of, tmp_path):
    """What sampling says about the same rows under the same weights is what the evaluation said."""
    result = trainer_of(tmp_path, max_steps=3).train(TRAIN, HELD_OUT)
    rows = result.sampler.answer_logprobs(HELD_OUT)
    mean = -sum(float(row.sum()) for row in rows) / sum(len(row) for row in rows)
    assert result.history.eval_loss[-1] == pytest.approx(mean, rel=1e-4)
