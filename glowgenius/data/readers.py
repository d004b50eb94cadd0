"""Readers of JSON and JSON Lines files, tables and Hugging Face data sets."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast, final

from glowgenius._lazy import require
from glowgenius.data.arrow_values import plain, refuse_repeated, without_nulls
from glowgenius.data.columns import OWN_NAMES
from glowgenius.data.files import (
    SUFFIXES,
    Line,
    UnreadableError,
    kind_of,
    limits_given,
    lines,
    nothing_there,
    text_parts,
    user_path,
)
from glowgenius.data.json_values import BrokenJSONError, StrictDecoder, skip_space
from glowgenius.data.raw_rows import EXAMPLE, RawRow, row_of, unreadable_row
from glowgenius.data.table_files import labelled, read_parquet, read_table
from glowgenius.errors import ConfigError, DatasetError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from glowgenius.data.columns import Fault
    from glowgenius.data.files import ReadLimits
    from glowgenius.data.message import Conversation
    from glowgenius.data.raw_rows import Renaming

_SAVED: Final = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` leaves in its folder."""


def read_huggingface(source: object, split: str | None) -> tuple[Iterator[RawRow], str | None]:
    """Rows of a Hugging Face data set, and its name in messages.

    Args:
        source: A name on the hub, a folder, or a `datasets.Dataset`, `DatasetDict` or iterable one.
        split: Which part of it, where it has parts.

    Raises:
        ConfigError: It is none of these, or *split* does not fit.
        DatasetError: It cannot be loaded.
        MissingDependencyError: The package `datasets` is not installed.
    """
    library = require("datasets", extra="data", purpose="reading Hugging Face data sets")
    if isinstance(source, str | os.PathLike):
        name = os.fspath(cast("str | os.PathLike[str]", source))
        found = _loaded(library, name, split)
        return dataset_rows(_part(library, found, None if isinstance(found, _kinds(library)) else split)), name
    part = _part(library, source, split)
    return dataset_rows(part), None


def _kinds(library: ModuleType) -> tuple[type, ...]:
    return (library.Dataset, library.IterableDataset)


def _loaded(library: ModuleType, name: str, split: str | None) -> Any:
    try:
        if any((Path(name) / file).is_file() for file in _SAVED):
            found = library.load_from_disk(name)
            return found if split is None else _part(library, found, split)
        return library.load_dataset(name, split=split)
    except ConfigError:
        raise
    except Exception as error:  # whatever the hub, the file system or a loader of the library raises
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DatasetError(f"{name}: the package 'datasets' cannot load it: {reason}") from error


def _part(library: ModuleType, found: object, split: str | None) -> Any:
    """The single data set that is meant."""
    if isinstance(found, _kinds(library)):
        own = getattr(found, "split", None)
        if split is not None and str(own) != split:
            raise ConfigError(f"split={split!r} of a data set that is one part already (its own split is {own})")
        return found
    kind_of = type(found)
    mapped = cast("Mapping[object, object]", found).values() if isinstance(found, Mapping) else ()
    if not mapped or not all(isinstance(part, _kinds(library)) for part in mapped):
        kind = f"{kind_of.__module__}.{kind_of.__name__}"
        accepted = "a name, a folder, a datasets.Dataset or a datasets.DatasetDict"
        raise ConfigError(f"from_huggingface takes {accepted}, got a {kind}")
    parts = cast("Mapping[str, Any]", found)
    if split is None and len(parts) == 1:
        return next(iter(parts.values()))
    if split not in parts:
        listed = ", ".join(map(repr, parts))
        wanted = "it has several" if split is None else f"got {split!r}{nearest(split, parts)}"
        raise ConfigError(f"split must be one of {listed}: {wanted}")
    return parts[cast("str", split)]


def dataset_rows(found: Any) -> Iterator[RawRow]:
    """Rows as Python values, with label names and without the nulls that Arrow added."""
    features: Mapping[str, Any] = found.features or {}
    refuse_repeated(found.column_names or ())
    names = {column: kind.names for column, kind in features.items() if type(kind).__name__ == "ClassLabel"}
    for row in found.with_format(None):
        yield row_of(plain(without_nulls(labelled(dict(row), names))), None)


def read_jsonl(path: Path, limits: ReadLimits) -> Iterator[RawRow]:
    """Rows of a JSON Lines file: one object per line; blank lines are skipped.

    Raises:
        UnreadableError: The file cannot be opened, or it is one JSON document over many lines.
    """
    decoder = StrictDecoder()
    first = True
    line = None
    for line in lines(path, limits):
        if not line.text.strip():
            continue
        if first:
            _refuse_document(line)
            first = False
        if line.fault:
            yield unreadable_row(line.number, line.fault, "text in UTF-8")
            continue
        try:
            value, faults = decoder.decode_only(line.text.rstrip("\r\n"))
        except BrokenJSONError as error:
            found = f"no JSON at column {error.position + 1}: {error.reason}"
            yield unreadable_row(line.number, found, f"one JSON object a line, such as {EXAMPLE}")
        else:
            yield row_of(value, line.number, faults, limits)
    if first:
        raise UnreadableError(nothing_there(empty=line is None), f"at least one row, such as {EXAMPLE}")


def _refuse_document(line: Line) -> None:
    """Refuse a JSON document named `.jsonl` with one error instead of one per line."""
    start = line.text.strip()
    if start in ("[", "{") or start.startswith(("[{", "[ {")):
        found = f"a JSON document that begins with {start[0]!r}, not one object a line"
        raise UnreadableError(found, "one JSON object a line; or name the file .json", line=line.number)


def read_json(path: Path, limits: ReadLimits) -> Iterator[RawRow]:
    """Rows of a JSON file: an array of objects, or `{"data": [...]}` around it.

    The array is walked row by row, and no more of the file is held than the row at hand and what was read with it.
    So each row knows its line, a broken file still yields what came before, and a long file takes no memory.

    Raises:
        UnreadableError: The file cannot be opened, is no array of rows, is broken, or ends too early.
    """
    walk = _ArrayWalk(text_parts(path, limits), limits)
    mark = walk.skip()
    if not mark:
        raise UnreadableError(nothing_there(empty=not walk.began), f"an array of rows, such as [{EXAMPLE}]")
    if mark == "{":
        walk.enter_data()
        yield from walk.rows()
        walk.leave("}", "the end of the object around 'data'")
    elif mark == "[":
        yield from walk.rows()
    else:
        line, column = walk.place()
        raise UnreadableError(
            f"column {column}: neither an array nor an object", f"an array, such as [{EXAMPLE}]", line=line
        )
    walk.leave("", "the end of the file")


_DATA = re.compile(r'\{[ \t\n\r]*"data"[ \t\n\r]*:[ \t\n\r]*(?=\[)')
_LOOK_AHEAD = 1 << 16
"""Letters in which `{"data": [` is looked for."""

_LONGEST_WORD = 16
"""Letters of the longest thing, such as `-Infinity`, that looks broken rather than cut off where its end is missing."""


@final
class _ArrayWalk:
    """Streams the rows of one array from chunks of text; tracks lines and row numbers."""

    def __init__(self, parts: Iterator[str], limits: ReadLimits) -> None:
        self._parts = parts
        self._limits = limits
        self._decoder = StrictDecoder()
        self._ended = False
        self._fault: UnreadableError | None = None  # why the rest of the file cannot be read
        self._text = ""  # the part of the file at hand
        self._at = 0  # the place in it that is read next
        self._first_line = self._line = 1
        self._left_of_text = 0  # letters of the first line that stand before the part at hand
        self._end = (1, 1)  # end of the text, without trailing white space
        self._counted = 0  # how far line ends have been counted: forward only, so the whole walk is linear
        self._row_line: int | None = None  # of the row that is being read
        self._rows = 0

    @property
    def began(self) -> bool:
        """Whether the file contains anything."""
        return bool(self._text) or (self._line, self._left_of_text) != (1, 0)

    def skip(self) -> str:
        """Skip white space; returns the next character, empty at the end of the file."""
        start = self._at
        place = None
        while True:
            self._at = skip_space(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            place = place or self.place(start)
            if self._ended:
                self._end = place
                return ""
            self._read_on()

    def place(self, position: int | None = None) -> tuple[int, int]:
        """1-based line and column of a position in the current chunk; by default of the next character."""
        position = self._at if position is None else position
        if position < self._counted:  # only when an error lies before what was counted
            self._line, self._counted = self._first_line, 0
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        line_start = self._text.rfind("\n", 0, position)
        return self._line, position - line_start if line_start >= 0 else self._left_of_text + position + 1

    def _read_on(self) -> None:
        """Drop consumed text, and read as much again as is left, so that long rows do not take quadratic time."""
        if self._fault is not None:
            raise self._fault
        self._first_line, column = self.place()
        self._left_of_text = column - 1
        kept = [self._text[self._at :]]
        self._limits.check("line_bytes", len(kept[0]), "characters in one row", line=self._first_line, whole=False)
        more = 0
        while more <= len(kept[0]) and not self._ended:
            try:
                part = next(self._parts, None)
            except UnreadableError as error:  # of which the rows before it know nothing yet
                self._fault = error
                break
            self._ended = part is None
            kept.append(part or "")
            more += len(kept[-1])
        self._text = "".join(kept)
        self._at = self._counted = 0
        self._line = self._first_line

    def _value(self) -> tuple[Any, tuple[Fault, ...]]:
        """The next value and its faults."""
        while True:
            try:
                value, end, faults = self._decoder.decode(self._text, self._at)
            except BrokenJSONError as error:
                incomplete = error.cut_off or error.position > len(self._text) - _LONGEST_WORD
                if self._ended or not incomplete:
                    raise self._broken(error.reason, error.position, cut_off=error.cut_off) from None
            else:
                if end < len(self._text) or self._ended:
                    size = end - self._at
                    self._limits.check("line_bytes", size, "characters in one row", line=self._row_line, whole=False)
                    self._at = end
                    return value, faults
            self._read_on()

    def rows(self) -> Iterator[RawRow]:
        """Rows of the array that starts next."""
        start = self.place()[0]
        self._at += 1
        if self.skip() == "]":
            raise UnreadableError("an empty array", f"at least one row, such as [{EXAMPLE}]", line=start)
        while True:
            line = self.place()[0]
            self._row_line = line if self._at < len(self._text) else None
            value, faults = self._value()
            yield row_of(value, line, faults, self._limits)
            self._rows += 1
            self._row_line = None
            mark = self.skip()
            if mark == "]":
                self._at += 1
                return
            if mark != ",":
                raise self._broken("Expecting ',' or ']' after a row", self._at, cut_off=not mark)
            line = self.place()[0]
            self._at += 1
            if self.skip() == "]":
                raise UnreadableError(
                    "a comma behind the last row", "no comma before the closing bracket: take it away", line=line
                )

    def enter_data(self) -> None:
        """Advance to the array in `{"data": [...]}`; any other object is refused."""
        while len(self._text) - self._at < _LOOK_AHEAD and not self._ended:
            self._read_on()
        if match := _DATA.match(self._text, self._at):
            self._at = match.end()
            return
        line = self.place()[0]
        value, _ = self._value()
        if self.skip():
            raise UnreadableError("one object after the other", "an array of rows; or name the file .jsonl", line=line)
        keys = list(value)
        if any(key in OWN_NAMES for key in keys):
            raise UnreadableError("a single row, not an array of rows", "square brackets around it", line=line)
        found = f"an object with {', '.join(map(repr, keys[:5])) or 'no key'}"
        raise UnreadableError(found, f'an array of rows, such as [{EXAMPLE}], or {{"data": [...]}} alone', line=line)

    def leave(self, mark: str, name: str) -> None:
        """Skip *mark*, or the end of the text if it is empty."""
        found = self.skip()
        if mark == "}" and found == "," and self._text[self._at + 1 :].lstrip().startswith('"'):
            line = self.place()[0]
            raise UnreadableError("an object with more than 'data'", '{"data": [...]} alone', line=line)
        if found != mark:
            raise self._broken(f"Expecting {name}", self._at, cut_off=not found)
        self._at += len(mark)

    def _broken(self, reason: str, position: int, *, cut_off: bool) -> UnreadableError:
        whole = "1 whole row" if self._rows == 1 else f"{self._rows} whole rows"
        if cut_off:
            length = len(self._text.rstrip())
            line, column = self.place(length) if length else self._end
            where = "before the closing bracket"
            if self._row_line is not None:
                where = f"in the middle of the row that starts on line {self._row_line}"
            found = f"the file ends at column {column}, {where}, after {whole}"
            return UnreadableError(found, "the complete file: copy or download it again", line=line)
        line, column = self.place(position)
        return UnreadableError(f"column {column}: {reason}, after {whole}", "JSON; the rest cannot be read", line=line)


_WORKBOOKS: Final = (".xlsx", ".xls", ".ods", ".numbers")
_BEGINNINGS: Final = {"{": "JSON lines, so name it .jsonl", "[": "a JSON array, so name it .json"}
_LOOKED_AT: Final = 64
"""Bytes of a file without a helpful name that are looked at."""


def read_rows(path: Path, names: Renaming, limits: ReadLimits) -> Iterator[RawRow]:
    """Rows of a file with its own column names, read by the reader of its suffix.

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
            yield from read_jsonl(path, limits)  # raises the error for a folder, with its contents
        case suffix:
            found = f"the suffix {suffix!r}" if suffix else "a file name without a suffix"
            raise UnreadableError(
                found, f"one of {', '.join(SUFFIXES)}{nearest(suffix, SUFFIXES) or _advice(path, suffix)}"
            )


def _advice(path: Path, suffix: str) -> str:
    """Advice about a file with an unsupported suffix."""
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
    """Rows of a file with the library's column names.

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
    """The *rows*, up to the limits."""
    for count, row in enumerate(rows, start=1):
        limits.check("rows", count, "rows", line=row.line, whole=False)
        yield row
