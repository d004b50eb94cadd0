"""One thread that does what it is told, in the order in which it was told."""

from __future__ import annotations

import atexit
import queue
import threading
import weakref
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar, final

from glowgenius.engines.futures import EngineFuture
from glowgenius.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


@final
class Worker:
    """Runs jobs one after another on a daemon thread that starts with the first job.

    A program that ends waits for the job that is running; those behind it fail.
    """

    def __init__(self, name: str = "glowgenius-local") -> None:
        self._name = name
        self._jobs: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any] | None]] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed: EngineFuture[None] | None = None
        self._working = threading.Lock()
        self._abandoned = False
        _WORKERS.add(self)

    def submit(self, job: Callable[[], T]) -> EngineFuture[T]:
        """Put *job* at the end of the queue.

        Raises:
            EngineError: The service was closed.
        """
        future: Future[T] = Future()
        with self._lock:
            if self._closed is not None:
                raise EngineError("the local service was closed; make a new glowgenius.local.ServiceClient()")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._jobs.put((future, job))
        return EngineFuture(future)

    def close(self) -> EngineFuture[None]:
        """Finish what is queued, then end the thread; later jobs are refused. Closing again changes nothing.

        Returns:
            Done when everything queued is.
        """
        with self._lock:
            if self._closed is None:
                last: Future[None] = Future()
                self._closed = EngineFuture(last)
                if self._thread is None:
                    last.set_result(None)
                else:
                    self._jobs.put((last, None))
            return self._closed

    def abandon(self) -> None:
        """Let no other job begin: those that wait fail, so that nobody waits for them."""
        self._abandoned = True

    def wait(self) -> None:
        """Wait for the job that is running."""
        with self._working:
            pass

    def _run(self) -> None:
        while True:
            future, job = self._jobs.get()
            if job is None:
                future.set_result(None)
                return
            if not future.set_running_or_notify_cancel():
                continue
            with self._working:
                if self._abandoned:
                    future.set_exception(EngineError("the program is ending"))
                    continue
                try:
                    result = job()
                except BaseException as error:  # noqa: BLE001 - whatever a job raises belongs to whoever waits for it
                    future.set_exception(error)
                else:
                    future.set_result(result)


_WORKERS: weakref.WeakSet[Worker] = weakref.WeakSet()


@atexit.register
def _leave() -> None:
    """Let the program end between two jobs: Python takes daemon threads down, and aborts where one is inside torch."""
    workers = list(_WORKERS)
    for worker in workers:
        worker.abandon()
    for worker in workers:
        worker.wait()
