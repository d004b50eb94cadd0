"""Rows that a resumed run goes on without, and the places that they leave empty in the order of rows."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from glowgenius._validators import is_integer
from glowgenius.errors import PROBLEMS_SHOWN, ConfigError, RequestRejectedError
from glowgenius.training.preflight_report import times

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from glowgenius.data.message import Conversation
    from glowgenius.training.prepared import PreparedRun
    from glowgenius.training.schedule import Plan, PlannedStep

_DATUM = re.compile(r"\bdatum (\d+)\b")

_ACCEPTED = "a row's place as errors print it ('train.jsonl:17' or 'row 16'), its id, or its 0-based number"


def row_name(rows: Sequence[Conversation], row: int) -> str:
    """What an error calls a row: its place in the file, or its number where it came from memory."""
    source = rows[row].source
    return f"row {row}" if source is None else str(source)


def find_rows(rows: Sequence[Conversation], names: object) -> tuple[int, ...]:
    """The numbers of the rows that the user has named.

    Raises:
        ConfigError: A name is that of no row, or of several.
    """
    if isinstance(names, str) or not isinstance(names, Sequence):
        raise ConfigError(f"dropped_rows must be a list, got {names!r} ({type(names).__name__}); in it: {_ACCEPTED}")
    wanted = cast("Sequence[object]", names)
    texts = {name for name in wanted if isinstance(name, str)}
    found: dict[str, list[int]] = {}
    for row, conversation in enumerate(rows if texts else ()):
        known = {f"row {row}", row_name(rows, row), str(row), conversation.id}
        for name in known & texts:
            found.setdefault(str(name), []).append(row)
    return tuple(_found(rows, name, found.get(name, []) if isinstance(name, str) else [name]) for name in wanted)


def _found(rows: Sequence[Conversation], name: Any, found: Sequence[Any]) -> int:
    if len(found) > 1:
        listed = ", ".join(f"row {row} ({row_name(rows, row)})" for row in found[:PROBLEMS_SHOWN])
        raise ConfigError(
            f"dropped_rows: {name!r} names several rows: {listed}; write the one that is meant as 'row N'"
        )
    if found and is_integer(found[0]) and 0 <= found[0] < len(rows):
        return int(found[0])
    raise ConfigError(
        f"dropped_rows: there is no row {name!r} among the {times(len(rows), 'row')} of the training data; "
        f"accepted is {_ACCEPTED}"
    )


def empty_places(rows: Sequence[int], counts: Mapping[int, int]) -> tuple[int, ...]:
    """The places of dropped examples in the order of the data.

    Args:
        rows: The row of each example that is left, in order.
        counts: How many examples each dropped row had.
    """
    places: list[int] = []
    for row, count in sorted(counts.items()):
        first = bisect_left(rows, row) + len(places)
        places += range(first, first + count)
    return tuple(places)


def check_steps(plan: Plan, after: int) -> None:
    """Look that every step behind *after* has a row left, as an update without any cannot be made.

    Raises:
        ConfigError: One has none.
    """
    if plan.left_out and (
        empty := next((n for n in range(after + 1, plan.total_steps + 1) if not plan.step(n).rows), 0)
    ):
        raise ConfigError(
            f"dropped_rows: step {empty} would have no row left, and no update can be made of none; leave the rows out "
            f"of the data, and begin anew in another output_dir{_or_end(empty, after)}"
        )


def _or_end(empty: int, after: int) -> str:
    return f", or end the run before it with max_steps={empty - 1}" if empty - 1 > after else ""


def dropped_lines(rows: Sequence[Conversation], counts: Mapping[int, int]) -> list[str]:
    """What the header says about the rows that the run goes on without."""
    if not counts:
        return []
    named = [f"row {row}" if rows[row].source is None else f"row {row} ({rows[row].source})" for row in sorted(counts)]
    shown = ", ".join(named[:PROBLEMS_SHOWN])
    more = f" and {len(named) - PROBLEMS_SHOWN} more" if len(named) > PROBLEMS_SHOWN else ""
    left = len(rows) - len(named)
    return [f"dropped: {shown}{more}, by dropped_rows; {times(left, 'row')} {'is' if left == 1 else 'are'} left"]


@contextmanager
def naming_rows(run: PreparedRun, planned: PlannedStep) -> Generator[None]:
    """Let a refusal of the gradient of a step say which rows it had, and how the run goes on without one of them."""
    try:
        yield
    except RequestRejectedError as error:
        rows, source = sorted({run.train.rows[place] for place in planned.rows}), run.train.source
        names = [row_name(source, row) for row in rows]
        # Engines name a row by its place in the request.
        named = _DATUM.search(str(error))
        if named and int(named[1]) < len(planned.rows):
            refused = row_name(source, run.train.rows[planned.rows[int(named[1])]])
            error.add_note(f"{named[0]} is {refused}")
            names.insert(0, names.pop(names.index(refused)))
        told = ", ".join(names[:PROBLEMS_SHOWN])
        more = f" and {len(names) - PROBLEMS_SHOWN} more" if len(names) > PROBLEMS_SHOWN else ""
        if run.can_resume and len(names) > 1:
            advice = (
                "where one of them was refused, go on without it, naming that one: train(..., "
                f"resume_from_checkpoint=True, dropped_rows=[{names[0]!r}])"
            )
        else:
            advice = "where one of them was refused, leave it out of the data and begin anew"
        error.add_note(f"step {planned.step} had the rows {told}{more}; {advice}")
        raise
