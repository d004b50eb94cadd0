"""A grid of values as inline SVG: shaded by how good they are, with the value and its interval written in each cell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from attrs import frozen

from glowgenius.markup.html import Markup, join, tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LEFT: Final = 56.0
_HIGH: Final = 46.0
_WIDE: Final = 92.0
_TOP: Final = 8.0
_BOTTOM: Final = 42.0
_STRONGEST: Final = 0.62
"""The opacity of the best cell: the text on it must stay readable on a light and on a dark page."""


@final
@frozen(kw_only=True)
class HeatCell:
    """One cell of a heat map."""

    shade: float | None
    """How good it is, from 0 to 1; None for a cell without a value, which is hatched."""

    text: str
    """The value."""

    below: str = ""
    """What stands below it, in small letters."""

    outlined: bool = False
    """Whether it is the one to look at."""

    title: str = ""
    """What a pointer resting on it reads."""


def heat_map(
    title: str,
    rows: Sequence[str],
    columns: Sequence[str],
    cells: Mapping[tuple[int, int], HeatCell],
    *,
    row_label: str,
    column_label: str,
    keys: Sequence[str] = (),
) -> Markup:
    """A figure of *rows* × *columns* cells.

    Args:
        title: The caption.
        rows: The labels of the rows, from top to bottom.
        columns: The labels of the columns, from left to right.
        cells: By row and column, both from 0; one that is missing stays empty.
        row_label: The name of the vertical axis.
        column_label: The name of the horizontal axis.
        keys: The entries of the legend.
    """
    width, height = _LEFT + _WIDE * len(columns) + 4, _TOP + _HIGH * len(rows) + _BOTTOM
    parts = [_cell(cell, _LEFT + _WIDE * column, _TOP + _HIGH * row) for (row, column), cell in cells.items()]
    for index, label in enumerate(rows):
        parts.append(_text(_LEFT - 8, _TOP + _HIGH * (index + 0.5) + 4, label, anchor="end"))
    for index, label in enumerate(columns):
        parts.append(_text(_LEFT + _WIDE * (index + 0.5), height - _BOTTOM + 17, label))
    parts.append(_text(_LEFT + _WIDE * len(columns) / 2, height - 5, column_label, class_="soft"))
    middle = _TOP + _HIGH * len(rows) / 2
    parts.append(
        tag(
            "text",
            row_label,
            x=12,
            y=middle,
            text_anchor="middle",
            class_="soft",
            transform=f"rotate(-90 12 {middle:g})",
        )
    )
    legend = tag("span", *(tag("i", text) for text in keys), class_="legend")
    drawing = tag("svg", join(parts), viewBox=f"0 0 {width:g} {height:g}", role="img", aria_label=title, class_="heat")
    # A grid of many columns scrolls rather than shrinking its figures to dust.
    wide = tag("div", drawing, class_="wide", style=f"--least: {width * 0.72:.0f}px; --most: {width * 1.15:.0f}px")
    return tag("figure", tag("figcaption", title, *([legend] if keys else [])), wide)


def _cell(cell: HeatCell, x: float, y: float) -> Markup:
    """One cell with its texts."""
    box = {"x": x + 1, "y": y + 1, "width": _WIDE - 2, "height": _HIGH - 2, "rx": 3.0}
    parts = [tag("title", cell.title)] if cell.title else []
    if cell.shade is None:
        parts.append(tag("rect", **box, class_="no-value"))
    else:
        parts.append(tag("rect", **box, class_="heat-cell", fill_opacity=0.04 + (_STRONGEST - 0.04) * cell.shade))
    if cell.outlined:
        parts.append(
            tag("rect", **{**box, "x": x + 2, "y": y + 2, "width": _WIDE - 4, "height": _HIGH - 4}, class_="best")
        )
    middle = x + _WIDE / 2
    parts.append(_text(middle, y + (20 if cell.below else _HIGH / 2 + 4), cell.text, class_="value"))
    if cell.below:
        parts.append(_text(middle, y + 36, cell.below, class_="small"))
    return tag("g", *parts)


def _text(x: float, y: float, text: str, *, anchor: str = "middle", class_: str = "") -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, **({"class_": class_} if class_ else {}))
