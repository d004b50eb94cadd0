"""A run in a thread of its own, awaited by an event loop: to cancel the task is what Ctrl-C is to a run without one."""

from __future__ import annotations

import asyncio
import queue
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast, final

from attrs import evolve

from glowgenius.training.signals import handled

if TYPE_CHECKING:
    from collections.abc import Callable

    from glowgenius.engines.protocol import FutureLike
    from glowgenius.training.waiting import Clock

T = TypeVar("T")

SLICE: Final = 0.2
"""Seconds after which a wait looks whether it has been interrupted."""


@final
class RunCancelled(KeyboardInterrupt):
    """The task that awaits the run was cancelled: what Ctrl-C is to a program."""


@final
class Interruption:
    """Interrupts a run from another thread, as a signal cannot: only the main thread is given those."""

    def __init__(self) -> None:
        # Unlike a semaphore, a queue of this kind may be used by the handler of a signal.
        self._presses: queue.SimpleQueue[KeyboardInterrupt] = queue.SimpleQueue()

    def press(self, interrupt: KeyboardInterrupt | None = None) -> None:
        """The first time the run saves and leaves, the second time it leaves at once; *interrupt* is what is raised."""
        self._presses.put(KeyboardInterrupt() if interrupt is None else interrupt)

    def clock(self, clock: Clock) -> Clock:
        """*clock*, whose waits raise what was pressed."""

        def done_within(future: FutureLike[Any], seconds: float) -> bool:
            while True:
                self._raise_pressed(0.0)
                if clock.done_within(future, min(SLICE, seconds)):
                    return True
                seconds -= SLICE
                if seconds <= 0:
                    return False

        def sleep(seconds: float) -> None:
            self._raise_pressed(seconds)

        return evolve(clock, done_within=done_within, sleep=sleep)

    def _raise_pressed(self, seconds: float) -> None:
        with suppress(queue.Empty):
            raise self._presses.get(timeout=seconds) if seconds > 0 else self._presses.get_nowait()


async def in_thread(work: Callable[[Interruption], T]) -> T:
    """What *work* returns, done in a thread, so that the event loop goes on.

    Raises:
        CancelledError: The task was cancelled, each time of which was a press; *work* has come to its end by then, and
            what it said then is the cause.
        KeyboardInterrupt: SIGTERM or SIGHUP arrived, each of which was a press too.
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
    with handled(interruption.press):
        while not thread.done():
            try:
                await asyncio.wait([thread])  # which leaves it alone when it is itself cancelled
            except asyncio.CancelledError as error:
                cancelled = error
                interruption.press(RunCancelled())
    value, failure = thread.result()
    if cancelled is not None:
        for note in getattr(failure, "__notes__", ()):
            cancelled.add_note(note)
        raise cancelled from failure
    if failure is not None:
        raise failure
    return cast("T", value)  # without a failure there is one
