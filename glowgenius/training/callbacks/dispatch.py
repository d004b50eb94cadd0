"""Events to callbacks, requests back: everyone in the order of the list, nobody left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, TypeVar, assert_never, cast, final

from glowgenius.errors import CheckpointError, ConfigError
from glowgenius.training.callbacks.base import Callback, FunctionCallback
from glowgenius.training.events import (
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
from glowgenius.training.requests import REQUESTS, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.prices import TokenUsage
    from glowgenius.typing import JSON

E = TypeVar("E", bound=Event)

_NO_REQUESTS: Final = (TrainBegin, StepLogged, ServiceWait, TrainRestart, TrainEnd, TrainFailed)
"""Events at which there is nothing to ask for."""


def deliver(callback: Callback, event: Event) -> Request | None:
    """Call the hook of *callback* for *event*, and check what it answers."""
    if isinstance(callback, FunctionCallback):
        return callback.handle(event)
    match event:
        case EpochBegin():
            answer: object = callback.on_epoch_begin(event)
        case StepBegin():
            answer = callback.on_step_begin(event)
        case StepEnd():
            answer = callback.on_step_end(event)
        case EvaluateBegin():
            answer = callback.on_evaluate_begin(event)
        case EvaluateEnd():
            answer = callback.on_evaluate(event)
        case CheckpointSaved():
            answer = callback.on_save(event)
        case EpochEnd():
            answer = callback.on_epoch_end(event)
        case TrainBegin() | StepLogged() | ServiceWait() | TrainRestart() | TrainEnd() | TrainFailed():
            answer = _inform(callback, event)
        case _:
            assert_never(event)
    return _checked(answer, event)


def _inform(
    callback: Callback, event: TrainBegin | StepLogged | ServiceWait | TrainRestart | TrainEnd | TrainFailed
) -> object:
    """Call the hook for an event at which there is nothing to ask for; what untyped ones answer all the same."""
    match event:
        case TrainBegin():
            return _call(callback.on_train_begin, event)
        case StepLogged():
            return _call(callback.on_log, event)
        case ServiceWait():
            return _call(callback.on_wait, event)
        case TrainRestart():
            return _call(callback.on_restart, event)
        case TrainEnd():
            return _call(callback.on_train_end, event)
        case TrainFailed():
            return _call(callback.on_exception, event)
        case _:
            assert_never(event)


def _call(hook: Callable[[E], object], event: E) -> object:
    return hook(event)


def _checked(answer: object, event: Event) -> Request | None:
    """*answer*, if it is one that may be given to *event*."""
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
        """What each callback samples at one evaluation, with its name; None where it does not say."""
        return [(repr(callback), callback.sampling_usage(renderer)) for callback in self._callbacks]

    @property
    def needed_steps(self) -> set[int]:
        """The steps whose weights some callback may still ask for."""
        return {step for callback in self._callbacks for step in callback.needed_steps}

    def _stateful(self) -> list[Callback]:
        return [callback for callback in self._callbacks if type(callback).state_dict is not Callback.state_dict]

    def dispatch(self, event: Event) -> list[Request]:
        """Tell everyone about *event*, and return what they ask for.

        Raises:
            Exception: What the first failing hook raised, with a note that says which; the others have been called.
        """
        requests: list[Request] = []
        failure: Exception | None = None
        for callback in self._callbacks:
            try:
                request = deliver(callback, event)
            except Exception as error:  # noqa: BLE001 - everyone else is told first
                note = f"in the callback {callback!r} at {type(event).__name__}"
                if failure is None:
                    failure = error
                    error.add_note(note)
                else:
                    failure.add_note(f"{note}, as well: {type(error).__name__}: {error}")
            else:
                requests += [] if request is None else [request]
        if failure is not None:
            raise failure
        return requests

    def dispatch_failure(self, event: TrainFailed) -> None:
        """Tell everyone that the run failed; what goes wrong with that becomes a note on the error."""
        try:
            self.dispatch(event)
        except Exception as error:  # noqa: BLE001 - the first error is the one to raise
            where = " ".join(getattr(error, "__notes__", []))
            event.error.add_note(f"on_exception failed {where}: {type(error).__name__}: {error}")

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
        """Hand each callback its state from a checkpoint.

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
