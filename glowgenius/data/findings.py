"""Positions of rows to findings that a person can act on: where the rows stand, and what they say."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from glowgenius.data.frozen import shortened
from glowgenius.data.report import EXAMPLES_SHOWN, GROUPS_KEPT, Finding

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Conversation
    from glowgenius.data.row_checks import Kind

_ROWS_NAMED = 4
_TEXT = 60


def row_finding(
    rows: Sequence[Conversation],
    kind: str,
    positions: Sequence[int],
    words: Kind,
    *,
    count: int | None = None,
    notes: Sequence[str] = (),
) -> Finding:
    """What was found in single rows.

    Args:
        rows: The rows.
        kind: The finding's kind.
        positions: Where it was found; the first of them at least.
        words: Severity, title and advice.
        count: How often it was found in all, where that is more than there are *positions*.
        notes: What to say of each of the first positions instead of quoting the row.
    """
    said = [notes[i] if i < len(notes) else _quoted(rows[at]) for i, at in enumerate(positions[:EXAMPLES_SHOWN])]
    total = len(positions) if count is None else count
    return Finding(
        kind=kind,
        severity=words.severity,
        count=total,
        title=f"{words.title}: {_rows(total)}",
        advice=words.advice,
        rows=tuple((position,) for position in positions[:GROUPS_KEPT]),
        examples=tuple(f"{place(rows, at)}: {text}" for at, text in zip(positions, said, strict=False)),
    )


def group_finding(
    rows: Sequence[Conversation], kind: str, groups: Sequence[Sequence[int]], words: Kind
) -> Finding | None:
    """What was found in groups of rows; None where there are none."""
    if not groups:
        return None
    involved = sum(map(len, groups))
    times = "once" if len(groups) == 1 else f"{len(groups):,} times"
    return Finding(
        kind=kind,
        severity=words.severity,
        count=len(groups),
        title=f"{words.title}: {times}, {_rows(involved)}",
        advice=words.advice,
        rows=tuple(tuple(group) for group in groups[:GROUPS_KEPT]),
        examples=tuple(_group_example(rows, group) for group in groups[:EXAMPLES_SHOWN]),
    )


def pair_finding(
    train: Sequence[Conversation],
    test: Sequence[Conversation],
    kind: str,
    pairs: Sequence[tuple[int, int]],
    words: Kind,
    *,
    total: int | None = None,
) -> Finding | None:
    """What was found in pairs of a training row and a test row; None where there are none.

    Args:
        train: The rows that the first position of a pair counts.
        test: The rows that the second one counts.
        kind: The finding's kind.
        pairs: The pairs.
        words: Severity, title and advice.
        total: How many rows are tested on, where those are not all of *test*.
    """
    if not pairs:
        return None
    return Finding(
        kind=kind,
        severity=words.severity,
        count=len(pairs),
        title=f"{words.title}: {_rows(len(pairs))} of {len(test) if total is None else total:,} to test on",
        advice=words.advice,
        rows=tuple(pairs[:GROUPS_KEPT]),
        examples=tuple(
            f"{place(test, at)}: {_quoted(test[at])}; trained: {place(train, first)}: {_quoted(train[first])}"
            for first, at in islice(pairs, EXAMPLES_SHOWN)
        ),
    )


def place(rows: Sequence[Conversation], position: int) -> str:
    """Where a row stands: file and line if it was read from one, else its position, and its id if it has one."""
    row = rows[position]
    where = f"row {position}" if row.source is None else str(row.source)
    return where if row.id is None else f"{where} (id {row.id!r})"


def _group_example(rows: Sequence[Conversation], group: Sequence[int]) -> str:
    named = [place(rows, at) for at in group[:_ROWS_NAMED]]
    more = f" and {len(group) - _ROWS_NAMED:,} more" if len(group) > _ROWS_NAMED else ""
    said = " / ".join(dict.fromkeys(_quoted(rows[at]) for at in group[:_ROWS_NAMED]))
    return f"{', '.join(named)}{more}: {said}"


def _quoted(row: Conversation) -> str:
    return f"{shortened(row.question, _TEXT)!r} → {shortened(row.answer, _TEXT)!r}"


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"
