"""A cell of a sweep: one setting with one seed, what it measures, and in which unit."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, Literal, final

from attrs import field, frozen
from typing_extensions import override

from glowgenius._validators import integer, number
from glowgenius.evaluation.answers import EvaluationResult, finite
from glowgenius.evaluation.intervals import Interval, Kind, crossed_interval, found, percent, points, student

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.training.history import History

WHOLE: Final = "all"
"""The name of the questions where one data set is asked; its metrics then go by their bare names."""

TAIL: Final = 0.1
"""The share of the last steps over which `train_loss` is the mean: one batch alone is too noisy."""


RISE: Final = 0.5
"""A loss that ended so many nats per token above where it began has diverged; less is noise, or overfitting."""


@final
@frozen(kw_only=True, order=True)
class Cell:
    """One run of a sweep, by what makes it differ from the others."""

    rank: int = field(validator=integer(at_least=1))
    """The rank of the adapter."""

    learning_rate: float = field(validator=number(above=0))
    """The peak rate."""

    seed: int = field(validator=integer(at_least=0))
    """Of the order of rows and of the adapter."""

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return f"rank-{self.rank}_rate-{self.learning_rate!r}_seed-{self.seed}"

    @override
    def __str__(self) -> str:
        return f"rank {self.rank}, learning rate {self.learning_rate:g}, seed {self.seed}"


@final
@frozen(kw_only=True)
class SweepCell:
    """Result of one run of a sweep."""

    cell: Cell
    """Which run it was."""

    steps: int
    """Updates made."""

    train_loss: float
    """Mean training loss of the last tenth of the steps, in nats per trained token."""

    base_loss: float | None
    """Held-out loss before the first step, in nats per trained token; None without an evaluation set."""

    eval_loss: float | None
    """Held-out loss after the last step; None without an evaluation set."""

    diverged: str | None
    """Why the run counts as diverged; None if it does not."""

    seconds: float
    """Wall time of training."""

    trained_tokens: int
    """Tokens that carried loss, all steps together."""

    trained_parameters: int | None
    """The size of the adapter; None where the model's config cannot be had."""

    cost_usd: float | None
    """What it cost; None where that is not known, or where nothing is charged."""

    answers: Mapping[str, EvaluationResult] = field(hash=False)
    """What the trained model answered, by slice; empty if nothing was asked, or if its weights are no numbers."""

    def values(self, metric: str) -> tuple[float, ...] | None:
        """*metric* of every question, or the one value of a loss of the run; None where it was not measured.

        Args:
            metric: `train_loss`, `eval_loss`, or a metric of the questions: `nll`, `exact_match`, …; of one slice
                `slice/exact_match`.
        """
        if metric in ("train_loss", "eval_loss"):
            value = self.train_loss if metric == "train_loss" else self.eval_loss
            return None if value is None else (value,)
        part, _, name = metric.rpartition("/")
        result = self.answers.get(part or WHOLE)
        if result is None or (name != "nll" and name not in result.metrics):
            return None
        found = [row.nll if name == "nll" else row.scores[name] for row in result.rows]
        return None if None in found else tuple(float(value or 0.0) for value in found)

    def to_dict(self) -> dict[str, Any]:
        """Contents of `cell.json`: everything but the single answers, which are in `answers.json`."""
        losses = {"train_loss": self.train_loss, "base_loss": self.base_loss, "eval_loss": self.eval_loss}
        return {
            "rank": self.cell.rank,
            "learning_rate": self.cell.learning_rate,
            "seed": self.cell.seed,
            "steps": self.steps,
            **{name: finite(value) for name, value in losses.items()},
            "diverged": self.diverged,
            "seconds": self.seconds,
            "trained_tokens": self.trained_tokens,
            "trained_parameters": self.trained_parameters,
            "cost_usd": self.cost_usd,
            "means": {
                part: {name: finite(value) for name, value in result.means.items()}
                for part, result in self.answers.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], answers: Mapping[str, EvaluationResult]) -> SweepCell:
        """The cell that `to_dict` wrote, with its answers."""
        cell = Cell(rank=values["rank"], learning_rate=values["learning_rate"], seed=values["seed"])
        losses = {name: values[name] for name in ("train_loss", "base_loss", "eval_loss")}
        if values["diverged"] is not None:
            # JSON has no NaN; only a diverged run has one.
            losses = {name: math.nan if value is None else value for name, value in losses.items()}
        rest = ("steps", "diverged", "seconds", "trained_tokens", "trained_parameters", "cost_usd")
        return cls(cell=cell, answers=answers, **losses, **{name: values[name] for name in rest})


def losses(history: History) -> tuple[float, float | None, float | None]:
    """Training loss at the end, held-out loss before the first step, and at the end."""
    train = history.train_loss
    last = train[-max(1, round(TAIL * len(train))) :]
    held = history.eval_loss
    mean = sum(last) / len(last) if last else math.nan
    return mean, (held[0] if held else None), (held[-1] if held else None)


def divergence(history: History) -> str | None:
    """Why a run counts as diverged: a loss that is no number, or one that ended `RISE` above where it began."""
    for metric, name in (("train_loss", "training"), ("eval_loss", "held-out")):
        for step, value in history.series(metric):
            if not math.isfinite(value):
                return f"the {name} loss is {value:g} at step {step}"
    train, base, held = losses(history)
    if base is not None and held is not None and held > base + RISE:
        return f"the held-out loss ended at {held:.3g}, over {RISE:g} nats above the {base:.3g} that it began with"
    if base is None and train > history.train_loss[0] + RISE:
        first = history.train_loss[0]
        return f"the training loss ended at {train:.3g}, over {RISE:g} nats above the {first:.3g} that it began with"
    return None


Standing = Literal["best", "flat", "worse", "unclear", "diverged", "unknown"]
"""How a point stands to the best one; see `SweepPoint.standing`."""


@final
@frozen(kw_only=True)
class SweepPoint:
    """One rank and learning rate, over all seeds."""

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
    """95 % interval of the mean of *rows*; None if it is undefined.

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
    """Mean difference between *rows* and those of the best point, with its 95 % interval."""
    apart = [
        [value - other for value, other in zip(row, top, strict=True)] for row, top in zip(rows, best, strict=True)
    ]
    return mean(apart), spread(apart, groups, kind)


def standing_of(interval: Interval | None, *, margin: float, low_is_good: bool, groups: int | None = None) -> Standing:
    """Comparison of a point with the best one, by the interval of their difference.

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


LOSSES = ("nll", "train_loss", "eval_loss")
"""The metrics that are no scores from 0 to 1."""


def is_loss(metric: str) -> bool:
    """Whether *metric* is in nats per token, and not a score."""
    return metric.rpartition("/")[2] in LOSSES


def shown(metric: str, value: float | None) -> str:
    """A value with its unit."""
    if value is None:
        return "–"
    return f"{value:.3g} nats" if is_loss(metric) else percent(value)


def bare(metric: str, value: float) -> str:
    """A value without its unit, for a limit of an interval."""
    return f"{value:.3g}" if is_loss(metric) else percent(value).removesuffix(" %")


def shown_difference(metric: str, value: float) -> str:
    """A difference with its sign and unit."""
    return f"{value:+.2g} nats" if is_loss(metric) else f"{points(value)} points"


def bare_difference(metric: str, value: float) -> str:
    """A difference with its sign and no unit."""
    return f"{value:+.2g}" if is_loss(metric) else points(value)


def span(metric: str, interval: Interval) -> str:
    """The limits of an interval of a value."""
    return f"{bare(metric, interval.low)} to {bare(metric, interval.high)}"


def span_of_difference(metric: str, interval: Interval) -> str:
    """The limits of an interval of a difference."""
    return f"{bare_difference(metric, interval.low)} to {bare_difference(metric, interval.high)}"


def margin_text(metric: str, margin: float) -> str:
    """The margin of "flat" with its unit."""
    return f"{margin:g} nats" if is_loss(metric) else f"{100 * margin:g} points"
