"""What a run prints, whole, and what it logs."""

from __future__ import annotations

import builtins
import io
import json
import os
import re
import sys

import pytest

import glowgenius as gg
from glowgenius.errors import ServiceUnavailableError
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.loggers import JSONLLogger
from glowgenius.training.callbacks.progress import ProgressBar, is_ci, wrapped
from glowgenius.training.events import TrainEnd, TrainFailed
from tests.support.events import WAIT
from tests.support.source import ROOT
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, questions, trainer


def run(callback, *, service=None, rows=TRAIN, held_out=HELD_OUT, **settings):
    service = service or ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: 4.0 / (updates + 1))
    return trainer(service, callbacks=[callback], **settings).train(rows, held_out)


def test_without_a_terminal_it_prints_plain_lines():
    out = io.StringIO()
    run(ProgressBar(file=out), max_steps=3, eval_every=2)
    lines = out.getvalue().split("\n")
    assert lines[0] == "engine: ScriptedService, because service= was given"
    assert lines[8].startswith("serving: vLLM refuses an adapter of the unembedding")
    assert lines[9:] == [
        "step 0/3: eval loss 4.0000",
        "step 1/3, epoch 1: train loss 4.0000, rate 0.5",
        "step 2/3, epoch 1: train loss 2.0000, rate 0.333",
        "step 2/3: eval loss 1.3333, best so far",
        "step 3/3, epoch 1: train loss 1.3333, rate 0.167",
        "step 3/3: eval loss 1.0000, best so far",
        "done: 3 steps, 30 tokens trained (max_steps)",
        "",
    ]


def test_a_long_run_is_ten_lines():
    out = io.StringIO()
    run(ProgressBar(file=out), rows=questions(55), batch_size=1, num_epochs=1, held_out=None)
    steps = [int(number) for number in re.findall(r"^step (\d+)/55, epoch 1", out.getvalue(), re.MULTILINE)]
    assert steps == [6, 11, 17, 22, 28, 33, 39, 44, 50, 55]


def test_it_names_the_best_step_where_that_is_not_the_last():
    out = io.StringIO()
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: [4.0, 3.0, 1.0, 2.0][updates])
    run(ProgressBar(file=out), service=service, max_steps=3, eval_every=1)
    assert out.getvalue().endswith("done: 3 steps, 30 tokens trained (max_steps); best at step 2\n")


def test_nothing_is_taken_for_markup_or_wrapped(tmp_path):
    out = io.StringIO()
    folder = tmp_path / ("[red]" + "x" * 150)
    run(ProgressBar(file=out, width=40), max_steps=1, output_dir=folder)
    assert f"run folder: {folder}\n" in out.getvalue()
    assert "\x1b" not in out.getvalue()


def test_standard_output_is_the_one_of_the_run(capsys):
    run(ProgressBar(), max_steps=1, held_out=None)
    assert capsys.readouterr().out.startswith("engine: ScriptedService, because service= was given\n")


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def _terminal(monkeypatch):
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "CI"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("_terminal")
def test_in_a_terminal_it_draws_a_bar():
    out = Terminal()
    run(ProgressBar(file=out, width=110), max_steps=3)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "engine: ScriptedService, because service= was given" in plain
    assert "step 0/3: eval loss 4.0000" in plain
    assert re.search(r"epoch 1 .*3/3 .*train loss 1\.3333, rate 0\.167", plain)
    assert "step 3/3, epoch" not in plain
    assert plain.rstrip().endswith("done: 3 steps, 30 tokens trained (max_steps)")
    # The cursor is given back.
    assert out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind("\x1b[?25l")


@pytest.mark.usefixtures("_terminal")
def test_the_bar_ends_with_the_last_evaluation_and_long_lines_are_divided_at_words():
    out = Terminal()
    run(ProgressBar(file=out, width=60), max_steps=3)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "engine: ScriptedService, because service= was given" in plain
    header = plain.split("step 0/3", 1)[0].splitlines()
    assert max(map(len, header)) <= 60
    assert "".join(line.strip() + " " for line in header).count("loss: mean over the trained tokens of a step, in") == 1
    out = Terminal()
    run(ProgressBar(file=out, width=140), max_steps=3)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    last = re.search(r"step 3/3: eval loss ([0-9.]+)", plain)[1]
    assert re.findall(r"3/3 .*eval loss ([0-9.]+)", plain)[-1] == last


def test_words_that_are_too_long_stay_whole():
    assert (
        wrapped("see  /a/very/long/path now\n\n  row 1: so", 10)
        == "see\n    /a/very/long/path\n    now\n\n  row 1:\n    so"
    )


@pytest.mark.usefixtures("_terminal")
@pytest.mark.parametrize(
    ("out", "variables"),
    [
        (Terminal, {"CI": "true", "FORCE_COLOR": "1"}),
        (io.StringIO, {"FORCE_COLOR": "1"}),
        (Terminal, {"TERM": "dumb"}),
    ],
)
def test_a_ci_log_a_pipe_and_a_dumb_terminal_get_lines_whatever_is_forced(monkeypatch, out, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    out = out()
    run(ProgressBar(file=out), max_steps=3)
    assert "\x1b" not in out.getvalue()
    assert "\r" not in out.getvalue()
    assert "step 3/3, epoch 1: train loss 1.3333, rate 0.167\n" in out.getvalue()


@pytest.mark.parametrize(("value", "says"), [("", False), ("false", False), ("0", False), ("true", True), ("1", True)])
def test_what_counts_as_ci(value, says):
    assert is_ci({"CI": value}) is says
    assert not is_ci({})


RUN = """
from glowgenius.training.callbacks.progress import ProgressBar
from tests.support.training import HELD_OUT, TRAIN, trainer
trainer(callbacks=[ProgressBar()], max_steps=3).train(TRAIN, HELD_OUT)
"""


@pytest.mark.usefixtures("_terminal")
@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
@pytest.mark.parametrize("ci", [False, True])
def test_a_real_terminal_shows_a_bar_and_a_ci_log_with_a_terminal_does_not(ci):
    pexpect = pytest.importorskip("pexpect", reason="not installed: pexpect; pip install '.[test]'")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **({"CI": "1"} if ci else {})}
    child = pexpect.spawn(
        sys.executable, ["-c", RUN], env=environment, timeout=120, encoding="utf-8", dimensions=(30, 140)
    )
    shown = child.read()
    child.close()
    assert child.exitstatus == 0, shown
    assert "done: 3 steps, 30 tokens trained (max_steps)" in shown
    assert ("\x1b[?25l" in shown) is not ci
    assert ("━" in shown) is not ci
    assert ("step 3/3, epoch 1: train loss" in shown) is ci


def test_a_notebook_gets_plain_lines_in_one_output(monkeypatch):
    """rich takes a shell of this name for a notebook, and would display each line by itself."""

    class ZMQInteractiveShell:
        pass

    out = io.StringIO()
    monkeypatch.setattr(builtins, "get_ipython", ZMQInteractiveShell, raising=False)
    run(ProgressBar(file=out), max_steps=3, held_out=None)
    assert out.getvalue().splitlines()[-2:] == [
        "step 3/3, epoch 1: train loss 1.3333, rate 0.167",
        "done: 3 steps, 30 tokens trained (max_steps)",
    ]


@pytest.mark.usefixtures("_terminal")
def test_a_failed_run_gives_the_terminal_back():
    out = Terminal()
    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"optim_step": {2: ConnectionError("gone")}})
    with pytest.raises(ServiceUnavailableError):
        run(ProgressBar(file=out, width=110), service=service, max_restarts=0)
    plain = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())
    assert "ended after step 1 of 9: ServiceUnavailableError: optim_step of step 2: " in plain
    assert out.getvalue().rfind("\x1b[?25h") > out.getvalue().rfind("\x1b[?25l")


WAITED = (
    "waiting for the service since 2026-11-24 14:03:20 (60 s): optim_step of step 2; Ctrl-C saves and leaves",
    (
        "restart 1 of 3 from the checkpoint of step 2; 2 steps are made again, because of ServiceUnavailableError: "
        "optim_step of step 4: "
    ),
)
"""What a wait and a restart are said to be; the second goes on with what the service said."""


def disturbed(out):
    """A run that waits once and is restarted once, with everything that it printed."""

    def late(event):
        if event.step == 2:
            bar.on_service_wait(WAIT)

    bar = ProgressBar(file=out, width=220)
    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"optim_step": {4: ConnectionError("gone")}})
    callbacks = [gg.on(gg.StepBegin, late), bar]
    trainer(service, callbacks=callbacks, max_steps=4, save_every=2, lookahead=0, max_restarts=3).train(TRAIN)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue())


def test_waits_and_restarts_are_lines_without_a_terminal():
    lines = disturbed(io.StringIO()).splitlines()
    begins = [line.split(",", maxsplit=1)[0] for line in lines if re.match(r"step \d", line)]
    assert begins == ["step 1/4", "step 2/4", "step 3/4", "step 3/4", "step 4/4"]
    at = [lines.index(line) for line in lines if line.startswith(WAITED)]
    assert [lines[at[0] - 1].startswith("step 1/4"), lines[at[0] + 1].startswith("step 2/4")] == [True, True]
    assert [lines[at[1] - 1].startswith("step 3/4"), lines[at[1] + 1].startswith("step 3/4")] == [True, True]


@pytest.mark.usefixtures("_terminal")
def test_waits_and_restarts_are_lines_above_the_bar_in_a_terminal():
    shown = disturbed(Terminal())
    places = [shown.index(text) for text in WAITED]
    assert places == sorted(places)
    # The bar goes back with the run, and on to its end.
    assert re.search(r"epoch 1 .*2/4", shown[places[1] :])
    assert re.search(r"epoch \d .*4/4", shown[places[1] :])


def test_it_can_be_used_again():
    out = io.StringIO()
    bar = ProgressBar(file=out)
    run(bar, max_steps=1, held_out=None)
    first = out.getvalue()
    run(bar, max_steps=1, held_out=None)
    assert out.getvalue() == first * 2
    assert repr(bar) == "ProgressBar()"


def test_a_failure_before_the_run_began_prints_nothing():
    out = io.StringIO()
    bar = ProgressBar(file=out)
    bar.on_train_failed(TrainFailed(error=ValueError("x"), step=0))
    bar.on_train_end(TrainEnd(step=0, stop_reason="completed", best_step=None, trained_tokens=0))
    assert out.getvalue() == ""


# --- the log ---


def test_every_event_is_a_line(tmp_path):
    path = tmp_path / "logs" / "events.jsonl"
    run(JSONLLogger(path), max_steps=1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines] == [
        "TrainBegin",
        "EvaluateBegin",
        "EvaluateEnd",
        "StepLogged",
        "EpochBegin",
        "StepBegin",
        "StepEnd",
        "EvaluateBegin",
        "EvaluateEnd",
        "CheckpointSaved",
        "StepLogged",
        "TrainEnd",
    ]
    assert lines[6]["loss"] == 4.0
    assert lines[0]["config"]["batch_size"] == 4


def test_an_epoch_and_a_failure_are_lines_too(tmp_path):
    path = tmp_path / "events.jsonl"
    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"optim_step": {4: ConnectionError("gone")}})
    with pytest.raises(ServiceUnavailableError):
        run(JSONLLogger(path), service=service, max_restarts=0)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["event"] for line in lines if line["event"].startswith(("Epoch", "Train"))] == [
        "TrainBegin",
        "EpochBegin",
        "EpochEnd",
        "EpochBegin",
        "TrainFailed",
    ]
    assert (lines[-1]["error"], lines[-1]["step"]) == ("ServiceUnavailableError", 3)


def test_another_run_goes_on_in_the_same_file(tmp_path):
    path = tmp_path / "events.jsonl"
    run(JSONLLogger(path), max_steps=1)
    first = path.read_text()
    run(JSONLLogger(path), max_steps=1)
    assert path.read_text() == first * 2
    assert repr(JSONLLogger("x.jsonl")) == "JSONLLogger('x.jsonl')"


def test_a_loss_that_is_not_a_number_is_null(tmp_path):
    path = tmp_path / "events.jsonl"
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: float("nan"))
    run(JSONLLogger(path), service=service, max_steps=1, held_out=None, stop_on_nan=False)
    assert [json.loads(line).get("loss", 0) for line in path.read_text().splitlines()][3] is None
