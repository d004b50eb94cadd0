"""Packing: sequences of different lengths in one row, without padding, shared prefixes stored once.

Rows of one data set often begin alike: a system prompt, the first words of a question. Rows that do form a family;
a pass holds the beginning of a family once, followed by the rest of each of its rows. Every row attends to its
family's beginning and to itself, and keeps the positions it would have alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
from attrs import field, frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.typing import TokenArray, WeightArray


@final
@frozen(kw_only=True, eq=False)
class Row:
    """One sequence to be scored."""

    inputs: TokenArray
    """Input tokens, `[T]`."""

    targets: TokenArray
    """The token that should follow each input, `[T]`, or several that share the weight, `[T, K]`."""

    weights: WeightArray
    """Loss weights of the targets, of the same shape."""

    @property
    def places(self) -> TokenArray:
        """The positions that carry weight, `[n]`."""
        carries = self.weights if self.weights.ndim == 1 else self.weights.any(axis=1)
        return np.flatnonzero(carries).astype(np.int64)


@final
@frozen(kw_only=True, eq=False)
class Family:
    """Rows of one pass with a shared prefix, by token positions."""

    start: int
    """Where the common beginning stands."""

    prefix: int
    """How many tokens long it is; 0 where the rows have nothing in common."""

    starts: tuple[int, ...]
    """Where what is left of each row stands, longest first, one directly behind the other."""

    lengths: tuple[int, ...]
    """How many tokens are left of each row; at least one."""


@final
@frozen(kw_only=True, eq=False)
class Pass:
    """Several sequences laid out for one run through the network; `S` tokens in all."""

    members: tuple[int, ...]
    """Which rows of the batch are in it."""

    families: tuple[Family, ...]
    """How they stand in it."""

    tokens: TokenArray
    """`[S]`: of each family the common beginning, then what is left of each row."""

    positions: TokenArray
    """`[S]`: the position of each token in its own sequence."""

    kin: TokenArray = field(repr=False)
    """`[S]`: the family of each token."""

    owners: TokenArray = field(repr=False)
    """`[S]`: k for the tokens of member k alone, −1 where a family shares them."""

    scored: TokenArray
    """`[P]`: the places in `tokens` whose logits are needed, each once."""

    lookup: tuple[TokenArray, ...] = field(repr=False)
    """For each member, where in `scored` its weighted positions are, `[n]`."""

    places: tuple[TokenArray, ...] = field(repr=False)
    """For each member, its own positions that carry weight, `[n]`."""


_LEAST_PART = 128
"""Work is not divided into passes of fewer tokens: all weights are read for each, whatever its size."""

_WORTHWHILE = 4
"""Rows are kept in one family at a loss of this many tokens: more families are more, smaller products."""


def plan(rows: Sequence[Row], max_tokens: int, *, parts: int = 1) -> list[Pass]:
    """Lay *rows* out in passes of at most *max_tokens* tokens, and of about equal size.

    Tokens behind the last weighted position of a row change nothing and are left out, and so are rows without weight.
    A row longer than *max_tokens* gets a pass of its own; nothing is cut. What comes out depends on the arguments
    alone, never on timing.

    Args:
        rows: What is to be scored.
        max_tokens: The most that a pass may hold.
        parts: Into how many passes of about equal size the work is divided, where there are rows enough.
    """
    live = [index for index, row in enumerate(rows) if np.any(row.weights)]
    cut = {index: rows[index].inputs[: int(rows[index].places[-1]) + 1] for index in live}
    families = _families(cut)
    return [_lay_out(rows, cut, groups) for groups in _fill(families, cut, max_tokens, parts)]


def _families(cut: dict[int, TokenArray]) -> list[tuple[int, list[int]]]:
    """The rows that are laid out together, with the length of what they have in common."""
    # In the order of their tokens, rows with a long common beginning are neighbours.
    order = sorted(cut, key=lambda index: cut[index].tolist())
    families: list[tuple[int, list[int]]] = []
    for index in order:
        length = len(cut[index])
        if families:
            prefix, members = families[-1]
            # Each row keeps a token of its own.
            shared = min(prefix, _common(cut[members[-1]], cut[index]), length - 1)
            if shared - (len(members) - 1) * (prefix - shared) > -_WORTHWHILE:
                families[-1] = (shared, [*members, index])
                continue
        families.append((length - 1, [index]))
    return [(prefix if len(members) > 1 else 0, members) for prefix, members in families]


def _fill(
    families: Sequence[tuple[int, list[int]]], cut: dict[int, TokenArray], max_tokens: int, parts: int
) -> list[list[list[int]]]:
    """Rows by pass and family. A family that is cut in two pays for its common beginning twice."""
    total = sum(prefix + sum(len(cut[i]) - prefix for i in members) for prefix, members in families)
    wanted = max(min(parts, total // _LEAST_PART), -(-total // max_tokens), 1)
    share = -(-(total + (wanted - 1) * max((prefix for prefix, _ in families), default=0)) // wanted)
    passes: list[list[list[int]]] = [[]]
    size = 0
    for prefix, members in families:
        passes[-1].append([])
        size += prefix
        for index in members:
            own = len(cut[index]) - prefix
            full = size + own > max_tokens or (size + own // 2 >= share and len(passes) < wanted)
            if full and any(passes[-1]):
                passes.append([[]])
                size = prefix
            passes[-1][-1].append(index)
            size += own
    return [[group for group in groups if group] for groups in passes if any(groups)]


def _lay_out(rows: Sequence[Row], cut: dict[int, TokenArray], groups: Sequence[Sequence[int]]) -> Pass:
    columns: list[list[TokenArray]] = [[], [], [], []]
    families: list[Family] = []
    members: list[int] = []
    at: list[TokenArray] = []
    end = 0

    def put(part: TokenArray, first: int, owner: int) -> int:
        nonlocal end
        parts = (part, np.arange(first, first + len(part)), [len(families)] * len(part), [owner] * len(part))
        for column, values in zip(columns, parts, strict=True):
            column.append(np.asarray(values, np.int64))
        end += len(part)
        return end - len(part)

    for group in groups:
        prefix = _shared([cut[index] for index in group])
        start = put(cut[group[0]][:prefix], 0, -1)
        starts: list[int] = []
        ordered = sorted(group, key=lambda index: -len(cut[index]))
        for index in ordered:
            starts.append(put(cut[index][prefix:], prefix, len(members)))
            places = rows[index].places
            at.append(np.where(places < prefix, places + start, places - prefix + starts[-1]))
            members.append(index)
        lengths = tuple(len(cut[index]) - prefix for index in ordered)
        families.append(Family(start=start, prefix=prefix, starts=tuple(starts), lengths=lengths))
    tokens, positions, kin, owners = (np.concatenate(column) for column in columns)
    scored, inverse = np.unique(np.concatenate(at), return_inverse=True)
    return Pass(
        members=tuple(members),
        families=tuple(families),
        tokens=tokens,
        positions=positions,
        kin=kin,
        owners=owners,
        scored=scored.astype(np.int64),
        lookup=tuple(np.split(inverse.astype(np.int64), np.cumsum([len(own) for own in at])[:-1])),
        places=tuple(rows[index].places for index in members),
    )


def _shared(sequences: Sequence[TokenArray]) -> int:
    """How many tokens sorted sequences begin with in common, leaving at least one token to each; 0 for one alone."""
    if len(sequences) == 1:
        return 0
    return min(_common(sequences[0], sequences[-1]), min(len(sequence) for sequence in sequences) - 1)


def _common(one: TokenArray, other: TokenArray) -> int:
    """How many tokens the two begin with in common."""
    shortest = min(len(one), len(other))
    different = np.flatnonzero(one[:shortest] != other[:shortest])
    return int(different[0]) if len(different) else shortest
