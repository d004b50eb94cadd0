"""One sequence to generate: what is asked for, how far it has got, and how its next token is chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, final

import torch
from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    """A sequence as far as it has got."""

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
        """Whether nothing more is to be generated."""
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
