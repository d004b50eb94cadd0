"""`save_top_k`: the best evaluated checkpoints, the newest, and whatever a resume may still ask for."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest

from glowgenius.engines.offered import delete_checkpoint
from glowgenius.engines.tinker_types import completed
from glowgenius.errors import CheckpointError, ConfigError, PreflightError, ServiceUnavailableError
from glowgenius.lora.config import LoRAConfig
from glowgenius.testing import ScriptedService
from glowgenius.training import recorder
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.callbacks.stopping import EarlyStopping, TerminateOnNaN
from glowgenius.training.config import TrainingConfig
from glowgenius.training.requests import LogMetrics, StopTraining
from glowgenius.training.trainer import SupervisedTrainer
from tests.support.killing import Killed, MortalService
from tests.support.tiny_models import write_tiny_model
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, Recorder, questions, trainer

CURVE = [9.0, 5.0, 2.0, 3.0, 4.0, 1.0, 6.0, 7.0, 8.0, 8.5]
"""The evaluation loss after so many updates: the best are 5, 2 and 3."""


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def scripted(curve=CURVE, **options):
    return ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: curve[updates], **options)


def run(service, folder=None, *callbacks, resume=None, **settings):
    chosen = {"eval_every": 1, "save_every": None, "lookahead": 0, "output_dir": folder, **settings}
    return trainer(service, callbacks=callbacks, **chosen).train(TRAIN, HELD_OUT, resume_from_checkpoint=resume)


def stored(service):
    """What the engine still has: (`state` or `weights`, step)."""
    kinds = {"weights": "state", "sampler_weights": "weights"}
    return {(kinds[path.split("/")[-2]], int(path.split("/")[-1])) for path in service.checkpoints}


def listed(folder):
    """What `checkpoints.jsonl` points at."""
    records = [json.loads(line) for line in (folder / "checkpoints.jsonl").read_text().splitlines()]
    return {path for record in records for path in (record.get("state_path"), record.get("sampler_path")) if path}


@pytest.mark.parametrize("lookahead", [0, 2])
def test_the_best_and_the_newest_are_kept(tmp_path, lookahead):
    service = scripted()
    result = run(service, tmp_path, save_top_k=2, lookahead=lookahead)
    assert stored(service) == {("weights", 2), ("weights", 5), ("state", 9), ("weights", 9)}
    assert [record.step for record in result.checkpoints] == [2, 5, 9]
    assert listed(tmp_path) == set(service.checkpoints)
    assert (result.best_step, result.best_sampler.client.updates, result.sampler.client.updates) == (5, 5, 9)
    assert len(result.history) == 10


def test_a_best_step_keeps_its_state_too_and_of_equals_the_first_is_best(tmp_path):
    service = scripted([9.0, *[1.0] * 9])
    run(service, tmp_path, save_top_k=1, save_every=1)
    assert stored(service) == {("state", 1), ("weights", 1), ("state", 9), ("weights", 9)}


def test_without_it_everything_is_kept():
    service = scripted()
    run(service)
    assert stored(service) == {("weights", step) for step in range(1, 10)} | {("state", 9)}
    assert service.operations("delete_checkpoint") == ()


class Judge(Callback):
    def on_evaluate_begin(self, event):
        return LogMetrics({"eval/exact_match": [0.0, 0.1, 0.9, 0.5, 0.4, 0.3, 0.95, 0.2, 0.1, 0.0][event.step]})


def test_the_metric_may_be_one_that_is_good_high(tmp_path):
    service = scripted()
    run(service, tmp_path, Judge(), save_top_k=2, metric_for_best="exact_match")
    assert stored(service) == {("weights", 2), ("weights", 6), ("state", 9), ("weights", 9)}


def test_what_is_no_number_is_never_among_the_best(tmp_path):
    service = scripted([9.0, float("nan"), 2.0, *[float("nan")] * 7])
    result = run(service, tmp_path, save_top_k=3, stop_on_nan=False)
    assert stored(service) == {("weights", 2), ("state", 9), ("weights", 9)}
    assert result.best_step == 2


@pytest.mark.parametrize("save_every", [None, 2])
def test_killed_anywhere_the_list_names_only_what_is_there_and_a_resume_gives_the_same(tmp_path, save_every):
    settings = {"save_top_k": 1, "save_every": save_every, "lookahead": 1}
    whole = run(scripted(), tmp_path / "whole", EarlyStopping(patience=9, restore_best=True), **settings)
    kept = [(record.step, record.state_path is None) for record in whole.checkpoints]
    assert kept == [(5, True), (9, False)]
    counter = MortalService(scripted())
    run(counter, None, **settings)
    for call in range(1, counter.calls + 1, 3):
        folder, service = tmp_path / str(call), scripted()
        with pytest.raises(Killed):
            run(MortalService(service, at_call=call), folder, EarlyStopping(patience=9, restore_best=True), **settings)
        assert not (folder / "checkpoints.jsonl").exists() or listed(folder) <= set(service.checkpoints)
        begun = (folder / "config.json").exists()
        result = run(service, folder, EarlyStopping(patience=9, restore_best=True), resume=begun, **settings)
        assert [(record.step, record.state_path is None) for record in result.checkpoints] == kept
        assert (result.best_step, result.history) == (whole.best_step, whole.history)
        assert listed(folder) <= set(service.checkpoints)


def test_the_list_is_rewritten_before_anything_is_deleted(tmp_path, monkeypatch):
    service, seen = scripted(), []

    def watched(client, path):
        seen.append((path in listed(tmp_path), path in service.checkpoints))
        return delete_checkpoint(client, path)

    monkeypatch.setattr(recorder, "delete_checkpoint", watched)
    run(service, tmp_path, save_top_k=1)
    assert seen == [(False, True)] * 7


def test_what_was_best_when_the_newest_state_was_saved_is_kept_for_a_resume(tmp_path):
    service, moments = scripted(), {}

    def look(event):
        moments[event.step] = stored(service)

    run(service, tmp_path, Recorder(on_step_end=look), save_top_k=1, save_every=4)
    new = {("state", 8), ("weights", 8)}
    assert moments[8] - new == {("weights", step) for step in (2, 4, 5, 7)} | {("state", 4)}
    assert stored(service) == {("weights", 5), ("state", 9), ("weights", 9)}


@pytest.mark.parametrize("lookahead", [0, 2])
def test_early_stopping_gets_the_weights_that_it_goes_back_to(tmp_path, lookahead):
    falling = [9.0, 5.0, 4.9, 4.8, 4.7, 4.6, 4.5, 4.4, 4.3, 4.2]
    service = scripted(falling)
    stopping = EarlyStopping(patience=3, min_delta=0.5, restore_best=True)
    result = run(service, tmp_path, stopping, save_top_k=1, lookahead=lookahead)
    last = 4 + lookahead
    assert (result.best_step, result.sampler_step, result.final_checkpoint.step) == (last, 1, last)
    assert result.sampler.client.updates == 1
    assert stored(service) == {("weights", 1), ("state", last), ("weights", last)}
    free = run(other := scripted(falling), tmp_path / "free", EarlyStopping(patience=3, min_delta=0.5), save_top_k=1)
    assert (free.sampler_step, stored(other)) == (4, {("state", 4), ("weights", 4)})


def test_early_stopping_may_watch_another_metric(tmp_path):
    stopping = EarlyStopping("eval_exact_match", patience=2, restore_best=True)
    result = run(scripted(), tmp_path, Judge(), stopping, save_top_k=1)
    assert (result.best_step, result.sampler_step, result.sampler.client.updates) == (2, 2, 2)
    later = EarlyStopping("eval_exact_match", patience=3, restore_best=True)
    result = run(scripted([9.0, 1.0, *CURVE[2:]]), tmp_path / "later", Judge(), later, save_top_k=1)
    assert (result.best_step, result.sampler_step, result.sampler.client.updates) == (1, 2, 2)


def test_weights_chosen_by_a_request_stay_until_the_end(tmp_path):
    stop = Recorder(on_evaluate_end=lambda event: StopTraining("enough", use_step=3) if event.step == 3 else None)
    result = run(scripted(), tmp_path, stop, save_top_k=1, lookahead=2)
    assert (result.final_checkpoint.step, result.best_step, result.sampler.client.updates) == (5, 5, 3)
    assert [record.step for record in result.checkpoints] == [3, 5]


def test_terminate_on_nan_goes_back_to_the_best(tmp_path):
    broken = [9.0, 5.0, 2.0, 3.0, float("nan"), *[1.0] * 5]
    result = run(scripted(broken), tmp_path, TerminateOnNaN(), save_top_k=1)
    assert (result.sampler_step, result.sampler.client.updates) == (2, 2)


def about_deleting(caplog):
    return [message for message in caplog.messages if message.startswith("save_top_k")]


def test_a_deletion_that_fails_is_said_and_ends_nothing(tmp_path, caplog):
    service = scripted(fail_on={"delete_checkpoint": {2: ServiceUnavailableError("away")}})
    with caplog.at_level(logging.WARNING, "glowgenius.training"):
        result = run(service, tmp_path, save_top_k=1)
    assert result.stop_reason == "completed"
    path = "tinker://scripted:train:0/sampler_weights/000003"
    assert about_deleting(caplog) == [f"save_top_k: {path} could not be deleted and stays there: away"]
    assert stored(service) == {("weights", 3), ("weights", 5), ("state", 9), ("weights", 9)}
    assert path not in listed(tmp_path)


class Undeletable:
    """An engine of the user's own, with no more than the protocols ask for."""

    def __init__(self, inner):
        self._inner = inner

    def __getattr__(self, name):
        if name == "delete_checkpoint":
            raise AttributeError(name)
        return getattr(self._inner, name)

    def create_lora_training_client(self, *arguments, **settings):
        return completed(Undeletable(self._inner.create_lora_training_client(*arguments, **settings).result()))


def test_an_engine_that_deletes_nothing_is_said(tmp_path, caplog):
    service = scripted()
    with caplog.at_level(logging.WARNING, "glowgenius.training"):
        run(Undeletable(service), tmp_path, save_top_k=8)
    path = "tinker://scripted:train:0/sampler_weights/000008"
    assert about_deleting(caplog) == []
    with caplog.at_level(logging.WARNING, "glowgenius.training"):
        run(Undeletable(service), tmp_path / "fewer", save_top_k=7)
    path = "tinker://scripted:train:1/sampler_weights/000008"
    assert about_deleting(caplog) == [f"save_top_k: the engine offers no way to delete {path}, so it stays there"]


def test_a_resume_from_an_old_state_says_at_once_that_weights_are_gone(tmp_path):
    curve = [9.0, 5.0, 4.9, 4.8, 6.0, 4.0, 7.0, 7.0, 7.0, 7.0]
    settings = {"save_top_k": 2, "save_every": 3}

    def stopping():
        return EarlyStopping(patience=9, min_delta=0.5, restore_best=True)

    service = scripted(curve)
    first = run(service, tmp_path, stopping(), **settings)
    assert [record.step for record in first.checkpoints] == [3, 5, 9]
    third = first.checkpoints[0].state_path
    with pytest.raises(CheckpointError) as raised:
        run(service, tmp_path, stopping(), resume=third, **settings)
    assert str(raised.value) == (
        "a callback needs the weights of step 1, which save_top_k=2 has deleted since; go on from the newest "
        "checkpoint instead, by resume_from_checkpoint=True"
    )


def test_it_may_change_at_a_resume(tmp_path):
    service = scripted()

    def die(event):
        if event.step == 7:
            raise Killed

    with pytest.raises(Killed):
        run(service, tmp_path, Recorder(on_step_end=die), save_every=3)
    result = run(service, tmp_path, resume=True, save_top_k=1, save_every=3)
    assert [record.step for record in result.checkpoints] == [5, 9]


def test_the_settings_have_to_make_sense():
    with pytest.raises(ConfigError) as raised:
        TrainingConfig(save_top_k=2, metric_for_best=None)
    assert str(raised.value) == (
        "TrainingConfig.save_top_k=2 keeps the best steps by metric_for_best, which is None; set metric_for_best, or "
        "leave save_top_k out"
    )
    with pytest.raises(PreflightError) as failed:
        trainer(scripted(), save_top_k=2).train(TRAIN)
    assert [str(problem) for problem in failed.value.problems] == [
        "save_top_k: 2 without an eval_dataset → one that tells which steps are best, or None"
    ]


def test_on_the_local_engine_the_folders_are_gone_and_the_best_still_answers(tmp_path):
    pytest.importorskip("torch")
    from glowgenius.local import ServiceClient

    model = str(write_tiny_model(tmp_path / "model"))
    store, folder = tmp_path / "store", tmp_path / "run"
    with ServiceClient(checkpoint_directory=store, device="cpu") as service:
        settings = {"batch_size": 2, "num_epochs": 2, "learning_rate": 0.02, "eval_every": 1, "save_every": None}
        result = SupervisedTrainer(
            model,
            lora=LoRAConfig(rank=2),
            service=service,
            config=TrainingConfig(output_dir=folder, save_top_k=2, **settings),
        ).train(questions(5), questions(2, prefix="E"))
        kept = {str(path.parent) for path in store.rglob("glowgenius.json")}
        assert kept == listed(folder)
        assert not [path for path in store.rglob("*") if "deleted" in path.name]
        best = sorted(result.history.series("eval_loss")[1:], key=lambda each: each[1])[:2]
        assert {record.step for record in result.checkpoints} == {step for step, _ in best} | {6}
        assert result.best_sampler.generate("E1?", max_tokens=2) is not None
        assert (result.save_adapter(tmp_path / "adapter") / "adapter_config.json").is_file()


def test_the_local_engine_deletes_nothing_but_checkpoints(tmp_path):
    pytest.importorskip("torch")
    from glowgenius.local import checkpoint

    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError) as raised:
        checkpoint.delete(str(tmp_path))
    assert str(raised.value) == f"no checkpoint at {str(tmp_path)!r}, so nothing was deleted"
    assert Path(tmp_path / "thesis.txt").is_file()
