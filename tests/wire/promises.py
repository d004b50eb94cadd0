"""Results that are not there yet: every operation is answered by a promise, whose result is asked for later."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from attrs import define

if TYPE_CHECKING:
    from collections.abc import Hashable

    from tests.wire.codec import Reply


@define
class Promise:
    """One operation under way."""

    request_id: str
    kind: str
    result: Reply | None = None


class Promises:
    """All promises of one server, by request and by what the client calls the operation."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._promises: dict[str, Promise] = {}
        self._known: dict[Hashable, Promise] = {}
        self._made = 0
        self._closed = False

    def make(self, kind: str, key: Hashable) -> tuple[Promise, bool]:
        """The promise for the operation *key*, and whether it is new: sent twice, it is done once."""
        with self._changed:
            if key in self._known:
                return self._known[key], False
            self._made += 1
            promise = self._known[key] = Promise(request_id=f"request-{self._made}", kind=kind)
            self._promises[promise.request_id] = promise
            return promise, True

    def fulfil(self, promise: Promise, result: Reply) -> None:
        """The result is there."""
        with self._changed:
            promise.result = result
            self._changed.notify_all()

    def kind(self, request_id: str) -> str | None:
        """Which kind of operation *request_id* is, if it is known."""
        with self._changed:
            promise = self._promises.get(request_id)
            return None if promise is None else promise.kind

    def wait(self, request_id: str, seconds: float) -> Promise | None:
        """The promise as it stands when its result is there, or after *seconds*; None if it is not known."""
        deadline = time.monotonic() + seconds
        with self._changed:
            while (promise := self._promises.get(request_id)) is not None and promise.result is None:
                left = deadline - time.monotonic()
                if left <= 0 or self._closed:
                    break
                self._changed.wait(left)
            return promise

    def forget(self) -> None:
        """Lose all of them, as a restarted server does; whoever waits is told at once."""
        with self._changed:
            self._promises.clear()
            self._known.clear()
            self._changed.notify_all()

    def close(self) -> None:
        """Let nobody wait any longer."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
