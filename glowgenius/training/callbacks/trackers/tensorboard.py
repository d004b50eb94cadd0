"""`TensorBoardLogger`: curves for `tensorboard --logdir`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, final

from typing_extensions import override

from glowgenius._lazy import require
from glowgenius.errors import ConfigError
from glowgenius.training.callbacks.trackers.base import Ending, Tracker

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from glowgenius.training.events import TrainBegin


@final
class TensorBoardLogger(Tracker):
    """Writes a scalar per metric and step, through TensorBoard's own writer; neither torch nor TensorFlow is needed.

    Args:
        directory: The folder for TensorBoard's files; None is `tensorboard` in the run folder.

    Raises:
        MissingDependencyError: TensorBoard is not installed (extra `tensorboard`).
    """

    MODULE: ClassVar[str] = "tensorboard.summary.writer.event_file_writer"
    EXTRA: ClassVar[str] = "tensorboard"

    def __init__(self, directory: str | os.PathLike[str] | None = None) -> None:
        super().__init__("" if directory is None else str(directory))
        self._proto: Any = require("tensorboard.compat.proto.event_pb2", extra=self.EXTRA, purpose="TensorBoardLogger")
        self._given = None if directory is None else Path(directory)
        self._writer: Any = None

    @override
    def __repr__(self) -> str:
        return f"TensorBoardLogger({'' if self._given is None else repr(str(self._given))})"

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        if self._given is None and event.config.output_dir is None:
            raise ConfigError(
                "TensorBoardLogger has nowhere to write: give it a directory, or set TrainingConfig.output_dir, where "
                "it writes tensorboard/"
            )
        super().on_train_begin(event)

    @override
    def _open_run(self, event: TrainBegin) -> None:
        folder = self._given or Path(event.config.output_dir or ".") / "tensorboard"
        self._writer = self._library.EventFileWriter(str(folder))
        self._run_id = str(folder)
        if event.resumed:
            # TensorBoard's own mark for a restart: what earlier files hold of later steps is not shown.
            self._last_step = event.start_step or -1
            start = self._proto.SessionLog(status=self._proto.SessionLog.START)
            self._add(self._last_step + 1, session_log=start)

    @override
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        summary = require("tensorboard.compat.proto.summary_pb2", extra=self.EXTRA, purpose="TensorBoardLogger")
        values = [summary.Summary.Value(tag=name, simple_value=value) for name, value in metrics.items()]
        self._add(step, summary=summary.Summary(value=values))
        self._writer.flush()

    def _add(self, step: int, **content: Any) -> None:
        self._writer.add_event(self._proto.Event(wall_time=time.time(), step=step, **content))

    @override
    def _close_run(self, ending: Ending) -> None:
        self._writer.close()
        self._writer = None
