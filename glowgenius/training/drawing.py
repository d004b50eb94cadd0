"""A run as figures: its losses, what else was measured at evaluations, and the learning rate."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from glowgenius.markup.html import Markup, tag
from glowgenius.markup.plots import COLOURS, Series, line_chart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CURVES: Final = (("train/loss", "training", "base"), ("eval/loss", "held-out", "tuned"))
"""The losses that are drawn: key of a history row, name in the legend, colour."""

RATE: Final = "learning_rate"
"""The key of the learning rate in a history row."""


def history_figures(history: Sequence[Mapping[str, object]]) -> list[Markup]:
    """The curves of the run, as far as there are any."""
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
    """What callbacks have measured from 0 to 1 at evaluations, as many as there are colours."""
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
    """Step and value, where the value was measured."""
    found = ((row["step"], row.get(key)) for row in history)
    return tuple((float(str(step)), float(str(value))) for step, value in found if value is not None)
