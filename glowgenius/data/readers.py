"""Which reader takes which file."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Final

from glowgenius.data.files import SUFFIXES, kind_of, user_path
from glowgenius.data.json_files import read_json, read_jsonl
from glowgenius.data.limits import UnreadableError, limits_given
from glowgenius.data.parquet_files import read_parquet
from glowgenius.data.table_files import read_table
from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from glowgenius.data.limits import ReadLimits
    from glowgenius.data.message import Conversation
    from glowgenius.data.renaming import Renaming
    from glowgenius.data.rows import RawRow

_WORKBOOKS: Final = (".xlsx", ".xls", ".ods", ".numbers")
_BEGINNINGS: Final = {"{": "JSON lines, so name it .jsonl", "[": "a JSON array, so name it .json"}
_LOOKED_AT: Final = 64
"""Bytes of a file without a helpful name that are looked at."""


def read_rows(path: Path, names: Renaming, limits: ReadLimits) -> Iterator[RawRow]:
    """The rows of a file, by the end of its name, with its own names of columns.

    Args:
        path: The file.
        names: What its columns are called here; in a table that decides which cells are more than text.
        limits: What the file may hold at most.

    Raises:
        UnreadableError: The file is of no known kind, cannot be opened, or cannot be read on.
    """
    match kind_of(path):
        case ".jsonl":
            yield from read_jsonl(path, limits)
        case ".json":
            yield from read_json(path, limits)
        case ".csv":
            yield from read_table(path, ",", names, limits)
        case ".tsv":
            yield from read_table(path, "\t", names, limits)
        case ".parquet":
            yield from read_parquet(path, limits)
        case suffix if path.is_dir():
            yield from read_jsonl(path, limits)  # which says that it is a folder, and what it holds
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
    name: Any = os.fspath(path) if isinstance(path, os.PathLike) else path
    if isinstance(name, str):
        return name
    kind = type(path).__name__
    hint = ""
    if isinstance(name, list | tuple):
        hint = "; each file is one Dataset.from_file(…), and first.concatenate(second) joins them"
    elif isinstance(name, Iterable) and not isinstance(name, bytes):
        hint = "; Dataset.from_records(…) takes rows from memory"
        if isinstance(name, Mapping):
            hint = "; Dataset.from_huggingface(…, split=…) takes a DatasetDict"
    shown = f"{name!r} ({kind})" if isinstance(name, bytes | int | float | None) else f"a {kind}"
    raise ConfigError(f"path must be a str or a pathlib.Path, got {shown}{hint}")


def file_rows(name: str, names: Renaming, limits: ReadLimits | None = None) -> Iterator[RawRow | Conversation]:
    """The rows of a file with the names of columns that they have here.

    Args:
        name: The file, as the user named it.
        names: As for `read_rows`.
        limits: As for `read_rows`; None takes those of the environment.

    Raises:
        ConfigError: No row has one of the columns to rename, or the limits of the environment are wrong.
        UnreadableError: As for `read_rows`.
    """
    rows = counted(read_rows(user_path(name), names, limits := limits_given(limits)), limits)
    return names.apply(rows) if names else rows


def counted(rows: Iterable[RawRow], limits: ReadLimits) -> Iterator[RawRow]:
    """The *rows*, as many as the limits allow."""
    for count, row in enumerate(rows, start=1):
        limits.check("rows", count, "rows", line=row.line, whole=False)
        yield row
