"""A second stage: weights of an earlier training, a fresh optimizer, other data."""

from __future__ import annotations

import json
import shutil

import pytest

from glowgenius.errors import CheckpointError, ConfigError, ResumeMismatchError
from glowgenius.lora.config import LoRAConfig
from glowgenius.testing import ScriptedService
from glowgenius.training import SupervisedTrainer, TrainingConfig
from glowgenius.training.adapter_export import model_card
from tests.support.tiny_models import write_tiny_model
from tests.support.training import TOKENIZER, TRAIN, questions, trainer

OTHER = questions(8, prefix="Z")


@pytest.fixture
def service():
    return ScriptedService(tokenizer=TOKENIZER)


def first(service, folder, **settings):
    return trainer(service, output_dir=folder, lora=LoRAConfig(rank=4), max_steps=3, **settings).train(TRAIN)


def settings(folder):
    return json.loads((folder / "config.json").read_text(encoding="utf-8"))


def loads(service):
    return [operation.path for operation in service.operations("create_training_client_from_state")]


def test_the_weights_are_taken_and_the_optimizer_is_fresh(service, tmp_path):
    one = first(service, tmp_path / "one")
    two = trainer(service, output_dir=tmp_path / "two", max_steps=2).train(OTHER, initial_weights=tmp_path / "one")
    assert loads(service) == [one.final_checkpoint.state_path]
    assert len(service.operations("create_training_client_from_state_with_optimizer")) == 0
    assert [row["step"] for row in two.history.rows if "train/loss" in row] == [1, 2]
    # A fresh adapter on the same data is elsewhere after as many updates.
    fresh = trainer(service, lora=LoRAConfig(rank=4), max_steps=2).train(OTHER)
    assert two.history.rows[-1]["train/loss"] != fresh.history.rows[-1]["train/loss"]


@pytest.mark.parametrize("kind", ["folder", "text", "result", "result without a folder", "state path"])
def test_what_can_be_named(kind, service, tmp_path):
    folder = None if kind == "result without a folder" else tmp_path / "one"
    one = first(service, folder)
    named = {
        "folder": folder,
        "text": str(folder),
        "result": one,
        "result without a folder": one,
        "state path": one.final_checkpoint.state_path,
    }[kind]
    lora = LoRAConfig(rank=4) if kind == "state path" else None
    trainer(service, max_steps=1, lora=lora).train(OTHER, initial_weights=named)
    assert loads(service) == [one.final_checkpoint.state_path]


def test_the_run_folder_and_the_card_know_where_the_weights_come_from(service, tmp_path):
    first(service, tmp_path / "one")
    trainer(service, output_dir=tmp_path / "two", max_steps=2).train(OTHER, initial_weights=tmp_path / "one")
    three = trainer(service, output_dir=tmp_path / "three", max_steps=1)
    three.train(questions(4, prefix="Y"), initial_weights=tmp_path / "two")
    said = settings(tmp_path / "three")
    initial = said["initial_weights"]
    assert (initial["run"], initial["step"], initial["lora"]["rank"]) == (str(tmp_path / "two"), 2, 4)
    assert said["load_checkpoint_path"] == initial["path"]
    assert (initial["data"], initial["before"]["data"]) == (OTHER.fingerprint, TRAIN.fingerprint)
    assert (
        f"initial weights: {tmp_path / 'two'}, step 2 (rank 4); optimizer and schedule start afresh" in said["header"]
    )
    config = {"r": 4, "lora_alpha": 32, "base_model_name_or_path": "scripted", "target_modules": []}
    card = model_card(config, trained_on="scripted", step=1, settings=said, rows=[])
    stages = ((initial["path"], 2, OTHER), (initial["before"]["path"], 3, TRAIN))
    line = " ← ".join(f"{path}, step {step}, trained on data {data.fingerprint}" for path, step, data in stages)
    assert f"| initial weights | {line} |" in card
    assert str(tmp_path) not in card


def test_the_adapter_keeps_its_size(service, tmp_path):
    first(service, tmp_path / "one")
    two = trainer(service, max_steps=1, lora=LoRAConfig(rank=8, train_unembed=False))
    with pytest.raises(ConfigError) as error:
        two.train(OTHER, initial_weights=tmp_path / "one")
    assert str(error.value) == (
        "initial_weights: their adapter has rank=4, not 8, train_unembed=True, not False, and an adapter keeps its "
        "size and place. Make the trainer with lora=LoRAConfig(rank=4), or say nothing of its adapter, which "
        "takes theirs"
    )
    assert len(service.operations("create_training_client_from_state")) == 0
    trainer(service, max_steps=1, lora=LoRAConfig(rank=4, seed=9)).train(OTHER, initial_weights=tmp_path / "one")


def test_a_size_that_only_the_engine_knows_is_compared_too(service, tmp_path):
    path = first(service, tmp_path / "one").final_checkpoint.state_path
    with pytest.raises(ConfigError, match=r"their adapter has rank 4, .*lora=LoRAConfig\(rank=4"):
        trainer(service, max_steps=1, lora=LoRAConfig(rank=8)).train(OTHER, initial_weights=path)


def test_weights_of_another_base_model_are_refused(service, tmp_path):
    one = first(service, tmp_path / "one")
    for named in (tmp_path / "one", one.final_checkpoint.state_path):
        other = trainer(service, base_model="another", max_steps=1, lora=LoRAConfig(rank=4))
        with pytest.raises(ConfigError, match="trained on 'scripted', and this trainer has 'another'"):
            other.train(OTHER, initial_weights=named)


def test_a_resumed_run_remembers_what_it_began_with(service, tmp_path):
    first(service, tmp_path / "one")
    first(service, tmp_path / "else", learning_rate=0.25)
    begun = trainer(service, output_dir=tmp_path / "two", max_steps=2, lr_schedule="constant")
    begun.train(OTHER, initial_weights=tmp_path / "one")
    longer = trainer(service, output_dir=tmp_path / "two", max_steps=4, lr_schedule="constant")
    with pytest.raises(ResumeMismatchError, match="the initial weights: "):
        longer.train(OTHER, initial_weights=tmp_path / "else", resume_from_checkpoint=True)
    assert longer.train(OTHER, resume_from_checkpoint=True).final_checkpoint.step == 4
    assert settings(tmp_path / "two")["initial_weights"]["run"] == str(tmp_path / "one")


def test_a_run_that_is_restarted_before_its_first_checkpoint_begins_with_them_again(tmp_path):
    from glowgenius.errors import ServiceUnavailableError

    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"optim_step": {4: ServiceUnavailableError("gone")}})
    path = first(service, tmp_path / "one").final_checkpoint.state_path
    two = trainer(service, output_dir=tmp_path / "two", max_steps=2).train(OTHER, initial_weights=tmp_path / "one")
    assert len(two.restarts) == 1
    assert loads(service) == [path, path]


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ("nowhere", "initial_weights: 'nowhere' does not exist; accepted: the folder of a run, "),
        (3, r"initial_weights must be the folder of a run, .*; got 3 \(int\)"),
    ],
)
def test_what_cannot_be_named(named, message, service, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=message):
        trainer(service).train(OTHER, initial_weights=named)


def test_a_folder_of_something_else_is_refused(service, tmp_path):
    with pytest.raises(ConfigError, match="holds neither a run nor a checkpoint nor an adapter"):
        trainer(service).train(OTHER, initial_weights=tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"adapter_model\.safetensors is missing"):
        trainer(service).train(OTHER, initial_weights=tmp_path)


def test_a_trainer_around_a_client_has_weights_already(service, tmp_path):
    first(service, tmp_path / "one")
    client = service.create_lora_training_client("scripted").result()
    made = SupervisedTrainer.from_client(client, renderer=trainer().renderer, config=TrainingConfig(learning_rate=0.1))
    with pytest.raises(ConfigError, match="a trainer made from a client takes no initial_weights"):
        made.train(OTHER, initial_weights=tmp_path / "one")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    pytest.importorskip("torch", reason="not installed: torch; pip install '.[local]'")
    return write_tiny_model(tmp_path_factory.mktemp("model"))


class TestLocally:
    @pytest.fixture
    def make(self, base, tmp_path):
        from glowgenius.local import ServiceClient

        service = ServiceClient(checkpoint_directory=tmp_path / "store", device="cpu")

        def make(folder=None, *, model=base, lora=None, **settings):
            settings = {"batch_size": 4, "max_steps": 3, "learning_rate": 0.01, **settings}
            extra = {} if lora is None else {"lora": lora}
            where = None if folder is None else tmp_path / folder
            config = TrainingConfig(output_dir=where, **settings)
            return SupervisedTrainer(str(model), service=service, config=config, **extra)

        return make

    @pytest.mark.parametrize("kind", ["run", "moved run", "state", "weights", "adapter", "adapter alone"])
    def test_it_begins_where_the_other_ended(self, kind, make, tmp_path):
        lora = LoRAConfig(rank=2, train_unembed=False)
        one = make("one", lora=lora).train(questions(8), eval_dataset=OTHER)
        named = tmp_path / "one"
        if kind == "moved run":
            named = shutil.move(tmp_path / "one", tmp_path / "moved")
        elif kind in {"state", "weights"}:
            named = one.final_checkpoint.state_path if kind == "state" else one.final_checkpoint.sampler_path
        elif kind.startswith("adapter"):
            named = one.save_adapter(tmp_path / "adapter")
            if kind == "adapter alone":
                (named / "glowgenius.json").unlink(missing_ok=True)
        known = {} if kind != "adapter alone" else {"lora": lora}
        two = make("two", **known).train(questions(4), eval_dataset=OTHER, initial_weights=named)
        last, begins = one.history.rows[-1]["eval/loss"], two.history.rows[0]["eval/loss"]
        assert begins == pytest.approx(last, rel=1e-6)
        assert two.history.rows[-1]["eval/loss"] != begins

    def test_peft_adapters_that_are_more_than_lora_are_refused(self, make, tmp_path):
        adapter = make(lora=LoRAConfig(rank=2)).train(questions(4)).save_adapter(tmp_path / "adapter")
        (adapter / "glowgenius.json").unlink(missing_ok=True)
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        (adapter / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}), encoding="utf-8")
        with pytest.raises(CheckpointError, match="uses use_dora, which the local engine does not compute"):
            make(lora=LoRAConfig(rank=2)).train(questions(4), initial_weights=adapter)

    def test_other_weights_of_a_model_of_the_same_name_are_refused(self, make, base, tmp_path):
        make("one", lora=LoRAConfig(rank=2)).train(questions(4))
        other = write_tiny_model(tmp_path / "other", seed=5)
        with pytest.raises(ConfigError, match="they were trained on "):
            make(model=other).train(questions(4), initial_weights=tmp_path / "one")
