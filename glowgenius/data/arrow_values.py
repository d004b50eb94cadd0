"""Values of Arrow, pandas and numpy as JSON values."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import evolve

from glowgenius.data.files import UnreadableError
from glowgenius.data.json_values import as_list, as_mapping, thaw

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glowgenius.data.message import Conversation, Message


def without_nulls(value: Any) -> Any:
    """The value without null entries of objects, at every depth."""
    if isinstance(value, Mapping):
        items: Any = value.items()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return {key: without_nulls(item) for key, item in items if item is not None}
    if isinstance(value, list | tuple):
        items = value  # pyright: ignore[reportUnknownVariableType]
        return [without_nulls(item) for item in items]
    return value


def true_tools(tools: object) -> object:
    """The tools without null entries, if one of their schemas has a null property, which no schema can have."""
    listed = as_list(tools)
    return without_nulls(listed) if listed is not None and any(map(_has_null_property, listed)) else tools


def _has_null_property(schema: object) -> bool:
    inside = as_mapping(schema)
    if inside is None:
        return False
    properties = as_mapping(inside.get("properties"))
    if properties is not None and None in properties.values():
        return True
    return any(_has_null_property(value) for value in inside.values())


def without_invented(rows: Sequence[Conversation], positions: Sequence[int]) -> dict[int, Conversation]:
    """Rows without the null call arguments that Arrow added; empty if nothing proves that it added any.

    Args:
        rows: The rows.
        positions: Those of them that have calls.
    """
    seen: defaultdict[tuple[str, ...], _Place] = defaultdict(_Place)
    by_schema = False
    for position in positions:
        for name, arguments in _calls(rows[position].messages):
            by_schema = by_schema or _beyond_schema(name, arguments, rows[position].tools)
            for path, inside in _objects(arguments):
                seen[path].add(name, inside)
    if not by_schema and not any(place.betrays_a_union() for place in seen.values()):
        return {}
    changed: dict[int, Conversation] = {}
    for position in positions:
        messages = tuple(map(_cleaned, rows[position].messages))
        if messages != rows[position].messages:
            changed[position] = evolve(rows[position], messages=messages)
    return changed


@final
class _Place:
    """Keys shared by the objects at one position of call arguments, per function name."""

    def __init__(self) -> None:
        self._keys: set[frozenset[str]] = set()
        self._held: dict[str, frozenset[str]] = {}  # keys that are not null in some call of the function
        self._always: dict[str, frozenset[str]] = {}  # keys that are not null in any call of it

    def add(self, name: str, inside: Mapping[str, Any]) -> None:
        """Add the next object."""
        held = frozenset(key for key, value in inside.items() if value is not None)
        self._keys.add(frozenset(inside))
        self._held[name] = self._held.get(name, frozenset()) | held
        self._always[name] = self._always.get(name, held) & held

    def betrays_a_union(self) -> bool:
        """Whether all objects have the same keys, one of which only one function uses and others hold as null."""
        if len(self._keys) != 1 or len(self._held) == 1:
            return False
        (keys,) = self._keys
        lacking = {key for held in self._held.values() for key in keys - held}
        return any(lacking & always for always in self._always.values())


def _calls(messages: Iterable[Message]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and arguments of each call."""
    for message in messages:
        for call in message.tool_calls:
            function = as_mapping(call.get("function")) or {}
            arguments: Any = as_mapping(function.get("arguments"))
            if arguments is not None:
                yield str(function.get("name")), arguments


def _objects(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every object in the value with its position; items of a list share one position."""
    inside: Any = as_mapping(value)
    if inside is not None:
        yield path, inside
        for key, item in inside.items():
            yield from _objects(item, (*path, str(key)))
    for item in as_list(value) or ():
        yield from _objects(item, (*path, "[]"))


def _beyond_schema(name: str, arguments: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a null argument is missing from the function's schema."""
    for tool in tools:
        function = as_mapping(tool.get("function")) or {}
        schema = as_mapping(function.get("parameters")) or {}
        properties = as_mapping(schema.get("properties"))
        if function.get("name") == name and properties is not None:
            return any(value is None and key not in properties for key, value in arguments.items())
    return False


def _cleaned(message: Message) -> Message:
    if not message.tool_calls:
        return message
    calls = [thaw(call) for call in message.tool_calls]
    for call in calls:
        function = call.get("function")
        if isinstance(function, dict) and isinstance(function.get("arguments"), dict):  # pyright: ignore[reportUnknownMemberType]
            function["arguments"] = without_nulls(function["arguments"])
    return evolve(message, tool_calls=tuple(calls))


_PLAIN: Final = (str, int, bool, type(None), list, dict)
_MISSING: Final = ("NAType", "NaTType")


def plain(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with plain Python values: arrays as lists, NaN as null, dates as ISO text."""
    if all(type(value) in _PLAIN for value in row.values()):
        return row
    return {column: _plain(value) for column, value in row.items()}


def _plain(value: Any) -> Any:
    found: Any = value
    if type(value) in _PLAIN:
        return found
    if isinstance(value, float):
        found = None if math.isnan(value) else float(value)
    elif type(value).__name__ in _MISSING:
        found = None
    elif hasattr(value, "dtype") and hasattr(value, "tolist"):  # an array or a number of numpy
        found = _deep(value.tolist())
    elif isinstance(value, dt.datetime | dt.date | dt.time):
        found = value.isoformat()
    elif isinstance(value, decimal.Decimal):
        whole = value.is_finite() and value == value.to_integral_value()
        found = int(value) if whole else None if value.is_nan() else float(value)
    elif isinstance(value, dt.timedelta | uuid.UUID):
        found = str(value)
    return found


def _deep(value: Any) -> Any:
    """The values of an array as nested lists; Parquet rows read by pandas have nested arrays."""
    if isinstance(value, Mapping):
        return {key: _deep(item) for key, item in cast("Mapping[object, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_deep(item) for item in cast("Sequence[Any]", value)]
    return _plain(value)


def repeated(names: Iterable[object]) -> object | None:
    """The first repeated name, or None."""
    seen: set[object] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def refuse_repeated(names: Iterable[object]) -> None:
    """Refuse two columns with the same name, because a row can hold only one of them.

    Raises:
        UnreadableError: A name comes twice.
    """
    name = repeated(names)
    if name is not None:
        raise UnreadableError(f"two columns with the name {name!r}", "each name once: rename or leave out one of them")
