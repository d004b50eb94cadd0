"""Files as lines of text with their true numbers, and files as they are written: whole or not at all."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, BinaryIO, final

from attrs import frozen

from glowgenius.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

SUFFIXES = (".csv", ".json", ".jsonl", ".tsv")
"""The files that can be read, by the end of their names."""

_BOM = b"\xef\xbb\xbf"
_NO_TEXT = {
    b"\xff\xfe": ("UTF-16 text", "UTF-8 text: save it with that encoding"),
    b"\xfe\xff": ("UTF-16 text", "UTF-8 text: save it with that encoding"),
    b"PK\x03\x04": ("a zip archive, perhaps an Excel workbook", "a text file: unpack it, or export it as CSV (UTF-8)"),
    b"\x1f\x8b": ("a gzip archive", "the unpacked file: run gunzip on it"),
    b"PAR1": ("a Parquet file", "the rows as .jsonl"),
}
_SHOWN_NEIGHBOURS = 5


def nothing_there(*, empty: bool) -> str:
    """What is found in a file without rows."""
    return "an empty file" if empty else "a file with nothing but white space"


class UnreadableError(Exception):
    """The rest of a file cannot be read; never leaves the package, the loader makes a `Problem` of it."""

    def __init__(self, found: str, accepted: str, *, line: int | None = None) -> None:
        Exception.__init__(self, found, accepted, line)
        self.found = found
        self.accepted = accepted
        self.line = line


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


def lines(path: Path) -> Iterator[Line]:
    r"""Every line of a file, one at a time, split at `\n` only; a byte order mark is skipped.

    JSON text may hold U+2028 and other characters that `str.splitlines` takes for line ends.

    Raises:
        UnreadableError: The file cannot be opened, or it is no text file.
    """
    offset = 0
    with _opened(path) as file:
        for number, raw in enumerate(file, start=1):
            start = 0
            if number == 1:
                _refuse_binary(raw)
                start = len(_BOM) if raw.startswith(_BOM) else 0
            yield _line(number, raw[start:] if start else raw, offset + start)
            offset += len(raw)


def whole_text(path: Path) -> str:
    """The whole file as text, without a byte order mark.

    Raises:
        UnreadableError: The file cannot be opened, it is no text file, or a byte is not UTF-8.
    """
    with _opened(path) as file:
        raw = file.read()
    _refuse_binary(raw)
    start = len(_BOM) if raw.startswith(_BOM) else 0
    try:
        return raw[start:].decode()
    except UnicodeDecodeError as error:
        at = start + error.start
        found, line = _bad_byte(raw[at], at), raw.count(b"\n", 0, at) + 1
    raise UnreadableError(found, "text in UTF-8", line=line)


def _line(number: int, raw: bytes, offset: int) -> Line:
    try:
        return Line(number, raw.decode(), None)
    except UnicodeDecodeError as error:
        return Line(number, raw.decode(errors="replace"), _bad_byte(raw[error.start], offset + error.start))


def _bad_byte(byte: int, offset: int) -> str:
    return f"byte 0x{byte:02x} at offset {offset} is not UTF-8"


def _refuse_binary(start: bytes) -> None:
    for magic, (found, accepted) in _NO_TEXT.items():
        if start.startswith(magic):
            raise UnreadableError(found, accepted)


def _opened(path: Path) -> BinaryIO:
    try:
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
    # By the stem: `.jsonl` alone would make any two names alike.
    alike = [name for name in names if nearest(path.stem, [name.rpartition(".")[0].lower()])]
    accepted = f"the path of a file that exists{nearest(path.name, alike) or _listed(names)}"
    return f"no such file in {str(folder)!r}", accepted


def _names(folder: Path) -> list[str]:
    """The data files of a folder; none where it may not be listed."""
    try:
        return sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in SUFFIXES)
    except OSError:
        return []


def _listed(names: list[str]) -> str:
    """` (it holds a.csv, b.jsonl)`, or nothing where there are none."""
    more = ", …" if len(names) > _SHOWN_NEIGHBOURS else ""
    return f" (it holds {', '.join(names[:_SHOWN_NEIGHBOURS])}{more})" if names else ""


def write_lines(path: Path, rows: Iterable[str]) -> None:
    """Write a text file so that its name is there with all its lines or, if anything fails, as it was before.

    The temporary file lies in the same folder, since a rename is atomic only within a file system.

    Raises:
        OSError: The folder is missing, or nothing can be written there.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as file:
            for row in rows:
                file.write(row)
                file.write("\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
