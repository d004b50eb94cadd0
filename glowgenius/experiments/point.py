"""One place of the grid: a rank with a learning rate, over all of its seeds, and how it differs from another."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, final

from attrs import field, frozen

from glowgenius.evaluation.intervals import Interval, Kind, crossed_interval, student
from glowgenius.evaluation.verdicts import found

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.experiments.cell import SweepCell

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
    """The mean over questions and those seeds whose values are numbers, diverged ones among them; None without any."""

    interval: Interval | None
    """The 95 % interval of `value`: over questions and seeds, or over seeds alone for a loss of the run; None where
    there is only one number."""

    difference: float | None
    """`value` minus that of the best point; None where a run diverged."""

    difference_interval: Interval | None
    """The 95 % interval of `difference`, paired by seed and question."""

    standing: Standing
    """`best`; `worse`: surely worse than it; `flat`: not surely worse, and surely within the margin of the best;
    `unclear`: too few questions and seeds to tell; `diverged`: a run of it diverged; `unknown`: not measured, one
    number that cannot be judged, or a grid in which nothing was right."""

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
    """The values of *metric*, a row per cell that has numbers; None if a cell that did not diverge has none."""
    rows: list[tuple[float, ...]] = []
    for cell in cells:
        row = cell.values(metric)
        if row is not None and all(map(math.isfinite, row)):
            rows.append(row)
        elif cell.diverged is None:
            return None
    return rows or None


def mean(rows: Sequence[Sequence[float]]) -> float:
    """The mean of all values; rows are equally long."""
    return math.fsum(value for row in rows for value in row) / (len(rows) * len(rows[0]))


def spread(rows: Sequence[Sequence[float]], groups: Sequence[object], kind: Kind) -> Interval | None:
    """The 95 % interval of the mean of *rows*; None where nothing can be said.

    Args:
        rows: One per seed; one value per question, or the one loss of a run.
        groups: The group of each question; empty for a loss of a run.
        kind: What the values are.
    """
    if not groups:
        return student([row[0] for row in rows]) if len(rows) > 1 else None
    limits = crossed_interval(rows, [repr(group) for group in groups], kind=kind)
    return limits if math.isfinite(limits.low) else None


def difference(
    rows: Sequence[Sequence[float]], best: Sequence[Sequence[float]], groups: Sequence[object], kind: Kind
) -> tuple[float, Interval | None]:
    """How much *rows* differ from those of the best point, and the 95 % interval of that."""
    apart = [
        [value - other for value, other in zip(row, top, strict=True)] for row, top in zip(rows, best, strict=True)
    ]
    return mean(apart), spread(apart, groups, kind)


def standing_of(interval: Interval | None, *, margin: float, low_is_good: bool, groups: int | None = None) -> Standing:
    """How a point stands to the best one, by the interval of its difference and the rule of comparisons.

    Args:
        interval: Of the difference.
        margin: Within which a difference counts as none.
        low_is_good: Whether lower values are better.
        groups: How many independent groups of questions it rests on; None for a loss of the run.
    """
    if interval is None:
        return "unknown"
    finding = found(interval, groups=groups, margin=margin)
    if finding == ("higher" if low_is_good else "lower"):
        return "worse"
    return "flat" if finding == "same" else "unclear"
