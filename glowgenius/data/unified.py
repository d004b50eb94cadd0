"""Nulls that Arrow has put into tool calls, found in rows that no longer say that they come from Arrow.

Arrow gives the arguments of every call the keys of all calls. Written to JSON Lines or turned into dicts, a call of
`tide` then has an argument `harbour: null` that it never had. It is proved by what only a union does: every call has
the same keys, and one function's key is null in every call of another one; or by a schema that has no such argument.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, final

from attrs import evolve

from glowgenius.data.frozen import as_list, as_mapping, thaw

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from glowgenius.data.message import Conversation, Message


def without_nulls(value: Any) -> Any:
    """The value without the keys of objects that hold null, at every depth."""
    if isinstance(value, Mapping):
        items: Any = value.items()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return {key: without_nulls(item) for key, item in items if item is not None}
    if isinstance(value, list | tuple):
        items = value  # pyright: ignore[reportUnknownVariableType]
        return [without_nulls(item) for item in items]
    return value


def true_tools(tools: object) -> object:
    """The tools without nulls, where one of their schemas has a property that is null, as no schema can."""
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
    """The rows that change when invented nulls are taken out of their calls; none where nothing proves that there are.

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
    """What the objects at one place of the arguments have in common, by the name of the function."""

    def __init__(self) -> None:
        self._keys: set[frozenset[str]] = set()
        self._held: dict[str, frozenset[str]] = {}  # keys that are not null in some call of the function
        self._always: dict[str, frozenset[str]] = {}  # keys that are not null in any call of it

    def add(self, name: str, inside: Mapping[str, Any]) -> None:
        """The next object."""
        held = frozenset(key for key, value in inside.items() if value is not None)
        self._keys.add(frozenset(inside))
        self._held[name] = self._held.get(name, frozenset()) | held
        self._always[name] = self._always.get(name, held) & held

    def betrays_a_union(self) -> bool:
        """Whether all have the same keys, of which one belongs to one function and is null in all calls of another."""
        if len(self._keys) != 1 or len(self._held) == 1:
            return False
        (keys,) = self._keys
        lacking = {key for held in self._held.values() for key in keys - held}
        return any(lacking & always for always in self._always.values())


def _calls(messages: Iterable[Message]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The name and the arguments of each call."""
    for message in messages:
        for call in message.tool_calls:
            function = as_mapping(call.get("function")) or {}
            arguments: Any = as_mapping(function.get("arguments"))
            if arguments is not None:
                yield str(function.get("name")), arguments


def _objects(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping[str, Any]]]:
    """Every object in the value with its place; the items of a list have one place."""
    inside: Any = as_mapping(value)
    if inside is not None:
        yield path, inside
        for key, item in inside.items():
            yield from _objects(item, (*path, str(key)))
    for item in as_list(value) or ():
        yield from _objects(item, (*path, "[]"))


def _beyond_schema(name: str, arguments: Mapping[str, Any], tools: Sequence[Mapping[str, Any]]) -> bool:
    """Whether an argument is null that the function's schema does not have."""
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
