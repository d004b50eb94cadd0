"""Continuous batching on the quick path: a sequence leaves as soon as it stops, and one that waits takes its place."""

from __future__ import annotations

import itertools
from collections import deque
from typing import TYPE_CHECKING, final

import numpy as np
import torch

from glowgenius.local.cache import Beginning, Cache, Reading, Recalling
from glowgenius.local.layer import Frame
from glowgenius.local.packing import Row, plan
from glowgenius.local.request import choose, common_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.local.attention import Attending
    from glowgenius.local.llama import Llama, ModelAdapter
    from glowgenius.local.request import Generated
    from glowgenius.typing import TokenArray

_ENTER_TOGETHER = 4
"""New sequences wait until this part of the batch is free: a prompt read alone would waste most of a product."""

_WORTH_SHARING = 4
"""A common beginning of fewer tokens is read with each prompt."""


@final
class Reader:
    """A model that reads tokens and says what may come next."""

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
        """Read each of *prompts*, which begin with *beginning*, into its slots; its logits `[V]`."""
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
        """Read one more token of each of the first slots, which hold *lengths* tokens; logits `[B, V]`."""
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
        """Read the prompts of the next rows, and choose the first token of each."""
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
        """Let finished rows go; the last ones take their slots."""
        for slot in range(len(self._rows) - 1, -1, -1):
            if self._rows[slot].finished:
                row, length = self._rows.pop(), self._lengths.pop()
                if slot < len(self._rows):
                    self._cache.put(slot, self._cache.get(len(self._rows), length))
                    self._rows[slot], self._lengths[slot] = row, length
