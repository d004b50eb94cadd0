"""JSON values that cannot change, so that whatever holds them can be compared, hashed and shared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, final

from attrs import field, frozen
from typing_extensions import override

from glowgenius._validators import is_number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_DEPTH = 64
"""How deeply lists and objects may be nested; real rows stay below ten."""

MAX_INTEGER_BITS = 1023
"""Larger integers are no floats in other languages, and Python itself refuses to print those of 4,300 digits."""


def _freeze_items(items: Mapping[str, Any]) -> dict[str, Any]:
    return {key: freeze(value) for key, value in items.items()}


@final
@frozen(eq=False, repr=False)
class FrozenMapping(Mapping[str, Any]):
    """A read-only, hashable mapping of JSON values; lists inside it are tuples.

    It equals any mapping with the same content, so `tool_call == {"id": "a"}` works.
    `thaw` gives a plain dict back.
    """

    _items: dict[str, Any] = field(converter=_freeze_items)

    @override
    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    @override
    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    @override
    def __len__(self) -> int:
        return len(self._items)

    @override
    def __eq__(self, other: object) -> bool:
        if isinstance(other, FrozenMapping):
            return self._items == other._items
        if isinstance(other, Mapping):
            return self._items == _freeze_items(cast("Mapping[str, Any]", other))
        return NotImplemented

    @override
    def __hash__(self) -> int:
        return hash(frozenset(self._items.items()))

    @override
    def __repr__(self) -> str:
        return repr(thaw(self))


NOTHING = FrozenMapping({})
"""The empty mapping that all rows without metadata share."""


def freeze(value: Any) -> Any:
    """The same JSON value with objects as `FrozenMapping` and lists as tuples."""
    if isinstance(value, FrozenMapping):
        return value
    if isinstance(value, Mapping):
        return FrozenMapping(cast("Mapping[str, Any]", value))
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in cast("Sequence[Any]", value))
    return value


def thaw(value: Any) -> Any:
    """The same JSON value as plain dicts and lists, as `json` and chat templates want them."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in cast("Sequence[Any]", value)]
    return value


def is_finite(value: object) -> bool:
    """Whether *value* is an int or a float that a float can hold; `math.isfinite` raises for 10**400."""
    return json_fault(value) is None and is_number(value)


def as_mapping(value: object) -> Mapping[object, Any] | None:
    """The value if it is a mapping, else None; for values that come from outside."""
    return cast("Mapping[object, Any]", value) if isinstance(value, Mapping) else None


def as_list(value: object) -> Sequence[Any] | None:
    """The value if it is a list or a tuple, else None; for values that come from outside."""
    return cast("Sequence[Any]", value) if isinstance(value, list | tuple) else None


def unpaired_surrogate(text: str) -> str | None:
    r"""The first half of a UTF-16 pair without its other half, as `\ud83d`; None in proper text.

    JSON can spell it, but it is no character: no file and no tokenizer can take it.
    """
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"\\u{ord(text[error.start]):04x}"
    return None


def json_fault(value: object, *, depth: int = 0) -> str | None:
    """What makes *value* impossible to write as JSON and read back, as a phrase; None where nothing does."""
    if value is None or isinstance(value, (bool, FrozenMapping)):  # a union would be built anew for every value
        return None
    if isinstance(value, Mapping | list | tuple):
        return _nested_fault(cast("Mapping[object, object] | Sequence[object]", value), depth)
    fault: str | None = f"a Python {type(value).__name__}"
    if isinstance(value, str):
        half = unpaired_surrogate(value)
        fault = f"text with half a character ({half})" if half else None
    elif isinstance(value, int):
        fault = f"an integer of {value.bit_length()} bits" if value.bit_length() > MAX_INTEGER_BITS else None
    elif isinstance(value, float):
        fault = None if math.isfinite(value) else f"the number {value}"
    return fault


def _nested_fault(value: Mapping[object, object] | Sequence[object], depth: int) -> str | None:
    if depth >= MAX_DEPTH:
        return f"lists or objects nested more than {MAX_DEPTH} deep"
    inside = value
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                return f"the key {key!r}, which is not a string"
        inside = [*value, *value.values()]
    return next((fault for item in inside if (fault := json_fault(item, depth=depth + 1))), None)


def describe(value: object) -> str:
    """A value in the words of JSON, short enough for one line: `the number 5`, `a list of 2`, `the string 'usr'`."""
    words = f"a Python {type(value).__name__}"
    match value:
        case None:
            words = "null"
        case bool():
            words = "true" if value else "false"
        case int() if value.bit_length() > MAX_INTEGER_BITS:
            words = f"an integer of {value.bit_length()} bits"
        case int() | float():
            words = f"the number {shortened(str(value))}"
        case str():
            words = f"the string {shortened(value)!r}" if value else "an empty string"
        case list() | tuple():
            words = f"a list of {len(cast('Sequence[object]', value))}" if value else "an empty list"
        case Mapping():
            words = "an object" if value else "an empty object"
        case _:
            pass
    return words


def shortened(text: str, limit: int = 40) -> str:
    """The text, cut after *limit* characters with a mark that it was."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"
