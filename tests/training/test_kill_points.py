"""A run is killed everywhere it can be, and resumed: the same updates, weights, rows and callbacks come out."""

from __future__ import annotations

import os

import pytest

from glowgenius.testing import ScriptedService
from tests.support.killing import Killed, MortalDisk, MortalService
from tests.support.resuming import Asking, Counting, Outcome, train, weights_of
from tests.support.training import TOKENIZER, Recorder, updates


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    """Hundreds of runs: nothing here depends on when the disk has written."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


class Whole:
    """The run that nobody kills, and how one that was killed is compared with it."""

    def __init__(self, folder, callback, **settings):
        self.callback, self.settings = callback, settings
        mortal, counting = MortalService(ScriptedService(tokenizer=TOKENIZER)), callback()
        result = train(mortal, folder, callbacks=[counting], **settings)
        self.calls, self.waits = mortal.calls, mortal.waits
        self.updates = updates(mortal.service)
        self.outcome = Outcome(weights_of(mortal.service, result), folder, result, counting)

    def killed(self, folder, *callbacks, service=None, **moment):
        """The service of a run that died at *moment*."""
        service = ScriptedService(tokenizer=TOKENIZER) if service is None else service
        with pytest.raises(Killed):
            train(MortalService(service, **moment), folder, callbacks=[self.callback(), *callbacks], **self.settings)
        return service

    def resume(self, service, folder):
        """Resume and compare; the step that the resumed run began at."""
        batches, steps = len(service.operations("forward_backward")), len(service.operations("optim_step"))
        counting, recorder = self.callback(), Recorder()
        # Killed before there was a folder, there is nothing to resume, and the run is started again.
        begun = (folder / "config.json").exists()
        result = train(service, folder, resume=begun, callbacks=[counting, recorder], **self.settings)
        start = recorder.events[0].start_step
        again = zip(
            service.operations("forward_backward")[batches:], service.operations("optim_step")[steps:], strict=True
        )
        assert [(one.fingerprint, two.adam_params.learning_rate) for one, two in again] == self.updates[start:]
        self.outcome.check_same(Outcome(weights_of(service, result), folder, result, counting))
        return start


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    made = {}

    def of(callback, lookahead, **settings):
        key = (callback, lookahead, *settings.items())
        if key not in made:
            made[key] = Whole(tmp_path_factory.mktemp("whole"), callback, lookahead=lookahead, **settings)
        return made[key]

    return of


@pytest.mark.parametrize("lookahead", [0, 2])
def test_killed_at_every_call_of_the_engine(whole, tmp_path, lookahead):
    """Before a submission, between gradient and update, before a save, before an evaluation."""
    run = whole(Counting, lookahead)
    starts = [
        run.resume(run.killed(tmp_path / str(call), at_call=call), tmp_path / str(call))
        for call in range(1, run.calls + 1)
    ]
    assert starts == sorted(starts)
    assert {0, 2} <= set(starts) <= {0, 2, 4}


def test_killed_at_every_wait(whole, tmp_path):
    """In flight, during an evaluation, during a save, after the last update."""
    run = whole(Counting, 1)
    starts = [
        run.resume(run.killed(tmp_path / str(wait), at_wait=wait), tmp_path / str(wait))
        for wait in range(1, run.waits + 1)
    ]
    assert starts == sorted(starts)
    assert {0, 2} <= set(starts) <= {0, 2, 4}


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_what_a_callback_has_asked_for_survives(whole, tmp_path, lookahead):
    """The evaluation, the save and the end that it asked for before the kill come behind the same steps."""
    run = whole(Asking, lookahead, save_every=1, eval_every=None)
    assert run.outcome.kept["last"] == 3 + lookahead
    for wait in range(1, run.waits + 1):
        folder = tmp_path / str(wait)
        run.resume(run.killed(folder, at_wait=wait), folder)


@pytest.mark.parametrize("moment", MortalDisk.MOMENTS)
@pytest.mark.parametrize("callback", [Counting, Asking])
def test_killed_at_every_write_into_the_run_folder(whole, tmp_path, callback, moment):
    """Before it, in the middle of it and after it: settings, rows, checkpoints, the result."""
    run = whole(callback, 1)
    with pytest.MonkeyPatch.context() as patch:
        disk = MortalDisk(patch)
        Whole(tmp_path / "counted", callback, lookahead=1)
    for write in range(1, disk.writes + 1):
        folder = tmp_path / str(write)
        with pytest.MonkeyPatch.context() as patch:
            MortalDisk(patch, at=write, moment=moment)
            service = run.killed(folder)
        run.resume(service, folder)


@pytest.mark.parametrize("moment", MortalDisk.MOMENTS)
def test_killed_again_while_it_is_being_resumed(whole, tmp_path, moment):
    run = whole(Counting, 1)
    for write in range(1, 5):
        folder = tmp_path / str(write)
        service = run.killed(folder, at_wait=10)
        with pytest.MonkeyPatch.context() as patch:
            MortalDisk(patch, at=write, moment=moment)
            with pytest.raises(Killed):
                train(service, folder, resume=True, callbacks=[Counting()], lookahead=1)
        assert run.resume(service, folder) == 2


@pytest.mark.parametrize(
    "hook", ["on_step_end", "on_evaluate_end", "on_checkpoint_saved", "on_epoch_end", "on_train_end"]
)
def test_killed_in_a_callback(whole, tmp_path, hook):
    def die(event):
        if event.step >= 3:
            raise Killed

    run = whole(Counting, 1)
    run.resume(run.killed(tmp_path, Recorder(**{hook: die})), tmp_path)


@pytest.mark.parametrize("name", ["metrics.jsonl", "checkpoints.jsonl"])
def test_a_line_that_ends_in_the_middle_of_a_letter(whole, tmp_path, name):
    run = whole(Counting, 1)
    service = run.killed(tmp_path, at_call=14)
    with (tmp_path / name).open("ab") as file:
        file.write('{"step": 9, "eval/größe'.encode()[:-2])
    run.resume(service, tmp_path)


def test_text_with_strange_line_breaks_is_one_line(tmp_path):
    """What a callback keeps may hold signs at which other programs begin a new line."""

    class Remembering(Counting):
        def state_dict(self):
            return {**super().state_dict(), "said": "one\u2028two\u0085three\x0bfour"}

        def load_state_dict(self, state):
            super().load_state_dict(state)
            assert state["said"] == "one\u2028two\u0085three\x0bfour"

    run = Whole(tmp_path / "whole", Remembering, lookahead=1)
    run.resume(run.killed(tmp_path / "broken", at_wait=10), tmp_path / "broken")


def test_what_a_killed_write_has_left_is_swept_up(whole, tmp_path):
    run = whole(Counting, 1)
    service = run.killed(tmp_path, at_wait=10)
    (tmp_path / ".metrics.jsonl-abc").write_text("half")
    (tmp_path / ".mine").write_text("kept")
    train(service, tmp_path, resume=True, callbacks=[Counting()], lookahead=1)
    assert sorted(path.name for path in tmp_path.glob(".*")) == [".lock", ".mine", ".owner"]
