"""Columns that are kept beside the rows and not trained: named, each with an example and how to use it."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final, final

from attrs import frozen
from typing_extensions import override

from glowgenius.data.columns import SHAPES, advised
from glowgenius.data.frozen import as_list, shortened, thaw
from glowgenius.data.replay import REPLAY

if TYPE_CHECKING:
    from collections.abc import Iterable

    from glowgenius.data.message import Conversation

_EXAMPLE: Final = 60


@final
@frozen(kw_only=True)
class UntrainedColumn:
    """A column of the data that is kept as metadata: neither the prompt nor the answer has it."""

    name: str
    """The column."""

    example: str
    """Its first value that holds something, as JSON, cut after 60 characters."""

    num_rows: int
    """How many rows hold something in it."""

    advice: str
    """How to have the model see it."""

    @override
    def __str__(self) -> str:
        rows = "1 row" if self.num_rows == 1 else f"{self.num_rows:,} rows"
        return f"{self.name} ({rows}, such as {self.example})"


def untrained_columns(rows: Iterable[Conversation], format: str) -> tuple[UntrainedColumn, ...]:  # noqa: A002 - as in Dataset
    """The columns that rows keep as metadata, in the order in which they first hold something.

    Args:
        rows: The rows.
        format: Their format, which decides how a column can be used.
    """
    counts: dict[str, int] = {}
    first: dict[str, object] = {}
    for row in rows:
        for name, value in row.metadata.items() if row.metadata else ():
            ours = name == "answered_by" and REPLAY in row.tags  # who answered a replay row; make_replay writes it
            if value not in (None, "", (), {}) and not ours:
                counts[name] = counts.get(name, 0) + 1
                first.setdefault(name, value)
    return tuple(
        UntrainedColumn(
            name=name,
            example=shortened(json.dumps(thaw(first[name]), ensure_ascii=False), _EXAMPLE),
            num_rows=count,
            advice=_advice(name, first[name], format),
        )
        for name, count in counts.items()
    )


def _advice(name: str, value: object, format: str) -> str:  # noqa: A002 - as in Dataset
    if any("context" not in SHAPES[part].columns for part in format.split(" + ") if part in SHAPES):
        return "write it into the content of a message if the model shall see it"
    items = as_list(value)
    if items and all(isinstance(item, str) for item in items):
        return f"{advised({name: 'choices'})} puts it below the question, {advised({name: 'context'})} before it"
    return f"{advised({name: 'context'})} puts it before the question"
