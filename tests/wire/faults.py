"""What goes wrong, as data: at the nth request of a kind, this happens."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Literal, TypeAlias

from attrs import field, frozen, validators

if TYPE_CHECKING:
    from collections.abc import Iterable

Action: TypeAlias = Literal["status", "drop", "hang", "lose_reply", "fail", "restart", "reply"]


@frozen(kw_only=True)
class Fault:
    """One thing that goes wrong.

    `status`      answer with an HTTP status; nothing is done. Retried by the SDK: 408, 409, 429, 5xx, and 402 for an
                  hour. Anything else ends the operation, and its place in the order counts as taken.
    `drop`        close the connection; nothing is done.
    `hang`        as `drop`, after `seconds` of silence.
    `lose_reply`  do what is asked, then close the connection instead of answering.
    `fail`        accept the operation, and let its result be an error; nothing is done. Operations only.
    `reply`       answer with `body`, as a proxy does that has something to say; nothing is done.
    `restart`     forget every model, sampler and promise, close every connection, and be away for `seconds`; what was
                  saved stays.
    """

    kind: str
    """The endpoint without `/api/v1/`: `forward_backward`, `forward`, `optim_step`, `save_weights`, …; the retrieval
    of a result is `retrieve_future`, or `retrieve_future:optim_step` for one kind of it."""

    action: Action
    """What happens."""

    nth: int = field(default=1, validator=validators.ge(1))
    """At which request of that kind, counted from 1 since the fault was injected; repetitions by the SDK count."""

    times: int = field(default=1, validator=validators.ge(1))
    """For how many requests in a row."""

    status: int = 500
    """The HTTP status of `status` and of `reply`."""

    body: bytes = b""
    """What a `reply` says."""

    content_type: str = "application/json"
    """What a `reply` says it is."""

    missing: int = 0
    """Bytes of a `reply` that are announced and do not come."""

    message: str = "injected"
    """What the answer says."""

    category: Literal["user", "server", "unknown"] = "server"
    """Whose fault a `fail` is said to be."""

    seconds: float = field(default=0.5, validator=[validators.ge(0), validators.le(30)])
    """How long a `hang` or a `restart` takes."""

    retry_after_ms: int | None = 10
    """When the SDK is asked to come again after a `status`. None: its own pauses, from half a second up."""


class Faults:
    """The faults of one server, and how often each kind of request has been seen."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._lock = threading.Lock()
        self._seen: list[tuple[Fault, int]] = [(fault, 0) for fault in faults]
        self._fired: list[Fault] = []

    def inject(self, *faults: Fault) -> None:
        """Add *faults*; they count from now."""
        with self._lock:
            self._seen += [(fault, 0) for fault in faults]

    def due(self, *kinds: str) -> Fault | None:
        """The fault for the request that has come in, which goes by all of *kinds*; the first injected one wins."""
        found: Fault | None = None
        with self._lock:
            for index, (fault, seen) in enumerate(self._seen):
                if fault.kind not in kinds:
                    continue
                self._seen[index] = (fault, seen + 1)
                if found is None and fault.nth <= seen + 1 < fault.nth + fault.times:
                    found = fault
            if found is not None:
                self._fired.append(found)
        return found

    @property
    def fired(self) -> tuple[Fault, ...]:
        """What has gone wrong so far, once for every time."""
        with self._lock:
            return tuple(self._fired)
