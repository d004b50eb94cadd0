"""Weighted cross-entropy with the service's meaning: Σ −log p(target) · weight, a plain sum."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from glowgenius.local.packing import Pass, Row, plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.local.adapter import Adapter
    from glowgenius.local.model import BaseModel
    from glowgenius.typing import LogprobArray


def score(
    model: BaseModel, adapter: Adapter | None, rows: Sequence[Row], *, max_tokens: int, backward: bool
) -> tuple[float, list[LogprobArray]]:
    """The summed loss of *rows* and the log-probabilities of their weighted targets.

    Gradients are added to the adapter's matrices when *backward* is set.
    Logits are computed only where a weight is not 0; elsewhere the returned log-probability is 0.

    Returns:
        The loss in nats, and one array `[T]` for each row.
    """
    logprobs: list[LogprobArray] = [np.zeros(len(row.targets), np.float32) for row in rows]
    total = 0.0
    # One row may be a thousand times heavier than another, but none is worth a pass when none of it is scored.
    live = [index for index, row in enumerate(rows) if np.any(row.weights)]
    with model.using(adapter) as network, torch.set_grad_enabled(backward):
        for packed in plan([rows[index] for index in live], max_tokens):
            members = [live[index] for index in packed.members]
            chosen, weights = _run(network, packed, [rows[index] for index in members], model)
            loss = -(chosen * weights).sum()
            if backward:
                torch.autograd.backward(loss)
            total += float(loss.detach())
            values = chosen.detach().cpu().numpy()
            start = 0
            for index, places in zip(members, packed.places, strict=True):
                logprobs[index][places] = values[start : start + len(places)]
                start += len(places)
    return total, logprobs


def _run(network: Any, packed: Pass, rows: Sequence[Row], model: BaseModel) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probabilities and weights of the weighted targets of one pass, `[n]` each, rows one after another."""
    device = model.device
    logits = network(
        input_ids=_tensor(packed.tokens, device)[None],
        attention_mask=_masks(packed, model),
        position_ids=_tensor(packed.positions, device)[None],
        use_cache=False,
        logits_to_keep=_tensor(packed.scored, device),
    ).logits[0]
    normalised = torch.log_softmax(logits.float(), dim=-1)
    where = _tensor(np.concatenate(packed.lookup), device)
    pairs = list(zip(rows, packed.places, strict=True))
    targets = _tensor(np.concatenate([row.targets[places] for row, places in pairs]), device)
    weights = _tensor(np.concatenate([row.weights[places] for row, places in pairs]), device)
    return normalised[where, targets], weights


def attention_mask(packed: Pass, window: int | None) -> torch.Tensor:
    """`[1, 1, S, S]`, 0 where a token may look and −∞ where not: at the prefix and at its own row, never ahead.

    *window* bounds how many tokens back it sees, itself included.
    """
    segments, positions = torch.tensor(packed.segments), torch.tensor(packed.positions)
    own = (segments[:, None] == segments[None, :]) | (segments[None, :] == 0)
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
