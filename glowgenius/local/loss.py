"""Weighted cross-entropy loss as on Tinker: Σ −log p(target) · weight, summed and not averaged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast

import numpy as np
import torch

from glowgenius._output import logger
from glowgenius.local.adapter import AdapterSpec
from glowgenius.local.machine import Kept, side_by_side
from glowgenius.local.model import base_model
from glowgenius.local.native.layer import Gradients
from glowgenius.local.native.llama import MOST_LOGITS
from glowgenius.local.packing import Pass, Row, plan

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from glowgenius.local.adapter import Adapter
    from glowgenius.local.machine import Checkpointing
    from glowgenius.local.model import BaseModel
    from glowgenius.local.native.llama import Llama, ModelAdapter
    from glowgenius.typing import LogprobArray, TokenArray

PROVED_DEVICES: Final = frozenset({"cpu"})
"""Types of torch devices on which the tests compare the native engine with `transformers`."""

_ALLOWED: Final = {torch.float32: 1e-3, torch.bfloat16: 0.1, torch.float16: 0.05}
"""Largest relative difference of loss and gradients between the two, by the precision of the weights."""

_LOG = logger("glowgenius.local")

_TRIED = (16, 32, 64)
"""The lengths of the passes on which it is measured how much modules keep."""


def score(
    model: BaseModel,
    adapter: Adapter | None,
    rows: Sequence[Row],
    *,
    max_tokens: int,
    backward: bool,
    threads: int = 1,
    checkpointing: Checkpointing | None = None,
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
        checkpointing: Decides how many layers are computed again in the backward pass, to the same bits; None is none.

    Returns:
        The loss in nats, and for each row one array of the shape of its targets.
    """
    logprobs: list[LogprobArray] = [np.zeros(row.targets.shape, np.float32) for row in rows]
    total = 0.0
    done = (
        _through_transformers(model, adapter, rows, max_tokens, checkpointing, backward=backward)
        if model.llama is None
        else _quickly(model.llama, adapter, rows, max_tokens, checkpointing, backward=backward, threads=threads)
    )
    for packed, chosen, loss in done:
        total += loss
        values = chosen.cpu().numpy()
        start = 0
        for index, places in zip(packed.members, packed.places, strict=True):
            of = logprobs[index]
            count = len(places) * (1 if of.ndim == 1 else of.shape[1])
            of[places] = values[start : start + count].reshape(len(places), *of.shape[1:])
            start += count
    return total, logprobs


_Done: TypeAlias = "Iterator[tuple[Pass, torch.Tensor, float]]"
"""Every pass with its log-probabilities `[n]` and its loss, in order."""


def _quickly(
    llama: Llama,
    adapter: Adapter | None,
    rows: Sequence[Row],
    max_tokens: int,
    checkpointing: Checkpointing | None,
    *,
    backward: bool,
    threads: int,
) -> _Done:
    passes = plan(rows, max(1, max_tokens // threads), parts=threads)
    prepared, again = llama.adapter(adapter), 0
    if checkpointing is not None and backward:
        together = sorted((len(packed.tokens) for packed in passes), reverse=True)[:threads]
        again = checkpointing.again(llama.kept(prepared, sum(together)))

    @torch.no_grad()
    def run(packed: Pass) -> tuple[torch.Tensor, float, Gradients]:
        gradients, frame = Gradients(), llama.frame(packed)
        where, targets, weights = _targets(packed, rows, llama.embedding.device)
        tokens = _tensor(packed.tokens, llama.embedding.device)
        hidden, kept = llama.forward(tokens, frame, prepared, keep=backward, again=again)
        chosen, above = llama.unembed(hidden, prepared, where, targets, weights, gradients if backward else None)
        if backward:
            llama.backward(above, kept, frame, prepared, gradients)
        return chosen, float(-(chosen * weights).sum()), gradients

    for packed, (chosen, loss, gradients) in zip(passes, side_by_side(run, passes, threads), strict=True):
        if adapter is not None and backward:
            gradients.add_to(adapter)
        yield packed, chosen, loss


def _through_transformers(
    model: BaseModel,
    adapter: Adapter | None,
    rows: Sequence[Row],
    max_tokens: int,
    checkpointing: Checkpointing | None,
    *,
    backward: bool,
) -> _Done:
    passes, again = plan(rows, max_tokens), 0
    if checkpointing is not None and backward and adapter is not None and passes:
        kept = kept_by_modules(model, adapter, max(len(one.tokens) for one in passes), measure=checkpointing.measures)
        again = checkpointing.again(kept)
    with model.using(adapter, again=again) as network, torch.set_grad_enabled(backward):
        for packed in passes:
            where, targets, weights = _targets(packed, rows, model.device)
            logits = scored_logits(network, packed, model)
            chosen = torch.log_softmax(logits.float(), dim=-1)[where, targets]
            loss = -(chosen * weights).sum()
            if backward:
                torch.autograd.backward(loss)
            yield packed, chosen.detach(), float(loss.detach())


def kept_by_modules(model: BaseModel, adapter: Adapter, tokens: int, *, measure: bool = True) -> Kept:
    """Bytes of activations the model's modules save for *tokens*; measured on short passes where it matters.

    Attention may keep what grows with the square of the tokens, so three lengths are tried and a parabola is drawn.
    """
    layers, least = model.config.num_hidden_layers, tokens * model.config.hidden_size * model.dtype.itemsize
    if not measure:
        return Kept(tokens=tokens, layers=layers, whole=least, least=least)
    if adapter.spec not in model.kept:
        sizes = [_kept_of(model, adapter, length) for length in _TRIED]
        model.kept[adapter.spec] = np.polynomial.Polynomial.fit(_TRIED, sizes, 2)
    whole = int(max(0.0, model.kept[adapter.spec](tokens))) // layers
    return Kept(tokens=tokens, layers=layers, whole=whole, least=min(least, whole))


def _kept_of(model: BaseModel, adapter: Adapter, tokens: int) -> int:
    """Bytes that autograd saves for one row of *tokens*."""
    ids = np.zeros(tokens, np.int64)
    last = (np.arange(tokens) == tokens - 1).astype(np.float32)
    [packed] = plan([Row(inputs=ids, targets=ids, weights=last)], tokens)
    old = {tensor.untyped_storage().data_ptr() for tensor in (*model.network.parameters(), *adapter.parameters())}
    found: dict[int, int] = {}

    def count(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in old:
            found[storage.data_ptr()] = storage.nbytes()
        # Not the tensor itself, which may hold the node that keeps it: a knot that is never freed.
        return tensor.detach()

    with (
        model.using(adapter) as network,
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor),
    ):
        held = scored_logits(network, packed, model)
    del held
    return sum(found.values())


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
            tops = [_top_k_through_transformers(network, packed, model, k) for packed in passes]
    else:
        prepared = llama.adapter(adapter)
        tops = list(side_by_side(lambda packed: _top_k_natively(llama, prepared, packed, k), passes, threads))
    found: list[tuple[TokenArray, LogprobArray]] = [(np.zeros((0, k), np.int64), np.zeros((0, k), np.float32))] * len(
        rows
    )
    for packed, (ids, values) in zip(passes, tops, strict=True):
        for index, lookup in zip(packed.members, packed.lookup, strict=True):
            found[index] = (ids[lookup], values[lookup])
    return found


@torch.no_grad()
def _top_k_natively(llama: Llama, adapter: ModelAdapter, packed: Pass, k: int) -> tuple[TokenArray, LogprobArray]:
    """For each scored place of one pass, `[P, k]`; the vocabulary times the tokens is never held whole."""
    tokens = torch.tensor(packed.tokens, device=llama.embedding.device)
    hidden, _ = llama.forward(tokens, llama.frame(packed), adapter, keep=False)
    size = max(1, MOST_LOGITS // llama.head.weight.shape[0])
    parts = [_top(llama.logits(hidden[first : first + size], adapter), k) for first in range(0, len(hidden), size)]
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([values for _, values in parts])


@torch.no_grad()
def _top_k_through_transformers(
    network: Any, packed: Pass, model: BaseModel, k: int
) -> tuple[TokenArray, LogprobArray]:
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


def load(name: str, device: str, dtype: torch.dtype) -> BaseModel:
    """The base model *name* on *device*, whose native engine was compared with `transformers` where nobody has before.

    Raises:
        ModelNotFoundError: There is no such model, or its architecture cannot be trained here.
    """
    model = base_model(name, device, dtype)
    prove(model)
    return model


def prove(model: BaseModel, proved_devices: frozenset[str] = PROVED_DEVICES) -> None:
    """Compare loss and adapter gradients of the native engine with those of `transformers` on one short packed batch.

    Done once for a loaded model, on a device that is not among *proved_devices*. The difference is logged. Where it is
    too large, or the native engine fails there, the model is computed by `transformers` from then on.
    """
    if model.proved or model.llama is None or model.device.type in proved_devices:
        return
    model.proved = True
    where, allowed = model.device.type, _ALLOWED.get(model.dtype, 0.05)
    try:
        found = _difference_from_transformers(model)
    except RuntimeError as error:  # an operation that the device lacks, for one
        model.use_transformers(f"on {where} it fails: {error}")
        _LOG.warning("the native engine fails on %s (%s): transformers is used, and is slower", where, error)
        return
    if found <= allowed:
        _LOG.info("the native engine was compared with transformers on %s: they differ by %.1e", where, found)
        return
    model.use_transformers(f"on {where} it differs from transformers by {found:.1e}, more than {allowed:.0e}")
    _LOG.warning(
        "the native engine differs from transformers by %.1e on %s (more than %.0e): transformers is used",
        found,
        where,
        allowed,
    )


def _difference_from_transformers(model: BaseModel) -> float:
    """The larger of two relative differences: of the loss, and of the gradients of an adapter that is not zero."""
    adapter = model.fresh_adapter(AdapterSpec(rank=4, alpha=8))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for matrix in adapter.b.values():
            matrix.copy_(torch.empty(matrix.shape).normal_(0.0, 0.02, generator=generator))
    numbers = np.random.default_rng(0)
    start = numbers.integers(0, model.vocabulary_size, 6)
    rows: list[Row] = []
    for length in (7, 12):
        ids = np.concatenate([start, numbers.integers(0, model.vocabulary_size, length + 1)])
        rows.append(Row(inputs=ids[:-1], targets=ids[1:], weights=np.ones(len(ids) - 1, np.float32)))

    def measured() -> tuple[float, torch.Tensor]:
        for parameter in adapter.parameters():
            parameter.grad = None
        loss, _ = score(model, adapter, rows, max_tokens=64, backward=True)
        gradients = [torch.zeros(0) if each.grad is None else each.grad for each in adapter.parameters()]
        return loss, torch.cat([each.float().flatten().cpu() for each in gradients])

    loss, gradients = measured()
    with model.through_transformers():
        expected, wanted = measured()
    found = max(abs(loss - expected) / abs(expected), float((gradients - wanted).abs().max() / wanted.abs().max()))
    return found if np.isfinite(found) else float("inf")
