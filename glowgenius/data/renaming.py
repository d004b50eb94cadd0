"""Columns under the names that a file gives them: what `columns={…}` says about each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from attrs import evolve

from glowgenius.data.columns import OWN_NAMES, Fault
from glowgenius.data.frozen import as_mapping
from glowgenius.data.message import Conversation
from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from glowgenius.data.rows import RawRow

_SHOWN = 8


@final
class Renaming:
    """Names in the file → names here; the column that becomes `metadata` is kept there under its own name."""

    def __init__(self, columns: Mapping[str, str] | None) -> None:
        """Check what the user gave.

        Args:
            columns: Name in the file → name here. A pair that only makes sense the other way round is taken so.

        Raises:
            ConfigError: It is no mapping of strings, names no column of ours, or gives one column twice.
        """
        self._ours: dict[str, str] = {}
        if columns is None:
            return
        if not isinstance(columns, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
            raise ConfigError(f"columns must be a mapping such as {{'query': 'question'}}, got {columns!r}")
        for pair in columns.items():
            theirs, ours = _pair(*pair)
            if theirs in self._ours or (ours in self._ours.values() and ours != "metadata"):
                raise ConfigError(
                    f"columns gives {theirs if theirs in self._ours else ours!r} twice: {dict(columns)!r}"
                )
            self._ours[theirs] = ours

    def __bool__(self) -> bool:
        return bool(self._ours)

    def name(self, column: str) -> str:
        """What a column of the file is called here."""
        return self._ours.get(column, column)

    def apply(self, rows: Iterable[RawRow | Conversation]) -> Iterator[RawRow | Conversation]:
        """The rows under the names here; conversations have them already.

        Raises:
            ConfigError: No row has one of the columns that are to be renamed.
        """
        missing, seen = set(self._ours), dict[str, None]()
        for row in rows:
            if isinstance(row, Conversation):
                yield row
                continue
            if row.columns:
                missing.difference_update(row.columns)
                seen.update(dict.fromkeys(row.columns))
            yield self._renamed(row)
        if missing and seen:
            theirs = min(missing, key=list(self._ours).index)
            listed = ", ".join(map(repr, list(seen)[:_SHOWN]))
            raise ConfigError(
                f"columns names {theirs!r}, which no row has{nearest(theirs, seen)}; the rows have {listed}"
            )

    def _renamed(self, row: RawRow) -> RawRow:
        columns: dict[str, Any] = {}
        kept: dict[str, Any] = {}
        faults: list[Fault] = []
        for column, value in row.columns.items():
            ours = self.name(column)
            if ours == "metadata" and column != "metadata":
                kept[column] = value
            elif ours in columns:
                faults.append(Fault(ours, f"two columns, {column!r} is one of them", "one of the two"))
            else:
                columns[ours] = value
        if kept:
            beside = as_mapping(columns.get("metadata") or {})
            if beside is None:
                faults.append(Fault("metadata", "no object, and columns= would add to it", "an object"))
            else:
                columns["metadata"] = {**beside, **kept}
        return evolve(row, columns=columns, faults=(*row.faults, *faults))


def _pair(one: object, other: object) -> tuple[str, str]:
    """The name in the file and the name here."""
    if not isinstance(one, str) or not isinstance(other, str):
        raise ConfigError(f"columns must map names to names, got {one!r}: {other!r}")
    if other in OWN_NAMES:
        return one, other
    if one in OWN_NAMES:
        return other, one
    hint = nearest(other, OWN_NAMES)
    raise ConfigError(f"columns gives {one!r} the name {other!r}, which is none of {', '.join(OWN_NAMES)}{hint}")
