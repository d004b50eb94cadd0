"""A run in a thread of its own, awaited by an event loop: to cancel the task is what Ctrl-C is to a run without one."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from attrs import evolve

if TYPE_CHECKING:
    from collections.abc import Callable

    from glowgenius.engines.protocol import FutureLike
    from glowgenius.training.waiting import Clock

T = TypeVar("T")

SLICE: Final = 0.2
"""Seconds after which a wait looks whether it has been interrupted."""


@final
class Interruption:
    """Interrupts a run from another thread, as a signal cannot: only the main thread is given those."""

    def __init__(self) -> None:
        self._presses = threading.Semaphore(0)

    def press(self) -> None:
        """The first time the run saves and leaves, the second time it leaves at once."""
        self._presses.release()

    def clock(self, clock: Clock) -> Clock:
        """*clock*, whose waits raise KeyboardInterrupt for each press."""

        def done_within(future: FutureLike[Any], seconds: float) -> bool:
            while True:
                if self._presses.acquire(blocking=False):
                    raise KeyboardInterrupt
                if clock.done_within(future, min(SLICE, seconds)):
                    return True
                seconds -= SLICE
                if seconds <= 0:
                    return False

        def sleep(seconds: float) -> None:
            if self._presses.acquire(timeout=seconds):
                raise KeyboardInterrupt

        return evolve(clock, done_within=done_within, sleep=sleep)


async def in_thread(work: Callable[[Interruption], T]) -> T:
    """What *work* returns, done in a thread, so that the event loop goes on.

    Raises:
        CancelledError: The task was cancelled, each time of which was a press; *work* has come to its end by then, and
            what it said then is the cause.
        BaseException: What *work* raised.
    """
    interruption = Interruption()

    def guarded() -> tuple[T | None, BaseException | None]:
        try:
            return work(interruption), None
        except BaseException as error:  # noqa: BLE001 - a KeyboardInterrupt in a future would end the event loop
            return None, error

    thread = asyncio.ensure_future(asyncio.to_thread(guarded))
    cancelled: asyncio.CancelledError | None = None
    while not thread.done():
        try:
            await asyncio.wait([thread])  # which leaves it alone when it is itself cancelled
        except asyncio.CancelledError as error:
            cancelled = error
            interruption.press()
    value, failure = thread.result()
    if cancelled is not None:
        for note in getattr(failure, "__notes__", ()):
            cancelled.add_note(note)
        raise cancelled from failure
    if failure is not None:
        raise failure
    return cast("T", value)  # without a failure there is one
