"""Causal attention within packed rows and their shared prefixes: forward and backward pass.

Rows of about one length are computed side by side. What is not needed at once is not held: probabilities are computed
again in the backward pass, and long rows are done in blocks of queries, so that memory grows with the tokens of a pass
and not with their square.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, final

import torch
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from glowgenius.local.packing import Family

_SIMILAR = 0.6
"""Rows shorter than this share of the longest are computed apart from it: padding would cost more than a product."""

_MOST_SCORES = 1 << 22
"""How many scores are held at once, about: 16 MB in fp32."""

_LEAST_BLOCK = 64
"""Fewer queries than this at once would waste more in small products than it saves in memory."""


@final
@frozen(kw_only=True)
class Heads:
    """The shape of the attention."""

    queries: int
    """How many query heads there are."""

    keys: int
    """How many key-value heads there are; each serves the same number of query heads."""

    size: int
    """The width of a head."""

    scale: float
    """What the products of queries and keys are multiplied by."""

    @property
    def each(self) -> int:
        """How many query heads share a key-value head."""
        return self.queries // self.keys


@final
@frozen(kw_only=True, eq=False)
class Tile:
    """Rows of one family whose attention is computed side by side, padded at their ends; `G` rows of `L` tokens."""

    prefix: slice
    """Where the beginning stands that all of them see, `P` tokens."""

    own: slice
    """Where their own tokens stand, one row directly behind the other."""

    shape: tuple[int, int]
    """G and L."""

    gather: torch.Tensor | None
    """`[G · L]`: where each token of the padded rows stands in the pass; None where none is padded."""

    kept: torch.Tensor | None
    """`[n]`: which of the G · L are tokens of the rows."""

    padding: torch.Tensor | None
    """`[G · L − n]`: which of the G · L are not."""


class Attending(Protocol):
    """Whatever can say what the tokens of one pass attend to; each layer asks once, the lowest first."""

    def forward(self, qkv: torch.Tensor, window: int | None) -> torch.Tensor:
        """From queries, keys and values side by side, `[S, (Q + 2 K) · D]`, to what was attended, `[S, Q · D]`.

        *window* is how many tokens back a token sees, itself included; None where it sees all.
        """
        ...


def tiles(families: Sequence[Family], heads: Heads, device: torch.device, *, known: int = 0) -> list[Tile]:
    """The rows of all *families* in groups; a common beginning comes before the rows that see it.

    The first *known* tokens of each beginning are looked at only.
    """
    found: list[Tile] = []
    for family in families:
        prefix = slice(family.start, family.start + family.prefix)
        if family.prefix > known:
            seen = slice(family.start, family.start + known)
            found.append(_tile(seen, [seen.stop], [family.prefix - known], device))
        first = 0
        while first < len(family.lengths):
            longest = family.lengths[first]
            each = heads.queries * longest * (longest + family.prefix)
            last = first + 1
            while (
                last < len(family.lengths)
                and family.lengths[last] >= _SIMILAR * longest
                and (last - first + 1) * each <= _MOST_SCORES
            ):
                last += 1
            found.append(_tile(prefix, family.starts[first:last], family.lengths[first:last], device))
            first = last
    return found


def _tile(prefix: slice, starts: Sequence[int], lengths: Sequence[int], device: torch.device) -> Tile:
    longest = max(lengths)
    own = slice(starts[0], starts[-1] + lengths[-1])
    shape = (len(starts), longest)
    if longest == min(lengths):
        return Tile(prefix=prefix, own=own, shape=shape, gather=None, kept=None, padding=None)
    step = torch.arange(longest)
    start, real = torch.tensor(starts)[:, None], step < torch.tensor(lengths)[:, None]
    return Tile(
        prefix=prefix,
        own=own,
        shape=shape,
        gather=torch.where(real, start + step, start).flatten().to(device),
        kept=real.flatten().nonzero()[:, 0].to(device),
        padding=(~real).flatten().nonzero()[:, 0].to(device),
    )


@final
class Attention:
    """The attention of every layer of one pass; `N` is G · K, rows times key-value heads."""

    def __init__(self, heads: Heads, tiles: Sequence[Tile]) -> None:
        self._heads = heads
        self._tiles = tiles
        self._masks: dict[tuple[int, int, int, int | None], torch.Tensor] = {}

    def forward(self, qkv: torch.Tensor, window: int | None) -> torch.Tensor:
        """Attend: queries, keys and values side by side, `[S, (Q + 2 K) · D]`, to values, `[S, Q · D]`."""
        heads = self._heads
        out = qkv.new_empty(len(qkv), heads.queries * heads.size)
        for tile in self._tiles:
            q, k, v = self._gathered(tile, qkv)
            attended = torch.empty_like(q)
            for rows, keys in self._blocks(tile):
                weights = self._weights(tile, rows, q, k[:, :keys], window)
                attended[:, :, rows] = (weights @ v[:, :keys]).view(len(q), heads.each, -1, heads.size)
            self._put(tile, attended, out)
        return out

    def backward(self, gradient: torch.Tensor, qkv: torch.Tensor, window: int | None) -> torch.Tensor:
        """The gradient of *qkv*, `[S, (Q + 2 K) · D]`, from that of what was attended, `[S, Q · D]`."""
        heads = self._heads
        width = heads.queries * heads.size
        result = torch.empty_like(qkv)
        for tile in self._tiles:
            q, k, v = self._gathered(tile, qkv)
            above = self._queries(tile, self._padded(tile, gradient, zero=True))
            for_q, for_k, for_v = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
            for rows, keys in self._blocks(tile):
                part, queries = above[:, :, rows].flatten(1, 2), q[:, :, rows].flatten(1, 2)
                weights = self._weights(tile, rows, q, k[:, :keys], window)
                for_v[:, :keys].baddbmm_(weights.transpose(1, 2), part)
                scores = _softmax_backward(part @ v[:, :keys].transpose(1, 2), weights).mul_(heads.scale)
                for_q[:, :, rows] = (scores @ k[:, :keys]).view(len(q), heads.each, -1, heads.size)
                for_k[:, :keys].baddbmm_(scores.transpose(1, 2), queries)
            self._put(tile, for_q, result[:, :width])
            self._put_shared(tile, for_k, result[:, width : width + heads.keys * heads.size])
            self._put_shared(tile, for_v, result[:, width + heads.keys * heads.size :])
        return result

    def _gathered(self, tile: Tile, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Queries `[N, Q / K, L, D]`, keys and values `[N, P + L, D]` of one tile, the beginning's first."""
        heads, (count, length) = self._heads, tile.shape
        split = (heads.queries * heads.size, heads.keys * heads.size, heads.keys * heads.size)
        q, *own = self._padded(tile, qkv, zero=False).split_with_sizes(split, 1)
        _, *shared = qkv[tile.prefix].split_with_sizes(split, 1)
        both: list[torch.Tensor] = []
        for prefix, rest in zip(shared, own, strict=True):
            whole = qkv.new_empty(count, heads.keys, len(prefix) + length, heads.size)
            whole[:, :, : len(prefix)] = prefix.view(-1, heads.keys, heads.size).transpose(0, 1)
            whole[:, :, len(prefix) :] = rest.view(count, length, heads.keys, heads.size).transpose(1, 2)
            both.append(whole.flatten(0, 1))
        return self._queries(tile, q), both[0], both[1]

    def _queries(self, tile: Tile, rows: torch.Tensor) -> torch.Tensor:
        """Padded rows `[G · L, Q · D]` as `[N, Q / K, L, D]`."""
        heads = self._heads
        return rows.reshape(*tile.shape, heads.keys, heads.each, heads.size).permute(0, 2, 3, 1, 4).flatten(0, 1)

    def _padded(self, tile: Tile, values: torch.Tensor, *, zero: bool) -> torch.Tensor:
        """The tile's own rows of *values*, padded, `[G · L, width]`; *zero* says whether padding must not count."""
        if tile.gather is None or tile.padding is None:
            return values[tile.own]
        padded = values.index_select(0, tile.gather)
        return padded.index_fill_(0, tile.padding, 0) if zero else padded

    def _put(self, tile: Tile, values: torch.Tensor, out: torch.Tensor) -> None:
        """Write values of the queries, `[N, Q / K, L, D]`, to their places in *out* `[S, Q · D]`."""
        count, length = tile.shape
        rows = (
            values.view(count, self._heads.keys, *values.shape[1:]).permute(0, 3, 1, 2, 4).reshape(count * length, -1)
        )
        out[tile.own] = rows if tile.kept is None else rows[tile.kept]

    def _put_shared(self, tile: Tile, values: torch.Tensor, out: torch.Tensor) -> None:
        """Write values of keys, `[N, P + L, D]`, to *out* `[S, K · D]`; those of the beginning are added up."""
        prefix = tile.prefix.stop - tile.prefix.start
        by_row = values.view(tile.shape[0], self._heads.keys, *values.shape[1:])
        self._put(tile, by_row[:, :, None, prefix:].flatten(0, 1), out)
        if prefix:
            out[tile.prefix] += by_row[:, :, :prefix].sum(0).transpose(0, 1).flatten(1)

    def _blocks(self, tile: Tile) -> Iterator[tuple[slice, int]]:
        """Blocks of queries, and how many keys they can see at most."""
        (count, length), prefix = tile.shape, tile.prefix.stop - tile.prefix.start
        scores = count * self._heads.queries * (prefix + length)
        block = length if scores * length <= _MOST_SCORES else max(_LEAST_BLOCK, _MOST_SCORES // scores)
        for first in range(0, length, block):
            last = min(first + block, length)
            yield slice(first, last), prefix + last

    def _weights(self, tile: Tile, rows: slice, q: torch.Tensor, k: torch.Tensor, window: int | None) -> torch.Tensor:
        """Attention probabilities of a block of queries, `[N, Q / K · rows, keys]`."""
        prefix = tile.prefix.stop - tile.prefix.start
        key = (prefix, rows.start, rows.stop, window)
        if key not in self._masks:
            self._masks[key] = self._mask(*key).to(q)
        queries = q[:, :, rows].flatten(1, 2)
        mask = self._masks[key].expand(len(q), -1, -1)
        scores = torch.baddbmm(mask, queries, k.transpose(1, 2), alpha=self._heads.scale)
        return torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)

    def _mask(self, prefix: int, first: int, last: int, window: int | None) -> torch.Tensor:
        """`[Q / K · rows, keys]`: 0 where a query may look and −∞ where not."""
        behind = torch.arange(prefix + first, prefix + last)[:, None] - torch.arange(prefix + last)
        hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
        return torch.zeros(hidden.shape).masked_fill(hidden, -torch.inf).repeat(self._heads.each, 1)


def _softmax_backward(gradient: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    result: torch.Tensor = torch.ops.aten._softmax_backward_data(  # noqa: SLF001 - torch names it so
        gradient.float(), weights.float(), -1, torch.float32
    )
    return result.to(weights.dtype)
