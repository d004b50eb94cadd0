"""One place of the grid: a rank with a learning rate, over all of its seeds, and how it differs from another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, final

from attrs import field, frozen

from glowgenius.evaluation.intervals import Interval, crossed_bootstrap, student, wilson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.experiments.cell import SweepCell

NUM_RESAMPLES: Final = 2_000
"""Of each bootstrap of a sweep, which needs two of them per point."""

Standing = Literal["best", "flat", "worse", "unclear", "diverged", "unknown"]
"""How a point stands to the best one; see `SweepPoint.standing`."""


@final
@frozen(kw_only=True)
class SweepPoint:
    """A rank and a learning rate, over all seeds."""

    rank: int
    """The rank of the adapter."""

    learning_rate: float
    """The peak rate."""

    metric: str
    """What `value` measures."""

    cells: tuple[SweepCell, ...] = field(repr=False)
    """The runs, one per seed, in the order of the seeds."""

    value: float | None
    """The mean over seeds and questions; None where a run diverged, or nothing was measured."""

    interval: Interval | None
    """The 95 % interval of `value`: over questions and seeds, or over seeds alone for a loss of the run; None where
    there is only one number."""

    difference: float | None
    """`value` minus that of the best point."""

    difference_interval: Interval | None
    """The 95 % interval of `difference`, paired by seed and question."""

    standing: Standing
    """`best`; `flat`: surely within the margin of the best; `worse`: surely worse than it; `unclear`: too few questions
    and seeds to tell; `diverged`; `unknown`: not measured, or one number that cannot be judged."""

    @property
    def diverged(self) -> tuple[str, ...]:
        """Why runs of this point diverged, one sentence a run."""
        return tuple(f"seed {cell.cell.seed}: {cell.diverged}" for cell in self.cells if cell.diverged is not None)

    def to_dict(self) -> dict[str, Any]:
        """The point as JSON values."""

        def limits(interval: Interval | None) -> list[float] | None:
            return None if interval is None else [interval.low, interval.high]

        return {
            "rank": self.rank,
            "learning_rate": self.learning_rate,
            "seeds": [cell.cell.seed for cell in self.cells],
            "value": self.value,
            "interval_95": limits(self.interval),
            "difference": self.difference,
            "difference_interval_95": limits(self.difference_interval),
            "standing": self.standing,
            "diverged": list(self.diverged),
        }


def measured(cells: Sequence[SweepCell], metric: str) -> list[tuple[float, ...]] | None:
    """The values of *metric*, a row per cell; None if a run diverged or lacks it, or a value is no number."""
    rows = [cell.values(metric) for cell in cells if cell.diverged is None]
    if len(rows) < len(cells):
        return None
    found = [row for row in rows if row is not None and all(map(math.isfinite, row))]
    return found if len(found) == len(cells) and cells else None


def mean(rows: Sequence[Sequence[float]]) -> float:
    """The mean of all values; rows are equally long."""
    return math.fsum(value for row in rows for value in row) / (len(rows) * len(rows[0]))


def spread(rows: Sequence[Sequence[float]], groups: Sequence[object], *, seed: int, score: bool) -> Interval | None:
    """The 95 % interval of the mean of *rows*.

    Args:
        rows: One per seed; one value per question, or the one loss of a run.
        groups: The group of each question; empty for a loss of a run.
        seed: Of the bootstrap.
        score: Whether the values are scores from 0 to 1: the interval is then widened where needed to cover Wilson's,
            as a bootstrap of scores that are all 1 has no width.
    """
    if not groups:
        return student([row[0] for row in rows]) if len(rows) > 1 else None
    keys = [repr(group) for group in groups]
    drawn = crossed_bootstrap(rows, keys, num_resamples=NUM_RESAMPLES, seed=seed)
    if not score:
        return drawn
    number = len(set(keys))
    limits = wilson(min(1.0, mean(rows)) * number, number)
    return Interval(low=min(drawn.low, limits.low), high=max(drawn.high, limits.high))


def difference(
    rows: Sequence[Sequence[float]],
    best: Sequence[Sequence[float]],
    groups: Sequence[object],
    *,
    seed: int,
) -> tuple[float, Interval | None]:
    """How much *rows* differ from those of the best point, and the 95 % interval of that."""
    apart = [
        [value - other for value, other in zip(row, top, strict=True)] for row, top in zip(rows, best, strict=True)
    ]
    return mean(apart), spread(apart, groups, seed=seed, score=False)


def standing_of(interval: Interval | None, *, margin: float, low_is_good: bool) -> Standing:
    """How a point stands to the best one, by the interval of its difference."""
    if interval is None:
        return "unknown"
    if -margin <= interval.low and interval.high <= margin:
        return "flat"
    if (interval.low > 0) if low_is_good else (interval.high < 0):
        return "worse"
    return "unclear"
