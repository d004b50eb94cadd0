"""`History`: one row of metrics per step, its best step, and its plots."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final, overload

from typing_extensions import override

from glowgenius.errors import ConfigError, nearest
from glowgenius.markup.html import tag
from glowgenius.markup.plots import COLOURS, Series, line_chart

if TYPE_CHECKING:
    from markupsafe import Markup

    from glowgenius.typing import JSON

Row: TypeAlias = Mapping[str, float]
"""`step` and what was measured at it."""

_LOW_IS_GOOD = ("loss", "nll", "perplexity")


def canonical(metric: str) -> str:
    """The name under which *metric* is recorded: `eval_loss` is `eval/loss`, `train_loss` is `train/loss`."""
    for prefix in ("eval", "train"):
        if metric.startswith(f"{prefix}_"):
            return f"{prefix}/{metric[len(prefix) + 1 :]}"
    return metric


def of_evaluation(metric: object) -> str:
    """Canonical name of a metric that only an evaluation measures: `exact_match` is `eval/exact_match`."""
    name = canonical(metric) if isinstance(metric, str) else ""
    return name if name.startswith(("eval/", "train/")) else f"eval/{name}"


def measured_as(metric: str, measured: Collection[str]) -> str | None:
    """The name in *measured* that *metric* refers to, with or without the prefix `eval`; None if there is none."""
    name = canonical(metric)
    candidates = (name, f"eval/{name}", name.removeprefix("eval/"))
    return next((candidate for candidate in candidates if candidate in measured), None)


def direction(metric: str) -> Literal["min", "max"]:
    """Whether lower (`loss`, `nll`, `perplexity` at the end of the name) or higher values of *metric* are better."""
    return "min" if canonical(metric).endswith(_LOW_IS_GOOD) else "max"


def is_better(value: float, than: float | None, mode: Literal["min", "max"], *, by: float = 0.0) -> bool:
    """Whether *value* is better than *than* by more than *by*; NaN never is, any number beats None and NaN."""
    if math.isnan(value):
        return False
    if than is None or math.isnan(than):
        return True
    return value < than - by if mode == "min" else value > than + by


@final
class History(Sequence[Row]):
    """The metrics of a run, one row per step in step order; immutable.

    A row has `step`, the number of updates made, and of `train/loss` (nats per trained token), `learning_rate`,
    `epoch`, `tokens/trained`, `tokens/input` (both of this step), `eval/loss` and the metrics of callbacks what was
    measured at that step. Row 0 is there where the untrained adapter was evaluated.
    Metrics may be asked for as `eval_loss` or `eval/loss`, and those of an evaluation as `exact_match` too.
    """

    def __init__(self, rows: Iterable[Mapping[str, float]] = ()) -> None:
        self._rows: tuple[Row, ...] = tuple(dict(row) for row in rows)

    @property
    def rows(self) -> tuple[Row, ...]:
        """All rows."""
        return self._rows

    @property
    def last(self) -> Row:
        """The row of the last step; empty if nothing was recorded."""
        return self._rows[-1] if self._rows else {}

    @property
    def train_loss(self) -> tuple[float, ...]:
        """Loss of every step on its own batch before the update, in nats per trained token."""
        return tuple(value for _, value in self.series("train/loss"))

    @property
    def eval_loss(self) -> tuple[float, ...]:
        """Loss of every evaluation, in nats per trained token; `series` says at which steps."""
        return tuple(value for _, value in self.series("eval/loss"))

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of all recorded metrics, in order of appearance."""
        return tuple(dict.fromkeys(name for row in self._rows for name in row if name != "step"))

    def series(self, metric: str) -> tuple[tuple[int, float], ...]:
        """(step, value) pairs of *metric* for every step that measured it."""
        name = self._name(metric)
        return tuple((int(row["step"]), row[name]) for row in self._rows if name in row)

    def best(self, metric: str = "eval_loss", *, mode: Literal["min", "max"] | None = None) -> Row:
        """The row with the best value of *metric*, the first of several; NaN is never best.

        Args:
            metric: What is compared.
            mode: Whether low or high is good; None decides by name, as `loss`, `nll` and `perplexity` are good low.

        Raises:
            ConfigError: It was never measured; the message lists what was.
        """
        name = self._name(metric)
        found: Row | None = None
        for row in self._rows:
            before = None if found is None else found[name]
            if name in row and is_better(row[name], before, mode or direction(name)):
                found = row
        if found is None:
            known = ", ".join(self.metrics) or "nothing"
            raise ConfigError(f"no step has a value of {name!r}{nearest(name, self.metrics)}; measured were: {known}")
        return found

    def _name(self, metric: str) -> str:
        return measured_as(metric, self.metrics) or canonical(metric)

    def to_json(self) -> list[dict[str, JSON]]:
        """The rows as JSON objects; a value that is not finite is null."""
        return [row_to_json(row) for row in self._rows]

    @overload
    def __getitem__(self, index: int) -> Row: ...

    @overload
    def __getitem__(self, index: slice) -> History: ...

    @override
    def __getitem__(self, index: int | slice) -> Row | History:
        return History(self._rows[index]) if isinstance(index, slice) else self._rows[index]

    @override
    def __len__(self) -> int:
        return len(self._rows)

    @override
    def __iter__(self) -> Iterator[Row]:
        return iter(self._rows)

    def _repr_html_(self) -> str:
        """Notebook display: the curves, with first and last loss."""
        from glowgenius.markup.html import fragment, tag

        told = [text for metric in ("train/loss", "eval/loss") if (text := _told(metric, self))]
        steps = int(self.last.get("step", 0))
        line = "; ".join([f"{steps} step{'s' * (steps != 1)}", *told])
        return fragment([tag("p", line), *history_figures(self._rows)])

    @override
    def __eq__(self, other: object) -> bool:
        return self._rows == other.rows if isinstance(other, History) else NotImplemented

    @override
    def __hash__(self) -> int:
        return hash(tuple(tuple(row.items()) for row in self._rows))

    @override
    def __repr__(self) -> str:
        return f"History({len(self._rows)} rows, metrics: {', '.join(self.metrics) or 'none'})"


def _told(metric: str, history: History) -> str:
    """First and last value of a loss as text; empty if it was not measured."""
    values = history.series(metric)
    if not values:
        return ""
    kind = "training loss" if metric == "train/loss" else "held-out loss"
    text = f"{kind} {values[0][1]:.4g} → {values[-1][1]:.4g}"
    if metric == "train/loss" or all(math.isnan(value) for _, value in values):
        return text
    best = history.best(metric)
    return f"{text}, lowest {best[metric]:.4g} at step {best['step']:g}"


def row_to_json(row: Row) -> dict[str, JSON]:
    """One row as a JSON object; NaN and infinity become null."""
    return {name: value if math.isfinite(value) else None for name, value in row.items()}


def row_from_json(record: Mapping[str, Any]) -> Row:
    """The row that `row_to_json` wrote; null becomes NaN."""
    return {name: math.nan if value is None else value for name, value in record.items()}


CURVES: Final = (("train/loss", "training", "base"), ("eval/loss", "held-out", "tuned"))
"""The losses that are drawn: key of a history row, name in the legend, colour."""

RATE: Final = "learning_rate"
"""The key of the learning rate in a history row."""


def history_figures(history: Sequence[Mapping[str, object]]) -> list[Markup]:
    """Plots of the run, for the metrics that were recorded."""
    losses = [
        Series(
            name=name,
            points=points_of(history, key),
            colour=colour,
            dots=key == "eval/loss",
            ring_lowest=key == "eval/loss",
        )
        for key, name, colour in CURVES
    ]
    losses = [series for series in losses if series.drawn]
    scores = _scores(history)
    rate = Series(name="learning rate", points=points_of(history, RATE), colour="base")
    charts: list[Markup] = []
    if losses:
        charts.append(
            line_chart("Loss", losses, x_label="step", y_label="nats per trained token", may_be_logarithmic=True)
        )
    if scores:
        charts.append(line_chart("At evaluations", scores, x_label="step", y_label="share of the questions"))
    if rate.drawn:
        charts.append(line_chart("Learning rate", [rate], x_label="step", y_label="after warm-up and decay"))
    return [tag("div", *charts, class_="charts")] if charts else []


def _scores(history: Sequence[Mapping[str, object]]) -> list[Series]:
    """Metrics from 0 to 1 that callbacks measured at evaluations, at most one per colour."""
    names = dict.fromkeys(name for row in history for name in row if name.startswith("eval/") and name != "eval/loss")
    numbers = {name for name in names if all(isinstance(row.get(name), int | float | None) for row in history)}
    found = {name: points_of(history, name) for name in names if name in numbers}
    shares = {
        name: points
        for name, points in found.items()
        if points and all(0 <= value <= 1 for _, value in points if math.isfinite(value))
    }
    drawn = zip(shares.items(), COLOURS, strict=False)
    series = [
        Series(name=name.removeprefix("eval/"), points=points, colour=colour, dots=True)
        for (name, points), colour in drawn
    ]
    return [each for each in series if each.drawn]


def points_of(history: Sequence[Mapping[str, object]], key: str) -> tuple[tuple[float, float], ...]:
    """(step, value) pairs where the value was measured."""
    found = ((row["step"], row.get(key)) for row in history)
    return tuple((float(str(step)), float(str(value))) for step, value in found if value is not None)
