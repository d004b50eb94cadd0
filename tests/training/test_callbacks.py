"""The contract of callbacks: what is refused when a class is written, who is called, and what an error does."""

from __future__ import annotations

import re

import attrs
import pytest

from glowgenius.errors import CheckpointError, ConfigError
from glowgenius.training.callbacks.base import EVENT_HOOKS, HOOKS, RENAMED_HOOKS, Callback, Callbacks, deliver, on
from glowgenius.training.events import EVENTS, EvaluateEnd, StepEnd, TrainFailed, to_json
from glowgenius.training.requests import REQUESTS, LogMetrics, RunEvaluation, SaveCheckpoint, StopTraining
from tests.support.events import (
    ALL,
    BEGIN,
    EVALUATE_BEGIN,
    EVALUATE_END,
    FAILED,
    LOGGED,
    STEP_END,
    TRAIN_END,
)
from tests.support.training import Recorder


def test_each_event_reaches_exactly_its_hook():
    assert [type(event) for event in ALL] == list(EVENTS)
    for hook, event in zip(HOOKS, ALL, strict=True):
        heard = []
        callback = type("One", (Callback,), {hook: lambda self, event, heard=heard: heard.append(event)})()
        for other in ALL:
            deliver(callback, other)
        assert heard == [event]


def test_each_hook_is_named_like_its_event():
    names = [re.findall("[A-Z][a-z]*", event.__name__) for event in EVENTS]
    assert tuple("_".join(["on", *map(str.lower, words)]) for words in names) == HOOKS
    assert [EVENT_HOOKS[event] for event in EVENTS] == list(HOOKS)


def test_on_event_receives_every_event_before_its_hook():
    heard = []

    class Both(Callback):
        def on_event(self, event):
            heard.append(("on_event", type(event)))
            return RunEvaluation() if event is STEP_END else None

        def on_step_end(self, event):
            heard.append(("on_step_end", type(event)))
            return SaveCheckpoint()

    callbacks = Callbacks([Both()])
    for event in ALL:
        expected = [RunEvaluation(), SaveCheckpoint()] if event is STEP_END else []
        assert callbacks.dispatch(event) == expected
    place = heard.index(("on_step_end", StepEnd))
    assert heard[place - 1] == ("on_event", StepEnd)
    assert [event for name, event in heard if name == "on_event"] == list(EVENTS)


@pytest.mark.parametrize(("old", "new"), RENAMED_HOOKS.items())
def test_an_old_name_of_a_hook_is_answered_with_the_new_one_and_works(old, new):
    def body(heard):
        return lambda self, event: heard.append(event)

    for parents in (lambda heard: (type("Mine", (), {old: body(heard)}), Callback), lambda heard: (Callback,)):
        heard = []
        own = {} if len(parents(heard)) == 2 else {old: body(heard)}
        with pytest.warns(DeprecationWarning, match=new) as warned:
            kind = type("Mine", parents(heard), own)
        assert [str(one.message) for one in warned] == [
            f"Mine.{old}: this hook is called {new} now; the old name works in this version"
        ]
        for event in ALL:
            deliver(kind(), event)
        assert [EVENT_HOOKS[type(event)] for event in heard] == [new]


def test_a_subclass_may_call_a_hook_of_its_parent_by_either_name():
    heard = []

    class New(Callback):
        def on_evaluate_end(self, event):
            heard.append("parent")

    with pytest.warns(DeprecationWarning, match="on_evaluate_end"):

        class Old(New):
            def on_evaluate(self, event):
                super().on_evaluate(event)
                heard.append("child")

    class Newest(Old):
        def on_evaluate_end(self, event):
            super().on_evaluate_end(event)
            heard.append("grandchild")

    deliver(Newest(), EVALUATE_END)
    assert heard == ["parent", "child", "grandchild"]


def test_two_functions_under_the_two_names_of_a_hook_are_refused():
    with pytest.raises(ConfigError, match="Mine has on_save and on_checkpoint_saved, which are the same hook; remove"):
        type("Mine", (Callback,), {"on_save": lambda s, event: 1, "on_checkpoint_saved": lambda s, event: 2})
    with pytest.raises(ConfigError, match=r"Mine\.on_wait: a hook takes one argument besides self"):
        type("Mine", (Callback,), {"on_wait": lambda self: None})


def test_events_are_frozen():
    for event in ALL:
        with pytest.raises(attrs.exceptions.FrozenInstanceError):
            event.step = 5


def test_the_base_class_does_nothing():
    callback = Callback()
    assert [deliver(callback, event) for event in ALL] == [[]] * len(ALL)
    assert (callback.state_key, callback.state_dict(), callback.load_state_dict({})) == ("Callback", {}, None)


def test_a_misspelt_hook_fails_when_the_class_is_defined():
    with pytest.raises(ConfigError) as raised:
        type("Mine", (Callback,), {"on_epoch_edn": lambda self, event: None})
    assert str(raised.value) == (
        "Mine.on_epoch_edn: there is no such hook (did you mean 'on_epoch_end'?); the hooks are on_train_begin, "
        "on_epoch_begin, on_step_begin, on_step_end, on_evaluate_begin, on_evaluate_end, on_checkpoint_saved, "
        "on_step_logged, on_epoch_end, on_service_wait, on_train_restart, on_train_end, on_train_failed, on_event"
    )


def test_a_hook_of_another_library_fails_when_the_class_is_defined():
    with pytest.raises(ConfigError) as raised:

        class _Mine(Callback):
            def on_step_end(self, args, state, control, **kwargs):
                pass

    assert str(raised.value) == (
        "_Mine.on_step_end: a hook takes one argument besides self, the event; this one takes (self, args, state, "
        "control, **kwargs)"
    )
    with pytest.raises(ConfigError) as raised:
        type("Mine", (Callback,), {"on_step_end": lambda self: None})
    assert str(raised.value) == (
        "Mine.on_step_end: a hook takes one argument besides self, the event; this one takes (self)"
    )


def test_an_asynchronous_hook_fails_when_the_class_is_defined():
    with pytest.raises(ConfigError) as raised:

        class _Mine(Callback):
            async def on_step_end(self, event):
                pass

    assert str(raised.value) == (
        "_Mine.on_step_end: a hook is a plain function, as nothing would await an asynchronous one"
    )


def test_a_hook_may_have_further_arguments_with_defaults_and_be_any_callable():
    class Mine(Callback):
        on_train_end = print

        def on_step_end(self, event, log=None, *rest, **more):
            return RunEvaluation()

    assert deliver(Mine(), STEP_END) == [RunEvaluation()]


def test_everyone_is_called_in_the_order_of_the_list():
    log = []
    callbacks = Callbacks([Recorder("B", log), Recorder("A", log), Recorder("C", log)])
    assert callbacks.dispatch(STEP_END) == []
    assert log == [("B", "StepEnd"), ("A", "StepEnd"), ("C", "StepEnd")]


def test_requests_come_back_in_order_and_nobody_is_left_out():
    log = []
    stop, save = StopTraining("enough"), SaveCheckpoint()
    callbacks = Callbacks(
        [
            Recorder("A", log, on_step_end=lambda _: stop),
            Recorder("B", log),
            Recorder("C", log, on_step_end=lambda _: save),
        ]
    )
    assert callbacks.dispatch(STEP_END) == [stop, save]
    assert [name for name, _ in log] == ["A", "B", "C"]


def fail(error):
    def hook(event):
        raise error

    return hook


def test_an_error_keeps_its_type_gains_a_note_and_everyone_still_sees_the_event():
    log = []
    callbacks = Callbacks(
        [
            Recorder("A", log, on_step_end=fail(KeyError("x"))),
            Recorder("B", log, on_step_end=fail(OSError("full"))),
            Recorder("C", log),
        ]
    )
    with pytest.raises(KeyError) as raised:
        callbacks.dispatch(STEP_END)
    assert raised.value.__notes__ == [
        "in the callback Recorder('A') at StepEnd",
        "in the callback Recorder('B') at StepEnd, as well: OSError: full",
    ]
    assert [name for name, _ in log] == ["A", "B", "C"]


def test_an_error_while_failing_becomes_a_note_on_the_first_error():
    log = []
    callbacks = Callbacks([Recorder("A", log, on_train_failed=fail(OSError("full"))), Recorder("B", log)])
    event = TrainFailed(error=ValueError("first"), step=3)
    callbacks.dispatch_failure(event)
    assert event.error.__notes__ == [
        "on_train_failed failed in the callback Recorder('A') at TrainFailed: OSError: full"
    ]
    assert log == [("A", "TrainFailed"), ("B", "TrainFailed")]


def test_an_answer_that_is_no_request_is_refused():
    with pytest.raises(ConfigError) as raised:
        Callbacks([Recorder("A", on_step_end=lambda _: True)]).dispatch(STEP_END)
    assert str(raised.value) == (
        "a hook must return None or one of StopTraining, SaveCheckpoint, RunEvaluation, LogMetrics, got True (bool)"
    )
    assert raised.value.__notes__ == ["in the callback Recorder('A') at StepEnd"]


@pytest.mark.parametrize(
    ("hook", "event"),
    [("on_train_begin", BEGIN), ("on_step_logged", LOGGED), ("on_train_end", TRAIN_END), ("on_train_failed", FAILED)],
)
def test_nothing_can_be_asked_for_where_nothing_would_be_done(hook, event):
    with pytest.raises(ConfigError) as raised:
        Callbacks([Recorder("A", **{hook: lambda _: SaveCheckpoint()})]).dispatch(event)
    assert str(raised.value) == (
        f"nothing can be asked for at {type(event).__name__}, got SaveCheckpoint(); return None"
    )


def test_a_class_instead_of_a_callback_is_refused():
    with pytest.raises(ConfigError) as raised:
        Callbacks([Recorder])
    assert str(raised.value) == f"callbacks must be Callback objects, got {Recorder!r}; did you mean Recorder()?"
    with pytest.raises(ConfigError) as raised:
        Callbacks([print])
    assert str(raised.value) == "callbacks must be Callback objects, got <built-in function print>"


class Counting(Callback):
    def __init__(self, key="count", start=0):
        self.key, self.count = key, start

    def __repr__(self):
        return f"Counting({self.key!r})"

    @property
    def state_key(self):
        return self.key

    def state_dict(self):
        return {"count": self.count}

    def load_state_dict(self, state):
        self.count = state["count"]


def test_state_goes_out_and_comes_back():
    states = Callbacks([Counting("a", 3), Recorder("no state"), Counting("b", 4)]).state()
    assert states == {"a": {"count": 3}, "b": {"count": 4}}
    first, second = Counting("a"), Counting("new")
    callbacks = Callbacks([first, second])
    callbacks.load_state(states)
    assert (first.count, second.count) == (3, 0)
    assert callbacks.strangers(states) == ["b"]


def test_two_states_under_one_key_are_refused():
    with pytest.raises(ConfigError) as raised:
        Callbacks([Counting(), Counting()])
    assert str(raised.value) == (
        "two callbacks keep their state under the key 'count'; give one of them another state_key"
    )


def test_state_has_to_be_json():
    with pytest.raises(ConfigError) as raised:
        Callbacks([Counting(start=float("inf"))]).state()
    assert str(raised.value).startswith("the state of the callback Counting('count') cannot be kept as JSON: ")
    with pytest.raises(ConfigError):
        Callbacks([Counting(start=object())]).state()


def test_state_that_does_not_fit_says_whose():
    with pytest.raises(CheckpointError) as raised:
        Callbacks([Counting()]).load_state({"count": {}})
    assert str(raised.value) == (
        "the callback Counting('count') cannot take over its state from the checkpoint: KeyError: 'count'"
    )


def test_who_samples_is_known():
    assert not Callbacks([Recorder()]).needs_sampler
    assert Callbacks([Recorder(), type("Sampling", (Callback,), {"needs_sampler": True})()]).needs_sampler


def test_a_function_as_callback():
    heard = []
    callback = on(StepEnd, heard.append)
    callbacks = Callbacks([callback, on(EvaluateEnd, lambda event: StopTraining(f"at {event.step}"))])
    assert [request for event in ALL for request in callbacks.dispatch(event)] == [StopTraining("at 1")]
    assert heard == [STEP_END]
    assert repr(callback) == "on(StepEnd, append)"


def test_a_function_for_something_that_is_no_event_is_refused():
    names = ", ".join(event.__name__ for event in EVENTS)
    with pytest.raises(ConfigError) as raised:
        on(LogMetrics, print)
    assert str(raised.value) == f"on: there is no event 'LogMetrics'; the events are {names}"
    with pytest.raises(ConfigError) as raised:
        on("StepEnds", print)
    assert str(raised.value) == f"on: there is no event 'StepEnds' (did you mean StepEnd?); the events are {names}"
    with pytest.raises(ConfigError) as raised:
        on(StepEnd, None)
    assert str(raised.value) == "on(StepEnd, …): must be given a function, got None"


def test_requests_are_checked_values():
    assert (StopTraining, SaveCheckpoint, RunEvaluation, LogMetrics) == REQUESTS
    assert StopTraining("why", use_step=3).use_step == 3
    assert LogMetrics({"eval/x": 1}).metrics == {"eval/x": 1.0}
    with pytest.raises(ConfigError) as raised:
        StopTraining("")
    assert str(raised.value) == "StopTraining.reason must be a non-empty string, got '' (str)"
    with pytest.raises(ConfigError) as raised:
        LogMetrics({"eval/x": "high"})
    assert str(raised.value) == "LogMetrics['eval/x'] must be a number, got 'high' (str)"


def test_every_event_is_a_json_object():
    assert to_json(STEP_END) == {
        "event": "StepEnd",
        "step": 1,
        "epoch": 1,
        "total_steps": 4,
        "loss": None,
        "learning_rate": 0.5,
        "num_rows": 4,
        "trained_tokens": 12,
        "input_tokens": 100,
        "metrics": {"optimizer/norm": 1.5},
        "cost": None,
    }
    assert to_json(EVALUATE_BEGIN) == {"event": "EvaluateBegin", "step": 1, "num_rows": 3}
    assert to_json(FAILED) == {"event": "TrainFailed", "error": "ValueError", "message": "broken", "step": 1}
    begin = to_json(BEGIN)
    assert (begin["header"], begin["config"]["output_dir"]) == (["one", "two"], "runs/x")
