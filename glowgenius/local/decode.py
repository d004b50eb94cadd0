"""Generating many sequences at once: one common prefix, a key-value cache, rows leave as soon as they stop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast, final

import torch
from attrs import define, field, frozen

from glowgenius.models.hub import new_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.local.adapter import Adapter
    from glowgenius.local.model import BaseModel


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


def generate(
    model: BaseModel,
    adapter: Adapter | None,
    requests: Sequence[Request],
    *,
    batch_size: int,
    decode: Callable[[Sequence[int]], str],
) -> list[Generated]:
    """Continue every prompt; results in the order of *requests*.

    Each request draws from its own generator, so its tokens do not depend on its neighbours.
    """
    results = [Generated(request=r, generator=torch.Generator().manual_seed(r.seed)) for r in requests]
    order = sorted(range(len(requests)), key=lambda i: len(requests[i].prompt))
    size = 1 if model.sliding_window is not None else batch_size
    with model.using(adapter) as network, torch.inference_mode():
        for start in range(0, len(order), size):
            _batch(model, network, [results[i] for i in order[start : start + size]], decode)
    return results


def _batch(model: BaseModel, network: Any, rows: list[Generated], decode: Callable[[Sequence[int]], str]) -> None:
    """Generate one batch to its end."""
    device = model.device
    rows = [row for row in rows if not row.finished]
    if not rows:
        return
    prefix = _common_prefix([row.request.prompt for row in rows])
    cache = new_cache(model.network.config)
    if prefix:
        network(
            input_ids=torch.tensor([rows[0].request.prompt[:prefix]], device=device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache.batch_repeat_interleave(len(rows))
    ids, mask, positions = _padded([row.request.prompt[prefix:] for row in rows], prefix, device)
    logits = _forward(network, ids, mask, positions, cache)
    while True:
        chosen = _choose(rows, logits, decode)
        alive = [i for i, row in enumerate(rows) if not row.finished]
        if not alive:
            return
        if len(alive) < len(rows):
            keep = torch.tensor(alive, device=device)
            cache.batch_select_indices(keep)
            mask, positions, chosen = mask[keep], positions[keep], chosen[keep]
            rows = [rows[i] for i in alive]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        positions = positions[:, -1:] + 1
        logits = _forward(network, chosen[:, None], mask, positions, cache)


def _forward(network: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
    """Logits of the next token, `[B, V]`."""
    output = network(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = output.logits[:, -1].float()
    return logits


def _common_prefix(prompts: Sequence[tuple[int, ...]]) -> int:
    """How many tokens all prompts share, leaving at least one token to each."""
    first, last = min(prompts), max(prompts)  # what the extremes of the lexical order share, all share
    limit = min(len(prompt) for prompt in prompts) - 1
    shared = 0
    while shared < limit and first[shared] == last[shared]:
        shared += 1
    return shared


def _padded(
    rests: Sequence[tuple[int, ...]], prefix: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Token ids, attention mask and positions, padded between the prefix and the rest of each prompt."""
    longest = max(len(rest) for rest in rests)
    ids = torch.zeros(len(rests), longest, dtype=torch.long)
    mask = torch.ones(len(rests), prefix + longest, dtype=torch.long)
    positions = torch.zeros(len(rests), longest, dtype=torch.long)
    for row, rest in enumerate(rests):
        padding = longest - len(rest)
        ids[row, padding:] = torch.tensor(rest)
        mask[row, prefix : prefix + padding] = 0
        positions[row, padding:] = torch.arange(prefix, prefix + len(rest))
    return ids.to(device), mask.to(device), positions.to(device)


def _choose(rows: list[Generated], logits: torch.Tensor, decode: Callable[[Sequence[int]], str]) -> torch.Tensor:
    """Pick the next token of every row and note it; `[B]`."""
    logprobs = torch.log_softmax(logits, dim=-1)
    greedy: list[int] = cast("Any", logits.argmax(dim=-1)).tolist()
    tokens: list[int] = []
    for index, row in enumerate(rows):
        request = row.request
        token = greedy[index] if request.temperature == 0 else _draw(logits[index], row)
        tokens.append(token)
        row.tokens.append(token)
        row.logprobs.append(float(logprobs[index, token]))
        row.stopped = token in request.stop_tokens or _ends_with_text(row, decode)
    return torch.tensor(tokens, device=logits.device)


def _ends_with_text(row: Generated, decode: Callable[[Sequence[int]], str]) -> bool:
    texts = row.request.stop_texts
    return bool(texts) and any(text in decode(row.tokens) for text in texts)


def _draw(logits: torch.Tensor, row: Generated) -> int:
    """One token at the request's temperature, from the top_k and then the top_p of the distribution."""
    request = row.request
    # A temperature so small that the division overflows would leave no probabilities at all; this one is greedy.
    scaled = logits.cpu() / max(request.temperature, _COLDEST)
    if 0 < request.top_k < len(scaled):
        floor = torch.topk(scaled, request.top_k).values[-1]
        scaled = scaled.masked_fill(scaled < floor, -torch.inf)
    probabilities = torch.softmax(scaled, dim=-1)
    if request.top_p < 1:
        ordered, indices = torch.sort(probabilities, descending=True, stable=True)
        before = torch.cumsum(ordered, dim=-1) - ordered  # the first token always stays
        probabilities[indices[before >= request.top_p]] = 0
    return int(torch.multinomial(probabilities, 1, generator=row.generator))
