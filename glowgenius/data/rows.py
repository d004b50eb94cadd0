"""A row before anyone has asked what its columns mean."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast, final

from attrs import frozen

from glowgenius.data.columns import Fault
from glowgenius.data.frozen import as_mapping, describe
from glowgenius.data.message import Conversation
from glowgenius.errors import ConfigError

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


def row_of(value: object, line: int | None, faults: tuple[Fault, ...] = ()) -> RawRow:
    """The row that a decoded value is; a value that is no object is a faulty row."""
    columns = as_mapping(value)
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


def check_records(records: object) -> None:
    """Refuse what can be iterated over and yet is no series of rows.

    Raises:
        ConfigError: It is a string, one mapping, or cannot be iterated over.
    """
    kind = type(records).__name__
    if isinstance(records, str | bytes | Mapping) or not isinstance(records, Iterable):
        hint = "; Dataset.from_file reads files" if isinstance(records, str) else ""
        raise ConfigError(f"records must be an iterable of rows such as {EXAMPLE}, got a {kind}{hint}")


def record_row(record: object) -> RawRow | Conversation:
    """One record as a row; a conversation passes as it is, and what is neither becomes a faulty row."""
    if isinstance(record, Conversation):
        return record
    if isinstance(record, Mapping):
        return row_of(cast("object", record), None)
    hint = " (of a pandas.DataFrame, pass frame.to_dict('records'))" if isinstance(record, str) else ""
    found = f"a Python {type(record).__name__}"
    return RawRow(columns={}, faults=(Fault(None, found, f"a mapping such as {EXAMPLE}, or a Conversation{hint}"),))
