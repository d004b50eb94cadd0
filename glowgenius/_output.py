"""Where text meets a terminal: nothing in a text steers the terminal, and no stream that fails costs a run."""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import sys
from typing import TYPE_CHECKING, Any, Final, cast, final

from typing_extensions import override

from glowgenius._secrets import redact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TextIO

_STEERING: Final = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
"""Control characters but for new line and tab, those that turn the reading direction, and halves of a pair."""

_NOBODY_READS: Final = (errno.EPIPE, errno.ESHUTDOWN, *((errno.EINVAL,) if sys.platform == "win32" else ()))
"""What a pipe without a reader gives; Windows calls it an invalid argument."""


def showable(text: str) -> str:
    r"""*text* without characters that would steer a terminal: each is written as its escape, such as `\x1b`.

    Line breaks, tabs and the characters of every script stay.
    """
    return _STEERING.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def showable_json(text: str) -> str:
    r"""JSON *text* without them, as JSON writes them: `\u009b`; what it means stays the same."""
    return _STEERING.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def columns(rows: Sequence[Sequence[str]], *, gap: int = 2, right: bool = True) -> list[str]:
    """The lines of a table of *rows*: its first column aligned left, the others right.

    Cells are as wide as a terminal shows them: letters of Chinese or Japanese take two columns.

    Args:
        rows: Texts of one line; every row has as many.
        gap: Spaces between two columns.
        right: False aligns every column left and keeps the spaces at the end of a cell.
    """
    from rich.console import Console  # not at import: only what is printed needs it
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, gap, 0, 0))
    for column in range(len(rows[0])):
        table.add_column(justify="right" if column and right else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    file = io.StringIO()
    Console(file=file, width=_WIDEST, color_system=None, force_jupyter=False, force_terminal=False).print(table)
    return [line.rstrip() for line in file.getvalue().splitlines()]


_WIDEST: Final = 100_000
"""No line of a table is wrapped: whoever reads it decides how."""

WARNING: Final = "warning: "
"""How a line of a run's header begins that is a warning."""


@final
class _Clean(logging.Filter):
    """Takes keys, and what steers a terminal, out of every record."""

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = showable(redact(record.getMessage())), None
        return True


def logger(name: str) -> logging.Logger:
    """The logger of that name, whose records hold no key and nothing that steers a terminal."""
    found = logging.getLogger(name)
    if not any(isinstance(each, _Clean) for each in found.filters):
        found.addFilter(_Clean())
    return found


def announce(log: logging.Logger, line: str, *, shown: bool = False) -> None:
    """Say *line* through *log*, as a warning where it is one, or on standard error to a user who has set up no logging.

    A level, a handler or a filter that the user has set decides as in all logging, so what is silenced there is silent.

    Args:
        log: The logger of the part that speaks.
        line: One line.
        shown: Whether the user sees it elsewhere, so that standard error would say it again.
    """
    level = logging.WARNING if line.startswith(WARNING) else logging.INFO
    if log.hasHandlers():
        log.log(level, "%s", line)
    elif not shown and level >= _least(log):
        Output(sys.stderr).say(line)


def _least(log: logging.Logger) -> int:
    """The least level that is not silenced; the root's default of WARNING is nobody's choice."""
    least = max(logging.root.manager.disable + 1, logging.INFO)
    if log.disabled:
        return logging.CRITICAL + 1
    chosen = log.getEffectiveLevel()
    return least if chosen == logging.WARNING == logging.root.level and not _set(log) else max(least, chosen)


def _set(log: logging.Logger) -> bool:
    """Whether the level of *log*, or of a logger above it other than the root, has been set."""
    above: logging.Logger | None = log
    while above is not None and above is not logging.root:
        if above.level != logging.NOTSET:
            return True
        above = above.parent
    return False


@final
class Output:
    """A text stream around another one, whose failures are swallowed: output is never worth a run.

    What the encoding of the stream does not have is written as an escape. A pipe that nobody reads any more is written
    to no further. Where there is no stream at all (`sys.stdout` is None without a console), nothing happens.

    Args:
        stream: Where to: anything with `write`, or None.
    """

    def __init__(self, stream: object) -> None:
        self._stream: Any = stream

    @classmethod
    def standard(cls, file: TextIO | None = None) -> Output:
        """*file*, or standard output as it is at this moment."""
        return cls(sys.stdout if file is None else file)

    @property
    def encoding(self) -> str:
        """The encoding of the stream; UTF-8 where it has none."""
        return cast("str", getattr(self._stream, "encoding", None) or "utf-8")

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return bool(self._stream.isatty())
        except Exception:  # noqa: BLE001 - none, closed, or without such a method
            return False

    def fileno(self) -> int:
        """The file descriptor of the stream.

        Raises:
            UnsupportedOperation: It has none.
        """
        try:
            return int(self._stream.fileno())
        except Exception as error:
            raise io.UnsupportedOperation("fileno") from error

    def write(self, text: str) -> int:
        """Write *text* as it is, and return its length whatever became of it."""
        try:
            try:
                self._stream.write(text)
            except UnicodeError:
                self._stream.write(self._encodable(text))
        except Exception as error:  # noqa: BLE001 - whatever it is, it is no reason to end a run
            self._failed(error)
        return len(text)

    def flush(self) -> None:
        """Flush the stream, where it can be."""
        try:
            self._stream.flush()
        except Exception as error:  # noqa: BLE001 - as above
            self._failed(error)

    def say(self, text: object) -> None:
        """Write *text* and a new line, with no key and nothing that steers a terminal in it."""
        self.write(f"{showable(redact(str(text)))}\n")
        self.flush()

    def _encodable(self, text: str) -> str:
        try:
            return text.encode(self.encoding, "backslashreplace").decode(self.encoding)
        except (LookupError, UnicodeError):
            return text.encode("ascii", "backslashreplace").decode("ascii")

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, OSError) or error.errno not in _NOBODY_READS:
            return
        stream: Any = self._stream
        self._stream = None
        if stream in (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__):
            # Python flushes these once more at its exit, and would end a run that went well with status 120.
            with contextlib.suppress(Exception):
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, Output(stream).fileno())
                os.close(nowhere)
