"""JSON, with what the standard decoder lets pass: keys given twice, NaN, numbers that no float can hold."""

from __future__ import annotations

import json
import re
from typing import Any, final

from glowgenius.data.columns import Fault
from glowgenius.data.frozen import MAX_INTEGER_BITS, shortened

_SPACE = re.compile(r"[ \t\n\r]*")
_MAX_DIGITS = 308
"""Of an integer that a float can hold for certain; `MAX_INTEGER_BITS` decides beyond it."""


class BrokenJSONError(Exception):
    """Text that is no JSON; never leaves the package, the readers make a fault of it."""

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
    """Decodes one value after the other and gives each the faults that were found in it.

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
        """The value that begins at *start*, the position behind it, and what is wrong with it.

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
        """The one value that *text* holds, with white space around it, and what is wrong with it.

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
    """The first position from *position* on that is not JSON white space."""
    match = _SPACE.match(text, position)
    return match.end() if match else position


def json_value(value: object) -> object:
    """What JSON text says; any other value, and text that is no JSON without a fault, as it is."""
    if not isinstance(value, str):
        return value
    try:
        said, faults = StrictDecoder().decode_only(value)
    except BrokenJSONError:
        return value
    return value if faults else said
