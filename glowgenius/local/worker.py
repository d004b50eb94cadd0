"""A worker thread that runs jobs in the order of submission."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from collections import deque
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, final

from glowgenius.engines.process import HomeProcess
from glowgenius.engines.tinker_types import EngineFuture, completed
from glowgenius.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@final
class _Lane:
    """What a worker and its thread share. The thread does not know the worker, which can so be dropped."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[tuple[Future[Any] | None, Callable[[], Any] | None]] = queue.SimpleQueue()
        self.working = threading.Lock()
        self.abandoned = False
        self.home = HomeProcess()
        _LANES.add(self)

    def run(self) -> None:
        """Do what comes, to the end."""
        while self._next():
            pass

    def _next(self) -> bool:
        """Do the next job. Nothing of it is held while the thread waits for another: it may be a whole adapter."""
        future, job = self.jobs.get()
        if job is None:
            if future is not None:
                future.set_result(None)
            return False
        if future is None or not future.set_running_or_notify_cancel():
            return True
        with self.working:
            if self.abandoned:
                future.set_exception(EngineError("the program is ending"))
                return True
            try:
                result = job()
            except BaseException as error:  # noqa: BLE001 - whatever a job raises belongs to whoever waits for it
                future.set_exception(error)
            else:
                future.set_result(result)
        return True


@final
class Worker:
    """Runs jobs one after another on a daemon thread that starts with the first job, and ends with the worker.

    A program that ends waits for the job that is running; those behind it fail.
    """

    def __init__(self, name: str = "glowgenius-local") -> None:
        self._name = name
        self._lane = _Lane()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed: EngineFuture[None] | None = None
        _refuse_fork()
        weakref.finalize(self, self._lane.jobs.put, (None, None)).atexit = False

    def submit(self, job: Callable[[], T]) -> EngineFuture[T]:
        """Put *job* at the end of the queue.

        Raises:
            EngineError: The service was closed, or this is a fork of the process that made it.
        """
        self._lane.home.check("this client of the local engine")
        future: Future[T] = Future()
        with self._lock:
            if self._closed is not None:
                raise EngineError("the local service was closed; make a new glowgenius.local.ServiceClient()")
            if self._thread is None:
                _BUSY.append(self._lane.home)
                self._thread = threading.Thread(target=self._lane.run, name=self._name, daemon=True)
                self._thread.start()
            self._lane.jobs.put((future, job))
        return EngineFuture(future)

    def close(self) -> EngineFuture[None]:
        """Finish what is queued, then end the thread; later jobs are refused. Closing again changes nothing.

        Returns:
            Done when everything queued is.
        """
        if not self._lane.home.here:
            return completed(None)
        with self._lock:
            if self._closed is None:
                last: Future[None] = Future()
                self._closed = EngineFuture(last)
                if self._thread is None:
                    last.set_result(None)
                else:
                    self._lane.jobs.put((last, None))
            return self._closed

    def abandon(self) -> None:
        """Let no other job begin: those that wait fail, so that nobody waits for them."""
        self._lane.abandoned = True

    def wait(self) -> None:
        """Wait for the job that is running."""
        with self._lane.working:
            pass


_LANES: weakref.WeakSet[_Lane] = weakref.WeakSet()

_BUSY: deque[HomeProcess] = deque(maxlen=1)
"""The process in which torch has been at work: its own threads are missing in a fork as well."""


def _refuse_fork() -> None:
    for home in _BUSY:
        home.check("the local engine, which has computed there before,")


@atexit.register
def _leave() -> None:
    """Let the program end between two jobs: Python takes daemon threads down, and aborts where one is inside torch."""
    lanes = [lane for lane in _LANES if lane.home.here]
    for lane in lanes:
        lane.abandoned = True
    for lane in lanes:
        with lane.working:
            pass
