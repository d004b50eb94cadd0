"""The most probable next tokens at every place of a text: what a model would say, and how surely."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from glowgenius.local.loss import scored_logits
from glowgenius.local.packing import Row, plan
from glowgenius.local.threads import side_by_side
from glowgenius.local.unembed import MOST_LOGITS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.local.adapter import Adapter
    from glowgenius.local.llama import Llama, ModelAdapter
    from glowgenius.local.model import BaseModel
    from glowgenius.local.packing import Pass
    from glowgenius.typing import LogprobArray, TokenArray


def top_logprobs(
    model: BaseModel, adapter: Adapter | None, rows: Sequence[Row], k: int, *, max_tokens: int, threads: int = 1
) -> list[tuple[TokenArray, LogprobArray]]:
    """The *k* most probable tokens at each weighted place of each row, the first of them first.

    Args:
        model: The frozen part.
        adapter: What is applied to it; None is the base model.
        rows: Their targets do not matter.
        k: How many tokens.
        max_tokens: How many tokens are in the network at once, over all *threads*.
        threads: How many passes are done side by side.

    Returns:
        For each row ids and natural-log probabilities, `[n, k]` each.
    """
    passes = plan(rows, max(1, max_tokens // threads), parts=threads)
    llama = model.llama
    if llama is None:
        with model.using(adapter) as network:
            tops = [_through_transformers(network, packed, model, k) for packed in passes]
    else:
        prepared = llama.adapter(adapter)
        tops = list(side_by_side(lambda packed: _quickly(llama, prepared, packed, k), passes, threads))
    found: list[tuple[TokenArray, LogprobArray]] = [(np.zeros((0, k), np.int64), np.zeros((0, k), np.float32))] * len(
        rows
    )
    for packed, (ids, values) in zip(passes, tops, strict=True):
        for index, lookup in zip(packed.members, packed.lookup, strict=True):
            found[index] = (ids[lookup], values[lookup])
    return found


@torch.no_grad()
def _quickly(llama: Llama, adapter: ModelAdapter, packed: Pass, k: int) -> tuple[TokenArray, LogprobArray]:
    """For each scored place of one pass, `[P, k]`; the vocabulary times the tokens is never held whole."""
    tokens = torch.tensor(packed.tokens, device=llama.embedding.device)
    hidden, _ = llama.forward(tokens, llama.frame(packed), adapter, keep=False)
    size = max(1, MOST_LOGITS // llama.head.weight.shape[0])
    parts = [_top(llama.logits(hidden[first : first + size], adapter), k) for first in range(0, len(hidden), size)]
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([values for _, values in parts])


@torch.no_grad()
def _through_transformers(network: Any, packed: Pass, model: BaseModel, k: int) -> tuple[TokenArray, LogprobArray]:
    return _top(scored_logits(network, packed, model), k)


def _top(logits: torch.Tensor, k: int) -> tuple[TokenArray, LogprobArray]:
    """The top k of each row; among equal values those of lowest id, which `topk` alone does not promise."""
    logprobs = torch.log_softmax(logits.float(), dim=-1)
    values, ids = logprobs.topk(k)
    for row in torch.nonzero((logprobs >= values[:, -1:]).sum(dim=-1) > k).flatten():
        ids[row] = torch.sort(logprobs[row], descending=True, stable=True).indices[:k]
    ids = torch.sort(ids, dim=-1).values
    values, order = torch.sort(logprobs.gather(-1, ids), dim=-1, descending=True, stable=True)
    ids = ids.gather(-1, order)
    return ids.cpu().numpy(), values.cpu().numpy()
