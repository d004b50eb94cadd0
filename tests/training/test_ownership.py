"""A run deletes what it saved itself, goes on from its own files wherever its folder is, and leaves all else alone."""

from __future__ import annotations

import json
import logging
import os
import shutil
from pathlib import Path

import pytest

from glowgenius.errors import CheckpointError
from glowgenius.lora.config import LoRAConfig
from glowgenius.testing import ScriptedService
from glowgenius.training import SupervisedTrainer, TrainingConfig
from glowgenius.training.run_folder import RunFolder
from tests.support.killing import Killed
from tests.support.tiny_models import write_tiny_model
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, Recorder, questions, trainer

CURVE = [9.0, 5.0, 2.0, 3.0, 4.0, 1.0, 6.0, 7.0, 8.0, 8.5]


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def die_at(step):
    def die(event):
        if event.step == step:
            raise Killed

    return Recorder(on_step_end=die)


@pytest.fixture
def service():
    return ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: CURVE[updates])


def run(service, folder, *callbacks, resume=None, **settings):
    chosen = {"eval_every": 1, "save_every": 1, "save_top_k": 1, "lookahead": 0, "output_dir": folder, **settings}
    return trainer(service, callbacks=callbacks, **chosen).train(TRAIN, HELD_OUT, resume_from_checkpoint=resume)


def killed(service, folder, step=7, **settings):
    """What a killed run has recorded; the checkpoint that was under way is on the service, and nobody knows of it."""
    with pytest.raises(Killed):
        run(service, folder, die_at(step), **settings)
    found = {path for record in RunFolder(folder).checkpoints() for path in record.paths}
    assert found < set(service.checkpoints)
    return found


# --- whose a checkpoint is ---


def test_a_run_resumed_from_another_deletes_nothing_of_that(service, tmp_path, caplog):
    before = killed(service, tmp_path / "a")
    with caplog.at_level(logging.WARNING, "glowgenius.training"):
        run(service, tmp_path / "b", resume=tmp_path / "a")
    assert before <= set(service.checkpoints)
    left = "tinker://scripted:train:0/weights/000006"
    assert (
        f"save_top_k: {left} stays where it is, as this run has not saved it itself in this folder: the run that it "
        "was resumed or copied from may need it"
    ) in caplog.messages
    # What it has saved itself goes as ever, and the first run goes on as if nothing had been.
    mine = {path for path in service.checkpoints if "train:1" in path}
    assert {path[-6:] for path in mine} == {"000009"}
    assert run(service, tmp_path / "a", resume=True).best_step == 5


@pytest.mark.parametrize("copied_first", [True, False])
def test_a_copy_and_its_original_both_go_on(service, tmp_path, copied_first):
    before = killed(service, tmp_path / "a")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    if not copied_first:
        # The copy under the old name: the path of a folder says nothing about whose it is.
        (tmp_path / "a").rename(tmp_path / "c")
        (tmp_path / "b").rename(tmp_path / "a")
        (tmp_path / "c").rename(tmp_path / "b")
    copy, original = ("b", "a") if copied_first else ("a", "b")
    assert run(service, tmp_path / copy, resume=True).best_step == 5
    assert before <= set(service.checkpoints)
    assert run(service, tmp_path / original, resume=True).best_step == 5
    best = {f"tinker://scripted:train:0/{kind}/000005" for kind in ("weights", "sampler_weights")}
    assert before & set(service.checkpoints) == best


def test_a_copy_of_a_copy_knows_what_it_saved_itself(service, tmp_path):
    killed(service, tmp_path / "a", 4)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    killed_in_b = killed(service, tmp_path / "b", resume=True)
    shutil.copytree(tmp_path / "b", tmp_path / "c")
    run(service, tmp_path / "c", resume=True)
    assert killed_in_b <= set(service.checkpoints)
    run(service, tmp_path / "b", resume=True)
    left = killed_in_b & set(service.checkpoints)
    assert {path[-6:] for path in left if "train:1" in path} == {"000005"}


def test_a_moved_folder_still_owns_what_it_saved(service, tmp_path):
    before = killed(service, tmp_path / "a")
    (tmp_path / "a").rename(tmp_path / "b")
    run(service, tmp_path / "b", resume=True)
    assert {path[-6:] for path in before & set(service.checkpoints)} == {"000005"}


@pytest.mark.parametrize("damage", [b"", b"\0" * 33, b"0" * 32])
def test_a_folder_that_has_lost_its_mark_leaves_everything(service, tmp_path, damage):
    before = killed(service, tmp_path)
    (tmp_path / ".owner").write_bytes(damage)
    run(service, tmp_path, resume=True)
    assert before <= set(service.checkpoints)


def test_a_mark_that_was_written_again_is_another(service, tmp_path):
    before = killed(service, tmp_path)
    token = (tmp_path / ".owner").read_bytes()
    (tmp_path / ".owner").unlink()
    (tmp_path / ".owner").write_bytes(token)
    run(service, tmp_path, resume=True)
    assert before <= set(service.checkpoints)


# --- the local engine ---

pytest.importorskip("torch")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_tiny_model(tmp_path_factory.mktemp("model"), num_hidden_layers=1))


def local(model, folder, *callbacks, resume=None, store=None, **settings):
    from glowgenius.local import ServiceClient

    chosen = {"batch_size": 2, "num_epochs": 2, "learning_rate": 0.02, "save_every": 1, "eval_every": 3, **settings}
    with ServiceClient(checkpoint_directory=store or folder / "checkpoints", device="cpu") as service:
        made = SupervisedTrainer(
            model,
            lora=LoRAConfig(rank=2),
            service=service,
            config=TrainingConfig(output_dir=folder, **chosen),
            callbacks=callbacks,
        )
        return made.train(questions(5), questions(2, prefix="E"), resume_from_checkpoint=resume)


def saved(folder):
    return {path.parent for path in folder.rglob("glowgenius.json")}


def listed(folder):
    return {Path(path) for record in RunFolder(folder).checkpoints() for path in record.paths}


@pytest.fixture(scope="module")
def broken(model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken") / "run"
    with pytest.raises(Killed):
        local(model, folder, die_at(5))
    return folder


@pytest.fixture(scope="module")
def whole(model, tmp_path_factory):
    return local(model, tmp_path_factory.mktemp("whole") / "run").history


def test_paths_are_relative_in_the_folder_and_absolute_in_memory(broken):
    lines = [json.loads(line) for line in (broken / "checkpoints.jsonl").read_text().splitlines()]
    assert all(line["state_path"].startswith("checkpoints/local-") for line in lines)
    assert all(Path(record.state_path).is_dir() for record in RunFolder(broken).checkpoints())


@pytest.mark.parametrize("gone", [True, False])
def test_a_copy_goes_on_from_its_own_weights(model, broken, whole, tmp_path, gone):
    original, copy = tmp_path / "a", tmp_path / "b"
    shutil.copytree(broken, original)
    shutil.copytree(original, copy)
    if gone:
        shutil.rmtree(original)
    else:
        # Were they read, the result would be another.
        for one in original.rglob("*.safetensors"):
            one.write_bytes(b"")
    before = {path: path.stat() for path in original.rglob("*")}
    recorder = Recorder()
    result = local(model, copy, recorder, resume=True, save_top_k=1)
    assert f"at {copy}/checkpoints" in recorder.events[0].header[-1]
    assert result.history == whole
    assert {path: path.stat() for path in original.rglob("*")} == before
    assert saved(copy) == listed(copy)


def test_full_paths_of_an_earlier_version_are_looked_for_in_the_folder_first(model, broken, whole, tmp_path):
    copy = tmp_path / "checkpoints" / "b"
    shutil.copytree(broken, copy)
    file = copy / "checkpoints.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        for name in ("sha256", "folder", "own"):
            del line[name]
        for name in ("state_path", "sampler_path"):
            if name in line:
                line[name] = f"/data/checkpoints/old/{line[name]}"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert local(model, copy, resume=True).history == whole


def test_what_a_kill_has_left_is_removed_at_the_next_start_and_nothing_else(model, broken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(broken, folder)
    store = next((folder / "checkpoints").iterdir())
    state = store / "weights" / "000001"
    assert store / "weights" / "000005" in saved(folder) - listed(folder)
    (store / "weights" / ".000006-abc").mkdir()
    kept = [store / "weights" / "mine", folder / "checkpoints" / "local-other-train-0" / "weights" / "000001"]
    kept += [folder / "checkpoints" / "000001", tmp_path / "elsewhere" / "000001"]
    for one in kept:
        shutil.copytree(state, one)
    (store / "weights" / "000007").symlink_to(kept[-1])
    local(model, folder, resume=True)
    assert not (store / "weights" / "000005").exists()  # it was on the disk, and not in the record
    assert not (store / "weights" / ".000006-abc").exists()
    assert all((one / "glowgenius.json").is_file() for one in kept)
    assert saved(folder) - set(kept) == listed(folder)


def test_runs_that_share_a_store_leave_each_other_alone(model, tmp_path):
    """One service for two runs, whose files lie in the folder of the first."""
    first, second = tmp_path / "a", tmp_path / "b"
    with pytest.raises(Killed):
        local(model, first, die_at(5))
    with pytest.raises(Killed):
        local(model, second, die_at(3), store=first / "checkpoints")
    before = listed(second)
    local(model, first, resume=True, save_top_k=1)
    assert before <= saved(first)
    local(model, second, resume=True, store=first / "checkpoints", save_top_k=1)
    assert listed(first) | listed(second) <= saved(first)
    assert before - saved(first)


def test_going_back_to_an_earlier_checkpoint_leaves_the_later_ones_for_now(model, tmp_path):
    first = local(model, tmp_path / "run")
    behind = {Path(record.state_path) for record in first.checkpoints if record.step > 2}
    third = next(record.state_path for record in first.checkpoints if record.step == 2)
    local(model, tmp_path / "run", resume=third)
    assert behind <= saved(tmp_path / "run")


# --- links, and paths that lead out of the folder ---


def test_a_checkpoint_that_is_a_link_out_of_the_folder_is_refused(model, broken, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(broken, folder)
    newest = Path(RunFolder(folder).checkpoints()[-1].state_path)
    other = tmp_path / "other"
    newest.rename(other)
    newest.symlink_to(other)
    recorder = Recorder()
    local(model, folder, recorder, resume=True)
    assert f"warning: the checkpoint of step 4 is not whole, and is passed over: '{newest}' leads out of" in "\n".join(
        recorder.events[0].header
    )


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "checkpoints.jsonl"])
def test_a_file_that_is_a_link_out_of_the_folder_is_not_read(broken, tmp_path, name):
    folder = tmp_path / "run"
    shutil.copytree(broken, folder)
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    opened = RunFolder(folder)
    with pytest.raises(CheckpointError) as raised:
        _ = opened.settings() if name == "config.json" else opened.rows()
    assert str(raised.value).startswith(
        f"'{folder}/{name}' leads out of '{folder}', to '{tmp_path}/{name}', and is not"
    )


@pytest.mark.parametrize("path", ["../secret", "/etc", "checkpoints/../../secret"])
def test_weights_outside_of_a_folder_that_somebody_else_wrote_are_not_opened(broken, tmp_path, path):
    folder = tmp_path / "run"
    shutil.copytree(broken, folder)
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "adapter_config.json").write_text("{}")
    file = folder / "checkpoints.jsonl"
    line = json.loads(file.read_text().splitlines()[0])
    file.write_text(json.dumps({**line, "sampler_path": path, "sha256": None}) + "\n")
    opened = RunFolder(folder)
    record = opened.checkpoints()[0]
    with pytest.raises(CheckpointError, match=r"not opened|is not followed"):
        opened.checked(record, record.sampler_path)
