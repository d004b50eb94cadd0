"""What the system refuses to write is an error of ours, says what to do, and leaves what was there."""

from __future__ import annotations

import errno
import os
import pickle
from pathlib import Path

import pytest

from glowgenius._files import append, make_folder, write_whole, writing
from glowgenius.errors import GlowGeniusError, ServiceUnavailableError, StorageError
from glowgenius.reporting import write_report
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.loggers import CSVLogger, JSONLLogger, SampleLogger
from tests.support.disk import files_end_at
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, trainer


def test_a_file_that_grows_too_large_is_as_it_was_before(tmp_path):
    path = tmp_path / "lines.jsonl"
    append(path, "one\n", synced=True)
    with files_end_at(6), pytest.raises(StorageError) as caught:
        append(path, "two\n", synced=False)
    assert str(caught.value) == (
        f"'{path}' cannot be written: File too large; choose another disk: this one takes no file of that size"
    )
    assert (caught.value.errno, caught.value.strerror) == (errno.EFBIG, "File too large")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # noqa: S301 - our own
    append(path, "three\n", synced=False)
    assert path.read_bytes() == b"one\nthree\n"


def test_a_file_that_is_written_whole_stays_as_it_was(tmp_path):
    path = tmp_path / "whole.json"
    write_whole(path, "{}\n")
    with files_end_at(6), pytest.raises(StorageError, match=r"whole\.json' cannot be written: File too large"):
        write_whole(path, ["a" * 4, "b" * 4])
    assert path.read_text() == "{}\n"
    assert [entry.name for entry in tmp_path.iterdir()] == ["whole.json"]


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "make room on the disk"),
        (errno.EDQUOT, "make room: the quota of this user is used up"),
        (errno.EIO, "choose another disk: this one reports errors"),
        (errno.EROFS, "choose a folder on a disk that can be written"),
        (errno.EACCES, "choose a folder that may be written, or change its permissions"),
        (errno.ESTALE, "choose another folder"),
    ],
)
def test_every_refusal_says_what_to_do(number, remedy):
    with pytest.raises(StorageError) as caught, writing(Path("run")):
        raise OSError(number, os.strerror(number), "/elsewhere")
    assert str(caught.value) == f"'run' cannot be written: {os.strerror(number)}; {remedy}"
    assert isinstance(caught.value.__cause__, OSError)


def test_an_error_of_safetensors_is_one_of_the_system():
    safetensors = pytest.importorskip("safetensors")
    said = "Error while serializing: I/O error: No space left on device (os error 28)"
    with pytest.raises(StorageError) as caught, writing(Path("model")):
        raise safetensors.SafetensorError(said)
    assert str(caught.value) == "'model' cannot be written: No space left on device; make room on the disk"
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("error", [ServiceUnavailableError("away"), ValueError("a bug"), KeyboardInterrupt()])
def test_other_errors_stay_what_they_are(error):
    with pytest.raises(type(error)) as caught, writing(Path("run")):
        raise error
    assert caught.value is error


def test_missing_folders_and_names_that_are_taken(tmp_path):
    with pytest.raises(StorageError, match="No such file or directory; make its folder first, or choose another"):
        append(tmp_path / "none" / "a.jsonl", "a\n", synced=False)
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "inner"):
        with pytest.raises(StorageError, match="cannot be written"):
            make_folder(path)


def test_a_report_that_is_too_large(tmp_path):
    with files_end_at(100), pytest.raises(StorageError, match=r"report\.html' cannot be written: File too large"):
        write_report(tmp_path / "new" / "report.html", header={"run": 1})


@pytest.mark.parametrize(
    "logger",
    [
        lambda path: JSONLLogger(path / "events.jsonl"),
        lambda path: CSVLogger(path / "rows.csv"),
        lambda path: SampleLogger(["Q?"], path=path / "samples.jsonl", show=False),
    ],
)
def test_a_logger_whose_disk_is_full_ends_the_run_with_an_error_of_ours(tmp_path, logger):
    service = ScriptedService(tokenizer=TOKENIZER)
    with files_end_at(0), pytest.raises(GlowGeniusError, match="cannot be written: File too large; choose another"):
        trainer(service, callbacks=[logger(tmp_path)]).train(TRAIN, HELD_OUT)
