"""Hugging Face data sets to raw rows: from the hub, from a folder, or from an object in memory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast

from glowgenius._lazy import require
from glowgenius.data.parquet_files import labelled
from glowgenius.data.plain import plain, refuse_repeated
from glowgenius.data.rows import row_of
from glowgenius.data.unified import without_nulls
from glowgenius.errors import ConfigError, DatasetError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

    from glowgenius.data.rows import RawRow

_SAVED: Final = ("dataset_dict.json", "state.json")
"""Files that `save_to_disk` leaves in its folder."""


def read_huggingface(source: object, split: str | None) -> tuple[Iterator[RawRow], str | None]:
    """The rows, and what they are called in messages.

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
    """The one data set that is meant."""
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
    """The rows as Python values, labels by their names, without the nulls that Arrow filled in."""
    features: Mapping[str, Any] = found.features or {}
    refuse_repeated(found.column_names or ())
    names = {column: kind.names for column, kind in features.items() if type(kind).__name__ == "ClassLabel"}
    for row in found.with_format(None):
        yield row_of(plain(without_nulls(labelled(dict(row), names))), None)
