"""Sampling state: the sequences to generate, and the cache of their keys and values."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, Any, cast, final

import numpy as np
import torch
from attrs import define, field, frozen

from glowgenius.local.native.attention import Attention, tiles
from glowgenius.local.native.layer import Frame
from glowgenius.local.packing import Family, Row, plan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.local.native.attention import Attending
    from glowgenius.local.native.llama import Llama, ModelAdapter
    from glowgenius.local.packing import Pass
    from glowgenius.typing import TokenArray

_COLDEST = 1e-6
"""Lower temperatures are this one."""


@final
@frozen(kw_only=True)
class Request:
    """One sequence to generate."""

    prompt: tuple[int, ...]
    """Token ids, at least one."""

    max_tokens: int
    """How many tokens are generated at most."""

    temperature: float
    """0 takes the most probable token; else logits are divided by it."""

    top_k: int
    """Only the k most probable tokens are drawn from; 0 or less is no limit."""

    top_p: float
    """Only the most probable tokens that together reach this probability are drawn from, in (0, 1]."""

    seed: int
    """Of the request's own generator."""

    stop_tokens: frozenset[int]
    """Ids that end the sequence, and belong to it."""

    stop_texts: tuple[str, ...]
    """Texts that end the sequence with the token that completes them."""


@final
@define(kw_only=True, eq=False)
class Generated:
    """State of a sequence during generation."""

    request: Request
    """What is asked for."""

    generator: torch.Generator
    """Where its draws come from."""

    tokens: list[int] = field(factory=list[int])
    """What has been generated, `[n]`."""

    logprobs: list[float] = field(factory=list[float])
    """Natural-log probability of each of them, at temperature 1, `[n]`."""

    stopped: bool = False
    """Whether a stop token or text has ended it."""

    @property
    def finished(self) -> bool:
        """Whether generation of the sequence is complete."""
        return self.stopped or len(self.tokens) >= self.request.max_tokens


def common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts share, leaving at least one token to each."""
    first, last = min(prompts), max(prompts)  # what the extremes of the lexical order share, all share
    limit = min(len(prompt) for prompt in prompts) - 1
    shared = 0
    while shared < limit and first[shared] == last[shared]:
        shared += 1
    return shared


def choose(rows: Sequence[Generated], logits: torch.Tensor, decode: Callable[[Sequence[int]], str]) -> None:
    """Pick the next token of every row from its logits `[B, V]`, and note it."""
    logprobs = torch.log_softmax(logits.float(), dim=-1).cpu()
    greedy = cast("Any", logprobs.numpy()).argmax(axis=-1).tolist()  # several times as quick as torch's here
    for index, row in enumerate(rows):
        token = int(greedy[index]) if row.request.temperature == 0 else _draw(logprobs[index], row)
        note(row, token, float(logprobs[index, token]), decode)


def note(row: Generated, token: int, logprob: float, decode: Callable[[Sequence[int]], str]) -> None:
    """Add *token* to *row*, and see whether it ends there."""
    row.tokens.append(token)
    row.logprobs.append(logprob)
    row.stopped = token in row.request.stop_tokens or _ends_with_text(row, decode)


def _ends_with_text(row: Generated, decode: Callable[[Sequence[int]], str]) -> bool:
    texts = row.request.stop_texts
    return bool(texts) and any(text in decode(row.tokens) for text in texts)


def _draw(logits: torch.Tensor, row: Generated) -> int:
    """One token at the request's temperature, from the top_k and then the top_p of the distribution."""
    request = row.request
    # A temperature so small that the division overflows would leave no probabilities at all; this one is greedy.
    scaled = logits / max(request.temperature, _COLDEST)
    if 0 < request.top_k < len(scaled):
        floor = torch.topk(scaled, request.top_k).values[-1]
        dropped = scaled < floor
        # Of tokens that are as probable as the last kept one, those of lowest id fill the k places.
        dropped[torch.nonzero(scaled == floor)[request.top_k - int((scaled > floor).sum()) :]] = True
        scaled = scaled.masked_fill(dropped, -torch.inf)
    probabilities = torch.softmax(scaled, dim=-1)
    if request.top_p < 1:
        ordered, indices = torch.sort(probabilities, descending=True, stable=True)
        before = torch.cumsum(ordered, dim=-1) - ordered  # the first token always stays
        probabilities[indices[before >= request.top_p]] = 0
    # One number a token, where torch.multinomial draws one for every token of the vocabulary.
    reached = torch.cumsum(probabilities, dim=-1, dtype=torch.float64)
    point = torch.rand(1, generator=row.generator, dtype=torch.float64) * reached[-1]
    return min(int(torch.searchsorted(reached, point, right=True)), len(scaled) - 1)


_LEAST_ROOM = 32
"""A cache has room for this many tokens a slot at least."""


@final
@frozen(kw_only=True, eq=False)
class Beginning:
    """Cached keys and values of a prefix, so that sequences with this prefix need not prefill it again."""

    tokens: tuple[int, ...]
    """Its token ids, `P` of them."""

    kv: torch.Tensor = field(repr=False)
    """`[layers, 2, K, P, D]`."""

    def shared(self, prompts: Sequence[tuple[int, ...]]) -> Beginning:
        """The prefix that it shares with all *prompts*, leaving at least one token to each."""
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
    """One decode step for the first `B` slots: each new token attends to all tokens before it and itself."""

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
    """Prefill of new sequences after a shared prefix; their keys and values are written into slots.

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


_ENTER_TOGETHER = 4
"""New sequences wait until this part of the batch is free: a prompt read alone would waste most of a product."""

_WORTH_SHARING = 4
"""A common beginning of fewer tokens is read with each prompt."""


@final
class Reader:
    """A model that prefills and decodes tokens."""

    def __init__(self, llama: Llama, adapter: ModelAdapter, *, max_tokens: int) -> None:
        self.llama = llama
        self._adapter = adapter
        self._max_tokens = max_tokens

    def nothing(self) -> Beginning:
        """The beginning of every sequence."""
        return Beginning(tokens=(), kv=Cache(self.llama, 1).get(0, 0))

    def extended(self, beginning: Beginning, prompts: Sequence[tuple[int, ...]]) -> Beginning:
        """What all *prompts* begin with, which is more than the *beginning* that they share."""
        length = common_prefix(prompts)
        if length < len(beginning.tokens) + _WORTH_SHARING:
            return beginning
        cache, tokens = Cache(self.llama, 1), prompts[0][:length]
        self.read(cache, {tokens: [0]}, beginning)
        return Beginning(tokens=tokens, kv=cache.get(0, length))

    def read(
        self, cache: Cache, prompts: dict[tuple[int, ...], list[int]], beginning: Beginning
    ) -> dict[tuple[int, ...], torch.Tensor]:
        """Prefill each of *prompts*, which begin with *beginning*, into its slots; returns its logits `[V]`."""
        known = len(beginning.tokens)
        cache.reserve(max(map(len, prompts)))
        for slot in itertools.chain(*prompts.values()):
            cache.put(slot, beginning.kv)
        found: dict[tuple[int, ...], torch.Tensor] = {}
        ordered = list(prompts)
        for packed in plan([_row(prompt[known:]) for prompt in ordered], self._max_tokens):
            slots = [prompts[prompt] for prompt in ordered]
            reading = Reading(self.llama, cache, beginning, packed, slots)
            logits = self._logits(packed.tokens, packed.positions + known, reading, packed.scored)
            for index, (at,) in zip(packed.members, packed.lookup, strict=True):
                found[ordered[index]] = logits[at]
        return found

    def step(self, cache: Cache, tokens: Sequence[int], lengths: Sequence[int]) -> torch.Tensor:
        """Decode step: one more token in each of the first slots, which hold *lengths* tokens; logits `[B, V]`."""
        cache.reserve(max(lengths) + 1)
        positions = np.array(lengths)
        recalling = Recalling(self.llama, cache, torch.tensor(positions, device=self.llama.embedding.device))
        return self._logits(np.array(tokens), positions, recalling, np.arange(len(positions)))

    def _logits(
        self, tokens: TokenArray, positions: TokenArray, attention: Attending, scored: TokenArray
    ) -> torch.Tensor:
        device = self.llama.embedding.device
        cos, sin = self.llama.angles(torch.tensor(positions, device=device))
        frame = Frame(attention=attention, cos=cos, sin=sin, scored=torch.tensor(scored, device=device))
        hidden, _ = self.llama.forward(torch.tensor(tokens, device=device), frame, self._adapter, keep=False)
        return self.llama.logits(hidden, self._adapter)


def _row(tokens: tuple[int, ...]) -> Row:
    """What is looked up behind the last of *tokens*."""
    ids = np.array(tokens)
    return Row(inputs=ids, targets=ids, weights=(np.arange(len(ids)) == len(ids) - 1).astype(np.float32))


@final
class Stream:
    """Up to *size* sequences at a time; row i of those that are being generated is in slot i of the cache."""

    def __init__(
        self,
        reader: Reader,
        beginning: Beginning,
        rows: Sequence[Generated],
        *,
        size: int,
        decode: Callable[[Sequence[int]], str],
    ) -> None:
        self._reader = reader
        self._beginning = beginning
        self._size = min(size, len(rows))
        self._waiting = deque(rows)
        self._decode = decode
        self._single = rows[0] if len(rows) == 1 else None
        self._rows: list[Generated] = []
        self._lengths: list[int] = []
        self._cache = Cache(reader.llama, self._size)

    def run(self) -> None:
        """Generate every sequence to its end."""
        while self._waiting or self._rows:
            free = self._size - len(self._rows)
            if self._waiting and (not self._rows or free >= self._enough()):
                self._enter(free)
            if self._rows:
                tokens = [row.tokens[-1] for row in self._rows]
                logits = self._reader.step(self._cache, tokens, self._lengths)
                self._lengths = [length + 1 for length in self._lengths]
                choose(self._rows, logits, self._decode)
                self._leave()

    def _enough(self) -> int:
        """How many slots must be free for others to enter while some are at work."""
        return max(1, min(len(self._waiting), self._size // _ENTER_TOGETHER))

    def beginning(self) -> Beginning:
        """What the next call may begin with: the whole of a single sequence, or what several had in common."""
        if self._single is None:
            return self._beginning
        tokens = (*self._single.request.prompt, *self._single.tokens[:-1])
        return Beginning(tokens=tokens, kv=self._cache.get(0, len(tokens)))

    def _enter(self, free: int) -> None:
        """Prefill the prompts of the next rows, and choose the first token of each."""
        rows = [self._waiting.popleft() for _ in range(min(free, len(self._waiting)))]
        slots: dict[tuple[int, ...], list[int]] = {}
        for slot, row in enumerate(rows, len(self._rows)):
            slots.setdefault(row.request.prompt, []).append(slot)
        logits = self._reader.read(self._cache, slots, self._beginning)
        choose(rows, torch.stack([logits[row.request.prompt] for row in rows]), self._decode)
        self._rows += rows
        self._lengths += [len(row.request.prompt) for row in rows]
        self._leave()

    def _leave(self) -> None:
        """Remove finished rows; the last rows take their slots."""
        for slot in range(len(self._rows) - 1, -1, -1):
            if self._rows[slot].finished:
                row, length = self._rows.pop(), self._lengths.pop()
                if slot < len(self._rows):
                    self._cache.put(slot, self._cache.get(len(self._rows), length))
                    self._rows[slot], self._lengths[slot] = row, length
