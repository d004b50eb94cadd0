"""A sweep for the terminal: a grid of values with their intervals, at most 100 columns wide, and what it says."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from glowgenius.experiments.units import shown, span

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.experiments.point import SweepPoint

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
        head = ["rank \\ rate", *(f"{rate:g}".rjust(widths[rate]) for rate in block)]
        lines += ["  ".join(head), "-" * len("  ".join(head))]
        for rank in ranks:
            for row in range(2):
                label = str(rank) if row == 0 else ""
                texts = [cells[rank, rate][row].rjust(widths[rate]) for rate in block]
                lines.append("  ".join([label.rjust(len(head[0])), *texts]).rstrip())
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
