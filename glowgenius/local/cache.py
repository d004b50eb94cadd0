"""Keys and values of what sequences have read, and the attention that reads and writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from attrs import field, frozen

from glowgenius.local.attention import Attention, tiles
from glowgenius.local.packing import Family
from glowgenius.local.request import common_prefix

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.local.llama import Llama
    from glowgenius.local.packing import Pass

_LEAST_ROOM = 32
"""A cache has room for this many tokens a slot at least."""


@final
@frozen(kw_only=True, eq=False)
class Beginning:
    """A sequence that was read already, so that what begins with it need not read it again."""

    tokens: tuple[int, ...]
    """Its token ids, `P` of them."""

    kv: torch.Tensor = field(repr=False)
    """`[layers, 2, K, P, D]`."""

    def shared(self, prompts: Sequence[tuple[int, ...]]) -> Beginning:
        """What all *prompts* begin with of it, leaving a token to each."""
        length = common_prefix([*prompts, (*self.tokens, -1)])
        return Beginning(tokens=self.tokens[:length], kv=self.kv[..., :length, :])


@final
class Cache:
    """Keys and values of several sequences, each in a slot; every one starts at 0, and is written in place."""

    def __init__(self, llama: Llama, slots: int) -> None:
        heads = llama.heads
        # Zeros: what was never written is multiplied by a probability of 0, which NaN would survive.
        self.store = llama.embedding.new_zeros(len(llama.layers), 2, slots, heads.keys, 0, heads.size)
        """`[layers, 2, slots, K, T, D]`."""

    def reserve(self, tokens: int) -> None:
        """Make room for *tokens* in every slot."""
        have = self.store.shape[4]
        if tokens <= have:
            return
        shape = list(self.store.shape)
        shape[4] = max(tokens, have + have // 2, _LEAST_ROOM)
        grown = self.store.new_zeros(shape)
        grown[..., :have, :] = self.store
        self.store = grown

    def put(self, slot: int, kv: torch.Tensor) -> None:
        """Begin *slot* with *kv*, `[layers, 2, K, n, D]`."""
        self.reserve(kv.shape[3])
        self.store[:, :, slot, :, : kv.shape[3]] = kv

    def get(self, slot: int, length: int) -> torch.Tensor:
        """The first *length* tokens of *slot*, `[layers, 2, K, length, D]`; a view."""
        return self.store[:, :, slot, :, :length]


@final
class Recalling:
    """One more token of each of the first `B` slots: it is written, and attends to all before it and to itself."""

    def __init__(self, llama: Llama, cache: Cache, positions: torch.Tensor) -> None:
        self._heads = llama.heads
        self._layers = iter(cache.store)
        self._dtype = llama.embedding.dtype
        self._positions = positions
        self._slots = torch.arange(len(positions), device=positions.device)
        self._length = int(positions.max()) + 1
        self._masks: dict[int | None, torch.Tensor] = {}

    def forward(self, qkv: torch.Tensor, window: int | None) -> torch.Tensor:
        """As `Attending.forward`, `[B, (Q + 2 K) · D]`."""
        heads, count = self._heads, len(qkv)
        q, new = qkv.split_with_sizes((heads.queries * heads.size, 2 * heads.keys * heads.size), 1)
        store = next(self._layers)
        store[:, self._slots, :, self._positions] = new.view(count, 2, heads.keys, heads.size)
        k, v = (part[:count].flatten(0, 1)[:, : self._length] for part in store)
        queries = q.reshape(count * heads.keys, heads.each, heads.size)
        scores = torch.baddbmm(self._mask(window), queries, k.transpose(1, 2), alpha=heads.scale)
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
        attended: torch.Tensor = weights @ v
        return attended.view(count, -1)

    def _mask(self, window: int | None) -> torch.Tensor:
        """`[B · K, Q / K, T]`: 0 where a token may look and −∞ where not."""
        if window not in self._masks:
            behind = self._positions[:, None] - torch.arange(self._length, device=self._positions.device)
            hidden = behind < 0 if window is None else (behind < 0) | (behind >= window)
            mask = torch.zeros_like(hidden, dtype=self._dtype).masked_fill_(hidden, -torch.inf)
            by_head = mask[:, None, None].expand(-1, self._heads.keys, self._heads.each, -1)
            self._masks[window] = by_head.flatten(0, 1)
        return self._masks[window]


@final
class Reading:
    """A pass of new sequences behind a beginning that all share; what it meets is written into slots.

    Attention is computed over a longer pass, in which every family has a copy of the beginning before its own tokens.
    """

    def __init__(
        self, llama: Llama, cache: Cache, beginning: Beginning, packed: Pass, slots: Sequence[Sequence[int]]
    ) -> None:
        device, self._heads = llama.embedding.device, llama.heads
        self._layers = zip(cache.store, beginning.kv, strict=True)
        known = len(beginning.tokens)
        families = [_behind(family, known, index) for index, family in enumerate(packed.families)]
        self._attention = Attention(self._heads, tiles(families, self._heads, device, known=known))
        self._known = torch.cat([torch.arange(f.start, f.start + known) for f in families]).to(device)
        self._own = (torch.arange(len(packed.tokens)) + known * (torch.tensor(packed.kin) + 1)).to(device)
        copies = list(_copies(packed, slots))
        self._from, self._slots, self._places = (torch.cat(part).to(device) for part in zip(*copies, strict=True))
        self._places += known

    def forward(self, qkv: torch.Tensor, window: int | None) -> torch.Tensor:
        """As `Attending.forward`."""
        heads = self._heads
        width = heads.queries * heads.size
        store, before = next(self._layers)
        new = qkv[:, width:].view(len(qkv), 2, heads.keys, heads.size)
        store[:, self._slots, :, self._places] = new[self._from]
        if not len(self._known):
            return self._attention.forward(qkv, window)
        whole = qkv.new_empty(len(self._known) + len(qkv), qkv.shape[1])
        whole[self._own] = qkv
        shared = before.permute(2, 0, 1, 3).flatten(1)
        whole[self._known, width:] = shared.repeat(len(self._known) // len(shared), 1)
        return self._attention.forward(whole, window)[self._own]


def _behind(family: Family, known: int, index: int) -> Family:
    """*family*, the one of that *index*, where every family begins with *known* tokens more."""
    before = known * (index + 1)
    return Family(
        start=family.start + known * index,
        prefix=family.prefix + known,
        starts=tuple(start + before for start in family.starts),
        lengths=family.lengths,
    )


def _copies(packed: Pass, slots: Sequence[Sequence[int]]) -> list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Of every token that is written: where in the pass it stands, into which slot it goes, and to which place."""
    found: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = []
    members = iter(packed.members)
    for family in packed.families:
        common = torch.arange(family.start, family.start + family.prefix)
        for start, length in zip(family.starts, family.lengths, strict=True):
            tokens = torch.cat([common, torch.arange(start, start + length)])
            found += [
                (tokens, torch.full_like(tokens, slot), torch.arange(len(tokens))) for slot in slots[next(members)]
            ]
    return found
