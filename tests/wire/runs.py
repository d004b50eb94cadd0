"""One model being trained behind the wire: requests arrive in any order and are done in theirs."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable

    from tinker import Datum

    from glowgenius.engines.protocol import TrainingClient


@frozen
class Update:
    """What one optimizer step has made of the weights."""

    batches: tuple[str, ...]
    """Fingerprints of the requests whose gradients went into it."""

    learning_rate: float


@frozen(kw_only=True)
class Saved:
    """What stands behind one `tinker://` path; survives a restart."""

    engine_path: str
    base_model: str
    rank: int
    history: tuple[Update, ...]
    """Every update that is in these weights, those before a resume included."""

    resumable: bool


@define
class Run:
    """A training client of the engine, and what has been done with it.

    `history` holds the updates that are in the weights now. It is written by whoever the engine calls when an
    operation is done, which is in the order of the operations.
    """

    client: TrainingClient
    base_model: str
    rank: int
    history: list[Update] = field(factory=list)
    _gradients: list[str] = field(factory=list)
    _waiting: dict[int, Callable[[], None]] = field(factory=dict)
    _next: int = 1
    _lock: Any = field(factory=threading.RLock)

    def enter(self, seq_id: int, start: Callable[[], None]) -> None:
        """Run *start* when everything before *seq_id* has been started."""
        with self._lock:
            self._waiting[seq_id] = start
            while (due := self._waiting.pop(self._next, None)) is not None:
                self._next += 1
                due()

    def skip(self, seq_id: int) -> None:
        """*seq_id* was refused: its place is taken by nothing."""
        self.enter(seq_id, lambda: None)

    def accumulated(self, batch: str) -> None:
        """The gradient of *batch* has been added."""
        self._gradients.append(batch)

    def loaded(self, client: TrainingClient, saved: Saved) -> None:
        """The run goes on from *saved* with another client of the engine."""
        self.client, self.history = client, list(saved.history)

    def stepped(self, learning_rate: float) -> None:
        """The optimizer has made its step."""
        self.history.append(Update(tuple(self._gradients), learning_rate))
        self._gradients.clear()


def fingerprint(data: list[Datum]) -> str:
    """The same for the same data, whatever their weights are scaled by."""
    digest = hashlib.sha256()
    for datum in data:
        weights = datum.loss_fn_inputs["weights"].to_numpy()
        for part in (datum.model_input.to_ints(), datum.loss_fn_inputs["target_tokens"].to_numpy(), weights > 0):
            digest.update(np.asarray(part, dtype=np.int64).tobytes() + b"/")
    return digest.hexdigest()[:12]
