"""Arrow tables, from Parquet files and from memory, to raw rows.

Arrow gives every row every column, and every object in a list every key, with null for what was not there.
Here null is absence: such keys and columns are left out again, at every depth. A null that was meant is lost with
them, which no format here gives a meaning.
"""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from glowgenius._lazy import require
from glowgenius.data.files import PACKED, check_there, unpacked
from glowgenius.data.limits import RATIO_FROM, UnreadableError
from glowgenius.data.plain import plain, refuse_repeated
from glowgenius.data.rows import row_of
from glowgenius.data.unified import without_nulls

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from glowgenius.data.limits import ReadLimits
    from glowgenius.data.rows import RawRow

_BATCH = 1024


def read_parquet(path: Path, limits: ReadLimits) -> Iterator[RawRow]:
    """The rows of a Parquet file, a thousand at a time.

    Raises:
        MissingDependencyError: The package `pyarrow` is not installed.
        UnreadableError: The file cannot be opened, is no Parquet file, or holds more than the limits allow.
    """
    check_there(path)
    parquet = require("pyarrow.parquet", extra="data", purpose="reading Parquet files")
    rows = 0
    try:
        # A packed one has to be unpacked as a whole, since its columns are found from its end.
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
    """What the file says of itself, before any of it is read."""
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
    """The rows of Arrow batches, class labels by the names that the package `datasets` has written into the schema.

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
    """Look through a schema, or the fields of an object in it, for names that come twice."""
    kinds = [(field.name, field.type) for field in fields]
    refuse_repeated(name for name, _ in kinds)
    for _, kind in kinds:
        inner = kind
        while hasattr(inner, "value_type"):  # a list of whatever depth
            inner = inner.value_type
        if getattr(inner, "num_fields", 0) and str(inner).startswith("struct"):
            _refuse_repeated([inner.field(at) for at in range(inner.num_fields)])


def _class_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """Column → the names of its classes, of tables that `datasets` has written."""
    try:
        features = json.loads((metadata or {})[b"huggingface"])["info"]["features"]
        kinds = [(column, kind["names"]) for column, kind in features.items() if kind.get("_type") == "ClassLabel"]
    except (KeyError, TypeError, ValueError, AttributeError):
        return {}
    return {column: names for column, names in kinds if isinstance(names, list)}


def labelled(row: dict[str, Any], names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """The row with the names of its classes for their numbers; -1 stands for a class that is not known."""
    for column, known in names.items():
        number = row.get(column)
        if isinstance(number, int) and number < len(known):
            row[column] = known[number] if number >= 0 else None
    return row
