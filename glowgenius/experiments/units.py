"""Values of a sweep's metrics as text: scores in per cent, losses in nats."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowgenius.evaluation.figures import percent, points

if TYPE_CHECKING:
    from glowgenius.evaluation.intervals import Interval

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
