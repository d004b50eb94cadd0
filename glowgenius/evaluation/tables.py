"""The table of a comparison for the terminal: plain text, at most 100 columns wide."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from glowgenius.evaluation.figures import p_value, percent, points
from glowgenius.evaluation.result import trained_lines
from glowgenius.evaluation.verdicts import FEWEST_GROUPS, RULE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.evaluation.slices import SliceComparison

WIDTH: Final = 100
"""Columns of the widest line."""

_NAME_WIDTH: Final = 14


def comparison_table(parts: Sequence[SliceComparison], sentences: Sequence[str] = ()) -> str:
    """The table of slices, then what each slice says in words, with every mean beside it, and what all say together."""
    header = ("slice", "n", "base", "tuned", "majority", "kept", "fixed", "broken", "points", "95 %", "p")
    rows = [header, *(_row(part) for part in parts)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(header))]
    lines = [
        "  ".join(f"{cell:<{width}}" if column == 0 else f"{cell:>{width}}" for column, (cell, width) in cells)
        for cells in (list(enumerate(zip(row, widths, strict=True))) for row in rows)
    ]
    names = dict.fromkeys((part.base.name, part.tuned.name) for part in parts)
    titles = [title for base, tuned in names for title in _titles(base, tuned)]
    said = [line for part in parts for line in _block(part)]
    together = ["", *_wrapped(sentences)] if sentences else []
    rule = ["", *_wrapped([RULE])]
    return "\n".join([*_wrapped(titles), "", lines[0], "-" * len(lines[0]), *lines[1:], "", *said, *together, *rule])


def notes(part: SliceComparison) -> list[str]:
    """What a reader must know to trust the numbers of a slice."""
    found = [] if part.name.endswith((": trained", ": not trained")) else trained_lines(part.tuned)[:1]
    if part.num_groups < part.n:
        found.append(
            f"{part.n} questions in {part.num_groups} group{'s' * (part.num_groups > 1)}; interval and p go by groups"
        )
    found.extend(
        f"{result.num_truncated} of {part.n} answers of {role} were cut off at max_tokens={result.max_tokens}"
        for role, result in (("base", part.base), ("tuned", part.tuned))
        if result.num_truncated
    )
    found.extend(
        f"{result.num_invalid} of {part.n} answers of {role} are not valid JSON"
        for role, result in (("base", part.base), ("tuned", part.tuned))
        if result.num_invalid
    )
    found.extend(part.base.warnings)
    # Below the majority it is no news.
    if part.name_baseline is not None and part.name_baseline > part.baseline.score:
        found.append(
            f"giving the answer of the most similar training question of another group scores "
            f"{percent(part.name_baseline)}"
        )
    if part.few_shot is not None:
        found.append(f"base behind worked examples: {part.metric} {percent(part.few_shot.means[part.metric])}")
    found.extend(str(ranking) for ranking in part.ranking or ())
    return found


def means(part: SliceComparison) -> list[str]:
    """Every mean that both sides have, as `metric base → tuned`."""
    old, new = part.base.means, part.tuned.means
    shown = [f"{name} {percent(old[name])} → {percent(new[name])}" for name in part.base.metrics if name in new]
    if "nll" in old and "nll" in new:
        shown.append(f"nll {old['nll']:.3f} → {new['nll']:.3f} nats per token")
    return shown


def _titles(base: str, tuned: str) -> list[str]:
    """Who is compared, on one line if that is short enough."""
    titles = [f"base: {base}", f"tuned: {tuned}"]
    line = "   ".join(titles)
    return [line] if len(line) <= WIDTH else titles


def _row(part: SliceComparison) -> tuple[str, ...]:
    """The cells of one slice; a name too long for its column stands whole in the lines below the table."""
    scores = (part.base.means[part.metric], part.tuned.means[part.metric])
    shares = (*scores, part.baseline.score, part.retention)
    return (
        _short(part.name),
        str(part.n),
        *("-" if share is None else percent(share).replace(" ", "") for share in shares),
        str(len(part.fixed)),
        str(len(part.broken)),
        points(part.difference),
        f"{points(part.interval.low)} to {points(part.interval.high)}",
        shown_p(part),
    )


def shown_p(part: SliceComparison) -> str:
    """The p of a slice; a dash where there are too few groups for any verdict."""
    return p_value(part.mcnemar_p) if part.num_groups >= FEWEST_GROUPS else "-"


def _short(name: str) -> str:
    whole, _, part = name.rpartition(": ")
    if whole and part in ("trained", "not trained"):
        return f"  {part}"  # it stands below its slice
    return name if len(name) <= _NAME_WIDTH else f"{name[: _NAME_WIDTH - 1]}…"


def _block(part: SliceComparison) -> list[str]:
    """What a slice says, under its name."""
    lines = [part.verdict, ", ".join(means(part)), *(f"note: {note}" for note in notes(part))]
    return _wrapped([f"{part.name}, judged by {part.metric}: {lines[0]}", *(f"  {line}" for line in lines[1:])])


def _wrapped(lines: Sequence[str]) -> list[str]:
    """Each line broken at `WIDTH`, with its continuation indented."""
    return [
        piece
        for line in lines
        for piece in textwrap.wrap(line, WIDTH, subsequent_indent="    ", break_on_hyphens=False) or [""]
    ]
