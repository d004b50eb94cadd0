"""A comparison as figures: scores and differences with their intervals, and the table of the slices."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowgenius.evaluation.figures import limits, percent, points
from glowgenius.evaluation.tables import notes, shown_p
from glowgenius.evaluation.verdicts import RULE
from glowgenius.markup.html import Markup, tag
from glowgenius.markup.plots import Dot, Row, whisker_chart

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.evaluation.result import EvaluationResult
    from glowgenius.evaluation.slices import SliceComparison


def comparison_figures(parts: Sequence[SliceComparison]) -> list[Markup]:
    """What each slice says, both charts, and the table."""
    verdicts = [
        tag(
            "li",
            tag("strong", part.name),
            f": {part.verdict}",
            *(tag("span", note, class_="soft") for note in notes(part)),
        )
        for part in parts
    ]
    return [
        tag("ul", *verdicts, class_="verdicts"),
        tag("p", RULE, class_="soft"),
        tag("div", _scores(parts), _differences(parts), class_="charts"),
        _table(parts),
    ]


def _scores(parts: Sequence[SliceComparison]) -> Markup:
    """Both scores of each slice with their intervals, and the majority baseline."""
    rows = [
        Row(
            label=part.name,
            dots=(_score(part.base, part.metric, "base"), _score(part.tuned, part.metric, "tuned")),
            tick=part.baseline.score,
        )
        for part in parts
    ]
    keys = [("base", "○ base"), ("tuned", "● tuned"), ("majority", "| majority baseline")]
    return whisker_chart("Score", rows, low=0, high=1, show=percent, keys=keys)


def _score(result: EvaluationResult, metric: str, side: str) -> Dot:
    interval = result.interval(metric)
    mean = result.means[metric]
    title = f"{side}: {percent(mean)}, 95 % interval {percent(interval.low)} to {percent(interval.high)}"
    return Dot(value=mean, low=interval.low, high=interval.high, colour=side, hollow=side == "base", title=title)


def _differences(parts: Sequence[SliceComparison]) -> Markup:
    """The difference of each slice with its interval, on a scale that holds them all and 0."""
    rows = [
        Row(
            label=part.name,
            dots=(
                Dot(
                    value=part.difference,
                    low=part.interval.low,
                    high=part.interval.high,
                    colour="tuned",
                    title=f"{points(part.difference)} points, 95 % interval {_interval(part)}",
                ),
            ),
        )
        for part in parts
    ]
    keys = [("tuned", "● difference with its 95 % interval")]
    low = min(0.0, *(part.interval.low for part in parts)) - 0.05
    high = max(0.0, *(part.interval.high for part in parts)) + 0.05
    return whisker_chart(
        "Difference in points, tuned minus base", rows, low=low, high=high, show=points, zero=True, keys=keys
    )


def _interval(part: SliceComparison) -> str:
    return f"{points(part.interval.low)} to {points(part.interval.high)}"


def _table(parts: Sequence[SliceComparison]) -> Markup:
    """A row per slice; on a phone, a card."""
    rows = [_cells(part) for part in parts]
    names = [name for name, _ in rows[0]]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    body = tag("tbody", *(tag("tr", *(tag("td", text, data_label=name) for name, text in row)) for row in rows))
    return tag("div", tag("table", head, body, class_="slices"), class_="wide")


def _cells(part: SliceComparison) -> list[tuple[str, str | Markup]]:
    """Heading and text of each cell."""
    old, new = part.base.means, part.tuned.means
    likelihood = f"{old['nll']:.3f} → {new['nll']:.3f}" if "nll" in old and "nll" in new else "–"
    return [
        ("slice", part.name),
        ("judged by", part.metric),
        ("n", str(part.n)),
        ("base", _with_interval(part.base, part.metric)),
        ("tuned", _with_interval(part.tuned, part.metric)),
        ("majority", percent(part.baseline.score)),
        ("kept", "–" if part.retention is None else percent(part.retention)),
        ("fixed", str(len(part.fixed))),
        ("broken", str(len(part.broken))),
        ("points", points(part.difference)),
        ("95 % interval", _interval(part)),
        ("p", shown_p(part)),
        ("nats / token", likelihood),
    ]


def _with_interval(result: EvaluationResult, metric: str) -> Markup:
    """A score, and small below it what it may be as well."""
    interval = result.interval(metric)
    span = limits(interval.low, interval.high)
    return tag("span", f"{percent(result.means[metric])} ", tag("small", span))
