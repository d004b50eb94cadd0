"""What a chat template is given beside the conversation: the day, which is fixed, and loops, which are counted."""

from __future__ import annotations

import re
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final, final

from glowgenius._validators import is_integer
from glowgenius.errors import ConfigError, RenderingError

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_CHARACTERS: Final = 20_000_000
"""The longest text, in characters, that a template may write by default."""

MAX_LOOPS: Final = 1_000_000
"""Default limit of the iterations of a template's loops over `range(…)` in one text."""

_DRAWS: Final = re.compile(r"\|\s*random\b|\blipsum\s*\(")


class TooMuchError(RenderingError):
    """A template went over one of its limits."""


@final
class Surroundings:
    """The functions of a template that depend on more than its conversation.

    Args:
        today: The day that `strftime_now` tells.
        max_characters: The longest text that is written.
        max_loops: How often loops over `range(…)` may turn.
    """

    def __init__(self, today: date, *, max_characters: int, max_loops: int) -> None:
        for name, value in (("max_characters", max_characters), ("max_loops", max_loops)):
            if not is_integer(value) or value < 1:
                raise ConfigError(f"{name} must be an integer ≥ 1, got {value!r} ({type(value).__name__})")
        # A datetime is a date too, and would bring the hour along.
        if not isinstance(today, date) or isinstance(today, datetime):  # pyright: ignore[reportUnnecessaryIsInstance] - untyped callers
            raise ConfigError(f"today must be a datetime.date, got {today!r} ({type(today).__name__})")
        self.today: Final = today
        self.asked_for_today = False
        """Whether a template has asked which day it is."""
        self._max_characters = max_characters
        self._max_loops = max_loops
        self._turns = 0

    def functions(self, source: str) -> dict[str, Any]:
        """The functions of a template with this *source*, in the place of its own."""
        given: dict[str, Any] = {}
        if "strftime_now" in source:
            given["strftime_now"] = self._strftime_now
        if "range" in source:
            given["range"] = self._range
        return given

    def begin(self) -> None:
        """Count anew, for another text."""
        self._turns = 0

    def joined(self, pieces: Iterable[str]) -> str:
        """*pieces* as one text.

        Raises:
            TooMuchError: It is too long.
        """
        parts: list[str] = []
        length = 0
        for piece in pieces:
            length += len(piece)
            self.refuse_length(length)
            parts.append(piece)
        return "".join(parts)

    def refuse_length(self, length: int) -> None:
        """Refuse a text of *length* characters, if that is too long.

        Raises:
            TooMuchError: It is.
        """
        if length > self._max_characters:
            raise TooMuchError(
                f"it writes more than {self._max_characters:,} characters; if that is meant, "
                "ChatTemplateRenderer(…, max_characters=…)"
            )

    def _strftime_now(self, form: str) -> str:
        self.asked_for_today = True
        return datetime.combine(self.today, time()).strftime(form)

    def _range(self, *bounds: int) -> range:
        numbers = range(*bounds)
        self._turns += len(numbers)
        if self._turns > self._max_loops:
            raise TooMuchError(
                f"its loops turn more than {self._max_loops:,} times; if that is meant, "
                "ChatTemplateRenderer(…, max_loops=…)"
            )
        return numbers


def draws_at_random(source: str) -> bool:
    """Whether a template with this *source* writes something else each time."""
    return _DRAWS.search(source) is not None
