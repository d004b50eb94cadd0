"""Generation through `transformers`, for models that the native engine does not support."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

from glowgenius.local.native.stream import choose, common_prefix
from glowgenius.models.hub import new_cache

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.local.model import BaseModel
    from glowgenius.local.native.stream import Generated


def generate(model: BaseModel, network: Any, rows: list[Generated], decode: Callable[[Sequence[int]], str]) -> None:
    """Generate one batch to its end, by the modules of *network*."""
    device = model.device
    prefix = common_prefix([row.request.prompt for row in rows])
    cache = new_cache(model.network.config)
    if prefix:
        network(
            input_ids=torch.tensor([rows[0].request.prompt[:prefix]], device=device),
            **_given(network, cache),
            use_cache=True,
            logits_to_keep=1,
        )
        cache.batch_repeat_interleave(len(rows))
    ids, mask, positions = _padded([row.request.prompt[prefix:] for row in rows], prefix, device)
    logits = _forward(network, ids, mask, positions, cache)
    while True:
        choose(rows, logits, decode)
        alive = [i for i, row in enumerate(rows) if not row.finished]
        if not alive:
            return
        if len(alive) < len(rows):
            keep = torch.tensor(alive, device=device)
            cache.batch_select_indices(keep)
            mask, positions = mask[keep], positions[keep]
            rows = [rows[i] for i in alive]
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        positions = positions[:, -1:] + 1
        chosen = torch.tensor([row.tokens[-1:] for row in rows], device=device)
        logits = _forward(network, chosen, mask, positions, cache)


def _given(network: Any, cache: Any) -> dict[str, Any]:
    """*cache* under its name: `cache` since transformers 5.24, `past_key_values` before."""
    names = inspect.signature(network.forward).parameters
    return {"past_key_values" if "past_key_values" in names else "cache": cache}


def _forward(network: Any, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
    """Logits of the next token, `[B, V]`."""
    output = network(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        **_given(network, cache),
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = output.logits[:, -1]
    return logits


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
