"""The service fails in the middle of a run: it goes on from its last checkpoint, and ends as if nothing had been."""

from __future__ import annotations

import json
from datetime import datetime

import numpy as np
import pytest

from glowgenius import errors
from glowgenius.testing import ScriptedService
from glowgenius.training.events import Restart
from glowgenius.training.loop import Clock
from glowgenius.training.session import WORTH_A_RESTART, worth_a_restart
from tests.support.killing import MortalService
from tests.support.resuming import Counting, weights_of
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, Recorder, trainer, updates

GONE = "gone"


class FakeTime:
    """Time that passes only when somebody waits; every wait is late as often as told."""

    def __init__(self, late=0):
        self.now, self.late, self.slept = 0.0, late, []

    def clock(self):
        return Clock(
            seconds=lambda: self.now,
            now=lambda: datetime.fromtimestamp(1_800_000_000 + self.now),  # noqa: DTZ006 - shown in local time
            done_within=self.done_within,
            sleep=self.slept.append,
        )

    def done_within(self, future, seconds):
        if self.late:
            self.late -= 1
            self.now += seconds
            return False
        return True


def failing(**counts):
    return ScriptedService(
        tokenizer=TOKENIZER,
        fail_on={kind: {each: ConnectionError(GONE) for each in numbers} for kind, numbers in counts.items()},
    )


def run(service, folder=None, *callbacks, time=None, **settings):
    time = FakeTime() if time is None else time
    made = trainer(service, callbacks=callbacks, output_dir=folder, **{"save_every": 2, **settings})
    made._clock = time.clock()
    return made.train(TRAIN, HELD_OUT)


def without_restarts(rows):
    return [{name: value for name, value in row.items() if name != "restarts"} for row in rows]


@pytest.fixture(scope="module")
def whole():
    service, counting = ScriptedService(tokenizer=TOKENIZER), Counting()
    result = run(service, None, counting)
    return updates(service), weights_of(service, result), result.history.rows, counting.losses


@pytest.mark.parametrize("lookahead", [0, 1, 2])
@pytest.mark.parametrize(
    "kind", ["forward_backward", "optim_step", "save_state", "forward", "save_weights_for_sampler"]
)
def test_the_run_ends_as_if_nothing_had_been(whole, tmp_path, kind, lookahead):
    count = {"save_state": 2, "forward": 2, "save_weights_for_sampler": 1}.get(kind, 6)
    service, counting, recorder = failing(**{kind: [count]}), Counting(), Recorder()
    result = run(service, tmp_path, counting, recorder, lookahead=lookahead)
    assert np.array_equal(weights_of(service, result), whole[1])
    assert without_restarts(result.history) == list(whole[2])
    assert counting.losses == whole[3]
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(10))
    (event,) = [event for event in recorder.events if type(event).__name__ == "TrainRestart"]
    assert [row.get("restarts", 0) for row in rows] == [0] * (event.step + 1) + [1] * (9 - event.step)
    # No client has ever been sent the same update twice.
    clients = [operation.client for operation in service.operations("optim_step")]
    assert len(set(clients)) == 2
    second = [operation for operation in service.operations("optim_step") if operation.client == clients[-1]]
    assert len(second) == 9 - event.step


def test_it_is_said_everywhere(tmp_path, caplog):
    service, recorder, time = failing(forward_backward=[6]), Recorder(), FakeTime()
    result = run(service, tmp_path, recorder, time=time)
    (event,) = [event for event in recorder.events if type(event).__name__ == "TrainRestart"]
    assert (event.step, event.failed_step, event.restart, event.max_restarts) == (4, 7, 1, 3)
    said = f"forward_backward of step 6: {REACHED} (ConnectionError: gone)"
    assert event.message == (
        "restart 1 of 3 from the checkpoint of step 4; 3 steps are made again, because of ServiceUnavailableError: "
        + said
    )
    assert event.message in caplog.messages
    assert result.restarts == (Restart(failed_step=7, from_step=4, error="ServiceUnavailableError", message=said),)
    assert json.loads((tmp_path / "result.json").read_text())["restarts"] == [result.restarts[0].to_json()]
    assert time.slept == []


REACHED = (
    "the service cannot be reached. Check the network, TINKER_BASE_URL, and that NO_PROXY covers a server on this "
    "machine"
)


def test_without_a_checkpoint_it_starts_anew_from_the_seed(whole):
    service, counting, recorder = failing(forward_backward=[3]), Counting(), Recorder()
    result = run(service, None, counting, recorder, save_every=None)
    (event,) = [event for event in recorder.events if type(event).__name__ == "TrainRestart"]
    assert event.message.startswith(
        "restart 1 of 3 from the seed, as there is no checkpoint yet; 4 steps are made again, because of "
    )
    assert np.array_equal(weights_of(service, result), whole[1])
    assert counting.losses == whole[3]


def test_it_gives_up_after_so_many(tmp_path):
    service, time = failing(optim_step=[5, 6, 7, 8, 9, 10]), FakeTime()
    with pytest.raises(errors.ServiceUnavailableError) as raised:
        run(service, tmp_path, time=time, max_restarts=3, lookahead=0)
    assert raised.value.__notes__ == ["the run had been restarted 3 times before (max_restarts)"]
    assert time.slept == [5.0, 20.0]
    assert json.loads((tmp_path / "result.json").read_text())["status"] == "failed"


def test_a_client_that_cannot_be_made_again_counts_as_well(whole):
    path = "create_training_client_from_state_with_optimizer"
    service = failing(forward_backward=[6], **{path: [1]})
    result = run(service)
    assert [(each.failed_step, each.from_step) for each in result.restarts] == [(7, 4), (7, 4)]
    assert np.array_equal(weights_of(service, result), whole[1])


@pytest.mark.parametrize("failures", [1, 3])
def test_a_run_that_cannot_begin_at_once_begins_later(whole, tmp_path, caplog, failures):
    service, time = failing(create_lora_training_client=range(1, failures + 1)), FakeTime()
    result = run(service, tmp_path, time=time)
    assert result.history.rows == whole[2]
    assert np.array_equal(weights_of(service, result), whole[1])
    assert (result.restarts, time.slept) == ((), [0.0, 5.0, 20.0][:failures])
    told = [message for message in caplog.messages if "cannot begin yet" in message]
    assert len(told) == failures
    assert told[0].startswith("the run cannot begin yet; retry 1 of 3: create_lora_training_client: ")


def test_a_run_that_cannot_begin_at_all_says_so_and_leaves_nothing(tmp_path):
    service = failing(create_lora_training_client=range(1, 9))
    with pytest.raises(errors.ServiceUnavailableError) as raised:
        run(service, tmp_path / "run", max_restarts=2)
    assert raised.value.__notes__ == ["it was tried 3 times (max_restarts=2); start again later"]
    assert len(service.operations("create_lora_training_client")) == 3
    assert not (tmp_path / "run").exists()


def test_a_resume_that_cannot_begin_at_once_begins_later(whole, tmp_path):
    path = "create_training_client_from_state_with_optimizer"
    service = failing(forward_backward=[6], **{path: [1]})
    with pytest.raises(errors.ServiceUnavailableError):
        run(service, tmp_path, max_restarts=0)
    made = trainer(service, output_dir=tmp_path, save_every=2)
    result = made.train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert np.array_equal(weights_of(service, result), whole[1])


def test_what_is_refused_is_not_tried_again(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"create_lora_training_client": {1: ValueError("no")}})
    with pytest.raises(errors.RequestRejectedError):
        run(service, tmp_path)
    assert len(service.operations("create_lora_training_client")) == 1


def test_the_count_goes_on_after_a_resume(tmp_path):
    service = failing(forward_backward=[6])
    run(service, tmp_path)
    longer = trainer(service, output_dir=tmp_path, num_epochs=4).train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert longer.history.last["restarts"] == 1
    assert longer.restarts == ()


def test_a_client_that_was_given_cannot_be_made_again():
    service = failing(forward_backward=[3])
    client = service.create_lora_training_client("m").result()
    made = trainer(service).from_client(client, renderer=RENDERER, config=trainer(service).config)
    with pytest.raises(errors.ServiceUnavailableError):
        made.train(TRAIN)
    assert len(service.operations("create_lora_training_client")) == 1


def tree(kind):
    return {kind} | {each for below in kind.__subclasses__() for each in tree(below)}


def test_which_errors_are_worth_a_restart():
    """The whole tree: what the service or the network did, and nothing that would only come again."""
    ours = {kind for kind in tree(errors.GlowGeniusError) if kind.__module__ == "glowgenius.errors"}
    assert {kind for kind in ours if worth_a_restart(kind("x"))} == set(WORTH_A_RESTART)
    assert set(WORTH_A_RESTART) == {errors.ServiceUnavailableError, errors.RateLimitError}
    assert not any(map(worth_a_restart, (KeyboardInterrupt(), ValueError(), ConnectionError())))


@pytest.mark.parametrize(
    "error",
    [errors.RequestRejectedError, errors.BillingError, errors.AuthenticationError, errors.EngineError, KeyError],
)
def test_the_others_end_the_run_at_once(error):
    service = ScriptedService(tokenizer=TOKENIZER, fail_on={"forward_backward": {6: error("no")}})
    with pytest.raises(error):
        run(service)
    assert len(service.operations("create_training_client_from_state_with_optimizer")) == 0


# --- waiting ---


def waits(recorder):
    return [event for event in recorder.events if type(event).__name__ == "ServiceWait"]


def test_a_long_wait_is_said_at_growing_intervals(whole, caplog):
    service, recorder, time = ScriptedService(tokenizer=TOKENIZER), Recorder(), FakeTime(late=7)
    result = run(service, None, recorder, time=time)
    assert [event.seconds for event in waits(recorder)] == [30, 60, 120, 240, 480, 960, 1560]
    first = waits(recorder)[0]
    since = datetime.fromtimestamp(1_800_000_000).isoformat(sep=" ", timespec="seconds")  # noqa: DTZ006 - as shown
    assert first.message == (
        f"waiting for the service since {since} (30 s): evaluation of step 0; Ctrl-C saves and leaves"
    )
    assert [event.message for event in waits(recorder)] == [
        message for message in caplog.messages if message.startswith("waiting")
    ]
    assert result.history.rows == whole[2]


def test_what_has_been_slow_before_is_not_a_long_wait():
    service, recorder, time = ScriptedService(tokenizer=TOKENIZER), Recorder(), FakeTime(late=2)
    run(
        service, None, Recorder(on_evaluate_end=lambda event: setattr(time, "late", time.late + 1)), recorder, time=time
    )
    # The first result took a minute, so the next word is said after three.
    assert [event.seconds for event in waits(recorder)[:3]] == [30, 60, 180]


def test_after_ctrl_c_it_says_how_to_leave_at_once():
    recorder, time = Recorder(), FakeTime()

    service = MortalService(ScriptedService(tokenizer=TOKENIZER), at_wait=4, error=KeyboardInterrupt)
    heard = Recorder(on_step_end=lambda event: setattr(time, "late", 1) if event.step == 2 else None)
    with pytest.raises(KeyboardInterrupt):
        run(service, None, heard, recorder, time=time)
    (event,) = waits(recorder)
    assert event.interrupted
    assert event.message.endswith("; Ctrl-C again leaves at once")
