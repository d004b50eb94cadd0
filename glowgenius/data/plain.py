"""Values of numpy, pandas and Arrow as JSON would have them, and columns that come twice."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, cast

from glowgenius.data.limits import UnreadableError

_PLAIN: Final = (str, int, bool, type(None), list, dict)
_MISSING: Final = ("NAType", "NaTType")


def plain(row: Mapping[str, Any]) -> Mapping[str, Any]:
    """A row with Python's own values: arrays as lists, NaN and the like as null, dates as ISO text."""
    if all(type(value) in _PLAIN for value in row.values()):
        return row
    return {column: _plain(value) for column, value in row.items()}


def _plain(value: Any) -> Any:
    found: Any = value
    if type(value) in _PLAIN:
        return found
    if isinstance(value, float):
        found = None if math.isnan(value) else float(value)
    elif type(value).__name__ in _MISSING:
        found = None
    elif hasattr(value, "dtype") and hasattr(value, "tolist"):  # an array or a number of numpy
        found = _deep(value.tolist())
    elif isinstance(value, dt.datetime | dt.date | dt.time):
        found = value.isoformat()
    elif isinstance(value, decimal.Decimal):
        whole = value.is_finite() and value == value.to_integral_value()
        found = int(value) if whole else None if value.is_nan() else float(value)
    elif isinstance(value, dt.timedelta | uuid.UUID):
        found = str(value)
    return found


def _deep(value: Any) -> Any:
    """What an array holds: rows of a Parquet file that pandas has read have arrays within arrays."""
    if isinstance(value, Mapping):
        return {key: _deep(item) for key, item in cast("Mapping[object, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_deep(item) for item in cast("Sequence[Any]", value)]
    return _plain(value)


def repeated(names: Iterable[object]) -> object | None:
    """The first name that comes twice, or None."""
    seen: set[object] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def refuse_repeated(names: Iterable[object]) -> None:
    """Refuse columns of which two have one name, since a row can hold one of them only.

    Raises:
        UnreadableError: A name comes twice.
    """
    name = repeated(names)
    if name is not None:
        raise UnreadableError(f"two columns with the name {name!r}", "each name once: rename or leave out one of them")
