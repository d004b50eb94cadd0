"""`CSVLogger`: the metrics of a run as a table that every spreadsheet opens."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING, final

from typing_extensions import override

from glowgenius._files import write_whole
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.callbacks.step_files import choose_path

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

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
        self._last_step = -1

    @override
    def __repr__(self) -> str:
        return f"CSVLogger({'' if self._given is None else repr(str(self._given))})"

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        self._path = choose_path("CSVLogger", self._given, "metrics.csv", event)
        rows = [row for row in self._read() if row["step"].isdigit() and int(row["step"]) <= event.start_step]
        kept = rows if event.start_step else []
        self._columns = list(kept[0]) if kept else ["step"]
        self._last_step = int(kept[-1]["step"]) if kept else -1
        self._rewrite(kept)

    @override
    def on_log(self, event: StepLogged) -> None:
        if event.step <= self._last_step:
            return  # made again after a restart, with the same row
        self._last_step = event.step
        row = {"step": str(event.step), **{name: repr(value) for name, value in event.metrics.items()}}
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite([*self._read(), row])
            return
        # Opened for each row, so that the file is complete at every moment and another process can follow it.
        with self._path.open("a", encoding="utf-8") as file:
            file.write(self._lines([row], header=False))

    def _read(self) -> list[dict[str, str]]:
        if not self._path.exists():
            return []
        # A row that a kill has cut off has no line break at its end.
        text = self._path.read_text(encoding="utf-8")
        reader = csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1]), restval="")
        return [dict(row) for row in reader] if "step" in (reader.fieldnames or ()) else []

    def _rewrite(self, rows: Sequence[dict[str, str]]) -> None:
        write_whole(self._path, self._lines(rows, header=True))

    def _lines(self, rows: Sequence[dict[str, str]], *, header: bool) -> str:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        if header:
            writer.writeheader()
        writer.writerows(rows)
        return text.getvalue()
