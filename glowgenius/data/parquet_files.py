"""Arrow tables, from Parquet files and from Hugging Face data sets, to raw rows.

Arrow gives every row every column, and every object in a list every key, with null for what was not there.
Here null is absence: such keys and columns are left out again, at every depth. A null that was meant is lost with
them, which no format here gives a meaning.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

from glowgenius._lazy import require
from glowgenius.data.files import PACKED, UnreadableError, check_there
from glowgenius.data.rows import row_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from glowgenius.data.rows import RawRow

_BATCH = 1024


def without_nulls(value: Any) -> Any:
    """The value without the keys of objects that hold null, at every depth."""
    if isinstance(value, Mapping):
        items: Any = value.items()  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return {key: without_nulls(item) for key, item in items if item is not None}
    if isinstance(value, list | tuple):
        return [without_nulls(item) for item in cast("Sequence[Any]", value)]
    return value


def read_parquet(path: Path) -> Iterator[RawRow]:
    """The rows of a Parquet file, a thousand at a time.

    Raises:
        MissingDependencyError: The package `pyarrow` is not installed.
        UnreadableError: The file cannot be opened, or is no Parquet file.
    """
    check_there(path)
    parquet = require("pyarrow.parquet", extra="data", purpose="reading Parquet files")
    rows = 0
    try:
        # A packed one has to be unpacked as a whole, since its columns are found from its end.
        source = io.BytesIO(gzip.decompress(path.read_bytes())) if path.suffix.lower() == PACKED else str(path)
        with parquet.ParquetFile(source) as file:
            for batch in file.iter_batches(batch_size=_BATCH):
                for row in batch.to_pylist():
                    rows += 1
                    yield row_of(without_nulls(row), None)
    except Exception as error:  # of a damaged file Arrow raises its own errors, and Python's while it decodes
        reason = " ".join(str(error).split())
        whole = f", after {rows} whole rows" if rows else ""
        raise UnreadableError(f"no Parquet file, or a damaged one ({reason}){whole}", "a Parquet file") from error
