"""`CSVLogger`: the metrics of a run as a table that every spreadsheet opens."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, final

from typing_extensions import override

from glowgenius._files import append, write_whole
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.callbacks.step_files import choose_path

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from glowgenius.training.events import StepLogged, TrainBegin


@final
class CSVLogger(Callback):
    """Writes a row per step, with a column per metric; where nothing was measured, the cell is empty.

    The rows are those of `metrics.jsonl`. A resumed run goes on in the same file, and leaves one row per step. A metric
    that is first measured in the middle of the run gets its column then, by rewriting the file.

    Args:
        path: The file; None is `metrics.csv` in the run folder.
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        self._given = None if path is None else Path(path)
        self._path = Path()
        self._columns: list[str] = []
        self._rows: list[dict[str, str]] = []

    @override
    def __repr__(self) -> str:
        return f"CSVLogger({'' if self._given is None else repr(str(self._given))})"

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        self._path = choose_path("CSVLogger", self._given, "metrics.csv", event, blank=b"step\n")
        # Those of the run itself, so that whatever has become of the file since does not matter.
        self._rows = [_cells(row) for row in event.rows]
        self._columns = list(dict.fromkeys(["step", *(name for row in self._rows for name in row)]))
        self._rewrite()

    @override
    def on_log(self, event: StepLogged) -> None:
        if self._rows and event.step <= int(self._rows[-1]["step"]):
            return  # made again after a restart, with the same row
        row = _cells({"step": event.step, **event.metrics})
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite()
            return
        # Opened for each row, so that the file is complete at every moment and another process can follow it.
        append(self._path, self._lines([row], header=False), synced=False)

    def _rewrite(self) -> None:
        write_whole(self._path, self._lines(self._rows, header=True))

    def _lines(self, rows: Sequence[dict[str, str]], *, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()


def _cells(row: Mapping[str, float]) -> dict[str, str]:
    return {name: str(int(value)) if name == "step" else repr(value) for name, value in row.items()}
