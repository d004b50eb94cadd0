"""SIGTERM and SIGHUP save and leave as Ctrl-C does; a second signal leaves at once; handlers of others stay."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading

import pytest

from glowgenius.testing import ScriptedService
from glowgenius.training.requests import INTERRUPTIONS, TERMINATIONS, Terminated, handled
from tests.support.source import ROOT
from tests.support.training import TOKENIZER, TRAIN, Recorder, trainer

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send itself these signals")

STEPS = 6


def kill_at(step, number):
    """A callback that sends the process a signal at the end of *step*."""
    return Recorder(on_step_end=lambda event: os.kill(os.getpid(), number) if event.step == step else None)


@pytest.fixture
def whole():
    return losses(trainer(max_steps=STEPS).train(TRAIN).history)


def losses(history):
    return [row["train/loss"] for row in history.rows if "train/loss" in row]


@pytest.mark.parametrize("number", TERMINATIONS, ids=lambda number: number.name)
def test_a_signal_saves_and_leaves_and_the_run_goes_on_exactly(number, tmp_path, whole, caplog):
    folder, service = tmp_path / "run", ScriptedService(tokenizer=TOKENIZER)
    before = [signal.getsignal(each) for each in INTERRUPTIONS]
    hears = Recorder()
    with pytest.raises(KeyboardInterrupt) as caught:
        trainer(service, max_steps=STEPS, output_dir=folder, callbacks=[kill_at(3, number), hears]).train(TRAIN)
    assert [signal.getsignal(each) for each in INTERRUPTIONS] == before
    assert isinstance(caught.value, SystemExit)
    assert (caught.value.code, str(caught.value)) == (128 + number, number.name)
    step = json.loads((folder / "checkpoints.jsonl").read_text().splitlines()[-1])["step"]
    assert 3 <= step < STEPS
    assert caught.value.__notes__ == [f"the state after step {step} is saved: resume_from_checkpoint goes on with it"]
    said = f"{number.name}: saving the state after step {step}, then leaving; another signal leaves at once"
    assert said in caplog.messages
    result = json.loads((folder / "result.json").read_text())
    assert (result["status"], result["message"]) == ("interrupted", number.name)
    assert hears.events[-1].error is caught.value
    resumed = trainer(service, max_steps=STEPS, output_dir=folder).train(TRAIN, resume_from_checkpoint=True)
    assert losses(resumed.history) == whole


@pytest.mark.parametrize("number", TERMINATIONS, ids=lambda number: number.name)
def test_train_async_is_saved_too(number, tmp_path, whole):
    folder, service = tmp_path / "run", ScriptedService(tokenizer=TOKENIZER)
    before = signal.getsignal(number)
    run = trainer(service, max_steps=STEPS, output_dir=folder, callbacks=[kill_at(3, number)])
    with pytest.raises(Terminated) as caught:
        asyncio.run(run.train_async(TRAIN))
    assert (caught.value.code, signal.getsignal(number)) == (128 + number, before)
    resumed = trainer(service, max_steps=STEPS, output_dir=folder).train(TRAIN, resume_from_checkpoint=True)
    assert losses(resumed.history) == whole


@pytest.mark.parametrize("hook", ["on_step_end", "on_train_end"])
@pytest.mark.parametrize("number", TERMINATIONS, ids=lambda number: number.name)
def test_a_signal_after_the_last_request_ends_the_program_all_the_same(number, hook, tmp_path, whole):
    def kill(event):
        if event.step == STEPS:
            os.kill(os.getpid(), number)

    folder, last, service = tmp_path / "run", Recorder(**{hook: kill}), ScriptedService(tokenizer=TOKENIZER)
    run = trainer(service, max_steps=STEPS, output_dir=folder, callbacks=[last])
    with pytest.raises(Terminated) as caught:
        asyncio.run(run.train_async(TRAIN))
    assert caught.value.code == 128 + number
    again = trainer(service, max_steps=STEPS, output_dir=folder).train(TRAIN, resume_from_checkpoint=True)
    assert losses(again.history) == whole
    with pytest.raises(Terminated):
        trainer(max_steps=STEPS, output_dir=tmp_path / "other", callbacks=[last]).train(TRAIN)


@pytest.mark.parametrize("handler", ["own", "ignored"])
def test_the_handler_of_somebody_else_is_respected(handler, whole, monkeypatch):
    got = []
    theirs = signal.SIG_IGN if handler == "ignored" else lambda number, _frame: got.append(number)
    before = signal.signal(signal.SIGTERM, theirs)
    try:
        result = trainer(max_steps=STEPS, callbacks=[kill_at(3, signal.SIGTERM)]).train(TRAIN)
        assert signal.getsignal(signal.SIGTERM) is theirs
    finally:
        signal.signal(signal.SIGTERM, before)
    assert losses(result.history) == whole
    assert got == ([] if handler == "ignored" else [signal.SIGTERM])


def test_a_second_signal_leaves_at_once(tmp_path):
    numbers = {2: signal.SIGTERM, 3: signal.SIGHUP}
    twice = Recorder(on_step_end=lambda event: os.kill(os.getpid(), numbers.get(event.step, 0)))
    with pytest.raises(Terminated, match="SIGHUP"):
        trainer(max_steps=STEPS, output_dir=tmp_path / "run", callbacks=[twice]).train(TRAIN)
    assert (tmp_path / "run" / "checkpoints.jsonl").read_text() == ""
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_in_another_thread_no_handler_is_touched(whole):
    found = []
    before = [signal.getsignal(each) for each in INTERRUPTIONS]
    hears = Recorder(on_step_end=lambda _: found.append([signal.getsignal(each) for each in INTERRUPTIONS]))
    thread = threading.Thread(target=lambda: found.append(trainer(max_steps=STEPS, callbacks=[hears]).train(TRAIN)))
    thread.start()
    thread.join(60)
    assert losses(found.pop().history) == whole
    assert found == [before] * STEPS


def test_outside_a_loop_a_signal_raises_at_once():
    with pytest.raises(Terminated, match="SIGTERM"), handled():
        signal.raise_signal(signal.SIGTERM)


PROGRAM = """
import atexit, sys
from tests.support.training import TRAIN, Recorder, trainer
atexit.register(print, "bye", flush=True)
hears = Recorder(on_step_end=lambda event: print(event.step, flush=True))
try:
    trainer(max_steps=3000, num_epochs=3000, output_dir=sys.argv[1], callbacks=[hears]).train(TRAIN)
finally:
    print("finally", flush=True)
"""


@pytest.mark.parametrize("number", TERMINATIONS, ids=lambda number: number.name)
def test_a_program_that_catches_nothing_ends_with_128_and_the_signal(number, tmp_path):
    command = [sys.executable, "-c", PROGRAM, str(tmp_path / "run")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "1\n"
        program.send_signal(number)
        out, _ = program.communicate(timeout=100)
    assert program.returncode == 128 + number
    assert out.splitlines()[-2:] == ["finally", "bye"]
    assert (tmp_path / "run" / "checkpoints.jsonl").read_text().count("\n") == 1
