"""Reading files line by line within limits, and writing files atomically."""

from __future__ import annotations

import codecs
import gzip
import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast, final

from attrs import evolve, field, fields, frozen

from glowgenius._files import write_whole
from glowgenius._validators import integer, optional
from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

VARIABLE: Final = "GLOWGENIUS_READ_LIMITS"
"""The environment variable that holds limits for programs that take none: `columns=20000,unpacked_ratio=none`."""

RATIO_FROM: Final = 1 << 24
"""Bytes or values from which on `unpacked_ratio` counts: a small file may well be one word a million times."""


class UnreadableError(Exception):
    """The rest of a file cannot be read; internal, the loader converts it to a `Problem`."""

    def __init__(self, found: str, accepted: str, *, line: int | None = None) -> None:
        Exception.__init__(self, found, accepted, line)
        self.found = found
        self.accepted = accepted
        self.line = line


@final
@frozen(kw_only=True)
class ReadLimits:
    """Limits of what a file may contain; None removes a limit."""

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
        """The limits in the variable `GLOWGENIUS_READ_LIMITS`: `name=number`, separated by commas.

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
        """Refuse a count *found* that exceeds its limit.

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
        """Refuse every count that exceeds its limit, with one piece of advice for all.

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
        """Refuse a compressed file that expands too much.

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
    """The user's limits; None means those of the environment.

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


SUFFIXES = (".csv", ".json", ".jsonl", ".parquet", ".tsv")
"""The files that can be read, by the end of their names; `.gz` may follow."""

PACKED = ".gz"
"""The end of the name of a file that is unpacked while it is read."""

_BOM = b"\xef\xbb\xbf"
_SAVE_AS_UTF8 = "UTF-8 text: save it with that encoding"
_NO_TEXT = {
    b"\xff\xfe\x00\x00": ("UTF-32 text", _SAVE_AS_UTF8),
    b"\x00\x00\xfe\xff": ("UTF-32 text", _SAVE_AS_UTF8),
    b"\xff\xfe": ("UTF-16 text", _SAVE_AS_UTF8),
    b"\xfe\xff": ("UTF-16 text", _SAVE_AS_UTF8),
    b"PK\x03\x04": ("a zip archive, perhaps an Excel workbook", "a text file: unpack it, or export it as CSV (UTF-8)"),
    b"\x1f\x8b": ("a gzip archive", "a name that ends in .gz, such as data.jsonl.gz"),
    b"PAR1": ("a Parquet file", "a name that ends in .parquet"),
    b"(\xb5/\xfd": ("a zstd archive", "the unpacked file: run unzstd on it"),
    b"BZh": ("a bzip2 archive", "the unpacked file: run bunzip2 on it"),
}
_SHOWN_NEIGHBOURS = 5
_HEAD = 64
_PART = 1 << 20
"""Bytes that are read at once where lines do not count."""

_SHORTEST = 3


def nothing_there(*, empty: bool) -> str:
    """Description of a file without rows."""
    return "an empty file" if empty else "a file with nothing but white space"


@final
@frozen
class Line:
    """One line of a file."""

    number: int
    """1-based."""

    text: str
    """With its line end; bytes that are no UTF-8 are replaced, and `fault` says so."""

    fault: str | None
    """Which byte is not UTF-8, or None."""


def user_path(name: str | os.PathLike[str]) -> Path:
    """The user's path with `~` and `~name` expanded to home folders that exist."""
    path = Path(name)
    try:
        return path.expanduser()
    except RuntimeError:  # `~name` without such a user is a file of that name
        return path


def lines(path: Path, limits: ReadLimits) -> Iterator[Line]:
    r"""Lines of a file, one at a time, split at `\n` only; a byte order mark is skipped.

    JSON text may hold U+2028 and other characters that `str.splitlines` takes for line ends.

    Raises:
        UnreadableError: The file cannot be opened, it is no text file, or it holds more than the limits allow.
    """
    offset = 0
    with _opened(path) as file:
        for number, raw in enumerate(_reading(_lines(file, limits), _watch(path, limits)), start=1):
            start = 0
            if number == 1:
                _refuse_binary(raw)
                start = len(_BOM) if raw.startswith(_BOM) else 0
            yield _line(number, raw[start:] if start else raw, offset + start)
            offset += len(raw)


def text_parts(path: Path, limits: ReadLimits) -> Iterator[str]:
    """Text of a file in chunks of about a million characters, without a byte order mark.

    Raises:
        UnreadableError: The file cannot be opened, it is no text file, a byte is not UTF-8 (behind what is), or it
            holds more than the limits allow.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    offset, line = 0, 1
    with _opened(path) as file:
        for raw in _reading(_parts(file), _watch(path, limits)):
            start = 0
            if not offset:
                _refuse_binary(raw)
                start = len(_BOM) if raw.startswith(_BOM) else 0
            waiting = decoder.getstate()[0]  # the first bytes of a letter that the part before ends with
            given, first = waiting + raw[start:], offset + start - len(waiting)
            try:
                text = decoder.decode(raw[start:])
            except UnicodeDecodeError as error:
                yield given[: error.start].decode()
                line += given.count(b"\n", 0, error.start)
                raise UnreadableError(
                    _bad_byte(given[error.start], first + error.start), "text in UTF-8", line=line
                ) from None
            line += text.count("\n")
            offset += len(raw)
            yield text
    if waiting := decoder.getstate()[0]:
        raise UnreadableError(_bad_byte(waiting[0], offset - len(waiting)), "text in UTF-8", line=line)


def _parts(file: BinaryIO) -> Iterator[bytes]:
    """The start of the file, from which its kind is recognised, then the rest in chunks."""
    yield file.read(_HEAD)
    while raw := file.read(_PART):
        yield raw


def _lines(file: BinaryIO, limits: ReadLimits) -> Iterator[bytes]:
    """Every line, reading no further than the maximum line length."""
    longest = -1 if limits.line_bytes is None else limits.line_bytes + 1
    number = 0
    while raw := file.readline(longest):
        number += 1
        limits.check("line_bytes", len(raw), "bytes in one line", line=number, whole=False)
        yield raw


def unpacked(path: Path, limits: ReadLimits) -> Iterator[bytes]:
    """Bytes of a gzip file, in chunks.

    Raises:
        UnreadableError: The file cannot be opened, is damaged, or holds more than the limits allow.
    """
    with _opened(path) as file:
        yield from _reading(_parts(file), _watch(path, limits))


def _watch(path: Path, limits: ReadLimits) -> Callable[[int], None]:
    """The check of how much of a compressed file has been expanded."""
    if path.suffix.lower() != PACKED:
        return lambda _: None
    size = path.stat().st_size
    return lambda total: limits.check_unpacked(total, size)


def _reading(pieces: Iterable[bytes], watch: Callable[[int], None]) -> Iterator[bytes]:
    """The *pieces* of a file; read errors become an `UnreadableError` with the number of lines read."""
    whole_lines = total = 0
    try:
        for raw in pieces:
            whole_lines += raw.count(b"\n")
            total += len(raw)
            watch(total)
            yield raw
    except EOFError:
        found, accepted = "the gzip archive ends too early", "the complete file: copy or download it again"
    except (gzip.BadGzipFile, zlib.error) as error:
        found, accepted = f"no gzip archive, or a damaged one ({error})", "a file packed by gzip"
    except OSError as error:
        found, accepted = error.strerror or str(error), "a file that can be read"
    else:
        return
    raise UnreadableError(found, accepted, line=whole_lines or None)


def _line(number: int, raw: bytes, offset: int) -> Line:
    try:
        return Line(number, raw.decode(), None)
    except UnicodeDecodeError as error:
        return Line(number, raw.decode(errors="replace"), _bad_byte(raw[error.start], offset + error.start))


def _bad_byte(byte: int, offset: int) -> str:
    letter = bytes([byte]).decode("cp1252", errors="replace")
    guess = f" (in Windows-1252 it would be {letter!r})" if letter.isprintable() and letter != "\ufffd" else ""
    return f"byte 0x{byte:02x} at offset {offset} is not UTF-8{guess}"


def _refuse_binary(start: bytes) -> None:
    for magic, (found, accepted) in _NO_TEXT.items():
        if start.startswith(magic):
            raise UnreadableError(found, accepted)
    head = start[:_HEAD]
    if len(head) > _SHORTEST and 2 * head.count(0) >= len(head) - 1:  # Latin letters in UTF-16: every second byte is 0
        raise UnreadableError("UTF-16 text without a byte order mark", _SAVE_AS_UTF8)


def check_there(path: Path) -> None:
    """Refuse a path that cannot be opened as a file, with the same message for every file type.

    Raises:
        UnreadableError: It cannot be opened.
    """
    _opened(path).close()


def _opened(path: Path) -> BinaryIO:
    try:
        if path.suffix.lower() == PACKED:
            return cast("BinaryIO", gzip.open(path, "rb"))
        return path.open("rb")
    except FileNotFoundError:
        raise UnreadableError(*_not_there(path)) from None
    except IsADirectoryError:
        found = "a folder" + _listed(_names(path))
        raise UnreadableError(found, "one file; Dataset.concatenate joins the rows of several") from None
    except OSError as error:
        raise UnreadableError(error.strerror or str(error), "a file that can be read") from error
    except ValueError as error:
        raise UnreadableError("a name with a NUL character in it", "the name of a file") from error


def _not_there(path: Path) -> tuple[str, str]:
    folder = path.absolute().parent
    if not folder.is_dir():
        return f"the folder {str(folder)!r} does not exist", "the path of a file that exists"
    names = _names(folder)
    # Compares stems: a common suffix would make any two names similar.
    alike = [name for name in names if nearest(path.stem, [name.rpartition(".")[0].lower()])]
    accepted = f"the path of a file that exists{nearest(path.name, alike) or _listed(names)}"
    return f"no such file in {str(folder)!r}", accepted


def kind_of(path: Path) -> str:
    """The lower-case suffix that tells the file type, without `.gz`."""
    inner = path.with_suffix("") if path.suffix.lower() == PACKED else path
    return inner.suffix.lower()


def _names(folder: Path) -> list[str]:
    """Data files in a folder; empty if it may not be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if kind_of(entry) in SUFFIXES)
    except OSError:
        return []


def _listed(names: list[str]) -> str:
    """` (it holds a.csv, b.jsonl)`, or empty if there are none."""
    more = ", …" if len(names) > _SHOWN_NEIGHBOURS else ""
    return f" (it holds {', '.join(names[:_SHOWN_NEIGHBOURS])}{more})" if names else ""


def write_lines(path: Path, rows: Iterable[str]) -> None:
    """Write a text file atomically: with all its lines or, on failure, unchanged.

    Raises:
        StorageError: The folder is missing, or nothing can be written there.
    """
    write_whole(path, (f"{row}\n" for row in rows))
