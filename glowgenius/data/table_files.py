"""Reading CSV, TSV and Parquet files row by row."""

from __future__ import annotations

import csv
import io
import json
from typing import TYPE_CHECKING, Any, final

from glowgenius._lazy import require
from glowgenius.data.arrow_values import plain, refuse_repeated, without_nulls
from glowgenius.data.columns import Fault
from glowgenius.data.files import PACKED, RATIO_FROM, UnreadableError, check_there, lines, nothing_there, unpacked
from glowgenius.data.json_values import BrokenJSONError, StrictDecoder
from glowgenius.data.raw_rows import RawRow, row_of, unreadable_row

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from glowgenius.data.files import ReadLimits
    from glowgenius.data.raw_rows import Renaming

_LONGEST_CELL = 2**31 - 1
_LIST_COLUMNS = ("tags", "references")
"""Columns whose cells hold one string, or JSON text of a list of strings."""

_EMPTY_IS_ABSENT = (
    *("messages", "conversations", "history", "metadata", "tools", "context", "choices"),
    *(*_LIST_COLUMNS, "weight", "id", "group", "split", "system"),
)
"""Columns in which an empty cell means that the row does not have the column."""

_SEPARATORS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "bars"}


def read_table(path: Path, separator: str, names: Renaming, limits: ReadLimits) -> Iterator[RawRow]:
    """Rows of a table with a header line; blank lines are skipped, and quoted cells may span lines.

    Raises:
        UnreadableError: The file cannot be opened, or has no usable header or no rows.
    """
    # The standard limit of 131,072 characters refuses long conversations; it is a setting of the whole process.
    limit = csv.field_size_limit(min(_LONGEST_CELL, limits.line_bytes or _LONGEST_CELL))
    try:
        yield from _Table(path, separator, names, limits).rows()
    finally:
        csv.field_size_limit(limit)


@final
class _Lines:
    """Lines of a file for the csv module, which counts rows, not lines; records bytes that are not UTF-8."""

    def __init__(self, path: Path, limits: ReadLimits) -> None:
        self._lines = lines(path, limits)
        self.number = 0
        self.fault: str | None = None

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = next(self._lines)
        self.number = line.number
        self.fault = self.fault or line.fault
        return line.text


@final
class _Table:
    """State of reading one table."""

    def __init__(self, path: Path, separator: str, names: Renaming, limits: ReadLimits) -> None:
        self._lines = _Lines(path, limits)
        self._limits = limits
        # Without strict, a quote that is never closed swallows the rest of the file into one cell, silently.
        self._reader = csv.reader(self._lines, delimiter=separator, strict=True)
        self._separator = separator
        self._decoder = StrictDecoder()
        self._names = names

    def rows(self) -> Iterator[RawRow]:
        """All rows below the header."""
        header_line, header = self._next_cells()
        if isinstance(header, RawRow):
            raise UnreadableError(header.faults[0].found, header.faults[0].accepted, line=header_line)
        if header is None:
            accepted = "a header such as question,answer with rows below it"
            raise UnreadableError(nothing_there(empty=header_line == 1), accepted)
        self._limits.check("columns", len(header), "columns", line=header_line)
        _check_header(header, self._separator, header_line)
        self._names.settle(header)
        line, cells = self._next_cells()
        if cells is None:
            raise UnreadableError("a header and no rows", "at least one row below the header", line=header_line)
        while cells is not None:
            if isinstance(cells, RawRow):
                yield cells
            elif len(cells) != len(header):
                found = "1 cell" if len(cells) == 1 else f"{len(cells)} cells"
                accepted = f"{len(header)} cells, as in the header (a cell with a separator in it needs quotes)"
                yield unreadable_row(line, found, accepted)
            else:
                yield self._row(header, cells, line, header_line)
            line, cells = self._next_cells()

    def _next_cells(self) -> tuple[int, list[str] | RawRow | None]:
        """Line number of the next row and its cells, or the fault, or None at the end."""
        while True:
            line, self._lines.fault = self._lines.number + 1, None
            try:
                cells = next(self._reader, None)
            except csv.Error as error:
                if "field limit" in str(error):
                    longest = csv.field_size_limit()
                    self._limits.check("line_bytes", longest + 1, "characters in one cell", line=line, whole=False)
                return line, unreadable_row(line, *_quoting(str(error)))
            if self._lines.fault:
                return line, unreadable_row(line, self._lines.fault, "text in UTF-8")
            if cells is None or any(cell.strip() for cell in cells) or len(cells) > 1:
                return line, cells

    def _row(self, header: list[str], cells: list[str], line: int, header_line: int) -> RawRow:
        faults: list[Fault] = []
        columns = {
            column: self._value(self._names.name(column), cell, faults)
            for column, cell in zip(header, cells, strict=True)
        }
        return RawRow(columns=columns, line=line, faults=tuple(faults), header_line=header_line)

    def _value(self, column: str, cell: str, faults: list[Fault]) -> Any:
        """Value of a cell in its column; only non-text columns of the library are converted."""
        if column in _EMPTY_IS_ABSENT and not cell.strip():
            return None
        is_list = column in _LIST_COLUMNS and cell.lstrip().startswith("[")
        if not (is_list or column == "weight"):
            return cell
        try:
            value, found = self._decoder.decode_only(cell)
        except BrokenJSONError as error:
            if column == "weight":
                return cell  # the row reader explains valid weights
            accepted = "JSON text of a list of strings, or one string"
            faults.append(Fault(column, f"no JSON at character {error.position + 1}: {error.reason}", accepted))
            return None
        if found and column == "weight":
            return cell
        faults.extend(fault._replace(field=column) for fault in found)
        return value


def _quoting(error: str) -> tuple[str, str]:
    """Meaning of a csv module error, and what to do."""
    if "end of data" in error:
        return "a quoted cell that is never closed", "a closing quote"
    if "new-line" in error:
        return "a line that ends in a bare carriage return", "lines that end in \\n or \\r\\n"
    return "a quote inside a quoted cell", 'the quote doubled, as in "say ""hi"""'


def _check_header(header: list[str], separator: str, line: int) -> None:
    others = [mark for mark in _SEPARATORS if mark != separator and mark in header[0]]
    if len(header) == 1 and others:
        found = f"one column, {header[0]!r}, which {_SEPARATORS[others[0]]} seem to divide"
        instead = "; or name the file .tsv" if others[0] == "\t" else ""
        accepted = f"columns divided by {_SEPARATORS[separator]}: save it with that separator{instead}"
        raise UnreadableError(found, accepted, line=line)
    seen: set[str] = set()
    for position, column in enumerate(header, start=1):
        if not column.strip():
            found = f"a header whose column {position} has no name"
            raise UnreadableError(
                found, "a name for each column (pandas writes its index without one: index=False)", line=line
            )
        if column in seen:
            raise UnreadableError(f"a header that names the column {column!r} twice", "each name once", line=line)
        seen.add(column)


_BATCH = 1024


def read_parquet(path: Path, limits: ReadLimits) -> Iterator[RawRow]:
    """Rows of a Parquet file, read a thousand at a time.

    Raises:
        MissingDependencyError: The package `pyarrow` is not installed.
        UnreadableError: The file cannot be opened, is no Parquet file, or holds more than the limits allow.
    """
    check_there(path)
    parquet = require("pyarrow.parquet", extra="data", purpose="reading Parquet files")
    rows = 0
    try:
        # A compressed file is expanded completely, since a Parquet file is read from its end.
        packed = path.suffix.lower() == PACKED
        source = io.BytesIO(b"".join(unpacked(path, limits))) if packed else str(path)
        with parquet.ParquetFile(source) as file:
            _check_size(file.metadata, path.stat().st_size, limits)
            size, unfolded = path.stat().st_size, 0

            def watched() -> Iterator[Any]:
                nonlocal unfolded
                for batch in file.iter_batches(batch_size=_BATCH):
                    unfolded += batch.nbytes
                    limits.check_unpacked(unfolded, size)
                    yield batch

            for row in arrow_rows(watched(), file.schema_arrow, limits):
                rows += 1
                yield row
    except UnreadableError:
        raise
    except Exception as error:  # of a damaged file Arrow raises its own errors, and Python's while it decodes
        reason = " ".join(str(error).split())
        whole = f", after {rows} whole rows" if rows else ""
        raise UnreadableError(f"no Parquet file, or a damaged one ({reason}){whole}", "a Parquet file") from error


def _check_size(metadata: Any, size: int, limits: ReadLimits) -> None:
    """Check the size in the file's metadata before reading."""
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    values = sum(group.column(at).num_values for group in groups for at in range(group.num_columns))
    size = max(1, size)
    limits.check_all(
        ("columns", metadata.num_columns, "columns"),
        ("rows", metadata.num_rows, "rows"),
        ("unpacked_bytes", sum(group.total_byte_size for group in groups), "unpacked bytes"),
        ("unpacked_ratio", values // size if values > RATIO_FROM else 0, "values for each byte of the file"),
    )


def arrow_rows(batches: Iterable[Any], schema: Any, limits: ReadLimits) -> Iterator[RawRow]:
    """Rows of Arrow batches, with class labels by the names that `datasets` stores in the schema.

    Raises:
        UnreadableError: Two columns, or two keys of an object, have one name.
    """
    limits.check("columns", len(schema.names), "columns")
    _refuse_repeated(schema)
    names = _class_names(schema.metadata)
    for batch in batches:
        for row in batch.to_pylist():
            yield row_of(plain(without_nulls(labelled(row, names))), None)


def _refuse_repeated(fields: Any) -> None:
    """Refuse repeated names in a schema, or in the fields of a nested object."""
    kinds = [(field.name, field.type) for field in fields]
    refuse_repeated(name for name, _ in kinds)
    for _, kind in kinds:
        inner = kind
        while hasattr(inner, "value_type"):  # a list of whatever depth
            inner = inner.value_type
        if getattr(inner, "num_fields", 0) and str(inner).startswith("struct"):
            _refuse_repeated([inner.field(at) for at in range(inner.num_fields)])


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column → class names, for tables written by `datasets`."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        kinds = [(column, kind["names"]) for column, kind in features.items() if kind.get("_type") == "ClassLabel"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {column: names for column, names in kinds if isinstance(names, list)}


def labelled(row: dict[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The row with class names instead of numbers; -1 is an unknown class."""
    for column, known in names.items():
        number = row.get(column)
        if isinstance(number, int) and number < len(known):
            row[column] = known[number] if number >= 0 else None
    return row
