"""The one record of a run: rows and checkpoints in memory, and in the run folder where there is one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

from attrs import evolve

from glowgenius.training.history import History, direction, is_better, measured_as
from glowgenius.training.run_folder import add_row, rows_digest
from glowgenius.training.start import Start

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from glowgenius.training.checkpoints import CheckpointRecord
    from glowgenius.training.history import Row
    from glowgenius.training.run_folder import RunFolder


@final
class Recorder:
    """Everything that has been reported, in the order of the steps.

    Args:
        folder: Where it is written as well.
        rows: What a resumed run starts with; the folder holds it already.
        records: As *rows*.
    """

    def __init__(
        self, folder: RunFolder | None, rows: Iterable[Row] = (), records: Iterable[CheckpointRecord] = ()
    ) -> None:
        self._folder = folder
        self._rows = list(rows)
        self._records = {record.step: record for record in records}
        self._digest = rows_digest(self._rows)
        self.restarts = int(self._rows[-1].get("restarts", 0)) if self._rows else 0
        """How often the run had to go on from a checkpoint so far, those before a resume included."""

    @property
    def history(self) -> History:
        """The rows so far."""
        return History(self._rows)

    @property
    def records(self) -> tuple[CheckpointRecord, ...]:
        """The checkpoints so far."""
        return tuple(self._records.values())

    @property
    def step(self) -> int:
        """The last step of which everything has been reported."""
        return int(self._rows[-1]["step"]) if self._rows else 0

    @property
    def trained_tokens(self) -> int:
        """Tokens that carried loss, over all steps."""
        return sum(int(row.get("tokens/trained", 0)) for row in self._rows)

    def commit(self, row: Row, record: CheckpointRecord | None) -> None:
        """Add everything about one step; a checkpoint never appears before the rows that belong to it."""
        self._rows.append(row)
        add_row(self._digest, row)
        if self._folder is not None:
            self._folder.add_row(row)
        if record is not None:
            record = evolve(record, rows_sha256=self._digest.hexdigest())
            self._records[record.step] = record
            if self._folder is not None:
                self._folder.add_checkpoint(record)

    def forget(self, steps: Collection[int]) -> None:
        """Let go of the checkpoints of *steps*."""
        self._records = {step: record for step, record in self._records.items() if step not in steps}
        if self._folder is not None:
            self._folder.keep_checkpoints(self._records.values())

    def rewind(self) -> Start:
        """Forget what came behind the last checkpoint that can be gone on from, and say where that is."""
        resumable = [record.step for record in self._records.values() if record.state_path is not None]
        last = resumable[-1] if resumable else -1
        self._rows = [row for row in self._rows if row["step"] <= last]
        self._digest = rows_digest(self._rows)
        self._records = {step: record for step, record in self._records.items() if step <= last}
        if self._folder is not None:
            self._folder.rewind(self._rows, self._records.values())
        return Start(rows=tuple(self._rows), records=self.records)

    def record_of(self, step: int | None) -> CheckpointRecord | None:
        """The checkpoint of *step*, if there is one."""
        return None if step is None else self._records.get(step)

    def epoch_loss(self, epoch: int, last: Row) -> float:
        """Mean training loss of an epoch, weighted by trained tokens; *last* is its row that is not committed yet."""
        rows = [row for row in [*self._rows, last] if row.get("epoch") == epoch]
        tokens = sum(row["tokens/trained"] for row in rows)
        return sum(row["train/loss"] * row["tokens/trained"] for row in rows) / tokens

    def best_step(self, metric: str | None) -> int | None:
        """The step with the best value of *metric* among those updated at least once whose weights are kept."""
        return next(iter(self.best_steps(metric, 1)), None)

    def best_steps(self, metric: str | None, count: int) -> list[int]:
        """As `best_step`, for the *count* best, the best first; of equals, the earlier ones."""
        if metric is None:
            return []
        sign = 1 if direction(metric) == "min" else -1
        # NaN is never best, not even where there is nothing else.
        found = [(step, value) for step, value in self._evaluated(metric) if not math.isnan(value)]
        kept = (one for one in found if self._has_weights(one[0]))
        return [step for step, _ in sorted(kept, key=lambda one: sign * one[1])[:count]]

    def is_best(self, metric: str | None, value: float | None) -> bool:
        """Whether *value* beats every evaluation of *metric* since the first update."""
        if metric is None or value is None or math.isnan(value):
            return False
        return all(is_better(value, before, direction(metric)) for _, before in self._evaluated(metric))

    def _evaluated(self, metric: str) -> list[tuple[int, float]]:
        """Step and value wherever *metric* was measured of updated weights.

        Row 0 is the untrained adapter: there is nothing to keep of it, the base model is still there.
        """
        named = ((row, measured_as(metric, row)) for row in self._rows if row["step"])
        return [(int(row["step"]), row[name]) for row, name in named if name is not None]

    def _has_weights(self, step: int) -> bool:
        record = self.record_of(step)
        return record is not None and record.sampler_path is not None
