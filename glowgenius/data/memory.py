"""Rows from memory, whatever holds them: mappings, data frames, Arrow tables, Hugging Face data sets."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast

from glowgenius.data.columns import Fault
from glowgenius.data.message import Conversation
from glowgenius.data.plain import plain, refuse_repeated
from glowgenius.data.rows import EXAMPLE, RawRow, row_of
from glowgenius.data.unified import without_nulls
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from glowgenius.data.limits import ReadLimits


def memory_rows(records: object, limits: ReadLimits) -> Iterable[RawRow | Conversation]:
    """The rows that *records* holds, in whatever form.

    Raises:
        ConfigError: It is a string, one mapping, or cannot be iterated over.
    """
    if _is_a(records, "datasets", "DatasetDict", "IterableDatasetDict"):
        raise ConfigError(
            "records must be rows, got a DatasetDict, which has several parts; "
            "Dataset.from_huggingface(dataset, split=…) reads one of them"
        )
    given: Any = records
    if _is_a(records, "datasets", "Dataset", "IterableDataset"):
        from glowgenius.data.huggingface import dataset_rows

        return dataset_rows(given)
    if _is_a(records, "pyarrow", "Table", "RecordBatch", "RecordBatchReader"):
        from glowgenius.data.parquet_files import arrow_rows

        batches = given.to_batches() if hasattr(given, "to_batches") else given
        return arrow_rows([given] if _is_a(records, "pyarrow", "RecordBatch") else batches, given.schema, limits)
    if _is_a(records, "pandas", "DataFrame"):
        return _pandas_rows(given)
    if _is_a(records, "polars", "DataFrame"):
        return (row_of(plain(without_nulls(row)), None) for row in given.iter_rows(named=True))
    _check_records(records)
    return map(_record_row, cast("Iterable[object]", records))


def _is_a(value: object, package: str, *names: str) -> bool:
    """Whether *value* is of one of the package's classes, without importing it: who has a value has its package."""
    kinds = tuple(filter(None, (getattr(sys.modules.get(package), name, None) for name in names)))
    return isinstance(value, kinds)


def _pandas_rows(frame: Any) -> Iterator[RawRow]:
    """A row for each of a frame's, without what it lacks; the index is no column."""
    names = [name if isinstance(name, str) else str(name) for name in frame.columns]
    refuse_repeated(names)
    for values in frame.itertuples(index=False, name=None):
        yield row_of(plain(dict(zip(names, values, strict=True))), None)


def _check_records(records: object) -> None:
    kind = type(records).__name__
    if isinstance(records, str | bytes | Mapping) or not isinstance(records, Iterable):
        hint = "; Dataset.from_file reads files" if isinstance(records, str) else ""
        if isinstance(records, Mapping) and all(isinstance(value, list) for value in records.values()):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            hint = "; rows of columns are [dict(zip(columns, row)) for row in zip(*columns.values())]"
        raise ConfigError(f"records must be an iterable of rows such as {EXAMPLE}, got a {kind}{hint}")


def _record_row(record: object) -> RawRow | Conversation:
    """One record as a row; a conversation passes as it is, and what is neither becomes a faulty row."""
    if isinstance(record, Conversation):
        return record
    if isinstance(record, Mapping):
        return row_of(plain(cast("Mapping[str, Any]", record)), None)
    accepted = f"a mapping such as {EXAMPLE}, or a Conversation"
    return RawRow(columns={}, faults=(Fault(None, f"a Python {type(record).__name__}", accepted),))
