"""How much a file may unfold to while it is read: each limit has a name, and can be raised or lifted."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, final

from attrs import evolve, field, fields, frozen

from glowgenius._validators import integer, optional
from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "GLOWGENIUS_READ_LIMITS"
"""The environment variable that holds limits for programs that take none: `columns=20000,unpacked_ratio=none`."""

RATIO_FROM: Final = 1 << 24
"""Bytes or values from which on `unpacked_ratio` counts: a small file may well be one word a million times."""


class UnreadableError(Exception):
    """The rest of a file cannot be read; never leaves the package, the loader makes a `Problem` of it."""

    def __init__(self, found: str, accepted: str, *, line: int | None = None) -> None:
        Exception.__init__(self, found, accepted, line)
        self.found = found
        self.accepted = accepted
        self.line = line


@final
@frozen(kw_only=True)
class ReadLimits:
    """What a file may hold at most; None lifts a limit."""

    line_bytes: int | None = field(default=1 << 26, validator=optional(integer(at_least=1)))
    """Bytes of one line, of one row of a JSON array, or of one cell of a table."""

    columns: int | None = field(default=10_000, validator=optional(integer(at_least=1)))
    """Columns of a table, or keys of one row."""

    rows: int | None = field(default=10_000_000, validator=optional(integer(at_least=1)))
    """Rows of a file."""

    unpacked_bytes: int | None = field(default=1 << 33, validator=optional(integer(at_least=1)))
    """Bytes that a packed file (gzip, Parquet) unfolds to."""

    unpacked_ratio: int | None = field(default=200, validator=optional(integer(at_least=1)))
    """Bytes (of Parquet also values) that one byte of a packed file unfolds to; looked at from 16 MiB on."""

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> ReadLimits:
        """The limits that the variable `GLOWGENIUS_READ_LIMITS` sets, as `name=number` with commas between them.

        Args:
            environment: Where the variable is looked up; the process's own by default.

        Raises:
            ConfigError: It holds something else.
        """
        text = (os.environ if environment is None else environment).get(VARIABLE, "")
        names = [one.name for one in fields(cls)]
        changes: dict[str, Any] = {}
        for part in filter(None, map(str.strip, text.split(","))):
            name, _, number = (piece.strip() for piece in part.partition("="))
            plain = number.replace("_", "")
            if name not in names:
                raise ConfigError(f"{VARIABLE} sets {name!r}; the limits are {', '.join(names)}{nearest(name, names)}")
            if plain.casefold() != "none" and not (plain.isascii() and plain.isdecimal()):
                raise ConfigError(f"{VARIABLE}: {name} must be a whole number or none, got {number!r}")
            changes[name] = None if plain.casefold() == "none" else int(plain)
        return evolve(cls(), **changes)

    def check(self, name: str, found: int, what: str, *, line: int | None = None, whole: bool = True) -> None:
        """Refuse *found* of something where a limit is lower.

        Args:
            name: The limit.
            found: How much there is.
            what: Of what, such as `columns`.
            line: Where in the file, if that is known.
            whole: Whether *found* is all there is; else reading has ended there, and there may be more.

        Raises:
            UnreadableError: *found* is above the limit; it says how to raise it.
        """
        limit = getattr(self, name)
        if limit is None or found <= limit:
            return
        amount = f"{found:,} {what}" if whole else f"more than {limit:,} {what}"
        raise _above(amount, f"at most {limit:,} ({name})", {name: found if whole else None}, line)

    def check_all(self, *sizes: tuple[str, int, str]) -> None:
        """Refuse what is above any limit, with one piece of advice for all of them.

        Args:
            *sizes: For each limit its name, how much there is, and of what.

        Raises:
            UnreadableError: As for `check`.
        """
        over = [one for one in sizes if getattr(self, one[0]) is not None and one[1] > getattr(self, one[0])]
        if over:
            amounts = " and ".join(f"{found:,} {what}" for _, found, what in over)
            limits = ", ".join(f"{getattr(self, name):,} ({name})" for name, _, _ in over)
            settings = {name: None if name == "unpacked_ratio" else found for name, found, _ in over}
            raise _above(amounts, f"at most {limits}", settings, None)

    def check_unpacked(self, unpacked: int, packed: int) -> None:
        """Refuse a packed file that unfolds to too much.

        Args:
            unpacked: Bytes that have been unpacked so far; there may be more.
            packed: Bytes of the file.

        Raises:
            UnreadableError: They are above a limit.
        """
        self.check("unpacked_bytes", unpacked, "unpacked bytes", whole=False)
        if unpacked > RATIO_FROM:
            ratio = -(-unpacked // max(1, packed))
            self.check("unpacked_ratio", ratio, "unpacked bytes for each byte of the file", whole=False)


def _above(found: str, accepted: str, settings: Mapping[str, int | None], line: int | None) -> UnreadableError:
    said = ", ".join(f"{name}={value}" for name, value in settings.items())
    advice = (
        f"{accepted}; limits=glowgenius.data.ReadLimits({said}) takes this file, or for a command the environment "
        f"variable {VARIABLE}={said.replace(' ', '').casefold()}"
    )
    return UnreadableError(found, advice, line=line)


def limits_given(limits: object) -> ReadLimits:
    """The limits that the user gave; None stands for those of the environment.

    Raises:
        ConfigError: They are no `ReadLimits`, or the environment's are wrong.
    """
    if limits is None:
        return ReadLimits.from_environment()
    if not isinstance(limits, ReadLimits):
        kind = type(limits).__name__
        raise ConfigError(
            f"limits must be a glowgenius.data.ReadLimits, such as ReadLimits(columns=20000), got a {kind}"
        )
    return limits
