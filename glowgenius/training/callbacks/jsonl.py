"""`JSONLLogger`: every event of a run as a line of JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, final

from typing_extensions import override

from glowgenius.training.callbacks.base import Callback
from glowgenius.training.events import to_json

if TYPE_CHECKING:
    import os

    from glowgenius.training.events import (
        CheckpointSaved,
        EpochBegin,
        EpochEnd,
        EvaluateBegin,
        EvaluateEnd,
        Event,
        StepBegin,
        StepEnd,
        TrainBegin,
        TrainEnd,
        TrainFailed,
    )


@final
class JSONLLogger(Callback):
    """Appends one line per event: `{"event": "StepEnd", "step": 3, "loss": 1.2, …}`.

    It is a log of what happened: a run that is resumed, or another one, goes on in the same file with a `TrainBegin`
    of its own, and steps that were made again are there again. The rows without repetition are in `metrics.jsonl` of
    the run folder. A value that is not finite is null.

    Args:
        path: The file; its folder is made if it is missing.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)

    @override
    def __repr__(self) -> str:
        return f"JSONLLogger({str(self._path)!r})"

    def _write(self, event: Event) -> None:
        # Opened for each line, so that the file is complete at every moment and another process can follow it.
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(to_json(event), ensure_ascii=False, allow_nan=False) + "\n")

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._write(event)

    @override
    def on_epoch_begin(self, event: EpochBegin) -> None:
        self._write(event)

    @override
    def on_step_begin(self, event: StepBegin) -> None:
        self._write(event)

    @override
    def on_step_end(self, event: StepEnd) -> None:
        self._write(event)

    @override
    def on_evaluate_begin(self, event: EvaluateBegin) -> None:
        self._write(event)

    @override
    def on_evaluate(self, event: EvaluateEnd) -> None:
        self._write(event)

    @override
    def on_save(self, event: CheckpointSaved) -> None:
        self._write(event)

    @override
    def on_epoch_end(self, event: EpochEnd) -> None:
        self._write(event)

    @override
    def on_train_end(self, event: TrainEnd) -> None:
        self._write(event)

    @override
    def on_exception(self, event: TrainFailed) -> None:
        self._write(event)
