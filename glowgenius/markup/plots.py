"""Charts as inline SVG: coloured by the page's style, labelled in text, with nothing to load.

All coordinates are in units of a drawing 440 wide, which a phone shows at about four fifths and a desk at full size.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final, final

from attrs import frozen

from glowgenius.markup.html import join, tag

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from markupsafe import Markup

WIDTH: Final = 440.0
_RIGHT: Final = 12.0
_ROW: Final = 44.0
_LETTER: Final = 7.2
"""About the width of one letter of the labels."""

COLOURS: Final = ("one", "two", "three", "four", "five", "six")
"""Colours of the page for curves that are all of one kind; they differ for the colour-blind as well."""

_LOG_FROM: Final = 50.0
"""A curve that spans more than this factor is drawn on a logarithmic axis."""


@final
@frozen(kw_only=True)
class Series:
    """One curve."""

    name: str
    """For the legend."""

    points: tuple[tuple[float, float], ...]
    """x and y; y may be NaN or infinite, and then there is a gap."""

    colour: str
    """`base` or `tuned`, a colour of the page, or one of `COLOURS`."""

    dots: bool = False
    """Whether each point is marked."""

    limits: tuple[tuple[float, float] | None, ...] = ()
    """The interval of each point, where it has one; drawn as whiskers."""

    shift: float = 0.0
    """How far the curve is moved to the right in the drawing, so that whiskers at one x do not cover each other."""

    ring_lowest: bool = False
    """Whether the lowest point gets a ring."""

    @property
    def drawn(self) -> list[tuple[float, float]]:
        """The points that have a place."""
        return [point for point in self.points if math.isfinite(point[1])]


@final
@frozen(kw_only=True)
class Dot:
    """A value with its interval."""

    value: float
    """Where the dot lies."""

    low: float
    """Where the whisker begins."""

    high: float
    """Where the whisker ends."""

    colour: str
    """`base` or `tuned`, a colour of the page."""

    hollow: bool = False
    """Whether the dot is a circle: shape tells sides apart where colour cannot."""

    title: str = ""
    """What a pointer resting on it reads."""


@final
@frozen(kw_only=True)
class Row:
    """One line of a dot-and-whisker chart."""

    label: str
    """What the line is about."""

    dots: tuple[Dot, ...]
    """Drawn one below the other."""

    tick: float | None = None
    """A mark for comparison across the line, such as a baseline."""


def ticks(low: float, high: float, *, most: int = 6) -> list[float]:
    """At most *most* round numbers (1, 2 or 5 times a power of ten) within the range; *low* must be below *high*."""
    power = math.floor(math.log10((high - low) / most))
    steps = (factor * 10.0**exponent for exponent in itertools.count(power) for factor in (1, 2, 5))
    scales = ([index * step for index in _multiples(low, high, step)] for step in steps)
    return next(found for found in scales if len(found) <= most)


def _multiples(low: float, high: float, step: float) -> range:
    """Which multiples of *step* lie within the range; a limit that misses one by rounding counts as hit."""
    return range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)


def log_ticks(low: float, high: float) -> list[float]:
    """1, 2 and 5 times the powers of ten within the range; powers alone where there would be more than seven."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    fine = [factor * 10.0**power for power in powers for factor in (1, 2, 5) if low <= factor * 10.0**power <= high]
    coarse = [10.0**power for power in powers if low <= 10.0**power <= high]
    return fine if len(fine) <= 7 else coarse  # noqa: PLR2004 - as many labels as fit


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    x_label: str,
    y_label: str,
    may_be_logarithmic: bool = False,
    logarithmic_x: bool = False,
    show: Callable[[float], str] = "{:g}".format,
) -> Markup:
    """Curves over a common x axis, as a figure with its legend.

    Args:
        title: The caption.
        series: The curves; at least one of them has a finite point.
        x_label: The name of the x axis.
        y_label: The unit of the y axis.
        may_be_logarithmic: Whether the y axis becomes logarithmic where the values span a factor above 50.
        logarithmic_x: Whether the x axis is logarithmic, with a label at each point; all x are then above 0.
        show: Writes a value of the y axis.
    """
    height, left, bottom, top = 240.0, 52.0, 40.0, 22.0
    points = [point for line in series for point in line.drawn]
    reached = [y for _, y in points] + [y for line in series for limit in line.limits if limit for y in limit]
    lowest, highest = min(reached), max(reached)
    logarithmic = may_be_logarithmic and lowest > 0 and highest / lowest > _LOG_FROM
    y_ticks = _y_ticks(lowest, highest, logarithmic=logarithmic)
    to_y = _scale(min(lowest, *y_ticks), max(highest, *y_ticks), height - bottom, top, logarithmic=logarithmic)
    first, last = min(x for x, _ in points), max(x for x, _ in points)
    first, last = (first / 2, last * 2) if logarithmic_x and first == last else _widened(first, last)
    indent = 24.0 if logarithmic_x else 0.0
    to_x = _scale(first, last, left + indent, WIDTH - _RIGHT - indent, logarithmic=logarithmic_x)
    parts: list[Markup] = []
    for value in y_ticks:
        parts.append(_line(left, to_y(value), WIDTH - _RIGHT, to_y(value), "grid"))
        parts.append(_text(left - 6, to_y(value) + 4, show(value), anchor="end"))
    marked = _spaced({x for x, _ in points}, to_x) if logarithmic_x else _whole(first, last)
    parts.extend(_text(to_x(value), height - bottom + 18, f"{value:g}") for value in marked)
    unit = f"{y_label}, log scale" if logarithmic else y_label
    parts.append(_text(0, 12, unit, anchor="start", class_="soft"))
    parts.append(_text((left + WIDTH - _RIGHT) / 2, height - 4, x_label, class_="soft"))
    parts.extend(piece for line in series for piece in _curve(line, to_x, to_y))
    keys = [(line.colour, f"{'● ' if line.dots else '— '}{line.name}") for line in series]
    rings = [("best", f"○ lowest {line.name}") for line in series if line.ring_lowest]
    return _figure(title, parts, height=height, keys=[*keys, *rings])


def _whole(first: float, last: float) -> list[float]:
    """The labels of an axis of steps."""
    return [value for value in ticks(first, last) if value == int(value)]


def _spaced(values: Iterable[float], to_x: Callable[[float], float]) -> list[float]:
    """The values whose labels do not run into each other, from the left."""
    kept: list[float] = []
    for value in sorted(values):
        if not kept or to_x(value) - to_x(kept[-1]) > _LETTER * (len(f"{kept[-1]:g}") + len(f"{value:g}")) / 2 + 4:
            kept.append(value)
    return kept


def whisker_chart(
    title: str,
    rows: Sequence[Row],
    *,
    low: float,
    high: float,
    show: Callable[[float], str],
    keys: Sequence[tuple[str, str]] = (),
    zero: bool = False,
) -> Markup:
    """Values with their intervals, a line for each row, as a figure.

    Args:
        title: The caption.
        rows: From top to bottom.
        low: The left end of the axis.
        high: The right end of the axis.
        show: Writes a value of the axis.
        keys: Colour and text of each entry of the legend.
        zero: Whether 0 is marked by a line from top to bottom.
    """
    longest = max(len(row.label) for row in rows)
    left = min(150.0, 16 + _LETTER * longest)
    room = int((left - 16) / _LETTER)
    height = _ROW * len(rows) + 34
    to_x = _scale(low, high, left, WIDTH - _RIGHT - 8)
    parts: list[Markup] = []
    for value in ticks(low, high):
        parts.append(_line(to_x(value), 4, to_x(value), height - 28, "grid"))
        parts.append(_text(to_x(value), height - 8, show(value)))
    if zero:
        parts.append(_line(to_x(0), 4, to_x(0), height - 28, "zero"))
    for index, row in enumerate(rows):
        middle = 4 + _ROW * (index + 0.5)
        label = row.label if len(row.label) <= room else f"{row.label[: room - 1]}…"
        parts.append(_text(left - 12, middle + 4, label, anchor="end", title=row.label))
        if row.tick is not None:
            parts.append(_line(to_x(row.tick), middle - 15, to_x(row.tick), middle + 15, "majority"))
        for place, dot in enumerate(row.dots):
            parts.extend(_whisker(dot, to_x, middle + 14 * (place - (len(row.dots) - 1) / 2)))
    return _figure(title, parts, height=height, keys=keys)


def _y_ticks(lowest: float, highest: float, *, logarithmic: bool) -> list[float]:
    """Where the y axis is labelled: at least one place."""
    if logarithmic:
        return log_ticks(lowest, highest)
    low, high = _widened(lowest, highest)
    # A scale that starts at 0 shows how much of the loss is left; only a narrow band far from 0 needs another.
    return ticks(0.0 if 0 < low < high / 2 else low, high)


def _widened(low: float, high: float) -> tuple[float, float]:
    """The range, or one around it where it has no extent."""
    if low < high:
        return low, high
    around = abs(low) / 10 or 1.0
    return low - around, high + around


def _scale(low: float, high: float, start: float, end: float, *, logarithmic: bool = False) -> Callable[[float], float]:
    """From values to coordinates."""
    place = math.log10 if logarithmic else float

    def to(value: float) -> float:
        return start + (place(value) - place(low)) / (place(high) - place(low)) * (end - start)

    return to


def _curve(line: Series, to_x: Callable[[float], float], to_y: Callable[[float], float]) -> list[Markup]:
    """The path of a series, broken at gaps, with its dots and ring."""
    place = to_x

    def to_shifted(x: float) -> float:
        return place(x) + line.shift

    to_x, path, pen = to_shifted, "", "M"
    for x, y in line.points:
        if math.isfinite(y):
            path += f"{pen}{to_x(x):.1f},{to_y(y):.1f}"
            pen = "L"
        else:
            pen = "M"
    parts = [tag("path", d=path, class_=f"path stroke-{line.colour}")]
    for (x, _), limit in zip(line.points, line.limits, strict=False):
        if limit is not None:
            bar = f"path thin stroke-{line.colour}"
            parts.append(_line(to_x(x), to_y(limit[0]), to_x(x), to_y(limit[1]), bar))
            parts.extend(_line(to_x(x) - 3, to_y(end), to_x(x) + 3, to_y(end), bar) for end in limit)
    # A single point has no path to see.
    for x, y in line.drawn if line.dots or len(line.drawn) == 1 else []:
        title = tag("title", f"{line.name} {y:.4g} at {x:g}")
        parts.append(tag("circle", title, cx=to_x(x), cy=to_y(y), r=3.5, class_=f"fill-{line.colour}"))
    if line.ring_lowest and line.drawn:
        x, y = min(line.drawn, key=lambda point: point[1])
        parts.append(
            tag("circle", tag("title", f"lowest: {y:.4g} at {x:g}"), cx=to_x(x), cy=to_y(y), r=7, class_="best")
        )
    return parts


def _whisker(dot: Dot, to_x: Callable[[float], float], y: float) -> list[Markup]:
    """A dot on its interval."""
    shape = f"hollow stroke-{dot.colour}" if dot.hollow else f"fill-{dot.colour}"
    bar = f"path stroke-{dot.colour}"
    ends = [_line(to_x(end), y - 4, to_x(end), y + 4, bar) for end in (dot.low, dot.high)]
    circle = tag("circle", tag("title", dot.title), cx=to_x(dot.value), cy=y, r=4.5, class_=shape)
    return [_line(to_x(dot.low), y, to_x(dot.high), y, bar), *ends, circle]


def _figure(title: str, parts: Sequence[Markup], *, height: float, keys: Sequence[tuple[str, str]]) -> Markup:
    """A drawing under its caption and legend."""
    legend = tag("span", *(tag("i", text, class_=f"key-{colour}") for colour, text in keys), class_="legend")
    caption = tag("figcaption", title, *([legend] if keys else []))
    drawing = tag("svg", join(parts), viewBox=f"0 0 {WIDTH:g} {height:g}", role="img", aria_label=title, class_="chart")
    return tag("figure", caption, drawing)


def _line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    return tag("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def _text(x: float, y: float, text: str, *, anchor: str = "middle", class_: str = "", title: str = "") -> Markup:
    """A label, with the whole of it as its title where it may be shortened."""
    hover = [tag("title", title)] if title and title != text else []
    return tag("text", *hover, text, x=x, y=y, text_anchor=anchor, **({"class_": class_} if class_ else {}))


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
        parts.append(_heat_text(_LEFT - 8, _TOP + _HIGH * (index + 0.5) + 4, label, anchor="end"))
    for index, label in enumerate(columns):
        parts.append(_heat_text(_LEFT + _WIDE * (index + 0.5), height - _BOTTOM + 17, label))
    parts.append(_heat_text(_LEFT + _WIDE * len(columns) / 2, height - 5, column_label, class_="soft"))
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
    parts.append(_heat_text(middle, y + (20 if cell.below else _HIGH / 2 + 4), cell.text, class_="value"))
    if cell.below:
        parts.append(_heat_text(middle, y + 36, cell.below, class_="small"))
    return tag("g", *parts)


def _heat_text(x: float, y: float, text: str, *, anchor: str = "middle", class_: str = "") -> Markup:
    return tag("text", text, x=x, y=y, text_anchor=anchor, **({"class_": class_} if class_ else {}))
