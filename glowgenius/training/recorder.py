"""`Recorder`: rows and checkpoints of a run, in memory and on disk, and which checkpoints are kept."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, final

from attrs import evolve

from glowgenius._output import logger
from glowgenius.engines.offered import delete_checkpoint
from glowgenius.errors import CheckpointError
from glowgenius.training.history import History, direction, is_better, measured_as
from glowgenius.training.resume import Start
from glowgenius.training.run_folder import add_row, rows_digest

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from glowgenius.engines.protocol import FutureLike, TrainingClient
    from glowgenius.training.callbacks.base import Callbacks
    from glowgenius.training.checkpoints import CheckpointRecord
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.history import Row
    from glowgenius.training.requests import Agenda
    from glowgenius.training.run_folder import RunFolder


@final
class Recorder:
    """The rows and checkpoints reported so far, in step order.

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
        """The last step that was reported completely."""
        return int(self._rows[-1]["step"]) if self._rows else 0

    @property
    def trained_tokens(self) -> int:
        """Tokens that carried loss, summed over all steps."""
        return sum(int(row.get("tokens/trained", 0)) for row in self._rows)

    def commit(self, row: Row, record: CheckpointRecord | None) -> None:
        """Add everything about one step; a checkpoint is never written before the rows that belong to it."""
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
        """Remove the records of the checkpoints of *steps*."""
        self._records = {step: record for step, record in self._records.items() if step not in steps}
        if self._folder is not None:
            self._folder.keep_checkpoints(self._records.values())

    def rewind(self) -> Start:
        """Remove everything after the last resumable checkpoint, and return that checkpoint."""
        resumable = [record.step for record in self._records.values() if record.state_path is not None]
        last = resumable[-1] if resumable else -1
        self._rows = [row for row in self._rows if row["step"] <= last]
        self._digest = rows_digest(self._rows)
        self._records = {step: record for step, record in self._records.items() if step <= last}
        if self._folder is not None:
            self._folder.rewind(self._rows, self._records.values())
        return Start(rows=tuple(self._rows), records=self.records)

    def record_of(self, step: int | None) -> CheckpointRecord | None:
        """The checkpoint record of *step*, if there is one."""
        return None if step is None else self._records.get(step)

    def epoch_loss(self, epoch: int, last: Row) -> float:
        """Mean training loss of an epoch, weighted by trained tokens; *last* is its row that is not committed yet."""
        rows = [row for row in [*self._rows, last] if row.get("epoch") == epoch]
        tokens = sum(row["tokens/trained"] for row in rows)
        return sum(row["train/loss"] * row["tokens/trained"] for row in rows) / tokens

    def best_step(self, metric: str | None) -> int | None:
        """The step with the best value of *metric* among those after the first update whose weights are kept."""
        return next(iter(self.best_steps(metric, 1)), None)

    def best_steps(self, metric: str | None, count: int) -> list[int]:
        """The *count* best steps as in `best_step`, best first; of equal ones, the earlier first."""
        if metric is None:
            return []
        sign = 1 if direction(metric) == "min" else -1
        # NaN is never best, even if there is no other value.
        found = [(step, value) for step, value in self._evaluated(metric) if not math.isnan(value)]
        kept = (one for one in found if self._has_weights(one[0]))
        return [step for step, _ in sorted(kept, key=lambda one: sign * one[1])[:count]]

    def is_best(self, metric: str | None, value: float | None) -> bool:
        """Whether *value* is better than every evaluation of *metric* since the first update."""
        if metric is None or value is None or math.isnan(value):
            return False
        return all(is_better(value, before, direction(metric)) for _, before in self._evaluated(metric))

    def _evaluated(self, metric: str) -> list[tuple[int, float]]:
        """(step, value) pairs of *metric* for weights after the first update.

        Row 0 is the untrained adapter: there is nothing to keep of it, the base model is still there.
        """
        named = ((row, measured_as(metric, row)) for row in self._rows if row["step"])
        return [(int(row["step"]), row[name]) for row, name in named if name is not None]

    def _has_weights(self, step: int) -> bool:
        record = self.record_of(step)
        return record is not None and record.sampler_path is not None


_LOG = logger("glowgenius.training")


@final
class Retention:
    """Applies `TrainingConfig.save_top_k`; deletes only checkpoints that this run has saved itself.

    A run that goes on from its newest state may find other steps to be the best than it did the first time, as services
    are not exact to the last bit. So what was wanted when that state was saved is kept as long as it is the newest.

    Args:
        client: Deletes what it has saved.
        config: How many are kept, and by which metric.
        callbacks: May need weights of certain steps.
        recorder: The checkpoints.
        agenda: May have chosen the weights that the run ends with.

    Raises:
        CheckpointError: A callback needs weights that have been deleted; only a resume from a checkpoint before the
            newest can come to that.
    """

    def __init__(
        self,
        client: TrainingClient,
        *,
        config: TrainingConfig,
        callbacks: Callbacks,
        recorder: Recorder,
        agenda: Agenda,
    ) -> None:
        self._client = client
        self._config = config
        self._callbacks = callbacks
        self._recorder = recorder
        self._agenda = agenda
        self._under_way: list[tuple[str, FutureLike[Any] | None]] = []
        self._of_newest_state = self._wanted()
        if config.save_top_k is not None:
            self._check_callbacks()

    def apply(self, record: CheckpointRecord) -> None:
        """Delete checkpoints that are neither among the best nor needed to resume; *record* is the newest.

        The run folder forgets a checkpoint before the engine deletes it: a kill in between leaves files behind, and
        never a line that points nowhere.
        """
        if self._config.save_top_k is None:
            return
        if record.state_path is not None:
            self._of_newest_state = self._wanted()
        records = self._recorder.records
        states = [each.step for each in records if each.state_path is not None]
        kept = {record.step, *states[-1:], *self._wanted(), *self._of_newest_state}
        dropped = [each for each in records if each.step not in kept]
        if dropped:
            self._recorder.forget({each.step for each in dropped})
            self._delete(path for each in dropped if each.own for path in each.paths)
            self._leave([path for each in dropped if not each.own for path in each.paths])

    def finish(self) -> None:
        """Wait for the deletions, and warn about those that failed; a failed deletion never ends the run."""
        for path, future in self._under_way:
            try:
                if future is None:
                    _LOG.warning("save_top_k: the engine offers no way to delete %s, so it stays there", path)
                else:
                    future.result()
            except Exception as error:  # noqa: BLE001 - a file too many is no reason to lose a run
                _LOG.warning("save_top_k: %s could not be deleted and stays there: %s", path, error)
        self._under_way.clear()

    def _wanted(self) -> set[int]:
        """The best steps so far, and those a callback may still choose."""
        if self._config.save_top_k is None:
            return set()
        chosen = None if self._agenda.stop is None else self._agenda.stop.use_step
        best = self._recorder.best_steps(self._config.metric_for_best, self._config.save_top_k)
        return {*best, *self._callbacks.needed_steps, *([] if chosen is None else [chosen])}

    def _check_callbacks(self) -> None:
        for step in sorted(self._callbacks.needed_steps):
            if step <= self._recorder.step and self._recorder.record_of(step) is None:
                raise CheckpointError(
                    f"a callback needs the weights of step {step}, which save_top_k={self._config.save_top_k} has "
                    "deleted since; go on from the newest checkpoint instead, by resume_from_checkpoint=True"
                )

    def _leave(self, paths: Sequence[str]) -> None:
        """Warn about a checkpoint that is not deleted because another run may need it."""
        for path in paths:
            _LOG.warning(
                "save_top_k: %s stays where it is, as this run has not saved it itself in this folder: the run that it "
                "was resumed or copied from may need it",
                path,
            )

    def _delete(self, paths: Iterable[str]) -> None:
        for path in paths:
            try:
                future = delete_checkpoint(self._client, path)
            except Exception as error:  # noqa: BLE001 - as in `finish`
                _LOG.warning("save_top_k: %s could not be deleted and stays there: %s", path, error)
            else:
                self._under_way.append((path, future))
