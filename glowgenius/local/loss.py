"""Weighted cross-entropy with the service's meaning: Σ −log p(target) · weight, a plain sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch

from glowgenius.local.packing import Pass, Row, plan
from glowgenius.local.stack import Gradients
from glowgenius.local.threads import side_by_side

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from glowgenius.local.adapter import Adapter
    from glowgenius.local.llama import Llama, ModelAdapter
    from glowgenius.local.model import BaseModel
    from glowgenius.typing import LogprobArray


def score(
    model: BaseModel, adapter: Adapter | None, rows: Sequence[Row], *, max_tokens: int, backward: bool, threads: int = 1
) -> tuple[float, list[LogprobArray]]:
    """The summed loss of *rows* and the log-probabilities of their weighted targets.

    Gradients are added to the adapter's matrices when *backward* is set.
    Logits are computed only where a weight is not 0; elsewhere the returned log-probability is 0.

    Args:
        model: The frozen part.
        adapter: What is applied to it; None is the base model.
        rows: What is scored.
        max_tokens: How many tokens are in the network at once, over all *threads*.
        backward: Whether gradients are asked for.
        threads: How many passes are done side by side, each on one thread. The bits of the results depend on the
            number, and on nothing that happens while they are computed.

    Returns:
        The loss in nats, and for each row one array of the shape of its targets.
    """
    logprobs: list[LogprobArray] = [np.zeros(row.targets.shape, np.float32) for row in rows]
    total = 0.0
    for packed, chosen, loss in _passes(
        model, adapter, rows, max_tokens=max_tokens, backward=backward, threads=threads
    ):
        total += loss
        values = chosen.cpu().numpy()
        start = 0
        for index, places in zip(packed.members, packed.places, strict=True):
            of = logprobs[index]
            count = len(places) * (1 if of.ndim == 1 else of.shape[1])
            of[places] = values[start : start + count].reshape(len(places), *of.shape[1:])
            start += count
    return total, logprobs


def _passes(
    model: BaseModel, adapter: Adapter | None, rows: Sequence[Row], *, max_tokens: int, backward: bool, threads: int
) -> Iterator[tuple[Pass, torch.Tensor, float]]:
    """Every pass with its log-probabilities `[n]` and its loss, in order."""
    llama = model.llama
    if llama is None:
        with model.using(adapter) as network, torch.set_grad_enabled(backward):
            for packed in plan(rows, max_tokens):
                yield packed, *_through_transformers(network, packed, rows, model, backward=backward)
        return
    passes = plan(rows, max(1, max_tokens // threads), parts=threads)
    prepared = llama.adapter(adapter)

    def run(packed: Pass) -> tuple[torch.Tensor, float, Gradients]:
        return _quickly(llama, prepared, packed, rows, backward=backward)

    for packed, (chosen, loss, gradients) in zip(passes, side_by_side(run, passes, threads), strict=True):
        if adapter is not None and backward:
            gradients.add_to(adapter)
        yield packed, chosen, loss


@torch.no_grad()
def _quickly(
    llama: Llama, adapter: ModelAdapter, packed: Pass, rows: Sequence[Row], *, backward: bool
) -> tuple[torch.Tensor, float, Gradients]:
    """Log-probabilities of the weighted targets of one pass, its loss, and what it adds to the gradient."""
    gradients = Gradients()
    where, targets, weights = _targets(packed, rows, llama.embedding.device)
    frame = llama.frame(packed)
    hidden, kept = llama.forward(_tensor(packed.tokens, llama.embedding.device), frame, adapter, keep=backward)
    chosen, gradient = llama.unembed(hidden, adapter, where, targets, weights, gradients if backward else None)
    if backward:
        llama.backward(gradient, kept, frame, adapter, gradients)
    return chosen, float(-(chosen * weights).sum()), gradients


def _through_transformers(
    network: Any, packed: Pass, rows: Sequence[Row], model: BaseModel, *, backward: bool
) -> tuple[torch.Tensor, float]:
    """Log-probabilities of the weighted targets of one pass, and its loss, by the model's own modules."""
    where, targets, weights = _targets(packed, rows, model.device)
    chosen = torch.log_softmax(scored_logits(network, packed, model).float(), dim=-1)[where, targets]
    loss = -(chosen * weights).sum()
    if backward:
        torch.autograd.backward(loss)
    return chosen.detach(), float(loss.detach())


def scored_logits(network: Any, packed: Pass, model: BaseModel) -> torch.Tensor:
    """The logits of the scored places of one pass, `[P, V]`, by the model's own modules."""
    device = model.device
    output = network(
        input_ids=_tensor(packed.tokens, device)[None],
        attention_mask=_masks(packed, model),
        position_ids=_tensor(packed.positions, device)[None],
        use_cache=False,
        logits_to_keep=_tensor(packed.scored, device),
    )
    return cast("torch.Tensor", output.logits[0])


def _targets(
    packed: Pass, rows: Sequence[Row], device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of every target of a weighted place: which scored place predicts it, its token, its weight; `[n]`, row by row."""
    triples = [
        (lookup, rows[index].targets[places], rows[index].weights[places])
        for index, lookup, places in zip(packed.members, packed.lookup, packed.places, strict=True)
    ]
    return (
        _tensor(np.concatenate([np.repeat(lookup, targets[:1].size) for lookup, targets, _ in triples]), device),
        _tensor(np.concatenate([targets.reshape(-1) for _, targets, _ in triples]), device),
        _tensor(np.concatenate([weights.reshape(-1) for _, _, weights in triples]), device),
    )


def attention_mask(packed: Pass, window: int | None) -> torch.Tensor:
    """`[1, 1, S, S]`, 0 where a token may look and −∞ where not: at its family's beginning and its row, never ahead.

    *window* bounds how many tokens back it sees, itself included.
    """
    owners, kin, positions = torch.tensor(packed.owners), torch.tensor(packed.kin), torch.tensor(packed.positions)
    own = (kin[:, None] == kin[None, :]) & ((owners[:, None] == owners[None, :]) | (owners[None, :] < 0))
    behind = positions[:, None] - positions[None, :]
    seen = own & (behind >= 0)
    if window is not None:
        seen &= behind < window
    return torch.where(seen, 0.0, torch.finfo(torch.float32).min)[None, None]


def _masks(packed: Pass, model: BaseModel) -> torch.Tensor | dict[str, torch.Tensor]:
    """One mask for every layer, or one for each kind of layer where a model mixes full and sliding attention."""
    window = model.sliding_window
    if window is None or not model.mixes_attention:
        return attention_mask(packed, window).to(model.device, model.dtype)
    return {
        "full_attention": attention_mask(packed, None).to(model.device, model.dtype),
        "sliding_attention": attention_mask(packed, window).to(model.device, model.dtype),
    }


def _tensor(array: np.ndarray[Any, Any], device: torch.device) -> torch.Tensor:
    # from_numpy would alias read-only arrays, which torch warns about.
    return torch.tensor(array, device=device)
