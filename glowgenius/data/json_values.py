"""Strict JSON decoding, and immutable JSON values."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast, final

from attrs import field, frozen
from typing_extensions import override

from glowgenius._validators import is_number
from glowgenius.data.columns import Fault

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
    """A read-only, hashable mapping of JSON values; its lists are tuples.

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
    """The JSON value with objects as `FrozenMapping` and lists as tuples."""
    if isinstance(value, FrozenMapping):
        return value
    if isinstance(value, Mapping):
        return FrozenMapping(cast("Mapping[str, Any]", value))
    if isinstance(value, list | tuple):
        return tuple(freeze(item) for item in cast("Sequence[Any]", value))
    return value


def thaw(value: Any) -> Any:
    """The JSON value as plain dicts and lists, for `json` and chat templates."""
    if isinstance(value, Mapping):
        return {key: thaw(item) for key, item in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [thaw(item) for item in cast("Sequence[Any]", value)]
    return value


def is_finite(value: object) -> bool:
    """Whether *value* is a finite int or float; `math.isfinite` raises for 10**400."""
    return json_fault(value) is None and is_number(value)


def as_mapping(value: object) -> Mapping[object, Any] | None:
    """The value if it is a mapping, else None; for untyped input."""
    return cast("Mapping[object, Any]", value) if isinstance(value, Mapping) else None


def as_list(value: object) -> Sequence[Any] | None:
    """The value if it is a list or a tuple, else None; for untyped input."""
    return cast("Sequence[Any]", value) if isinstance(value, list | tuple) else None


def unpaired_surrogate(text: str) -> str | None:
    r"""The first unpaired UTF-16 surrogate, as `\ud83d`; None in valid text.

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
    """Why *value* does not survive writing as JSON and reading back, as a phrase; None if it does."""
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
    """Short description of a JSON value for messages: `the number 5`, `a list of 2`, `the string 'usr'`."""
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
    """The text, truncated after *limit* characters with a mark."""
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


_SPACE = re.compile(r"[ \t\n\r]*")
_MAX_DIGITS = 308
"""Of an integer that a float can hold for certain; `MAX_INTEGER_BITS` decides beyond it."""


class BrokenJSONError(Exception):
    """Invalid JSON text; internal, the readers convert it to a fault."""

    def __init__(self, reason: str, position: int, *, cut_off: bool) -> None:
        Exception.__init__(self, reason, position, cut_off)
        self.reason = reason
        """What the decoder expected, without a place."""
        self.position = position
        """0-based index into the text."""
        self.cut_off = cut_off
        """Whether the text simply ends too early."""


@final
class StrictDecoder:
    """Decodes JSON values one after another, and collects the faults of each.

    The faults are collected, not raised: the value's end stays known, so the rows after it are read as well.
    """

    __slots__ = ("_decoder", "_faults")

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._decoder = json.JSONDecoder(
            object_pairs_hook=self._object,
            parse_constant=self._constant,
            parse_float=self._float,
            parse_int=self._integer,
        )

    def decode(self, text: str, start: int = 0) -> tuple[Any, int, tuple[Fault, ...]]:
        """The value that begins at *start*, the position after it, and its faults.

        Raises:
            BrokenJSONError: There is no JSON value at *start*.
        """
        self._faults = []
        try:
            value, end = self._decoder.raw_decode(text, start)
        except json.JSONDecodeError as error:
            # An open string is reported where it starts, everything else where the text stops making sense.
            cut_off = error.msg.startswith("Unterminated string") or not text[error.pos :].strip()
            raise BrokenJSONError(error.msg, error.pos, cut_off=cut_off) from None
        except RecursionError:
            raise BrokenJSONError("Lists or objects nested too deeply", start, cut_off=False) from None
        return value, end, tuple(self._faults)

    def decode_only(self, text: str) -> tuple[Any, tuple[Fault, ...]]:
        """The single value in *text*, surrounded by optional white space, and its faults.

        Raises:
            BrokenJSONError: The text is no JSON value, or more than one.
        """
        value, end, faults = self.decode(text, skip_space(text, 0))
        rest = skip_space(text, end)
        if rest != len(text):
            raise BrokenJSONError("Extra data", rest, cut_off=False)
        return value, faults

    def _object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        value = dict(pairs)
        if len(value) != len(pairs):
            seen: set[str] = set()
            for key, _ in pairs:
                if key in seen:
                    self._faults.append(Fault(key, "given twice in one object", "each key once"))
                seen.add(key)
        return value

    def _constant(self, name: str) -> None:
        self._faults.append(Fault(None, f"{name}, which is no JSON", "a finite number, a string or null"))

    def _float(self, text: str) -> float | None:
        value = float(text)
        if abs(value) != float("inf"):
            return value
        self._faults.append(
            Fault(None, f"the number {shortened(text)}, beyond what a float can hold", "a smaller number")
        )
        return None

    def _integer(self, text: str) -> int | None:
        # int() itself raises a ValueError for more than 4,300 digits.
        if len(text) <= _MAX_DIGITS or (len(text) < 2 * _MAX_DIGITS and int(text).bit_length() <= MAX_INTEGER_BITS):
            return int(text)
        self._faults.append(Fault(None, f"an integer of {len(text)} digits", "a smaller number"))
        return None


def skip_space(text: str, position: int) -> int:
    """The first position at or after *position* that is not JSON white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def json_value(value: object) -> object:
    """The decoded value of JSON text; other values and invalid JSON are returned unchanged."""
    if not isinstance(value, str):
        return value
    try:
        said, faults = StrictDecoder().decode_only(value)
    except BrokenJSONError:
        return value
    return value if faults else said
