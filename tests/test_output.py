"""Output is never worth a run, and nothing in a text steers a terminal."""

from __future__ import annotations

import errno
import io
import json
import os
import subprocess
import sys
import threading
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

import glowgenius as gg
from glowgenius._output import Output, logger, showable, showable_json
from glowgenius.errors import ConfigError, DatasetError, Problem
from glowgenius.testing import ScriptedService
from tests.support.source import ROOT
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, trainer

STEERING = "\x1b\x00\x07\x08\r\x7f\x9b\x85\u202a\u202e\u2066\u2069\ud800\udfff"
"""An example of every kind."""

HOSTILE = f"\x1b[2J\x1b]0;title\x07[bold red]x[/] [/] {STEERING}満潮 ⚓ …"

QUESTION = HOSTILE.encode("utf-8", "ignore").decode()
"""The same without half a character, which no question can have."""


def steers(text):
    """What in *text* steers a terminal, by Unicode's own categories."""
    turning = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    return [
        letter
        for letter in text
        if (unicodedata.category(letter) in ("Cc", "Cs") and letter not in "\n\t")
        or unicodedata.bidirectional(letter) in turning
    ]


@given(st.text(st.characters()))
def test_what_is_shown_steers_nothing_and_keeps_every_letter(text):
    shown = showable(text)
    assert steers(shown) == []
    if not steers(text):
        assert shown == text
    assert [letter for letter in text if letter in shown] == [letter for letter in text if letter not in steers(text)]


@given(st.dictionaries(st.text(), st.text(st.characters())))
def test_json_means_the_same_when_it_steers_nothing(value):
    shown = showable_json(json.dumps(value, ensure_ascii=False))
    assert steers(shown) == []
    assert json.loads(shown) == value


# --- streams that fail ---


class Failing:
    """A stream without anything else, whose every write fails."""

    def __init__(self, error):
        self.error, self.asked = error, 0

    def write(self, _text):
        self.asked += 1
        raise self.error


class Bare:
    """What some notebooks and services put in the place of standard output."""

    def __init__(self):
        self.text = ""

    def write(self, text):
        self.text += text


def encoded(encoding):
    return io.TextIOWrapper(io.BytesIO(), encoding=encoding, newline="")


def closed():
    stream = io.StringIO()
    stream.close()
    return stream


STREAMS = {
    "none": lambda: None,
    "bare": Bare,
    "closed": closed,
    "broken pipe": lambda: Failing(BrokenPipeError(errno.EPIPE, "Broken pipe")),
    "full disk": lambda: Failing(OSError(errno.ENOSPC, "No space left on device")),
    "no terminal any more": lambda: Failing(OSError(errno.EIO, "Input/output error")),
    "would block": lambda: Failing(BlockingIOError(errno.EAGAIN, "write could not complete without blocking")),
    "a defect of its own": lambda: Failing(AttributeError("'NoneType' object has no attribute 'session'")),
    "ascii": lambda: encoded("ascii"),
    "cp1252": lambda: encoded("cp1252"),
    "latin-1": lambda: encoded("latin-1"),
}


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
def test_no_stream_makes_a_write_fail(make):
    out = Output(make())
    assert out.write("満潮 ⚓") == 4
    out.say("é…")
    out.flush()
    assert (out.isatty(), bool(out.encoding)) == (False, True)
    with pytest.raises(io.UnsupportedOperation):
        out.fileno()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1"])
def test_what_an_encoding_has_not_is_written_as_an_escape(encoding):
    stream = encoded(encoding)
    Output(stream).say("é満")
    written = stream.buffer.getvalue().decode(encoding)
    assert written == ("\\xe9" if encoding == "ascii" else "é") + "\\u6e80\n"


def test_a_pipe_that_nobody_reads_is_written_to_once():
    stream = Failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    out = Output(stream)
    for _ in range(3):
        out.say("x")
    assert stream.asked == 1


def scripted():
    answer = TOKENIZER.encode("満潮 ⚓ \x1b[2J", add_special_tokens=False)
    return ScriptedService(
        tokenizer=TOKENIZER, loss=lambda updates: 4.0 / 2**updates, answers=lambda _prompt, _params: answer
    )


def trained(callbacks, service=None):
    result = trainer(service or scripted(), callbacks=callbacks, max_steps=3, eval_every=1).train(TRAIN, HELD_OUT)
    return [row["train/loss"] for row in result.history.rows if "train/loss" in row]


@pytest.mark.parametrize("given", [True, False], ids=["file=", "standard output"])
@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
def test_no_stream_ends_a_run(make, given, monkeypatch):
    stream = make()
    monkeypatch.setattr(sys, "stdout", None if given else stream)
    file = stream if given else None
    callbacks = [gg.ProgressBar(file=file), gg.SampleLogger(["Wann?"], file=file)]
    losses = trained(callbacks)
    assert losses == [4.0, 2.0, 1.0]


def test_a_terminal_that_goes_away_under_the_bar_ends_nothing():
    class Gone(Failing):
        encoding = "utf-8"

        def isatty(self):
            return True

    gone = Gone(OSError(errno.EIO, "Input/output error"))
    assert trained([gg.ProgressBar(file=gone)]) == [4.0, 2.0, 1.0]
    assert gone.asked


def test_a_run_in_a_thread_without_a_stream(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    monkeypatch.setattr(sys, "stderr", None)
    found = []
    thread = threading.Thread(target=lambda: found.append(trained([gg.ProgressBar()])))
    thread.start()
    thread.join(60)
    assert found == [[4.0, 2.0, 1.0]]


# --- hostile texts on their way to a terminal ---


class Measures(gg.Callback):
    """Something with a name that no one would choose."""

    def on_evaluate_begin(self, event):
        return gg.LogMetrics({"eval/" + HOSTILE: 1.0})


@pytest.mark.parametrize("terminal", [True, False])
def test_samples_and_metrics_are_shown_without_steering(terminal, monkeypatch):
    class Stream(io.StringIO):
        def isatty(self):
            return terminal

    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    shown, samples = Stream(), io.StringIO()
    trained([gg.ProgressBar(file=shown, width=300), Measures(), gg.SampleLogger([QUESTION], file=samples)])
    assert steers(samples.getvalue()) == []
    assert "満潮 ⚓ \\x1b[2J" in samples.getvalue()
    for text in ("[bold red]x[/] [/]", r"\x1b[2J", r"\x9b"):
        assert text in shown.getvalue()
    assert "\x1b[2J" not in shown.getvalue()
    assert "\x1b]0;" not in shown.getvalue()
    if not terminal:
        assert steers(shown.getvalue()) == []


def test_errors_and_their_notes_steer_nothing():
    problem = Problem(found=HOSTILE, accepted=HOSTILE, path=HOSTILE, line=1, row_id=HOSTILE, field=HOSTILE)
    for error in (ConfigError(HOSTILE), DatasetError(HOSTILE, [problem])):
        error.add_note(HOSTILE)
        assert steers(f"{error}{error!r}{error.__notes__}") == []
        assert "満潮 ⚓ …" in str(error)


def test_what_is_logged_steers_nothing_and_holds_no_key(caplog):
    logger("glowgenius.training").warning("%s of %d, key %s", HOSTILE, 3, "tml-S3ntinelS3ntinel")
    [message] = caplog.messages
    assert steers(message) == []
    assert message.endswith("満潮 ⚓ … of 3, key tml-…")


def test_a_preview_is_printed_without_a_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert "⟦" in str(gg.preview(TRAIN, RENDERER))


# --- the command line ---


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows\x1b[2J.jsonl"
    rows = [{"question": f"Q{row}? {QUESTION}", "answer": f"A{row} \x1b[2J", "id": f"\x1b{row}"} for row in range(99)]
    rows += [{"question": rows[0]["question"], "answer": "満潮", "split": "\x1b[2J"}] * 2
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def environment(**more):
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@pytest.mark.parametrize(
    "verb", [["check", "--no-near"], ["check", "--no-near", "--json"], ["check", "--format", "no"]]
)
def test_nothing_from_a_file_steers_the_terminal(verb, data):
    command = [sys.executable, "-m", "glowgenius", verb[0], str(data), *verb[1:]]
    done = subprocess.run(command, env=environment(PYTHONIOENCODING="utf-8"), capture_output=True, check=False)
    assert steers((done.stdout + done.stderr).decode("utf-8")) == []
    assert done.returncode in (1, 2)
    if "--json" in verb:
        assert "\x1b" in json.loads(done.stdout)["name"]


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix")
@pytest.mark.parametrize(
    ("redirection", "options"),
    [("| true", "--no-near --json"), ("| head -1", "--no-near"), ("<&- >&- 2>&-", "--no-near")],
)
def test_the_exit_code_is_that_of_the_verb_whoever_reads(redirection, options, data):
    script = f'set -o pipefail; "$0" -m glowgenius check "$1" {options} {redirection}; echo ${{PIPESTATUS[0]}} >&3'
    read, write = os.pipe()
    with os.fdopen(read) as status:
        done = subprocess.run(
            ["bash", "-c", f"exec 3>&{write}; {script}", sys.executable, str(data)],
            env=environment(), capture_output=True, text=True, check=False, pass_fds=[write],
        )  # fmt: skip
        os.close(write)
        assert status.read() == "1\n"
    assert done.stderr == ""


SCRIPT = """
import sys, threading
import glowgenius as gg
from tests.test_output import trained
callbacks = lambda: [gg.ProgressBar(), gg.SampleLogger(["Wann?"])]
losses = trained(callbacks())
found = []
thread = threading.Thread(target=lambda: found.append(trained(callbacks())))
thread.start(); thread.join()
open(sys.argv[1], "w").write(repr([losses, *found]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a shell of Unix")
@pytest.mark.parametrize("redirection", ["| true", "> /dev/full"])
def test_a_script_trains_to_its_end_whoever_reads(redirection, tmp_path):
    script = f'set -o pipefail; "$0" -c "$1" "$2" {redirection}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, SCRIPT, str(tmp_path / "r")],
        env=environment(PYTHONIOENCODING="ascii"), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (tmp_path / "r").read_text() == repr([[4.0, 2.0, 1.0]] * 2)
    if redirection != "> /dev/full":  # Python itself says so at its exit
        assert (done.returncode, done.stderr) == (0, "")
