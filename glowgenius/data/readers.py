"""Which reader takes which file."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowgenius.data.files import SUFFIXES, UnreadableError
from glowgenius.data.json_files import read_json, read_jsonl
from glowgenius.data.table_files import read_table
from glowgenius.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from glowgenius.data.rows import RawRow


def read_rows(path: Path) -> Iterator[RawRow]:
    """The rows of a file, by the end of its name.

    Raises:
        UnreadableError: The file is of no known kind, cannot be opened, or cannot be read on.
    """
    match path.suffix.lower():
        case ".jsonl":
            yield from read_jsonl(path)
        case ".json":
            yield from read_json(path)
        case ".csv":
            yield from read_table(path, ",")
        case ".tsv":
            yield from read_table(path, "\t")
        case suffix if path.is_dir():
            yield from read_jsonl(path)  # which says that it is a folder, and what it holds
        case suffix:
            found = f"the suffix {suffix!r}" if suffix else "a file name without a suffix"
            raise UnreadableError(found, f"one of {', '.join(SUFFIXES)}{nearest(suffix, SUFFIXES)}")
