"""Waiting for the engine: a slow answer is said, and Ctrl-C or a signal saves before it leaves."""

from __future__ import annotations

import time
from concurrent import futures
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, final

from attrs import frozen

from glowgenius._output import logger
from glowgenius.engines.errors import mapped
from glowgenius.training.events import ServiceWait
from glowgenius.training.signals import INTERRUPTIONS, called, handled

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from glowgenius.engines.protocol import FutureLike
    from glowgenius.training.callbacks.dispatch import Callbacks
    from glowgenius.training.pending import Pending
    from glowgenius.training.submission import Submitter

T = TypeVar("T")

FIRST_NOTICE: Final = 30.0
"""Seconds after which a wait is worth a word; the next comes after twice as long, and so on."""

LONGEST_SILENCE: Final = 600.0
"""Seconds between two notices, at most."""

UNUSUAL: Final = 3.0
"""How many times longer than the longest wait so far: on a slow machine every step may take minutes."""

_NAP: Final = 1.0
"""Seconds of one wait: on Windows, Ctrl-C is not noticed before it is over."""

_LOG = logger("glowgenius.training")


def _done_within(future: FutureLike[Any], seconds: float) -> bool:
    """Whether *future* is done, or is within so many seconds."""
    inner: Callable[[], futures.Future[Any]] | None = getattr(future, "future", None)
    if inner is None:
        # A double with nothing but `result()` is waited for there, without a word in between.
        return True
    end, waited = time.monotonic() + seconds, [inner()]
    while not futures.wait(waited, timeout=min(_NAP, max(0.0, end - time.monotonic()))).done:
        if time.monotonic() >= end:
            return False
    return True


@final
@frozen(kw_only=True)
class Clock:
    """What time it is, and how time passes; tests bring their own."""

    seconds: Callable[[], float] = time.monotonic
    """Seconds since some moment."""

    now: Callable[[], datetime] = datetime.now
    """The time of day, for people."""

    done_within: Callable[[FutureLike[Any], float], bool] = _done_within
    """Waits for a future, at most so many seconds, and says whether it is done."""

    sleep: Callable[[float], None] = time.sleep
    """Lets so many seconds pass."""


@final
class Waiter:
    """Waits for results, one after another.

    Ctrl-C, SIGTERM or SIGHUP while a result is being waited for, or while something else is being done, is remembered;
    the state behind what has been submitted is then saved, and the loop ends. The second is not held back.

    Args:
        submitter: Saves the state when it is interrupted.
        callbacks: Who is told of a long wait.
        clock: What time it is.
    """

    def __init__(self, submitter: Submitter, callbacks: Callbacks, clock: Clock) -> None:
        self._submitter = submitter
        self._callbacks = callbacks
        self._clock = clock
        self._longest = 0.0
        self._is_waiting = False
        self.interrupt: KeyboardInterrupt | None = None
        """The first Ctrl-C or signal."""
        self.heeded = False
        """Whether it has been acted upon, so that nothing more is to be submitted."""

    def result(self, future: FutureLike[T], pending: Pending, operation: str) -> T:
        """The result of *future*, which belongs to *pending*.

        Raises:
            EngineError: The operation failed.
            KeyboardInterrupt: The second one.
        """
        began = self._clock.seconds()
        while True:
            try:
                self._wait(future, pending.step, operation, began)
                with mapped(f"{operation} of step {pending.step}"):
                    value = future.result()
                self._longest = max(self._longest, self._clock.seconds() - began)
                return value  # noqa: TRY300 - an interruption in the line before asks for it again
            except KeyboardInterrupt as interrupt:
                if self.interrupt is not None:
                    raise
                self.interrupt = interrupt
            self.heed(pending)

    def settle(self, under_way: list[tuple[Pending, FutureLike[Any]]]) -> None:
        """Wait until all of it is done, well or badly."""
        for pending, future in under_way:
            self._wait(future, pending.step, "what was under way", self._clock.seconds())
            with suppress(Exception):  # the first error is the one that is raised
                future.result()

    def heed(self, pending: Pending) -> None:
        """If Ctrl-C was pressed, save the state behind what has been submitted, *pending* being reported."""
        if self.interrupt is None or self.heeded:
            return
        self.heeded = True
        newest = self._submitter.newest(pending)
        self._submitter.enqueue_state(newest)
        what = f"saving the state after step {newest.step}" if newest.step else "ending what is under way"
        name = called(self.interrupt)
        again = "Ctrl-C again" if name == "Ctrl-C" else "another signal"
        _LOG.warning("%s: %s, then leaving; %s leaves at once", name, what, again)

    def heeding(self) -> AbstractContextManager[None]:
        """Hold the first Ctrl-C or signal back until it can be heeded, as one between two requests could not be saved.

        Only in the main thread, which is where signals arrive, and only where nobody else has a handler.
        """
        return handled(self._on_interrupt, INTERRUPTIONS)

    def _on_interrupt(self, interrupt: KeyboardInterrupt) -> None:
        if self._is_waiting or self.interrupt is not None:
            raise interrupt
        self.interrupt = interrupt

    def _wait(self, future: FutureLike[Any], step: int, operation: str, began: float) -> None:
        """Return when *future* is done, and say meanwhile that it is not."""
        pause = max(FIRST_NOTICE, UNUSUAL * self._longest)
        while not self._is_done(future, pause):
            waited = self._clock.seconds() - began
            event = ServiceWait(
                step=step,
                operation=operation,
                seconds=waited,
                since=(self._clock.now() - timedelta(seconds=waited)).isoformat(sep=" ", timespec="seconds"),
                interrupted=self.interrupt is not None,
            )
            _LOG.warning("%s", event.message)
            self._callbacks.dispatch(event)
            pause = min(max(waited, FIRST_NOTICE), LONGEST_SILENCE)

    def _is_done(self, future: FutureLike[Any], seconds: float) -> bool:
        try:
            self._is_waiting = True
            return self._clock.done_within(future, seconds)
        finally:
            self._is_waiting = False
