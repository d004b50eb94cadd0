"""Which reader takes which file."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from glowgenius.data.files import SUFFIXES, UnreadableError, kind_of
from glowgenius.data.json_files import read_json, read_jsonl
from glowgenius.data.parquet_files import read_parquet
from glowgenius.data.table_files import read_table
from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glowgenius.data.message import Conversation
    from glowgenius.data.renaming import Renaming
    from glowgenius.data.rows import RawRow

_WORKBOOKS: Final = (".xlsx", ".xls", ".ods", ".numbers")
_BEGINNINGS: Final = {"{": "JSON lines, so name it .jsonl", "[": "a JSON array, so name it .json"}
_LOOKED_AT: Final = 64
"""Bytes of a file without a helpful name that are looked at."""


def read_rows(path: Path, names: Renaming) -> Iterator[RawRow]:
    """The rows of a file, by the end of its name, with its own names of columns.

    Args:
        path: The file.
        names: What its columns are called here; in a table that decides which cells are more than text.

    Raises:
        UnreadableError: The file is of no known kind, cannot be opened, or cannot be read on.
    """
    match kind_of(path):
        case ".jsonl":
            yield from read_jsonl(path)
        case ".json":
            yield from read_json(path)
        case ".csv":
            yield from read_table(path, ",", names)
        case ".tsv":
            yield from read_table(path, "\t", names)
        case ".parquet":
            yield from read_parquet(path)
        case suffix if path.is_dir():
            yield from read_jsonl(path)  # which says that it is a folder, and what it holds
        case suffix:
            found = f"the suffix {suffix!r}" if suffix else "a file name without a suffix"
            raise UnreadableError(
                found, f"one of {', '.join(SUFFIXES)}{nearest(suffix, SUFFIXES) or _advice(path, suffix)}"
            )


def _advice(path: Path, suffix: str) -> str:
    """What to do with a file whose name says nothing of use."""
    if suffix in _WORKBOOKS:
        return "; a workbook can be exported as CSV (UTF-8)"
    try:
        with path.open("rb") as file:
            start = file.read(_LOOKED_AT).decode("utf-8-sig", errors="replace").lstrip()[:1]
    except OSError:
        return ""
    return f"; it begins like {_BEGINNINGS[start]}" if start in _BEGINNINGS else ""


def file_name(path: str | os.PathLike[str]) -> str:
    """The path as the user named it.

    Raises:
        ConfigError: It is no path of text.
    """
    name = os.fspath(path)
    if not isinstance(name, str):  # pyright: ignore[reportUnnecessaryIsInstance] - a path of bytes at run time
        raise ConfigError(f"path must be a str or a pathlib.Path, got {path!r} ({type(path).__name__})")
    return name


def file_rows(name: str, names: Renaming) -> Iterator[RawRow | Conversation]:
    """The rows of a file with the names of columns that they have here.

    Raises:
        ConfigError: No row has one of the columns to rename.
        UnreadableError: As for `read_rows`.
    """
    rows = read_rows(Path(name), names)
    return names.apply(rows) if names else rows
