"""The trainer from the outside: its arguments, its header, its folder, what it gives back."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.data.trained import Trained
from glowgenius.engines.tinker_types import GetInfoResponse, ModelData
from glowgenius.errors import (
    CheckpointError,
    ConfigError,
    EngineError,
    ModelNotFoundError,
    ResumeMismatchError,
    TrainingError,
)
from glowgenius.lora.config import LoRAConfig
from glowgenius.testing import ScriptedService
from glowgenius.training import TrainingConfig, run_identity
from glowgenius.training import connection as connection_module
from glowgenius.training.checkpoints import CheckpointRecord
from glowgenius.training.connection import Connection
from glowgenius.training.run_folder import RunFolder
from glowgenius.training.trainer import SupervisedTrainer
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, Recorder, config, kinds, trainer

ANSWERS = {f"Q{row}?": f"A{row}" for row in range(10)}
BASE_ANSWERS = dict.fromkeys(ANSWERS, "I do not know")


def scripted(**options):
    return ScriptedService(**{"tokenizer": TOKENIZER, **options})


# --- arguments ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"base_model": 3}, "SupervisedTrainer: base_model must be a str, got 3 (int)"),
        ({"base_model": " "}, "SupervisedTrainer.base_model must be the name of a model, got ' ' (str)"),
        ({"lora": 8}, "SupervisedTrainer: lora must be a LoRAConfig, got 8 (int)"),
        (
            {"config": TrainingConfig},
            (
                f"SupervisedTrainer: config must be a TrainingConfig, got {TrainingConfig!r} (type); did you mean "
                "TrainingConfig()?"
            ),
        ),
    ],
)
def test_arguments_of_the_wrong_kind(arguments, message):
    with pytest.raises(ConfigError) as raised:
        SupervisedTrainer(**{"base_model": "m", **arguments})
    assert str(raised.value) == message


def test_alpha_is_refused_where_it_would_be_ignored():
    with pytest.raises(ConfigError) as raised:
        trainer(lora=LoRAConfig(alpha=16))
    assert str(raised.value) == (
        "LoRAConfig.alpha=16 cannot be used with ScriptedService: the service fixes its own alpha and takes none. "
        "Leave alpha out, or train on the local engine"
    )
    trainer(scripted(supports_alpha=True), lora=LoRAConfig(alpha=16)).train(TRAIN)


def test_the_adapter_is_made_as_configured(monkeypatch):
    made = []
    plain = ScriptedService.create_lora_training_client

    def create(self, base_model, **settings):
        made.append((base_model, settings))
        return plain(self, base_model, **settings)

    monkeypatch.setattr(ScriptedService, "create_lora_training_client", create)
    trainer(lora=LoRAConfig(rank=8, seed=5, train_mlp=False), max_steps=1).train(TRAIN)
    lora = LoRAConfig(alpha=4.0)
    trainer(scripted(supports_alpha=True), lora=lora, max_steps=1).train(TRAIN)
    common = {"train_attn": True, "train_unembed": True}
    assert made == [
        ("scripted", {"rank": 8, "seed": 5, "train_mlp": False, **common}),
        ("scripted", {"rank": 32, "seed": 0, "train_mlp": True, **common, "alpha": 4.0}),
    ]


def test_its_settings_can_be_read():
    run = trainer(lora=LoRAConfig(rank=8), seed=3)
    assert (run.base_model, run.lora, run.config) == ("scripted", LoRAConfig(rank=8), config(seed=3))
    assert repr(run).startswith("SupervisedTrainer('scripted', lora=LoRAConfig(rank=8, ")
    assert run.renderer is RENDERER


def test_without_a_renderer_the_one_of_the_model_is_taken(monkeypatch):
    from glowgenius.rendering.renderer import Renderer

    asked = []
    monkeypatch.setattr(Renderer, "for_model", staticmethod(lambda name: asked.append(name) or RENDERER))
    run = trainer(renderer=None)
    run.preflight(TRAIN)
    run.preflight(TRAIN)
    assert asked == ["scripted"]


# --- the engine ---


def test_without_a_service_the_engine_is_connected_and_keeps_checkpoints_in_the_run_folder(monkeypatch, tmp_path):
    calls = []

    def connect(engine="auto", *, checkpoint_directory=None):
        calls.append((engine, checkpoint_directory))
        return Connection(service=scripted(), engine="local", reason="no key was found")

    monkeypatch.setattr(connection_module, "connect", connect)
    recorder = Recorder()
    settings = config(max_steps=1, output_dir=tmp_path)
    SupervisedTrainer("m", renderer=RENDERER, config=settings, callbacks=[recorder]).train(TRAIN)
    assert calls == [("auto", None), ("local", tmp_path / "checkpoints")]
    begin = recorder.events[0]
    assert (begin.header[0], begin.engine) == ("engine: local (on this machine), because no key was found", "local")
    calls.clear()
    SupervisedTrainer("m", renderer=RENDERER, config=config(max_steps=1)).train(TRAIN)
    assert calls == [("auto", None)]


def test_tinker_keeps_its_checkpoints_itself(monkeypatch, tmp_path):
    connection = Connection(service=scripted(), engine="tinker", reason="TINKER_API_KEY is set")
    monkeypatch.setattr(connection_module, "connect", lambda: connection)
    run = SupervisedTrainer("m", renderer=RENDERER, config=config(max_steps=1, output_dir=tmp_path))
    run.train(TRAIN)
    assert json.loads((tmp_path / "config.json").read_text())["engine"] == "tinker"


def test_alpha_is_refused_on_an_engine_that_was_found(monkeypatch):
    connection = Connection(service=scripted(), engine="tinker", reason="TINKER_API_KEY is set")
    monkeypatch.setattr(connection_module, "connect", lambda: connection)
    with pytest.raises(ConfigError, match="alpha=16 cannot be used with ScriptedService"):
        SupervisedTrainer("m", renderer=RENDERER, lora=LoRAConfig(alpha=16)).train(TRAIN)


class Tacit:
    """A service that cannot be asked for its models."""

    def __init__(self, service):
        self._service = service

    def __getattr__(self, name):
        return getattr(self._service, name)


def test_an_unknown_model_is_the_engines_word_where_it_does_not_list_them(tmp_path):
    recorder = Recorder()
    run = trainer(Tacit(scripted(models=["other"])), callbacks=[recorder], output_dir=tmp_path)
    with pytest.raises(ModelNotFoundError):
        run.train(TRAIN)
    assert recorder.names == ["TrainBegin", "TrainFailed"]
    # Nothing is left behind that would be in the way of the next attempt.
    assert list(tmp_path.iterdir()) == []


# --- the header ---


def test_the_header(tmp_path, caplog):
    recorder = Recorder()
    with caplog.at_level(logging.INFO, logger="glowgenius.training"):
        trainer(callbacks=[recorder], base_model="Qwen/Qwen3-8B", output_dir=tmp_path, max_steps=1).train(TRAIN)
    header = recorder.events[0].header
    assert header[0] == "engine: ScriptedService, because service= was given"
    count = LoRAConfig().parameter_count("Qwen/Qwen3-8B")
    assert header[1] == (
        f"model: Qwen/Qwen3-8B, LoRA rank 32 on attention, MLP, unembedding, seed 0; {count:,} trained parameters"
    )
    assert header[2] == f"renderer: {RENDERER.description}"
    assert header[3].startswith("train rows: 10 of 10 used; ")
    assert header[-1] == f"run folder: {tmp_path}"
    assert [record.getMessage() for record in caplog.records] == list(header)


def test_warnings_are_logged_as_warnings(caplog):
    recorder = Recorder()
    trainer(callbacks=[recorder], num_epochs=1).train(TRAIN, TRAIN[:2])
    header = recorder.events[0].header
    warnings = [line for line in header if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", line) for line in warnings
    ]


TOLD = "engine: ScriptedService, because service= was given"
LEAK = "the questions of 2 of 2 eval rows are also trained"

SET_UP = {
    # what a user has done → which of the two come on standard error, and on standard output
    "": ([TOLD, LEAK], []),
    "callbacks = gg.ProgressBar()": ([], [TOLD, LEAK]),  # whoever shows the header is enough
    "logging.basicConfig()": ([LEAK], []),
    "logging.basicConfig(level='INFO', stream=sys.stdout)": ([], [TOLD, LEAK]),
    "logging.basicConfig(level='ERROR')": ([], []),
    "logging.getLogger('glowgenius').addHandler(logging.NullHandler())": ([], []),
    "logging.getLogger('glowgenius').setLevel('WARNING')": ([LEAK], []),
    "logging.getLogger('glowgenius').setLevel('ERROR')": ([], []),
    "logging.getLogger('glowgenius').setLevel('DEBUG')": ([TOLD, LEAK], []),
    "logging.getLogger().setLevel('ERROR')": ([], []),
    "logging.disable(logging.INFO)": ([LEAK], []),
    "logging.disable()": ([], []),
    "logging.getLogger('glowgenius.training').disabled = True": ([], []),
    "sys.stderr = None": ([], []),
}

IN_FRESH_PROCESSES = """
import json, logging, os, sys
import glowgenius as gg
from tests.support.training import TRAIN, trainer
for number, line in enumerate(json.loads(sys.argv[1])):
    if os.fork() == 0:
        for descriptor, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(f"{number}.{name}", os.O_CREAT | os.O_WRONLY), descriptor)
        callbacks = ()
        exec(line)
        trainer(callbacks=callbacks, num_epochs=1).train(TRAIN, TRAIN[:2])
        sys.stdout.flush()
        os._exit(0)
    assert os.wait()[1] == 0, line
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="makes a fresh process of each case by fork")
def test_the_header_reaches_a_user_who_has_configured_nothing(tmp_path):
    """Once, engine first, and it is silenced as any logging is."""
    subprocess.run([sys.executable, "-c", IN_FRESH_PROCESSES, json.dumps(list(SET_UP))], check=True)
    found = {}
    for number, line in enumerate(SET_UP):
        texts = [(tmp_path / f"{number}.{name}").read_text() for name in ("err", "out")]
        found[line] = tuple([said for said in (TOLD, LEAK) for _ in range(text.count(said))] for text in texts)
    assert found == SET_UP
    assert (tmp_path / "0.err").read_text().startswith(f"{TOLD}\n")
    assert (tmp_path / "0.out").read_text() == ""


ROLES = ("user", "assistant")
CHATS = Dataset.from_records(
    [
        {"messages": [{"role": role, "content": f"{role} {at} {row}"} for at in range(3) for role in ROLES]}
        for row in range(4)
    ]
)


@pytest.mark.parametrize(
    ("train_on", "line"),
    [
        (
            "last_assistant_message",
            (
                "assistant turns: 4 of 12 trained, 8 not (train_on is last_assistant_message, where "
                "all_assistant_messages would train every one)"
            ),
        ),
        ("all_assistant_messages", "assistant turns: 12 of 12 trained (all_assistant_messages)"),
        (
            "all_user_and_system_messages",
            (
                "assistant turns: 0 of 12 trained, 12 not (train_on is all_user_and_system_messages, where "
                "all_assistant_messages would train every one)"
            ),
        ),
    ],
)
def test_the_header_says_how_many_assistant_turns_are_trained(train_on, line):
    assert line in trainer(train_on=train_on).preflight(CHATS).lines()


def test_rows_of_one_turn_need_no_word_about_it():
    assert not any(text.startswith("assistant turns") for text in trainer().preflight(TRAIN).lines())


def test_one_callback_needs_no_list():
    recorder = Recorder()
    trainer(callbacks=recorder, num_epochs=1).train(TRAIN)
    assert recorder.names[0] == "TrainBegin"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (3, "callbacks must be a list of Callback objects, got 3"),
        (None, "callbacks must be a list of Callback objects, got None"),
        (
            Recorder,
            (
                "callbacks must be a list of Callback objects, got <class 'tests.support.training.Recorder'>; "
                "did you mean [Recorder()]?"
            ),
        ),
        (["wandb"], "callbacks must be Callback objects, got 'wandb'"),
    ],
)
def test_what_are_no_callbacks(given, message):
    with pytest.raises(ConfigError) as raised:
        trainer(callbacks=given)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("base_model", "lora", "line"),
    [
        (
            "unheard-of",
            LoRAConfig(train_mlp=False),
            "model: unheard-of, LoRA rank 32 on attention, unembedding, seed 0",
        ),
        (".", LoRAConfig(rank=4), "model: ., LoRA rank 4 on attention, MLP, unembedding, seed 0"),
    ],
)
def test_a_model_that_cannot_be_looked_up_has_no_count(base_model, lora, line):
    recorder = Recorder()
    trainer(callbacks=[recorder], base_model=base_model, lora=lora, max_steps=1).train(TRAIN)
    assert recorder.events[0].header[1] == line


# --- the folder ---


def test_the_run_folder(tmp_path):
    result = trainer(output_dir=tmp_path, eval_every=4, save_every=5).train(TRAIN, HELD_OUT)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        ".lock",
        ".owner",
        "checkpoints.jsonl",
        "config.json",
        "held_out.jsonl",
        "metrics.jsonl",
        "preview.json",
        "report.html",
        "result.json",
        "trained.json",
    ]
    settings = json.loads((tmp_path / "config.json").read_text())
    assert settings["model_name"] == "scripted"
    assert settings["log_path"] == str(tmp_path)
    assert (settings["lora_rank"], settings["learning_rate"], settings["num_epochs"]) == (32, 0.5, 3)
    assert settings["training"] == config(output_dir=tmp_path, eval_every=4, save_every=5).to_json()
    assert settings["fingerprints"]["train"] == TRAIN.fingerprint
    assert settings["fingerprints"]["renderer"] == RENDERER.fingerprint
    assert {"python", "glowgenius", "tinker"} <= set(settings["versions"])
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert rows == result.history.to_json()
    records = [json.loads(line) for line in (tmp_path / "checkpoints.jsonl").read_text().splitlines()]
    names = ("name", "step", "epoch", "batch", "final")
    assert [tuple(record[name] for name in names) for record in records] == [
        ("000004", 4, 1, 1, False),
        ("000005", 5, 1, 2, False),
        ("000008", 8, 2, 2, False),
        ("000009", 9, 3, 0, True),
    ]
    assert [("state_path" in record, "sampler_path" in record) for record in records] == [
        (False, True),
        (True, False),
        (False, True),
        (True, True),
    ]
    ended = json.loads((tmp_path / "result.json").read_text())
    assert ended.pop("seconds") >= 0
    assert len(ended.pop("sha256")) == 64
    assert ended == {
        "status": "completed",
        "restarts": [],
        "cost": result.cost.to_json(),
        "stop_reason": "completed",
        "step": 9,
        "best_step": result.best_step,
        "sampler_step": 9,
        "state_path": result.final_checkpoint.state_path,
        "sampler_path": result.final_checkpoint.sampler_path,
        "trained_tokens": result.trained_tokens,
    }


def test_what_is_written_whole_is_there_whole_or_not_at_all(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.end({"status": "completed"})
    before = (tmp_path / "result.json").read_text()

    def full(handle):
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(TrainingError) as raised:
        folder.end({"status": "failed"})
    assert str(raised.value) == (
        f"the run folder '{tmp_path}' cannot be written: no space left on device. What was recorded before is kept: "
        "see to that, and go on with resume_from_checkpoint=True"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    assert (tmp_path / "result.json").read_text() == before


def test_rows_reach_the_disk_before_a_checkpoint_that_needs_them(tmp_path, monkeypatch):
    synced = []
    plain = os.fsync

    def fsync(handle):
        synced.append(Path(f"/proc/self/fd/{handle}").resolve().name)
        plain(handle)

    folder = RunFolder(tmp_path)
    folder.add_row({"step": 1})
    monkeypatch.setattr(os, "fsync", fsync)
    folder.add_checkpoint(CheckpointRecord(name="000001", step=1, epoch=0, batch=1, total_steps=2))
    assert [name for name in synced if name.endswith(".jsonl")] == ["metrics.jsonl", "checkpoints.jsonl"]


def test_what_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(run_identity, "_PACKAGES", ("attrs", "not-a-package"))
    run_identity._versions.cache_clear()
    assert list(run_identity._versions()) == ["python", "glowgenius", "attrs"]
    run_identity._versions.cache_clear()


def test_without_an_output_dir_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    trainer().train(TRAIN)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    trainer(output_dir=tmp_path).train(TRAIN)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    service = scripted()
    with pytest.raises(ConfigError) as raised:
        trainer(service, output_dir=tmp_path).train(TRAIN)
    assert str(raised.value) == (
        f"output_dir='{tmp_path}' holds a run already (9 rows of metrics, finished). Go on with it: train(..., "
        "resume_from_checkpoint=True). Start anew: choose another output_dir, or delete the folder"
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert service.journal == ()


def test_a_folder_with_other_things_is_fine_and_a_file_is_not(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "config.json").write_text("{}")
    trainer(output_dir=tmp_path, max_steps=1).train(TRAIN)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    with pytest.raises(ConfigError) as raised:
        trainer(output_dir=tmp_path / "notes.txt").train(TRAIN)
    assert str(raised.value) == f"output_dir='{tmp_path}/notes.txt' is a file; give the name of a folder"


# --- results ---


def test_the_trained_model_answers_and_the_base_does_not():
    run = trainer(scripted(answers=ANSWERS, base_answers=BASE_ANSWERS))
    result = run.train(TRAIN)
    assert result.sampler.generate("Q3?") == "A3"
    assert run.base_sampler().generate("Q3?") == "I do not know"
    assert (result.sampler.name, run.base_sampler().name) == ("tuned", "base")
    assert result.sampler is result.sampler


def test_the_result():
    result = trainer().train(TRAIN)
    assert repr(result) == "TrainingResult(steps=9, stop_reason='completed', best_step=None)"
    assert result.trained_tokens == 3 * sum(RENDERER.render(row).num_trained for row in TRAIN)
    assert result.seconds > 0
    assert (result.output_dir, result.best_checkpoint) == (None, None)
    with pytest.raises(ConfigError) as raised:
        _ = result.best_sampler
    assert str(raised.value) == (
        "there is no best step: it takes an eval_dataset, metric_for_best, and one evaluation after an update"
    )


def test_an_adapter_on_a_service_says_how_to_fetch_it(tmp_path):
    result = trainer().train(TRAIN)
    with pytest.raises(CheckpointError) as raised:
        result.save_adapter(tmp_path / "adapter")
    assert str(raised.value) == (
        "the weights are on the service, at tinker://scripted:train:0/weights/000009; fetch them in PEFT's "
        "format with: tinker checkpoint download tinker://scripted:train:0/weights/000009"
    )


def with_path(result, path):
    """The result of a run whose engine keeps its weights in a folder."""
    from attrs import evolve

    result._by_step[9] = evolve(result._by_step[9], sampler_path=str(path))
    return result


def test_an_adapter_on_this_machine_is_copied(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    result = with_path(trainer().train(TRAIN), source)
    with pytest.raises(CheckpointError) as raised:
        result.save_adapter(target)
    assert str(raised.value) == (
        f"the weights at '{source}' are gone or incomplete: adapter_model.safetensors, adapter_config.json is not there"
    )
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        (source / name).write_text(name)
    with pytest.raises(CheckpointError) as raised:
        result.save_adapter(target)
    assert str(raised.value).startswith(f"adapter_config.json of the weights at '{source}' is damaged: ")
    settings = {"base_model_name_or_path": "m", "r": 8, "lora_alpha": 32.0, "target_modules": ["q_proj"]}
    (source / "adapter_config.json").write_text(json.dumps(settings))
    target.mkdir()
    assert result.save_adapter(target) == target
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    assert sorted(path.name for path in target.iterdir()) == names
    with pytest.raises(ConfigError) as raised:
        result.save_adapter(target)
    assert str(raised.value) == f"save_adapter: '{target}' exists and is not an empty folder; name another"


def test_a_state_without_weights_cannot_be_sampled():
    result = with_path(trainer(save_every=2).train(TRAIN), "x")
    result._use_step = 2
    with pytest.raises(CheckpointError) as raised:
        _ = result.sampler
    assert str(raised.value) == "only the state of step 2 was kept, not weights to sample from"


# --- around a client ---


def test_around_a_client_that_exists():
    service, recorder = scripted(), Recorder()
    client = service.create_lora_training_client("scripted", rank=8).result()
    run = SupervisedTrainer.from_client(client, renderer=RENDERER, config=config(), callbacks=[recorder])
    result = run.train(TRAIN, HELD_OUT)
    assert (run.base_model, run.lora) == ("scripted", None)
    assert recorder.events[0].header[:2] == (
        "engine: ScriptedTrainingClient, because a training client was given",
        "model: scripted, LoRA rank 8 (the client was given)",
    )
    assert kinds(service)[0] == "create_lora_training_client"
    assert service.operations("create_lora_training_client") == service.journal[:1]
    assert result.final_checkpoint.step == 9
    with pytest.raises(ConfigError) as raised:
        run.train(TRAIN)
    assert str(raised.value) == (
        "this trainer has trained its client already; make a new trainer, around this client or another"
    )
    with pytest.raises(ConfigError) as raised:
        run.base_sampler()
    assert str(raised.value) == "base_sampler needs a service: SupervisedTrainer.from_client(client, service=...)"


def test_a_client_with_its_service_knows_the_base_model():
    service = scripted(answers=ANSWERS)
    client = service.create_lora_training_client("scripted").result()
    run = SupervisedTrainer.from_client(client, renderer=RENDERER, service=service)
    assert run.base_sampler().generate("Q1?") == "A1"


class Nameless:
    """A client that does not say what it is made of."""

    def __init__(self, error=None):
        self._error = error

    def get_info(self):
        if self._error is not None:
            raise self._error
        return GetInfoResponse(model_data=ModelData(), model_id="x", is_lora=True, lora_rank=None)


def test_a_client_without_a_name():
    with pytest.raises(TrainingError) as raised:
        SupervisedTrainer.from_client(Nameless())
    assert str(raised.value) == "the training client does not say which base model it has"
    with pytest.raises(EngineError):
        SupervisedTrainer.from_client(Nameless(ConnectionError("gone")))


# --- asynchronous code ---


def test_training_leaves_the_event_loop_free():
    async def main():
        ticks = 0
        task = asyncio.create_task(trainer(scripted(latency=0.001)).train_async(TRAIN, HELD_OUT))
        while not task.done():
            ticks += 1
            await asyncio.sleep(0)
        return await task, ticks

    result, ticks = asyncio.run(main())
    assert ticks > 10
    assert result.history == trainer().train(TRAIN, HELD_OUT).history


def test_the_plain_call_works_inside_a_running_loop():
    async def main():
        return trainer(max_steps=2).train(TRAIN)

    assert asyncio.run(main()).final_checkpoint.step == 2


def test_a_connection_is_taken_as_it_is():
    """With its own reason, not that a service was given."""
    connection = Connection(service=scripted(), engine="tinker", reason="it was chosen for this test")
    recorder = Recorder()
    made = SupervisedTrainer(
        "scripted", service=connection, renderer=RENDERER, config=config(num_epochs=1), callbacks=recorder
    )
    made.train(TRAIN)
    assert recorder.events[0].header[0] == ("engine: tinker (over the network), because it was chosen for this test")
    assert made.base_sampler().generate("Q1?")


def test_the_run_keeps_its_evaluation_rows_and_what_was_trained(tmp_path):
    result = trainer(output_dir=tmp_path / "run", num_epochs=1).train(TRAIN, HELD_OUT)
    assert Dataset.from_file(tmp_path / "run" / "held_out.jsonl") == HELD_OUT
    kept = json.loads((tmp_path / "run" / "trained.json").read_text())
    assert Trained.from_json(kept, "x").known(TRAIN) == ["exactly"] * len(TRAIN)
    assert result.sampler.trained.known(HELD_OUT) == [None] * len(HELD_OUT)
    assert trainer().base_sampler().trained is None


def test_a_run_is_resumed_with_the_file_out_of_which_rows_were_held(tmp_path):
    whole = Dataset([*TRAIN, *HELD_OUT])
    service = scripted()
    trainer(service, output_dir=tmp_path / "run", max_steps=2).train(TRAIN, HELD_OUT)
    result = trainer(service, output_dir=tmp_path / "run", max_steps=4).train(whole, resume_from_checkpoint=True)
    assert (result.final_checkpoint.step, "eval/loss" in result.history.last) == (4, True)
    with pytest.raises(ResumeMismatchError):
        trainer(service, output_dir=tmp_path / "run", max_steps=5).train(whole[1:], resume_from_checkpoint=True)


def test_a_home_folder_is_found(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert TrainingConfig(output_dir="~/run").output_dir == tmp_path / "run"


def test_the_header_names_columns_that_are_not_trained():
    rows = Dataset.from_records(
        [{"question": f"Q{row}?", "answer": "A", "article": f"Leith is a port ({row})."} for row in range(3)],
        columns={"article": "metadata"},
    )
    [line] = [line for line in trainer().preflight(rows).lines() if line.startswith("kept, not trained")]
    assert line == (
        "kept, not trained: article (3 rows, such as \"Leith is a port (0).\"): columns={'article': 'context'} puts it "
        "before the question"
    )
    assert not any("kept, not trained" in line for line in trainer().preflight(TRAIN).lines())
