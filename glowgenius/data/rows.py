"""A row before anyone has asked what its columns mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

from attrs import frozen

from glowgenius.data.columns import Fault
from glowgenius.data.frozen import as_mapping, describe

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.data.limits import ReadLimits

EXAMPLE = '{"question": "…", "answer": "…"}'
"""A row, for messages."""


@final
@frozen(kw_only=True)
class RawRow:
    """What one row of a file, or one record, holds, and where it stands."""

    columns: Mapping[str, Any]
    """Column → value; empty where the row could not be read."""

    line: int | None = None
    """1-based line on which the row starts; None for rows from memory."""

    faults: tuple[Fault, ...] = ()
    """What is wrong with it already; such a row is not looked at any further."""

    header_line: int | None = None
    """The line that names the columns, where one line does so for all rows."""


def row_of(value: object, line: int | None, faults: tuple[Fault, ...] = (), limits: ReadLimits | None = None) -> RawRow:
    """The row that a decoded value is; a value that is no object is a faulty row.

    Raises:
        UnreadableError: It has more columns than the limits allow.
    """
    columns = as_mapping(value)
    if limits is not None and columns is not None:
        limits.check("columns", len(columns), "columns", line=line)
    if columns is None:
        faults = (*faults, Fault(None, describe(value), f"an object such as {EXAMPLE}"))
        return RawRow(columns={}, line=line, faults=faults)
    strange = [
        Fault(None, f"the column {key!r}, which is not a string", "a string")
        for key in columns
        if not isinstance(key, str)
    ]
    return RawRow(columns={str(key): item for key, item in columns.items()}, line=line, faults=(*faults, *strange))


def unreadable_row(line: int, found: str, accepted: str) -> RawRow:
    """A row of which nothing is known but its line and what is wrong."""
    return RawRow(columns={}, line=line, faults=(Fault(None, found, accepted),))
