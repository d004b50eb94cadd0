"""The two pictures of a sweep: a heat map over rank and learning rate, and a curve over the learning rate per rank."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from glowgenius.evaluation.figures import percent
from glowgenius.experiments.units import is_loss, shown, shown_difference, span, span_of_difference
from glowgenius.markup.heat import HeatCell, heat_map
from glowgenius.markup.html import Markup, tag
from glowgenius.markup.plots import COLOURS, Series, line_chart
from glowgenius.training.history import direction

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.experiments.point import SweepPoint


def sweep_figures(points: Sequence[SweepPoint], *, base: float | None, basis: str) -> list[Markup]:
    """Heat map and curves of one metric.

    Args:
        points: Every point of the grid, by one metric.
        base: The value before training, if it is known.
        basis: What the values are means of.
    """
    metric = points[0].metric
    curves = _curves(points, metric)
    return [
        tag("p", f"{metric}: {basis}", class_="soft"),
        _map(points, metric, base),
        *([] if curves is None else [curves]),
    ]


def _map(points: Sequence[SweepPoint], metric: str, base: float | None) -> Markup:
    ranks = sorted({point.rank for point in points})
    rates = sorted({point.learning_rate for point in points})
    known = [point.value for point in points if point.value is not None]
    reach = [*known, *([] if base is None else [base])]
    low, high = min(reach, default=0.0), max(reach, default=1.0)
    cells = {
        (ranks.index(point.rank), rates.index(point.learning_rate)): HeatCell(
            shade=_shade(point, low, high),
            text=_text(point),
            below=_below(point),
            outlined=point.standing == "best",
            title=_title(point),
        )
        for point in points
    }
    better = "lower" if direction(metric) == "min" else "higher"
    keys = [
        f"stronger colour: {better} {metric}, which is better",
        "outlined: the best",
        "=: at most the margin either way from the best",
    ]
    return heat_map(
        f"{metric} by rank and learning rate",
        [str(rank) for rank in ranks],
        [f"{rate:g}" for rate in rates],
        cells,
        row_label="rank",
        column_label="learning rate",
        keys=[*keys, "?: not to be told apart from it"],
    )


def _shade(point: SweepPoint, low: float, high: float) -> float | None:
    """How good the value is between the worst and the best of the map, the base among them."""
    if point.value is None:
        return None
    share = 0.5 if high == low else (point.value - low) / (high - low)
    return 1 - share if direction(point.metric) == "min" else share


def _text(point: SweepPoint) -> str:
    mark = {"flat": " =", "unclear": " ?"}.get(point.standing, "")
    if point.value is None:
        return "diverged" if point.diverged else "–"
    value = shown(point.metric, point.value).removesuffix(" nats")
    return f"{value}{mark}"


def _below(point: SweepPoint) -> str:
    if point.standing == "diverged":
        return f"{len(point.diverged)} of {len(point.cells)} diverged" if len(point.cells) > 1 else "diverged"
    return "" if point.interval is None else span(point.metric, point.interval)


def _title(point: SweepPoint) -> str:
    place = f"rank {point.rank}, learning rate {point.learning_rate:g}"
    if point.diverged:
        value = "" if point.value is None else f"{shown(point.metric, point.value)}; "
        return f"{place}: {value}{'; '.join(point.diverged)}"
    limits = "" if point.interval is None else f", 95 % interval {span(point.metric, point.interval)}"
    apart = ""
    if point.standing != "best" and point.difference is not None and point.difference_interval is not None:
        apart = (
            f"; {shown_difference(point.metric, point.difference)} against the best, 95 % interval "
            f"{span_of_difference(point.metric, point.difference_interval)}"
        )
    return f"{place}: {shown(point.metric, point.value)}{limits}{apart}"


def _curves(points: Sequence[SweepPoint], metric: str) -> Markup | None:
    """One curve per rank; none where nothing has a value or there is one rate only."""
    ranks = sorted({point.rank for point in points})
    series: list[Series] = []
    for index, rank in enumerate(ranks):
        own = sorted((point for point in points if point.rank == rank), key=lambda point: point.learning_rate)
        series.append(
            Series(
                name=f"rank {rank}",
                points=tuple((p.learning_rate, math.nan if p.value is None else p.value) for p in own),
                colour=COLOURS[index % len(COLOURS)],
                dots=True,
                shift=5.0 * (index - (len(ranks) - 1) / 2),
                limits=tuple(None if p.interval is None else (p.interval.low, p.interval.high) for p in own),
            )
        )
    if len({x for line in series for x, _ in line.drawn}) < 2:  # noqa: PLR2004 - one place is no curve
        return None
    unit = "nats per token" if is_loss(metric) else metric
    return line_chart(
        f"{metric} over the learning rate, a curve per rank",
        [line for line in series if line.drawn],
        x_label="learning rate, log scale",
        y_label=unit,
        may_be_logarithmic=is_loss(metric),
        logarithmic_x=True,
        show="{:g}".format if is_loss(metric) else percent,
    )
