"""The findings of a sweep, as sentences, tables and plots."""

from __future__ import annotations

import math
import textwrap
from typing import TYPE_CHECKING, Final

from glowgenius._output import columns
from glowgenius.evaluation.intervals import FEWEST_GROUPS, percent
from glowgenius.experiments.cell import is_loss, margin_text, shown, shown_difference, span, span_of_difference
from glowgenius.markup.html import tag
from glowgenius.markup.plots import COLOURS, HeatCell, Series, heat_map, line_chart
from glowgenius.training.history import direction

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from markupsafe import Markup

    from glowgenius.experiments.cell import SweepPoint


def sentences(
    points: Sequence[SweepPoint], *, margin: float, base: float | None, groups: int | None = None
) -> tuple[str, ...]:
    """The findings of a sweep.

    Args:
        points: Every point of the grid, by one metric.
        margin: Within which a point counts as flat.
        base: The value before training, if it is known.
        groups: How many independent groups of questions the values rest on; None for a loss of the run.
    """
    best = next((point for point in points if point.standing == "best"), None)
    if best is None:
        return (_none(points), *_diverged(points))
    at_rate = [point for point in points if point.learning_rate == best.learning_rate]
    at_rank = [point for point in points if point.rank == best.rank]
    return (
        _best(best, base),
        *_few(points, groups),
        *_axis(at_rate, margin, "rank", f"at learning rate {best.learning_rate:g}", lambda point: f"{point.rank}"),
        *_axis(at_rank, margin, "learning rate", f"at rank {best.rank}", lambda point: f"{point.learning_rate:g}"),
        *_edge(points, best),
        *_diverged(points),
    )


def _none(points: Sequence[SweepPoint]) -> str:
    """Why no point is the best."""
    if all(len(point.diverged) == len(point.cells) for point in points):
        return "Every run diverged: try lower learning rates."
    metric = points[0].metric
    if all(point.value is None for point in points):
        return f"No point has a {metric} of every seed: there is nothing to compare."
    if not any(point.value for point in points):
        return (
            f"No run scores above 0 by {metric}, so there is nothing to tell: judge by nll, which moves first, or "
            "train for longer."
        )
    return "Every point has a run that diverged: try lower learning rates."


def _few(points: Sequence[SweepPoint], groups: int | None) -> list[str]:
    """The sentence that there are too few questions for a verdict."""
    if groups is None or groups >= FEWEST_GROUPS or len(points) == 1:
        return []
    found = f"{groups} independent one{'s' * (groups != 1)}"
    return [f"Too few questions to tell points apart: {found}, and the rule asks for {FEWEST_GROUPS}."]


def _best(best: SweepPoint, base: float | None) -> str:
    limits = "" if best.interval is None else f" (95 % interval {span(best.metric, best.interval)})"
    before = "" if base is None else f"; before training it was {shown(best.metric, base)}"
    place = f"rank {best.rank} and learning rate {best.learning_rate:g}"
    return f"The best {best.metric} is {shown(best.metric, best.value)}{limits}, at {place}{before}."


def _axis(
    points: Sequence[SweepPoint], margin: float, axis: str, where: str, label: Callable[[SweepPoint], str]
) -> list[str]:
    """What moving along one axis from the best point does."""
    others = [point for point in points if point.standing not in ("best", "diverged")]
    best = next(point for point in points if point.standing == "best")
    if not others:
        return []
    within = margin_text(best.metric, margin)
    told = [point for point in others if point.standing != "unknown"]
    if not told:
        return [f"One number a run cannot tell {axis}s apart {where}: add seeds, or questions."]
    if all(point.standing == "flat" for point in told):
        labels = _listed([label(point) for point in points if point.standing in ("flat", "best")])
        return [f"Flat in {axis} {where}: {labels} differ from the best by at most {within} either way."]
    kinds = (
        ("flat", f"at most {within} either way"),
        ("unclear", "not to be told apart with so few questions and seeds"),
    )
    parts = [
        f"{_listed([label(point) for point in told if point.standing == kind])} {text}"
        for kind, text in kinds
        if any(point.standing == kind for point in told)
    ]
    parts[:0] = [f"{label(point)} is worse by {_worse(point)}" for point in told if point.standing == "worse"]
    return [f"Against {axis} {label(best)} {where}: {'; '.join(parts)}."]


def _worse(point: SweepPoint) -> str:
    """How much worse, as a positive amount with its interval."""
    if point.difference is None or point.difference_interval is None:
        return "an unknown amount"
    limits = span_of_difference(point.metric, point.difference_interval)
    return f"{shown_difference(point.metric, point.difference).lstrip('+-')} (95 % interval of the difference {limits})"


def _edge(points: Sequence[SweepPoint], best: SweepPoint) -> list[str]:
    """A best point at the end of the grid is no optimum."""
    rates = sorted({point.learning_rate for point in points})
    if len(rates) == 1 or rates[0] < best.learning_rate < rates[-1]:
        return []
    end, beyond = ("lowest", "below") if best.learning_rate == rates[0] else ("highest", "above")
    return [f"The best learning rate is the {end} of the grid; a better one may lie {beyond} {best.learning_rate:g}."]


def _diverged(points: Sequence[SweepPoint]) -> list[str]:
    """Which points diverged, and why."""
    found = [point for point in points if point.diverged]
    if not found:
        return []
    runs, total = sum(len(point.diverged) for point in found), sum(len(point.cells) for point in points)
    ranks: dict[float, list[str]] = {}
    for point in sorted(found, key=lambda point: (point.learning_rate, point.rank)):
        ranks.setdefault(point.learning_rate, []).append(str(point.rank))
    places = [f"learning rate {rate:g} with rank {_listed(names)}" for rate, names in ranks.items()]
    return [
        (
            f"{runs} of {total} runs diverged: {'; '.join(places)}. For rank {found[0].rank} and learning rate "
            f"{found[0].learning_rate:g}, {found[0].diverged[0]}."
        )
    ]


def _listed(labels: Sequence[str]) -> str:
    """The labels as an enumeration."""
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


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


WIDTH: Final = 100
"""Columns of the widest line."""

MARKS: Final = {"best": " *", "flat": " =", "unclear": " ?"}
"""Behind a value: how it stands to the best."""


def sweep_table(points: Sequence[SweepPoint], *, asked: str, findings: Sequence[str]) -> str:
    """The grid, then the findings.

    Args:
        points: Every point, by one metric.
        asked: What the values are means of.
        findings: The sentences below the grid.
    """
    ranks = sorted({point.rank for point in points})
    rates = sorted({point.learning_rate for point in points})
    cells = {(point.rank, point.learning_rate): _lines(point) for point in points}
    widths = {rate: max(len(f"{rate:g}"), *(len(line) for r in ranks for line in cells[r, rate])) for rate in rates}
    lines = [f"{points[0].metric}: {asked}", ""]
    for block in _blocks(rates, widths):
        head = "rank \\ rate"
        rows = [
            [
                str(rank).rjust(len(head)) if row == 0 else "",
                *(cells[rank, rate][row].rjust(widths[rate]) for rate in block),
            ]
            for rank in ranks
            for row in range(2)
        ]
        named, *filled = columns([[head, *(f"{rate:g}".rjust(widths[rate]) for rate in block)], *rows], right=False)
        lines += [named, "-" * len(named), *filled]
        lines.append("")
    legend = {" *": "* best", " =": "= flat (at most the margin either way)", " ?": "? not to be told apart"}
    used = [text for mark, text in legend.items() if any(MARKS.get(point.standing) == mark for point in points)]
    wrapped = [line for text in findings for line in textwrap.wrap(text, WIDTH, subsequent_indent="    ")]
    return "\n".join([*lines, *(["   ".join(used), ""] if used else []), *wrapped])


def _lines(point: SweepPoint) -> tuple[str, str]:
    """The value with its mark, and below it the interval."""
    if point.standing == "diverged":
        runs = f"{len(point.diverged)} of {len(point.cells)} diverged" if len(point.cells) > 1 else "diverged"
        return ("diverged", "" if len(point.cells) == 1 else runs) if point.value is None else (_value(point), runs)
    limits = "" if point.interval is None else span(point.metric, point.interval)
    return _value(point), f"{limits}  " if limits else ""


def _value(point: SweepPoint) -> str:
    return f"{shown(point.metric, point.value)}{MARKS.get(point.standing, '  ')}"


def _blocks(rates: Sequence[float], widths: dict[float, int]) -> list[list[float]]:
    """The learning rates in groups that fit beside each other."""
    blocks: list[list[float]] = [[]]
    room = WIDTH - len("rank \\ rate")
    for rate in rates:
        if blocks[-1] and sum(widths[other] + 2 for other in [*blocks[-1], rate]) > room:
            blocks.append([])
        blocks[-1].append(rate)
    return blocks
