"""Requests of callbacks and signals to a run: an evaluation, a checkpoint, a stop."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

from attrs import define, field, frozen

from glowgenius._validators import integer, optional, text
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from glowgenius.typing import JSON

    Interrupt: TypeAlias = Callable[[KeyboardInterrupt], None]
    """Is given what to raise, and raises it, or keeps it for later."""


@final
@frozen
class StopTraining:
    """End the run after the steps that are already submitted; the last step is evaluated and saved as always."""

    reason: str = field(validator=text())
    """Why; becomes `result.stop_reason`."""

    use_step: int | None = field(default=None, kw_only=True, validator=optional(integer(at_least=1)))
    """The step whose weights `result.sampler` answers with; None means those of the last one."""


@final
@frozen
class SaveCheckpoint:
    """Save a resumable state after the steps that are already submitted."""


@final
@frozen
class RunEvaluation:
    """Evaluate the weights after the steps that are already submitted."""


def _measurements(values: Mapping[str, float]) -> Mapping[str, float]:
    measured: dict[str, float] = {}
    for name, value in dict(values).items():
        try:
            measured[name] = float(value)
        except (TypeError, ValueError):
            raise ConfigError(
                f"LogMetrics[{name!r}] must be a number, got {value!r} ({type(value).__name__})"
            ) from None
    return measured


@final
@frozen
class LogMetrics:
    """Add metrics to the row of the step that is being reported, and so to history and run folder."""

    metrics: Mapping[str, float] = field(converter=_measurements)
    """Name → value, such as `{"eval/exact_match": 0.8}`."""


Request: TypeAlias = StopTraining | SaveCheckpoint | RunEvaluation | LogMetrics
"""What a hook may return besides None."""

REQUESTS: Final[tuple[type[Request], ...]] = (StopTraining, SaveCheckpoint, RunEvaluation, LogMetrics)
"""The request classes."""


_SAVE, _EVALUATE, _STOP = "save", "evaluate", "stop"
_KINDS: Final = (_SAVE, _EVALUATE)


@final
@define(kw_only=True)
class Agenda:
    """Requests of callbacks by step, besides what the settings ask for.

    A request that is made when step n is reported takes effect `lookahead` steps later. A run that is killed in
    between has to do it all the same when it is resumed, so each checkpoint holds what is still to come.
    """

    end: int
    """The last step: of the plan, or where a callback has ended the run."""

    stop: StopTraining | None = None
    """The request that ends the run before its plan does."""

    saves: set[int] = field(factory=set[int])
    """Steps of which a state is to be kept."""

    evaluations: set[int] = field(factory=set[int])
    """Steps that are to be evaluated."""

    def after(self, step: int) -> dict[str, JSON]:
        """The requests still open after *step*, or the stop there, as JSON; empty if there are none."""
        steps: dict[str, set[int]] = {_SAVE: self.saves, _EVALUATE: self.evaluations}
        left: dict[str, JSON] = {}
        for kind in _KINDS:
            later: list[JSON] = [each for each in sorted(steps[kind]) if each > step]
            if later:
                left[kind] = later
        if self.stop is not None and self.end >= step:
            left[_STOP] = {"step": self.end, "reason": self.stop.reason, "use_step": self.stop.use_step}
        return left

    @classmethod
    def from_json(cls, left: Mapping[str, Any], *, total_steps: int) -> Agenda:
        """The scheduled requests of a resumed run, from what `after` returned."""
        agenda = cls(end=total_steps, saves=set(left.get(_SAVE, ())), evaluations=set(left.get(_EVALUATE, ())))
        stop = left.get(_STOP)
        if stop is not None and stop["step"] <= total_steps:
            agenda.end = stop["step"]
            agenda.stop = StopTraining(stop["reason"], use_step=stop["use_step"])
        return agenda


TERMINATIONS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end: of a machine that is taken away, and of a terminal that is gone."""

INTERRUPTIONS: Final = (signal.SIGINT, *TERMINATIONS)
"""Those, and Ctrl-C."""


@final
class Terminated(KeyboardInterrupt, SystemExit):
    """A signal ended the process: a `KeyboardInterrupt` to those who catch it, else exit code 128 + signal.

    Args:
        number: Which signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def called(interrupt: KeyboardInterrupt) -> str:
    """Name of *interrupt* in messages: `Ctrl-C` or the name of the signal."""
    return str(interrupt) if isinstance(interrupt, Terminated) else "Ctrl-C"


@contextmanager
def handled(interrupt: Interrupt | None = None, numbers: Iterable[int] = TERMINATIONS) -> Generator[None]:
    """Handle the signals *numbers* with *interrupt* inside the block; None raises at once.

    Only in the main thread, which is where signals arrive, and only where nobody else has a handler: a signal that is
    ignored, as under `nohup`, stays ignored. The handlers of before are put back afterwards.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handler(number: int, _frame: object) -> None:
        _interrupted(number, interrupt or _raise)

    handler.of_glowgenius = True  # type: ignore[attr-defined] # how an inner use knows it
    before = {number: signal.getsignal(number) for number in numbers}
    ours = [number for number, found in before.items() if _is_free(number, found)]
    try:
        for number in ours:
            signal.signal(number, handler)
        yield
    finally:
        for number in ours:
            signal.signal(number, before[number])


def _interrupted(number: int, interrupt: Interrupt) -> None:
    interrupt(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))


def _raise(interrupt: KeyboardInterrupt) -> None:
    raise interrupt


def _is_free(number: int, found: Any) -> bool:
    """Whether *found* is Python's default handler of the signal, or one of an outer `handled`."""
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    return found is default or getattr(found, "of_glowgenius", False)
