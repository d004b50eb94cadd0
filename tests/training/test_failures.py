"""When something goes wrong: nothing is sent again, everyone is told, the folder is finished."""

from __future__ import annotations

import asyncio
import json
import signal
import threading

import numpy as np
import pytest

from glowgenius.errors import CheckpointError, RequestRejectedError, ServiceUnavailableError
from glowgenius.testing import ScriptedService
from glowgenius.training.loop import Clock
from tests.support.killing import MortalService
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, Recorder, kinds, trainer, updates


def failing(kind, count, error):
    return ScriptedService(tokenizer=TOKENIZER, fail_on={kind: {count: error}})


def run(service, folder, *callbacks, **settings):
    settings = {"save_every": 2, "max_restarts": 0, **settings}
    return trainer(service, callbacks=callbacks, output_dir=folder, **settings).train(TRAIN, HELD_OUT)


FAILURES = {
    "forward_backward": "forward_backward of step 5",
    "optim_step": "optim_step of step 5",
    "save_state": "save_state of step 10",
    "forward": "evaluation of step 5",
    "save_weights_for_sampler": "save_weights_for_sampler of step 5",
}


@pytest.mark.parametrize("kind", FAILURES)
@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_a_failed_operation_ends_the_run_and_is_not_sent_again(tmp_path, kind, lookahead):
    count = 6 if kind == "forward" else 5
    service, recorder = failing(kind, count, ConnectionError("gone")), Recorder()
    with pytest.raises(ServiceUnavailableError) as raised:
        run(service, tmp_path, recorder, num_epochs=4, eval_every=1, lookahead=lookahead)
    assert str(raised.value).startswith(f"{FAILURES[kind]}: ")
    assert isinstance(raised.value.__cause__, ConnectionError)
    failed_at = 10 if kind == "save_state" else 5
    sent = len(service.operations("forward_backward"))
    assert failed_at <= sent <= failed_at + lookahead
    assert len(set(service.operations("forward_backward"))) == sent
    last = recorder.events[-1]
    assert (recorder.names[-1], last.error, last.step) == ("TrainFailed", raised.value, failed_at - 1)
    # Nothing of the failed step, or behind it, counts as saved.
    rows = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    records = [json.loads(line)["step"] for line in (tmp_path / "checkpoints.jsonl").read_text().splitlines()]
    assert rows == list(range(failed_at))
    assert records == list(range(1, failed_at))
    ended = json.loads((tmp_path / "result.json").read_text())
    assert (ended["status"], ended["step"], ended["error"]) == ("failed", failed_at - 1, "ServiceUnavailableError")


def test_what_is_under_way_is_waited_for_before_the_error_is_raised(tmp_path):
    service = MortalService(failing("forward_backward", 2, ConnectionError("gone")))
    with pytest.raises(ServiceUnavailableError):
        run(service, tmp_path, lookahead=2)
    made = [operation for operation in service.service.journal if operation.kind != "create_lora_training_client"]
    # Every future has been asked for its result, those of the failed step twice.
    assert service.waits >= len(made)


def test_after_a_failure_the_run_is_resumed_with_the_same_updates(tmp_path):
    whole = ScriptedService(tokenizer=TOKENIZER)
    first = run(whole, tmp_path / "whole")
    service = failing("forward_backward", 6, ConnectionError("gone"))
    with pytest.raises(ServiceUnavailableError):
        run(service, tmp_path / "broken")
    sent = len(service.operations("optim_step"))
    rerun = trainer(service, output_dir=tmp_path / "broken", save_every=2)
    result = rerun.train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert updates(service)[sent:] == updates(whole)[4:]
    assert result.history == first.history
    weights = [
        store.checkpoints[end.final_checkpoint.state_path].model.parameters
        for store, end in ((whole, first), (service, result))
    ]
    assert np.array_equal(*weights)


def test_a_refusal_at_the_call_itself_is_mapped_too(tmp_path):
    service = MortalService(ScriptedService(tokenizer=TOKENIZER), at_call=4, error=ValueError)
    with pytest.raises(RequestRejectedError) as raised:
        run(service, tmp_path)
    assert str(raised.value).startswith("step 2: ")


def test_a_checkpoint_that_cannot_be_found_is_said(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    run(service, tmp_path)
    service._checkpoints.delete("tinker://scripted:train:0/weights/000009")
    with pytest.raises(CheckpointError) as raised:
        trainer(service, output_dir=tmp_path, num_epochs=4).train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert "there is no checkpoint 'tinker://scripted:train:0/weights/000009'" in str(raised.value)


def test_keys_do_not_reach_the_run_folder(tmp_path):
    with pytest.raises(ServiceUnavailableError):
        run(failing("forward_backward", 2, ConnectionError("tml-secret123 was refused")), tmp_path)
    assert "secret123" not in "".join(path.read_text() for path in tmp_path.iterdir())


def boom(event):
    raise KeyError("boom")


@pytest.mark.parametrize(
    "hook", ["on_step_begin", "on_step_end", "on_evaluate_begin", "on_evaluate_end", "on_checkpoint_saved"]
)
def test_an_error_in_a_callback_ends_the_run_with_that_error(tmp_path, hook):
    other = Recorder("other")
    with pytest.raises(KeyError) as raised:
        run(ScriptedService(tokenizer=TOKENIZER), tmp_path, Recorder("bad", **{hook: boom}), other)
    event = other.names[-2]
    assert raised.value.__notes__ == [f"in the callback Recorder('bad') at {event}"]
    assert other.names[-1] == "TrainFailed"
    assert json.loads((tmp_path / "result.json").read_text())["error"] == "KeyError"


def test_an_error_when_the_run_begins_leaves_no_folder_behind(tmp_path):
    recorder = Recorder()
    with pytest.raises(KeyError):
        run(ScriptedService(tokenizer=TOKENIZER), tmp_path / "run", Recorder(on_train_begin=boom), recorder)
    assert recorder.names == ["TrainBegin", "TrainFailed"]
    assert not (tmp_path / "run").exists()


def test_an_error_when_the_run_ends_is_raised_with_everything_saved(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(KeyError):
        run(service, tmp_path, Recorder(on_train_end=boom))
    assert kinds(service)[-3:] == ["state 000009", "weights 000009", "evaluate"]
    assert json.loads((tmp_path / "checkpoints.jsonl").read_text().splitlines()[-1])["final"]


# --- cancelling a task ---


def cancelled(made, *, times=1, when):
    """Run *made* in an event loop, cancel its task when *when* is set, and return the error."""

    async def main():
        task = asyncio.create_task(made.train_async(TRAIN, HELD_OUT))
        await asyncio.to_thread(when.wait, 60)
        for _ in range(times):
            task.cancel()
            await asyncio.sleep(0.01)
        try:
            await task
        except asyncio.CancelledError as error:
            return error

    return asyncio.run(main())


def at_step(step):
    reached = threading.Event()
    return reached, Recorder(on_step_end=lambda event: reached.set() if event.step == step else None)


def test_a_cancelled_task_saves_and_leaves_as_ctrl_c_does(tmp_path):
    whole = ScriptedService(tokenizer=TOKENIZER)
    first = trainer(whole, output_dir=tmp_path / "whole").train(TRAIN, HELD_OUT)
    service, folder = ScriptedService(tokenizer=TOKENIZER, latency=0.03), tmp_path / "broken"
    reached, recorder = at_step(2)
    error = cancelled(trainer(service, callbacks=[recorder], output_dir=folder), when=reached)
    kept = json.loads((folder / "result.json").read_text())
    assert (kept["status"], kept["error"]) == ("interrupted", "CancelledError")
    done = len(service.operations("optim_step"))
    assert 2 < done < 9
    assert isinstance(error.__cause__, KeyboardInterrupt)
    assert error.__notes__ == [f"the state after step {done} is saved: resume_from_checkpoint goes on with it"]
    assert (recorder.names[-1], recorder.events[-1].step) == ("TrainFailed", done)
    assert json.loads((folder / "result.json").read_text())["status"] == "interrupted"
    result = trainer(service, output_dir=folder).train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert updates(service) == updates(whole)
    assert result.history == first.history


def test_a_task_that_waits_for_a_silent_service_can_be_cancelled(tmp_path):
    """The first time it still hopes for the answer to what it sent, the second time it leaves."""
    reached, silent = threading.Event(), threading.Event()

    def never(future, seconds):
        if len(service.operations("optim_step")) < 3:
            return True
        reached.set()
        silent.wait(seconds)
        return False

    service = ScriptedService(tokenizer=TOKENIZER)
    made = trainer(service, output_dir=tmp_path)
    made._clock = Clock(done_within=never)
    error = cancelled(made, when=reached, times=2)
    assert isinstance(error.__cause__, KeyboardInterrupt)
    assert len(service.operations("save_state")) == 1
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "interrupted"


def test_a_pause_before_a_restart_can_be_cancelled():
    reached, recorder = (
        threading.Event(),
        Recorder(on_train_restart=lambda event: reached.set() if event.restart == 2 else None),
    )
    gone = {count: ConnectionError("gone") for count in (2, 4)}
    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"forward_backward": gone})
    error = cancelled(trainer(service, callbacks=[recorder], max_restarts=2, lookahead=0), when=reached)
    assert isinstance(error.__cause__, KeyboardInterrupt)


def test_an_error_in_the_thread_is_the_error_of_the_task():
    async def main():
        await trainer(failing("forward_backward", 2, ConnectionError("gone")), max_restarts=0).train_async(TRAIN)

    with pytest.raises(ServiceUnavailableError):
        asyncio.run(main())


# --- Ctrl-C ---


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_ctrl_c_saves_what_was_submitted_and_leaves(tmp_path, lookahead):
    whole = ScriptedService(tokenizer=TOKENIZER)
    first = run(whole, tmp_path / "whole", lookahead=lookahead)
    service, recorder = ScriptedService(tokenizer=TOKENIZER), Recorder()
    # The first wait is the evaluation of step 0; the fourth is for the gradient or the update of step 2.
    mortal = MortalService(service, at_wait=4, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt) as raised:
        run(mortal, tmp_path / "broken", recorder, lookahead=lookahead)
    last = 2 + lookahead
    assert raised.value.__notes__ == [f"the state after step {last} is saved: resume_from_checkpoint goes on with it"]
    assert len(service.operations("optim_step")) == last
    assert recorder.names[-1] == "TrainFailed"
    assert recorder.events[-1].step == last
    assert json.loads((tmp_path / "broken" / "result.json").read_text())["status"] == "interrupted"
    again = trainer(service, output_dir=tmp_path / "broken", save_every=2, lookahead=lookahead)
    result = again.train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert updates(service) == updates(whole)
    assert result.history == first.history


def test_ctrl_c_before_the_first_update_saves_nothing(tmp_path):
    service = MortalService(ScriptedService(tokenizer=TOKENIZER), at_wait=1, error=KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt) as raised:
        run(service, tmp_path, lookahead=0)
    assert getattr(raised.value, "__notes__", []) == []
    assert service.service.checkpoints == {}


class Impatient(MortalService):
    """Interrupted at the fourth wait, and again at a later one."""

    again_at = 5

    def count_wait(self):
        self.waits += 1
        if self.waits in (4, self.again_at):
            raise KeyboardInterrupt


@pytest.mark.parametrize("again_at", [5, 6])
def test_ctrl_c_twice_leaves_at_once(tmp_path, again_at):
    """While the same result is being waited for again, or the next."""
    service, recorder = Impatient(ScriptedService(tokenizer=TOKENIZER)), Recorder()
    service.again_at = again_at
    with pytest.raises(KeyboardInterrupt):
        run(service, tmp_path, recorder)
    assert service.waits == again_at
    assert recorder.names[-1] == "TrainFailed"
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "interrupted"


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_ctrl_c_in_a_callback_is_held_back_until_the_state_can_be_saved(tmp_path, lookahead):
    """A real signal, while nothing is being waited for: between two requests nothing could be saved."""
    recorder = Recorder(on_step_end=lambda event: signal.raise_signal(signal.SIGINT) if event.step == 3 else None)
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(KeyboardInterrupt) as raised:
        run(service, tmp_path, recorder, lookahead=lookahead)
    last = 3 + lookahead
    assert raised.value.__notes__ == [f"the state after step {last} is saved: resume_from_checkpoint goes on with it"]
    assert (recorder.names[-1], recorder.events[-1].step) == ("TrainFailed", last)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_second_signal_leaves_from_wherever_it_is(tmp_path):
    def twice(event):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    recorder = Recorder(on_step_end=twice)
    with pytest.raises(KeyboardInterrupt):
        run(ScriptedService(tokenizer=TOKENIZER), tmp_path, recorder)
    assert recorder.events[-1].step == 0
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "interrupted"


def test_a_handler_of_the_user_stays(tmp_path):
    heard = []
    before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    try:
        recorder = Recorder(on_step_end=lambda event: signal.raise_signal(signal.SIGINT) if event.step == 3 else None)
        run(ScriptedService(tokenizer=TOKENIZER), tmp_path, recorder)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT]
