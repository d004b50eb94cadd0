"""Sequences of different lengths in one row, without padding, and a common beginning only once.

Rows of one data set often start with the same system prompt. A pass holds that prefix once, followed by the rest of
each sequence; every sequence attends to the prefix and to itself, and keeps the positions it would have alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from glowgenius.typing import TokenArray, WeightArray


@final
@frozen(kw_only=True, eq=False)
class Row:
    """One sequence to be scored."""

    inputs: TokenArray
    """Input tokens, `[T]`."""

    targets: TokenArray
    """The token that should follow each input, `[T]`."""

    weights: WeightArray
    """Loss weights of the targets, `[T]`."""


@final
@frozen(kw_only=True, eq=False)
class Pass:
    """Several sequences laid out for one run through the network; `S` tokens in all."""

    members: tuple[int, ...]
    """Which rows of the batch are in it."""

    tokens: TokenArray
    """`[S]`: the common prefix, then what is left of each row."""

    positions: TokenArray
    """`[S]`: the position of each token in its own sequence."""

    segments: TokenArray = field(repr=False)
    """`[S]`: 0 for the common prefix, k + 1 for the tokens of member k."""

    scored: TokenArray
    """`[P]`: the places in `tokens` whose logits are needed, each once."""

    lookup: tuple[TokenArray, ...] = field(repr=False)
    """For each member, where in `scored` its weighted positions are, `[n]`."""

    places: tuple[TokenArray, ...] = field(repr=False)
    """For each member, its own positions that carry weight, `[n]`."""


def plan(rows: Sequence[Row], max_tokens: int) -> Iterator[Pass]:
    """Lay *rows* out in passes of at most *max_tokens* tokens, in the order given.

    A row longer than *max_tokens* gets a pass of its own; nothing is cut.
    """
    members: list[int] = []
    prefix, size = 0, 0
    for index, row in enumerate(rows):
        length = len(row.inputs)
        if members:
            shared = min(prefix, _common(rows[members[0]].inputs, row.inputs), length - 1)
            grown = (
                size + (len(members) - 1) * (prefix - shared) + length - shared
                if shared < prefix
                else (size + length - shared)
            )
            if grown <= max_tokens:
                members.append(index)
                prefix, size = shared, grown
                continue
            yield _lay_out(rows, members)
        members, prefix, size = [index], length - 1, length
    if members:
        yield _lay_out(rows, members)


def _lay_out(rows: Sequence[Row], members: Sequence[int]) -> Pass:
    first = rows[members[0]].inputs
    prefix = 0
    if len(members) > 1:
        prefix = min(min(_common(first, rows[i].inputs), len(rows[i].inputs) - 1) for i in members)
    tokens, positions, segments = [first[:prefix]], [np.arange(prefix)], [np.zeros(prefix, np.int64)]
    starts: list[int] = []
    start = prefix
    for k, index in enumerate(members):
        rest = rows[index].inputs[prefix:]
        tokens.append(rest)
        positions.append(np.arange(prefix, prefix + len(rest)))
        segments.append(np.full(len(rest), k + 1, np.int64))
        starts.append(start)
        start += len(rest)
    places = tuple(np.flatnonzero(rows[index].weights).astype(np.int64) for index in members)
    at = [np.where(own < prefix, own, own - prefix + begin) for own, begin in zip(places, starts, strict=True)]
    scored, inverse = np.unique(np.concatenate(at), return_inverse=True)
    lookup = tuple(np.split(inverse.astype(np.int64), np.cumsum([len(own) for own in places])[:-1]))
    return Pass(
        members=tuple(members),
        tokens=np.concatenate(tokens),
        positions=np.concatenate(positions).astype(np.int64),
        segments=np.concatenate(segments),
        scored=scored.astype(np.int64),
        lookup=lookup,
        places=places,
    )


def _common(one: TokenArray, other: TokenArray) -> int:
    """How many tokens the two begin with in common."""
    shortest = min(len(one), len(other))
    different = np.flatnonzero(one[:shortest] != other[:shortest])
    return int(different[0]) if len(different) else shortest
