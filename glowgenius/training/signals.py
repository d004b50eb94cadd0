"""SIGTERM and SIGHUP are to a run what Ctrl-C is: it saves and leaves, and the exit code says why."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    Interrupt: TypeAlias = Callable[[KeyboardInterrupt], None]
    """Is given what to raise, and raises it, or keeps it for later."""

TERMINATIONS: Final = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))
"""The signals that ask a process to end: of a machine that is taken away, and of a terminal that is gone."""

INTERRUPTIONS: Final = (signal.SIGINT, *TERMINATIONS)
"""Those, and Ctrl-C."""


@final
class Terminated(KeyboardInterrupt, SystemExit):
    """A signal asked the process to end: as Ctrl-C to whoever catches that, and else the exit code 128 + signal.

    Args:
        number: Which signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.code = 128 + number


def called(interrupt: KeyboardInterrupt) -> str:
    """What a message calls *interrupt*: `Ctrl-C` or the name of the signal."""
    return str(interrupt) if isinstance(interrupt, Terminated) else "Ctrl-C"


@contextmanager
def handled(interrupt: Interrupt | None = None, numbers: Iterable[int] = TERMINATIONS) -> Generator[None]:
    """Give the signals *numbers* to *interrupt* meanwhile; None raises at once.

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
    """Whether *found* is Python's own handler of the signal, or one of an outer `handled`."""
    default = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
    return found is default or getattr(found, "of_glowgenius", False)
