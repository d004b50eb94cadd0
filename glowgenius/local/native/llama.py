"""A Llama-shaped model: forward pass, backward pass and unembedding."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, final

import torch
from attrs import evolve, frozen

from glowgenius.local.machine import Kept as memory_Kept
from glowgenius.local.native.attention import Attention, Heads, tiles
from glowgenius.local.native.layer import (
    Frame,
    Gradients,
    Kept,
    Layer,
    LayerAdapter,
    Stack,
    StackAdapter,
    rms_norm,
    rms_norm_backward,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.local.adapter import Adapter, LoraLinear
    from glowgenius.local.native.attention import Attending
    from glowgenius.local.native.plain_model import Layout, Rotary
    from glowgenius.local.packing import Pass

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


_MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3")
_ROPE_TYPES = ("default", "linear", "llama3", "yarn")
"""Rotary frequencies that do not depend on the length of the sequence."""


def unsuitable(config: Any) -> str | None:
    """Why a model of *config*, one of `transformers`, cannot be computed by this module, if it cannot."""
    if config.model_type not in _MODEL_TYPES:
        return f"{config.model_type!r} is not one of {', '.join(_MODEL_TYPES)}"
    if config.hidden_act != "silu":
        return f"its activation is {config.hidden_act!r}, not 'silu'"
    rope: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    kind = rope.get("rope_type", "default")
    if kind not in _ROPE_TYPES:
        return f"its rotary embedding is of the type {kind!r}, which depends on the length"
    if rope.get("partial_rotary_factor", 1) != 1:
        return "only a part of each head is rotated"
    return None


@final
@frozen(kw_only=True, eq=False)
class ModelAdapter:
    """Adapter matrices of every part of the model, ready for use."""

    layers: tuple[LayerAdapter, ...]
    """Beside the layers, the lowest first."""

    head: StackAdapter | None
    """Beside the unembedding."""

    @property
    def lowest(self) -> int:
        """The lowest layer that is adapted; the number of layers where none is."""
        return next((index for index, one in enumerate(self.layers) if not one.empty), len(self.layers))


@final
class Llama:
    """Forward and backward pass of a Llama-shaped model, from its frozen matrices."""

    def __init__(
        self, config: Any, weights: Mapping[str, torch.Tensor], linear: Mapping[str, LoraLinear], rotary: Rotary
    ) -> None:
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        self.heads = Heads(
            queries=config.num_attention_heads, keys=config.num_key_value_heads, size=size, scale=size**-0.5
        )
        self.eps = float(config.rms_norm_eps)
        self.embedding: torch.Tensor = weights["model.embed_tokens.weight"].detach()
        """`[V, H]`."""
        self.norm: torch.Tensor = weights["model.norm.weight"].detach()
        """The weight of the norm before the unembedding, `[H]`."""
        self.head = Stack.of([linear["lm_head"]])
        """The unembedding."""
        self.layers = tuple(self._layer(config, weights, linear, index) for index in range(config.num_hidden_layers))
        self._rotary = rotary

    def adapter(self, adapter: Adapter | None) -> ModelAdapter:
        """*adapter*, ready for the products of one call."""
        return ModelAdapter(
            layers=tuple(
                LayerAdapter(
                    qkv=layer.qkv.adapter(adapter),
                    out=layer.out.adapter(adapter),
                    gate_up=layer.gate_up.adapter(adapter),
                    down=layer.down.adapter(adapter),
                )
                for layer in self.layers
            ),
            head=self.head.adapter(adapter),
        )

    def ready(self, adapter: Adapter | None, layout: Layout) -> Llama:
        """The same model with *adapter* added to its weights, in the *layout* of sampling; only `forward` is left."""
        made = copy.copy(self)
        made.head = self.head.ready(adapter, layout)
        made.layers = tuple(
            evolve(
                layer,
                qkv=layer.qkv.ready(adapter, layout),
                out=layer.out.ready(adapter, layout),
                gate_up=layer.gate_up.ready(adapter, layout),
                down=layer.down.ready(adapter, layout),
            )
            for layer in self.layers
        )
        return made

    def logits(self, hidden: torch.Tensor, adapter: ModelAdapter) -> torch.Tensor:
        """Of the next token, `[P, V]`, from the residual stream *hidden* `[P, H]` that `forward` returned."""
        normed, _ = rms_norm(hidden, self.norm, self.eps)
        return self.head.forward(normed, adapter.head)[0]

    def angles(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosine and sine of what queries and keys at *positions* `[S]` are turned by, `[S, 1, D/2]`."""
        cos, sin = self._rotary(positions)
        return cos[:, None], sin[:, None]

    def frame(self, packed: Pass) -> Frame[Attention]:
        """Inputs that the layers need for *packed*."""
        device = self.embedding.device
        cos, sin = self.angles(torch.tensor(packed.positions, device=device))
        return Frame(
            attention=Attention(self.heads, tiles(packed.families, self.heads, device)),
            cos=cos,
            sin=sin,
            scored=torch.tensor(packed.scored, device=device),
        )

    def forward(
        self, tokens: torch.Tensor, frame: Frame[Attending], adapter: ModelAdapter, *, keep: bool, again: int = 0
    ) -> tuple[torch.Tensor, list[Kept | torch.Tensor]]:
        """The residual stream of *tokens* `[S]` behind the last layer at the scored places, `[P, H]`.

        With *keep* comes what the backward pass needs; of the lowest *again* layers that it goes through, their input
        alone. What the others keep is free by the time that it gets there.
        """
        x = self.embedding[tokens]
        kept: list[Kept | torch.Tensor] = []
        whole = adapter.lowest + again
        for index, (layer, own) in enumerate(zip(self.layers, adapter.layers, strict=True)):
            above, state = layer.forward(x, own, frame, last=index == len(self.layers) - 1)
            if keep and index >= adapter.lowest:
                kept.append(state if index >= whole else x)
            x = above
        return x, kept

    def kept(self, adapter: ModelAdapter, tokens: int) -> memory_Kept:
        """Saved activations of *tokens* for the backward pass, less those of the last layer that it does not need."""
        size = tokens * self.embedding.element_size()
        return memory_Kept(
            tokens=tokens,
            layers=len(self.layers) - adapter.lowest,
            whole=size * max(layer.numbers(own) for layer, own in zip(self.layers, adapter.layers, strict=True)),
            least=size * self.embedding.shape[1],
        )

    def unembed(
        self,
        hidden: torch.Tensor,
        adapter: ModelAdapter,
        where: torch.Tensor,
        targets: torch.Tensor,
        weights: torch.Tensor,
        gradients: Gradients | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As `target_logprobs`, from the residual stream *hidden* `[P, H]` that `forward` returned."""
        normed, inverse = rms_norm(hidden, self.norm, self.eps)
        chosen, above = target_logprobs(self.head, adapter.head, normed, where, targets, weights, gradients)
        if gradients is not None:
            above = rms_norm_backward(above, hidden, inverse, self.norm)
        return chosen, above

    def backward(
        self,
        gradient: torch.Tensor,
        kept: list[Kept | torch.Tensor],
        frame: Frame[Attention],
        adapter: ModelAdapter,
        gradients: Gradients,
    ) -> None:
        """Add to *gradients* what follows from the *gradient* `[P, H]` of what `forward` returned; empties *kept*."""
        top = len(self.layers) - 1
        for index in range(top, adapter.lowest - 1, -1):
            layer, own, state, last = self.layers[index], adapter.layers[index], kept.pop(), index == top
            if isinstance(state, torch.Tensor):
                state = layer.again(state, own, frame, last=last)
            lowest = index == adapter.lowest
            gradient = layer.backward(gradient, state, own, frame, gradients, lowest=lowest, last=last)

    def _layer(
        self, config: Any, weights: Mapping[str, torch.Tensor], linear: Mapping[str, LoraLinear], index: int
    ) -> Layer:
        def stack(parent: str, *names: str) -> Stack:
            return Stack.of([linear[f"model.layers.{index}.{parent}.{name}_proj"] for name in names])

        def norms(*names: str) -> tuple[torch.Tensor, ...]:
            places = [f"model.layers.{index}.{name}.weight" for name in names]
            return tuple(weights[place].detach() for place in places if place in weights)

        before_attention, before_mlp = norms("input_layernorm", "post_attention_layernorm")
        return Layer(
            heads=self.heads,
            eps=self.eps,
            window=_window(config, index),
            qkv=stack("self_attn", "q", "k", "v"),
            out=stack("self_attn", "o"),
            gate_up=stack("mlp", "gate", "up"),
            down=stack("mlp", "down"),
            before_attention=before_attention,
            before_mlp=before_mlp,
            head_norms=norms("self_attn.q_norm", "self_attn.k_norm"),
        )


def _window(config: Any, index: int) -> int | None:
    kinds = getattr(config, "layer_types", None)
    if kinds and kinds[index] != "sliding_attention":
        return None
    return getattr(config, "sliding_window", None)
