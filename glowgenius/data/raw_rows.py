"""Raw rows before their columns are interpreted, and column renaming by `columns={...}`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from attrs import evolve, frozen

from glowgenius.data.columns import CHOICES, COLLECTED, OWN_NAMES, Fault, offered
from glowgenius.data.json_values import as_mapping, describe, json_value
from glowgenius.data.message import Conversation
from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from glowgenius.data.files import ReadLimits

EXAMPLE = '{"question": "…", "answer": "…"}'
"""A row, for messages."""


@final
@frozen(kw_only=True)
class RawRow:
    """Content of one row of a file, or of one record, and its place."""

    columns: Mapping[str, Any]
    """Column → value; empty where the row could not be read."""

    line: int | None = None
    """1-based line on which the row starts; None for rows from memory."""

    faults: tuple[Fault, ...] = ()
    """What is wrong with it already; such a row is not looked at any further."""

    header_line: int | None = None
    """The line that names the columns, where one line does so for all rows."""


def row_of(value: object, line: int | None, faults: tuple[Fault, ...] = (), limits: ReadLimits | None = None) -> RawRow:
    """A row from a decoded value; a value that is not an object becomes a faulty row.

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
    """A row of which only the line number and the fault are known."""
    return RawRow(columns={}, line=line, faults=(Fault(None, found, accepted),))


_SHOWN = 8


@final
class Renaming:
    """Mapping of column names in the file to names in the library; metadata columns keep their own name."""

    def __init__(self, columns: Mapping[str, str] | None) -> None:
        """Check the user's mapping.

        Args:
            columns: Name in the file → name here. A pair that only makes sense the other way round is taken so.

        Raises:
            ConfigError: It is no mapping of strings, names no column of ours, or gives one column twice.
        """
        self._ours: dict[str, str] = {}
        self._either: dict[str, str] = {}  # pairs of two names of ours, of which the rows say which is theirs
        if columns is None:
            return
        if not isinstance(columns, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
            raise ConfigError(f"columns must be a mapping such as {{'query': 'question'}}, got {columns!r}")
        lists = offered(name for name in columns if isinstance(name, str))  # pyright: ignore[reportUnnecessaryIsInstance]
        for pair in columns.items():
            theirs, ours = _pair(*pair)
            if ours == "context" and (theirs in lists or theirs.casefold() in CHOICES):
                ours = "choices"
            if theirs in self._ours or (ours in self._ours.values() and ours not in COLLECTED):
                raise ConfigError(
                    f"columns gives {theirs if theirs in self._ours else ours!r} twice: {dict(columns)!r}"
                )
            self._ours[theirs] = ours
            if theirs in OWN_NAMES and ours not in COLLECTED:
                self._either[theirs] = ours

    def __bool__(self) -> bool:
        return bool(self._ours)

    def name(self, column: str) -> str:
        """The library's name of a file column."""
        return self._ours.get(column, column)

    def settle(self, columns: Iterable[str]) -> None:
        """Decide which of two library names is the file's, as in `{"answer": "label"}`: the one it has."""
        present = frozenset(columns)
        for one, other in list(self._either.items()):
            if one in present or other in present:
                del self._either[one]
                if one not in present:
                    del self._ours[one]
                    self._ours[other] = one

    def apply(self, rows: Iterable[RawRow | Conversation]) -> Iterator[RawRow | Conversation]:
        """The rows with library column names; conversations are unchanged.

        Raises:
            ConfigError: No row has one of the columns that are to be renamed.
        """
        found, seen = set[str](), dict[str, None]()
        for row in rows:
            if isinstance(row, Conversation):
                yield row
                continue
            columns = self._with_kept(row.columns)
            if self._either:
                self.settle(columns)
            if columns:
                found.update(columns.keys() & self._ours.keys())
                seen.update(dict.fromkeys(row.columns))
            yield self._renamed(row, columns)
        missing = [theirs for theirs in self._ours if theirs not in found]
        if missing and seen:
            listed = ", ".join(map(repr, list(seen)[:_SHOWN]))
            raise ConfigError(
                f"columns names {missing[0]!r}, which no row has{nearest(missing[0], seen)}; the rows have {listed}"
            )

    def _with_kept(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        """The row's columns, plus columns to rename that an earlier read put into its metadata."""
        kept = as_mapping(columns.get("metadata"))
        inside = [] if kept is None else [name for name in self._ours if name in kept and name not in columns]
        if kept is None or not inside:
            return columns
        left = {key: value for key, value in kept.items() if key not in inside}
        return {**columns, "metadata": left, **{name: kept[name] for name in inside}}

    def _renamed(self, row: RawRow, given: Mapping[str, Any]) -> RawRow:
        columns: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        several: dict[str, list[Any]] = {}
        faults: list[Fault] = []
        for column, value in given.items():
            ours = self.name(column)
            if ours == "metadata" and column != "metadata":
                kept[column] = value
            elif ours in COLLECTED and ours != "metadata":
                several.setdefault(ours, []).append(value)
            elif ours in columns:
                faults.append(Fault(ours, f"two columns, {column!r} is one of them", "one of the two"))
            else:
                columns[ours] = value
        columns.update({name: values if len(values) > 1 else values[0] for name, values in several.items()})
        if kept:
            beside = as_mapping(json_value(columns.get("metadata")) or {})
            if beside is None:
                faults.append(Fault("metadata", "no object, and columns= would add to it", "an object"))
            else:
                columns["metadata"] = {**beside, **kept}
        return evolve(row, columns=columns, faults=(*row.faults, *faults))


def _pair(one: object, other: object) -> tuple[str, str]:
    """Name in the file and name in the library."""
    if not isinstance(one, str) or not isinstance(other, str):
        raise ConfigError(f"columns must map names to names, got {one!r}: {other!r}")
    if other in OWN_NAMES:
        return one, other
    if one in OWN_NAMES:
        return other, one
    hint = nearest(other, OWN_NAMES)
    raise ConfigError(f"columns gives {one!r} the name {other!r}, which is none of {', '.join(OWN_NAMES)}{hint}")
