"""`JSONLLogger`: every event of a run as a line of JSON."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from typing_extensions import override

from glowgenius._files import append, json_line, write_whole
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.callbacks.step_files import sound_lines
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
        ServiceWait,
        StepBegin,
        StepEnd,
        StepLogged,
        TrainBegin,
        TrainEnd,
        TrainFailed,
        TrainRestart,
    )


@final
class JSONLLogger(Callback):
    """Appends one line per event: `{"event": "StepEnd", "step": 3, "loss": 1.2, …}`.

    A run that is resumed goes on in the same file with a `TrainBegin` of its own. What the file holds of the steps that
    are made again is taken out, so that each of them is there once; a `TrainFailed` stays. Another run is added behind.
    A value that is not finite is null.

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
        append(self._path, json_line(to_json(event)), synced=False)

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        if event.resumed:
            lines = sound_lines("JSONLLogger", self._path, _is_event)
            write_whole(self._path, "".join(_up_to(lines, event.start_step)))
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
    def on_log(self, event: StepLogged) -> None:
        self._write(event)

    @override
    def on_epoch_end(self, event: EpochEnd) -> None:
        self._write(event)

    @override
    def on_wait(self, event: ServiceWait) -> None:
        self._write(event)

    @override
    def on_restart(self, event: TrainRestart) -> None:
        self._write(event)

    @override
    def on_train_end(self, event: TrainEnd) -> None:
        self._write(event)

    @override
    def on_exception(self, event: TrainFailed) -> None:
        self._write(event)


def _is_event(record: dict[str, Any]) -> bool:
    return isinstance(record.get("event"), str) and type(record.get("step", 0)) is int


def _up_to(lines: list[tuple[str, dict[str, Any]]], start_step: int) -> list[str]:
    """*lines* without what the last run in them did after *start_step*; why it ended stays."""
    events = [event for _, event in lines]
    begins = [
        place for place, event in enumerate(events) if event["event"] == "TrainBegin" and not event.get("resumed")
    ]
    end = begin = begins[-1] if begins else 0
    if start_step:
        later = (place for place in range(begin, len(events)) if events[place].get("step", 0) > start_step)
        end = next(later, len(events))
        # It has no step of its own, and is told again with the first step of the epoch.
        while end > begin and events[end - 1]["event"] == "EpochBegin":
            end -= 1
    failures = [line for line, event in lines[end:] if event["event"] == "TrainFailed"]
    return [*(line for line, _ in lines[:end]), *failures]
