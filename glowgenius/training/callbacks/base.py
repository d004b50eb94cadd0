"""`Callback`, its hooks, and the dispatch of events to callbacks."""

from __future__ import annotations

import inspect
import json
import re
import warnings
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Final, TypeVar, cast, final

from attrs import evolve
from typing_extensions import override

from glowgenius.errors import CheckpointError, ConfigError, nearest
from glowgenius.training.events import (
    EVENTS,
    CheckpointSaved,
    EpochBegin,
    EpochEnd,
    EvaluateBegin,
    EvaluateEnd,
    Event,
    ServiceWait,
    StepBegin,
    StepEnd,
    StepLogged,
    TrainBegin,
    TrainEnd,
    TrainFailed,
    TrainRestart,
)
from glowgenius.training.prices import TokenUsage
from glowgenius.training.requests import REQUESTS, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

    from glowgenius.errors import Problem
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.typing import JSON

EVENT_HOOKS: Final[Mapping[type[Event], str]] = {
    event: "on" + re.sub("([A-Z])", r"_\1", event.__name__).lower() for event in EVENTS
}
"""Event → the hook that receives it: `on_` and the name of the event in snake case."""

HOOKS: Final = tuple(EVENT_HOOKS.values())
"""The hooks, in the order of a run; a wait and a restart may come anywhere."""

RENAMED_HOOKS: Final = {
    "on_evaluate": "on_evaluate_end",
    "on_save": "on_checkpoint_saved",
    "on_log": "on_step_logged",
    "on_wait": "on_service_wait",
    "on_restart": "on_train_restart",
    "on_exception": "on_train_failed",
}
"""Names that hooks had before → their names. Both work in this version; a class with an old one gets a warning."""


class Callback:
    """Base class of callbacks: override the hooks you need; each receives one frozen event.

        class Patience(Callback):
            def on_evaluate_end(self, event: EvaluateEnd) -> StopTraining | None:
                return StopTraining("good enough") if event.metrics["eval/loss"] < 0.1 else None

    A hook returns None or one request: `StopTraining(reason)`, `SaveCheckpoint()`, `RunEvaluation()` or
    `LogMetrics({...})`. Callbacks are called in the order of the list, and all of them see every event.
    An error in a hook ends the run with that error, and `on_train_failed` still reaches everyone.

    `on_event` receives every event, before the hook of that event.

    What a callback remembers survives a resume through `state_dict` and `load_state_dict`.

    Raises:
        ConfigError: When a subclass is defined with a hook that does not exist (`on_epoch_edn`), a hook that does not
            take exactly the event, or an asynchronous hook.
    """

    needs_sampler: ClassVar[bool] = False
    """Whether `EvaluateBegin` is to bring a sampler with the weights that are evaluated."""

    shows_header: ClassVar[bool] = False
    """Whether it shows `TrainBegin.header` to the user, so that nobody else has to."""

    @override
    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Check hook names when the class is defined, because a misspelt hook would never be called."""
        super().__init_subclass__(**kwargs)
        _rename_hooks(cls)
        for name, hook in vars(cls).items():
            if name.startswith("on_") and name not in RENAMED_HOOKS:
                _check_hook(f"{cls.__name__}.{name}", name, hook)

    @override
    def __repr__(self) -> str:
        """The class name as errors show it, without a memory address."""
        return f"{type(self).__name__}()"

    def sampling_usage(self, renderer: Renderer) -> TokenUsage | None:  # noqa: ARG002 - for those that override it
        """The most tokens it reads and generates at one evaluation, for the cost estimate; None if unknown."""
        return None if self.needs_sampler else TokenUsage()

    def sampling_problems(self, renderer: Renderer, context: int | None) -> Sequence[Problem]:  # noqa: ARG002 - as above
        """Prompts that are too long for the model; a run with any of them is refused.

        Args:
            renderer: Makes the tokens.
            context: The most tokens that the model takes, prompt and answer together; None where that is not known.
        """
        return ()

    @property
    def needed_steps(self) -> Collection[int]:
        """Steps that `StopTraining(use_step=…)` may still name; `save_top_k` does not delete their weights."""
        return ()

    @property
    def state_key(self) -> str:
        """Key of the callback's state in a checkpoint; unique among the callbacks with state."""
        return type(self).__name__

    def state_dict(self) -> Mapping[str, JSON]:
        """State to restore on resume, as JSON values."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the state that `state_dict` returned when a checkpoint was saved; called after `on_train_begin`."""

    def on_event(self, event: Event) -> Request | None:
        """Called with every event, before the event's own hook; for callbacks such as loggers."""

    def on_train_begin(self, event: TrainBegin) -> None:
        """Called before the first request."""

    def on_epoch_begin(self, event: EpochBegin) -> Request | None:
        """Called before the first step of an epoch."""

    def on_step_begin(self, event: StepBegin) -> Request | None:
        """Called when a step has been submitted and its result is awaited."""

    def on_step_end(self, event: StepEnd) -> Request | None:
        """Called after each optimizer update."""

    def on_evaluate_begin(self, event: EvaluateBegin) -> Request | None:
        """Called while weights are evaluated; `LogMetrics` returned here is seen by `on_evaluate_end`."""

    def on_evaluate_end(self, event: EvaluateEnd) -> Request | None:
        """Called when an evaluation is complete."""

    def on_checkpoint_saved(self, event: CheckpointSaved) -> Request | None:
        """Called when a checkpoint has been saved."""

    def on_step_logged(self, event: StepLogged) -> None:
        """Called when all metrics of a step are known, before its row is written."""

    def on_epoch_end(self, event: EpochEnd) -> Request | None:
        """Called when every row has been visited once more."""

    def on_service_wait(self, event: ServiceWait) -> None:
        """Called while the service is slow to answer, at growing intervals."""

    def on_train_restart(self, event: TrainRestart) -> None:
        """Called after the service failed, before the steps since the last checkpoint are repeated."""

    def on_train_end(self, event: TrainEnd) -> None:
        """Called when the run is over and everything is saved."""

    def on_train_failed(self, event: TrainFailed) -> None:
        """Called when an error or an interruption ended the run."""


for _old, _new in RENAMED_HOOKS.items():  # so that super().on_evaluate(event) of a subclass works
    setattr(Callback, _old, getattr(Callback, _new))


def _rename_hooks(cls: type[Callback]) -> None:
    """Give each hook of *cls* both of its names, with a warning where it has only an old one.

    Raises:
        ConfigError: There are two different functions under the two names.
    """
    for old, new in RENAMED_HOOKS.items():
        # A mixin need not be a Callback itself.
        owner = next(base for base in cls.__mro__ if old in vars(base) or new in vars(base))
        hooks = {name: vars(owner)[name] for name in (old, new) if name in vars(owner)}
        if len(hooks) == 2 and hooks[old] is not hooks[new]:  # noqa: PLR2004 - the two names
            raise ConfigError(f"{owner.__name__} has {old} and {new}, which are the same hook; remove {old}")
        if new not in hooks:
            _check_hook(f"{owner.__name__}.{old}", new, hooks[old])
            warnings.warn(
                f"{owner.__name__}.{old}: this hook is called {new} now; the old name works in this version",
                DeprecationWarning,
                stacklevel=3,
            )
        if len(hooks) == 1:
            for name in (old, new):
                setattr(cls, name, next(iter(hooks.values())))


def _check_hook(place: str, name: str, hook: object) -> None:
    if name not in HOOKS and name != "on_event":
        known = (*HOOKS, "on_event")
        raise ConfigError(f"{place}: there is no such hook{nearest(name, known)}; the hooks are {', '.join(known)}")
    if inspect.iscoroutinefunction(hook):
        raise ConfigError(f"{place}: a hook is a plain function, as nothing would await an asynchronous one")
    if not inspect.isfunction(hook):
        return
    given = list(inspect.signature(hook).parameters.values())
    needed = [parameter for parameter in given if parameter.default is parameter.empty]
    counted = [parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD) for parameter in needed]
    positional = [parameter.kind is not parameter.KEYWORD_ONLY for parameter in given]
    if sum(counted) > 2 or sum(positional) < 2:  # noqa: PLR2004 - self and the event
        names = ", ".join(str(parameter) for parameter in given)
        raise ConfigError(f"{place}: a hook takes one argument besides self, the event; this one takes ({names})")


E = TypeVar("E", bound="Event")


@final
class FunctionCallback(Callback):
    """Calls a function with every event of one class; made by `on`."""

    def __init__(self, event_type: type[Any], function: Callable[[Any], Request | None]) -> None:
        self._event_type = event_type
        self._function = function

    @override
    def __repr__(self) -> str:
        name = getattr(self._function, "__name__", repr(self._function))
        return f"on({self._event_type.__name__}, {name})"

    @override
    def on_event(self, event: Event) -> Request | None:
        return self._function(event) if isinstance(event, self._event_type) else None


def on(event_type: type[E], function: Callable[[E], Request | None]) -> Callback:
    """Make a callback from a function: `on(StepEnd, lambda event: print(event.loss))`.

    Args:
        event_type: One of the event classes.
        function: Called with each event of that class; returns None or a request.

    Raises:
        ConfigError: *event_type* is no event class, or *function* cannot be called.
    """
    if event_type not in EVENTS:
        names = {event.__name__.lower(): event.__name__ for event in EVENTS}
        given: Any = event_type
        found = given if isinstance(given, str) else getattr(given, "__name__", repr(given))
        close = get_close_matches(str(found).lower(), names, n=1)
        hint = f" (did you mean {names[close[0]]}?)" if close else ""
        raise ConfigError(f"on: there is no event {found!r}{hint}; the events are {', '.join(names.values())}")
    if not callable(function):
        raise ConfigError(f"on({event_type.__name__}, …): must be given a function, got {function!r}")
    return FunctionCallback(event_type, function)


_NO_REQUESTS: Final = (TrainBegin, StepLogged, ServiceWait, TrainRestart, TrainEnd, TrainFailed)
"""Events at which there is nothing to ask for."""


def deliver(callback: Callback, event: Event) -> list[Request]:
    """Call the hooks of *callback* for *event*, and check what they return."""
    hook: Callable[[Event], object] = getattr(callback, EVENT_HOOKS[type(event)])
    answers = (_checked(call(event), event) for call in (callback.on_event, hook))
    return [answer for answer in answers if answer is not None]


def _checked(answer: object, event: Event) -> Request | None:
    """The hook's return value, checked: a request that is allowed for *event*."""
    if answer is None:
        return None
    if not isinstance(answer, REQUESTS):
        names = ", ".join(request.__name__ for request in REQUESTS)
        raise ConfigError(f"a hook must return None or one of {names}, got {answer!r} ({type(answer).__name__})")
    if isinstance(event, _NO_REQUESTS):
        raise ConfigError(f"nothing can be asked for at {type(event).__name__}, got {answer!r}; return None")
    return answer


@final
class Callbacks:
    """The callbacks of a run.

    Raises:
        ConfigError: Something in the list is no callback, or two keep their state under one key.
    """

    def __init__(self, callbacks: Callback | Iterable[Callback]) -> None:
        given: Any = callbacks
        if isinstance(given, Callback):
            given = (given,)
        elif isinstance(given, type) or not hasattr(given, "__iter__"):
            hint = f"; did you mean [{given.__name__}()]?" if isinstance(given, type) else ""
            raise ConfigError(f"callbacks must be a list of Callback objects, got {given!r}{hint}")
        self._callbacks = tuple(cast("Iterable[Callback]", given))
        for callback in cast("tuple[Any, ...]", self._callbacks):
            if not isinstance(callback, Callback):
                hint = f"; did you mean {callback.__name__}()?" if isinstance(callback, type) else ""
                raise ConfigError(f"callbacks must be Callback objects, got {callback!r}{hint}")
        keys = [callback.state_key for callback in self._stateful()]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise ConfigError(
                f"two callbacks keep their state under the key {twice[0]!r}; give one of them another state_key"
            )

    @property
    def needs_sampler(self) -> bool:
        """Whether any callback samples from the weights that are evaluated."""
        return any(callback.needs_sampler for callback in self._callbacks)

    @property
    def show_header(self) -> bool:
        """Whether any callback shows the header of the run."""
        return any(callback.shows_header for callback in self._callbacks)

    def sampling(self, renderer: Renderer) -> list[tuple[str, TokenUsage | None]]:
        """Tokens each callback samples at one evaluation, by name; None if it does not say."""
        return [(repr(callback), callback.sampling_usage(renderer)) for callback in self._callbacks]

    def sampling_problems(self, renderer: Renderer, context: int | None) -> list[Problem]:
        """Prompts of all callbacks that are too long; each problem names its callback."""
        return [
            evolve(problem, field=repr(callback) if problem.field is None else f"{callback!r}: {problem.field}")
            for callback in self._callbacks
            for problem in callback.sampling_problems(renderer, context)
        ]

    @property
    def needed_steps(self) -> set[int]:
        """Steps whose weights some callback may still ask for."""
        return {step for callback in self._callbacks for step in callback.needed_steps}

    def _stateful(self) -> list[Callback]:
        return [callback for callback in self._callbacks if type(callback).state_dict is not Callback.state_dict]

    def dispatch(self, event: Event) -> list[Request]:
        """Deliver *event* to every callback, and return their requests.

        Raises:
            Exception: What the first failing hook raised, with a note that says which; the others have been called.
        """
        requests: list[Request] = []
        failure: Exception | None = None
        for callback in self._callbacks:
            try:
                answers = deliver(callback, event)
            except Exception as error:  # noqa: BLE001 - everyone else is told first
                note = f"in the callback {callback!r} at {type(event).__name__}"
                if failure is None:
                    failure = error
                    error.add_note(note)
                else:
                    failure.add_note(f"{note}, as well: {type(error).__name__}: {error}")
            else:
                requests += answers
        if failure is not None:
            raise failure
        return requests

    def dispatch_failure(self, event: TrainFailed) -> None:
        """Deliver the failure of the run to every callback; errors in their hooks become notes on the error."""
        try:
            self.dispatch(event)
        except Exception as error:  # noqa: BLE001 - the first error is the one to raise
            where = " ".join(getattr(error, "__notes__", []))
            event.error.add_note(f"on_train_failed failed {where}: {type(error).__name__}: {error}")

    def state(self) -> dict[str, JSON]:
        """The state of every callback that keeps one, by key.

        Raises:
            ConfigError: A state is not JSON.
        """
        states: dict[str, JSON] = {}
        for callback in self._stateful():
            state = dict(callback.state_dict())
            try:
                states[callback.state_key] = json.loads(json.dumps(state, allow_nan=False))
            except (TypeError, ValueError) as error:
                raise ConfigError(f"the state of the callback {callback!r} cannot be kept as JSON: {error}") from error
        return states

    def load_state(self, states: Mapping[str, Any]) -> None:
        """Restore the state of each callback from a checkpoint.

        Raises:
            CheckpointError: A callback cannot take its state over.
        """
        for callback in self._stateful():
            if callback.state_key in states:
                try:
                    callback.load_state_dict(states[callback.state_key])
                except Exception as error:
                    raise CheckpointError(
                        f"the callback {callback!r} cannot take over its state from the checkpoint: "
                        f"{type(error).__name__}: {error}"
                    ) from error

    def strangers(self, states: Mapping[str, Any]) -> list[str]:
        """The keys of *states* that no callback owns."""
        return sorted(set(states) - {callback.state_key for callback in self._stateful()})
