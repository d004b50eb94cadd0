"""A run folder has one writer, and one that cannot be written is known before the first request."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from glowgenius.errors import ConfigError, TrainingError
from glowgenius.experiments import sweep
from glowgenius.reporting.run_page import write_report
from glowgenius.testing import ScriptedService
from glowgenius.training import run_folder
from glowgenius.training.folder_lock import check_room, sole_writer
from glowgenius.training.run_folder import RunFolder
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, Recorder, config, trainer


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def run(folder, *callbacks, resume=None, service=None):
    service = ScriptedService(tokenizer=TOKENIZER) if service is None else service
    return trainer(service, callbacks=callbacks, output_dir=folder).train(
        TRAIN, HELD_OUT, resume_from_checkpoint=resume
    )


def refusal(folder, **settings):
    with pytest.raises(ConfigError) as raised:
        run(folder, **settings)
    return str(raised.value)


@pytest.mark.parametrize("resume", [None, True])
def test_a_second_trainer_in_the_same_process_is_refused(tmp_path, resume):
    told, service = [], ScriptedService(tokenizer=TOKENIZER)
    again = Recorder(on_step_end=lambda event: told.append(refusal(tmp_path, resume=resume)))
    result = run(tmp_path, again, service=service)
    assert result.stop_reason == "completed"
    assert len(told) == 9
    assert told[0].startswith(
        f"output_dir='{tmp_path}' is being written by another run (this process itself, thread MainThread, on "
    )
    assert told[0].endswith(
        "). Wait until that has ended, or end it; or choose another output_dir. Its files may be read meanwhile"
    )
    assert run(tmp_path, resume=True, service=service).history == result.history


def test_two_threads_are_two_writers(tmp_path):
    told = []

    def other(_):
        thread = threading.Thread(target=lambda: told.append(refusal(tmp_path, resume=True)))
        thread.start()
        thread.join()

    run(tmp_path, Recorder(on_evaluate_end=other))
    assert all("is being written by another run" in text for text in told)
    assert told


def test_a_folder_that_is_being_written_can_be_read(tmp_path):
    seen = []

    def read(event):
        if event.step == 3:
            seen.append(len(RunFolder(tmp_path).rows()))
            write_report(tmp_path / "page.html", run=tmp_path)

    run(tmp_path, Recorder(on_step_end=read))
    assert seen == [3]


HOLD = """
import sys, time
from pathlib import Path
from glowgenius.training import run_folder
from glowgenius.training.folder_lock import check_room, sole_writer
with sole_writer(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="kills")
def test_another_process_is_named_and_its_death_frees_the_folder(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        told = refusal(tmp_path)
        assert f"is being written by another run (process {process.pid}, on " in told
        # What was written of the holder may be damaged; the lock holds all the same.
        (tmp_path / ".holder.json").write_bytes(b"\0")
        assert refusal(tmp_path).startswith(f"output_dir='{tmp_path}' is being written by another run. Wait")
        process.send_signal(signal.SIGKILL)
    assert run(tmp_path).stop_reason == "completed"


def test_a_sweep_holds_the_folder_of_its_cells(tmp_path):
    def sweep_once(folder):
        return sweep(
            "scripted",
            TRAIN,
            ranks=[2],
            learning_rates=[0.01],
            output_dir=folder,
            renderer=RENDERER,
            service=ScriptedService(tokenizer=TOKENIZER),
            config=config(num_epochs=1),
            questions=[],
            say=None,
        )

    command = [sys.executable, "-c", HOLD.replace("Path(sys.argv[1])", "Path(sys.argv[1]), 'sweep'"), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(ConfigError) as caught:
            sweep_once(tmp_path)
        assert f"is being written by another sweep (process {process.pid}, on " in str(caught.value)
        # A single run keeps out of it as well, and is told what is there.
        assert f"is being written by another sweep (process {process.pid}, on " in refusal(tmp_path)
        process.stdin.close()
        process.wait(20)
    assert len(sweep_once(tmp_path).cells) == 1
    assert not (tmp_path / ".holder.json").exists()


def test_without_locks_it_is_said_and_goes_on(tmp_path, monkeypatch, caplog):
    import filelock

    def none(_, **__):
        raise NotImplementedError("no flock here")

    monkeypatch.setattr(filelock.FileLock, "acquire", none)
    with caplog.at_level(logging.WARNING, "glowgenius.training"):
        run(tmp_path)
    message = caplog.messages[0]
    assert message == (
        f"the file system of {tmp_path} has no locks (no flock here): see to it yourself that no other process writes "
        "into the folder"
    )


def test_nothing_is_left_where_no_run_begins(tmp_path):
    with sole_writer(tmp_path / "a" / "b"):
        assert json.loads((tmp_path / "a" / "b" / ".holder.json").read_text())["pid"] == os.getpid()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine").mkdir()
    with sole_writer(tmp_path / "mine"):
        pass
    assert list((tmp_path / "mine").iterdir()) == []


# --- a folder that cannot be written ---


@pytest.mark.parametrize(
    ("name", "reason"),
    [("file/run", "Not a directory"), ("x" * 300, "File name too long"), ("nul\0", "embedded null byte")],
)
def test_what_cannot_be_made_is_known_before_the_first_request(tmp_path, name, reason):
    (tmp_path / "file").write_text("mine")
    service, folder = ScriptedService(tokenizer=TOKENIZER), tmp_path / name
    assert refusal(folder, service=service) == (
        f"output_dir={str(folder)!r} cannot be written: {reason}. Nothing was sent; choose a folder that can be, or "
        "see to that"
    )
    assert service.journal == ()
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_folder_of_the_kernel(tmp_path):
    assert refusal(Path("/proc/x")).startswith("output_dir='/proc/x' cannot be written: ")


def test_a_name_that_is_no_text(tmp_path):
    assert refusal(tmp_path / "caf\udce9") == (
        f"output_dir={ascii(str(tmp_path / 'caf'))[:-1]}\\udce9' has a name that is not UTF-8, which the files of a "
        "run cannot hold; choose another"
    )


@pytest.mark.parametrize("resume", [None, True])
def test_a_disk_that_is_full_or_read_only_from_the_beginning(tmp_path, monkeypatch, resume):
    def full(path, *_, **__):
        raise OSError(28, "No space left on device", str(path))

    service = ScriptedService(tokenizer=TOKENIZER)
    monkeypatch.setattr("glowgenius.training.folder_lock.write_whole", full)
    assert refusal(tmp_path / "run", service=service, resume=resume) == (
        f"output_dir='{tmp_path}/run' cannot be written: No space left on device. Nothing was sent; choose a folder "
        "that can be, or see to that"
    )
    assert service.journal == ()
    assert list(tmp_path.iterdir()) == []


# --- room ---


def test_too_little_room_is_refused_and_scarce_room_is_said(tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=5_000_000))
    assert check_room(tmp_path / "new" / "run", least=10, most=4_000_000) == [
        f"checkpoints: up to 4 MB in {tmp_path}/new/run"
    ]
    assert check_room(tmp_path, least=10, most=6_000_000)[1] == (
        f"warning: there is room for 5 MB in {tmp_path}, and the checkpoints of the run may take 6 MB; make room, or "
        "keep fewer with save_top_k"
    )
    with pytest.raises(ConfigError) as raised:
        check_room(tmp_path, least=5_000_001, most=6_000_000)
    assert str(raised.value) == (
        f"'{tmp_path}' has room for 5 MB, and the run's last checkpoint alone takes 5 MB. Nothing was sent; make room, "
        "or choose another output_dir"
    )


# --- a disk that becomes full ---


def fill(monkeypatch):
    """From here on nothing can be written into a run folder."""

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(run_folder, "write_whole", full)
    monkeypatch.setattr(run_folder, "_append", full)


def test_a_disk_that_becomes_full_ends_the_run_with_our_error(tmp_path, monkeypatch):
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(TrainingError) as raised:
        run(
            tmp_path,
            Recorder(on_step_end=lambda event: fill(monkeypatch) if event.step == 5 else None),
            service=service,
        )
    assert str(raised.value) == (
        f"the run folder '{tmp_path}' cannot be written: No space left on device. What was recorded before is kept: "
        "see to that, and go on with resume_from_checkpoint=True"
    )
    monkeypatch.undo()
    assert run(tmp_path, resume=True, service=service).history == run(None).history


def test_ctrl_c_on_a_full_disk_leaves_as_ctrl_c_and_says_why_nothing_was_saved(tmp_path, monkeypatch):
    def press(event):
        if event.step == 5:
            fill(monkeypatch)
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as raised:
        run(tmp_path, Recorder(on_step_end=press))
    assert raised.value.__notes__[0] == (
        f"its state could not be saved (TrainingError: the run folder '{tmp_path}' cannot be written: No space left on "
        "device. What was recorded before is kept: see to that, and go on with resume_from_checkpoint=True): "
        "resume_from_checkpoint goes on from the last checkpoint before"
    )
