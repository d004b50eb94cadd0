"""The page of a sweep: what it says, the map, the curves, and every point and run in numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowgenius.experiments.drawing import sweep_figures
from glowgenius.experiments.units import shown, shown_difference, span, span_of_difference
from glowgenius.markup.html import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from glowgenius.experiments.point import SweepPoint
    from glowgenius.experiments.result import SweepResult

_STANDING = {
    "best": "best",
    "flat": "flat: at most the margin either way",
    "worse": "worse",
    "unclear": "not to be told apart",
    "diverged": "diverged",
    "unknown": "–",
}


def sweep_sections(sweep: SweepResult) -> list[Markup]:
    """Everything that a sweep has to say, in order."""
    points = sweep.points()
    others = [name for name in sweep.metrics if name != sweep.metric]
    return [
        tag("h2", "What it says"),
        tag("ul", *(tag("li", text) for text in sweep.findings()), class_="verdicts"),
        *sweep_figures(points, base=sweep.base_value(), basis=sweep.basis()),
        tag("h2", "Every point and every run"),
        _folded(f"{len(points)} points", _points(points)),
        *(piece for name in others for piece in _other(sweep, name)),
        _folded(f"{len(sweep.cells)} runs", _runs(sweep)),
        tag(
            "p",
            "The best of several points is on the lucky side: its interval holds for a point that was named "
            "beforehand. "
            "Intervals hold 95 %, over questions and seeds: never narrower than Student's over the seeds, and with one "
            "seed over its questions alone. Differences are paired by question and seed. Worse: the interval of the "
            "difference leaves out 0. Flat: it holds 0 and stays within the margin. Fewer than 10 questions (groups of "
            "them, where they have groups) tell nothing.",
            class_="soft",
        ),
    ]


def _other(sweep: SweepResult, metric: str) -> list[Markup]:
    """Another metric, folded: its findings and figures."""
    said = tag("ul", *(tag("li", text) for text in sweep.findings(metric)), class_="verdicts")
    figures = sweep_figures(sweep.points(metric), base=sweep.base_value(metric), basis=sweep.basis(metric))
    return [tag("details", tag("summary", f"The same by {metric}"), said, *figures)]


def _folded(summary: str, inner: Markup) -> Markup:
    """Numbers for those who want them: on a phone each row is a card, and there may be a hundred."""
    return tag("details", tag("summary", summary), inner)


def _points(points: Sequence[SweepPoint]) -> Markup:
    rows = [
        (
            ("point", f"rank {point.rank}, learning rate {point.learning_rate:g}"),
            (point.metric, shown(point.metric, point.value)),
            ("95 % interval", "–" if point.interval is None else span(point.metric, point.interval)),
            ("against the best", _difference(point)),
            ("standing", _STANDING[point.standing]),
        )
        for point in points
    ]
    return table(rows)


def _difference(point: SweepPoint) -> str:
    if point.difference is None or point.standing == "best":
        return "–"
    limits = point.difference_interval
    interval = "" if limits is None else f" ({span_of_difference(point.metric, limits)})"
    return f"{shown_difference(point.metric, point.difference)}{interval}"


def _runs(sweep: SweepResult) -> Markup:
    rows = [
        (
            ("run", str(cell.cell)),
            ("steps", str(cell.steps)),
            ("training loss", f"{cell.train_loss:.3g}"),
            ("held-out loss", "–" if cell.eval_loss is None else f"{cell.eval_loss:.3g}"),
            ("trained parameters", "–" if cell.trained_parameters is None else f"{cell.trained_parameters:,}"),
            ("seconds", f"{cell.seconds:.0f}"),
            *([("cost", f"${cell.cost_usd:.2f}")] if cell.cost_usd is not None else []),
            ("diverged", cell.diverged or "no"),
        )
        for cell in sweep.cells
    ]
    return table(rows)


def table(rows: Iterable[Sequence[tuple[str, str]]]) -> Markup:
    """A table of heading and text per cell; on a phone, a card per row."""
    lines = list(rows)
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name, _ in lines[0])))
    body = tag("tbody", *(tag("tr", *(tag("td", text, data_label=name) for name, text in line)) for line in lines))
    return tag("div", tag("table", head, body, class_="slices"), class_="wide")
