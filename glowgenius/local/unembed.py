"""From the last residual stream to the log-probabilities of targets, a few rows of logits at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from glowgenius.local.stack import Gradients, Stack, StackAdapter

MOST_LOGITS = 1 << 23
"""How many logits are held at once, about: 32 MB in fp32. The vocabulary times the tokens never is."""


def target_logprobs(
    head: Stack,
    adapter: StackAdapter | None,
    hidden: torch.Tensor,
    where: torch.Tensor,
    targets: torch.Tensor,
    weights: torch.Tensor,
    gradients: Gradients | None,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The log-probability of each target, and the gradient of Σ −log p · weight.

    Args:
        head: The unembedding.
        adapter: What is trained beside it.
        hidden: What it reads, `[P, H]`.
        where: The row of *hidden* that predicts each target, `[n]`.
        targets: Token ids, `[n]`.
        weights: Loss weights, `[n]`.
        gradients: Where the adapter's gradients are added; None where no gradient is asked for.

    Returns:
        Log-probabilities `[n]`, and the gradient of *hidden* `[P, H]`, which means nothing without *gradients*.
    """
    chosen = torch.empty_like(weights)
    result = torch.empty_like(hidden)
    totals = weights.new_zeros(len(hidden)).index_add_(0, where, weights)
    order = torch.argsort(where, stable=True)
    size = max(1, MOST_LOGITS // head.weight.shape[0])
    ordered = where[order]
    for first in range(0, len(hidden), size):
        block = slice(first, first + size)
        of = order[(ordered >= first) & (ordered < first + size)]
        at, picked = where[of] - block.start, targets[of]
        part = hidden[block]
        logits, low = head.forward(part, adapter)
        logprobs = torch.log_softmax(logits.float(), dim=-1)
        del logits
        chosen[of] = logprobs[at, picked]
        if gradients is not None:
            # d/d logits of Σ −log p · weight is the probabilities times the row's weight, less the weights at targets.
            logprobs.exp_().mul_(totals[block, None]).index_put_((at, picked), -weights[of], accumulate=True)
            above = logprobs.to(part.dtype)
            result[block] = head.backward(above, part.detach, low, adapter, gradients)
    return chosen, result
