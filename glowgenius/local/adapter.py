"""LoRA adapters: one pair of small matrices for each adapted linear layer.

W' = W + (alpha / rank) · B · A, with A uniform in ±1/√(inputs) and B = 0 (Hu et al. 2021, section 4.1; scaling and
initialisation as in "LoRA Without Regret", Schulman et al. 2025).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

import torch
from attrs import field, frozen
from torch import nn
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

DEFAULT_ALPHA = 32.0
"""The alpha of "LoRA Without Regret"."""

_ATTENTION = ("self_attn", "attn", "attention", "self_attention")
_MLP = ("mlp", "feed_forward", "ffn")


def kind_of(name: str) -> str | None:
    """Whether the layer *name* belongs to the attention (`attn`) or the `mlp`; None of anything else."""
    parts = name.split(".")[:-1]
    if any(part in _ATTENTION for part in parts):
        return "attn"
    return "mlp" if any(part in _MLP for part in parts) else None


@final
@frozen(kw_only=True)
class AdapterSpec:
    """Settings of an adapter: rank, alpha and layers, without its weights."""

    rank: int
    """The inner size of every pair of matrices; 1 or more."""

    alpha: float = DEFAULT_ALPHA
    """The strength of the correction: B · A is multiplied by alpha / rank; above 0."""

    seed: int = 0
    """What the numbers of A are drawn with."""

    train_mlp: bool = True
    """Whether the linear layers of the MLPs are adapted."""

    train_attn: bool = True
    """Whether the projections of the attention are adapted."""

    train_unembed: bool = True
    """Whether the unembedding is adapted, on its output side only where it is tied to the embedding."""

    @property
    def scale(self) -> float:
        """Alpha / rank: what B · A is multiplied by."""
        return self.alpha / self.rank


@final
@frozen(kw_only=True, eq=False)
class Adapter:
    """The matrices of one adapter, by the name of the layer they stand beside."""

    spec: AdapterSpec
    """What the numbers belong to."""

    a: dict[str, torch.Tensor] = field(repr=False)
    """name → A, `[R, inputs]`."""

    b: dict[str, torch.Tensor] = field(repr=False)
    """name → B, `[outputs, R]`."""

    def named_parameters(self) -> Iterator[tuple[str, torch.Tensor]]:
        """Every trained matrix by its own name, in the order of the model's layers."""
        for name in self.a:
            yield f"{name}.lora_A", self.a[name]
            yield f"{name}.lora_B", self.b[name]

    def parameters(self) -> Iterator[torch.Tensor]:
        """Every trained matrix, in the order of `named_parameters`."""
        for _, parameter in self.named_parameters():
            yield parameter

    def snapshot(self) -> Adapter:
        """A copy that later updates do not touch."""
        return Adapter(
            spec=self.spec,
            a={name: value.detach().clone() for name, value in self.a.items()},
            b={name: value.detach().clone() for name, value in self.b.items()},
        )

    def count(self) -> int:
        """Number of trainable parameters."""
        return sum(value.numel() for value in self.parameters())


def fresh(spec: AdapterSpec, layers: Mapping[str, LoraLinear]) -> Adapter:
    """A new adapter on *layers*; the same seed gives the same numbers."""
    generator = torch.Generator().manual_seed(spec.seed)
    a: dict[str, torch.Tensor] = {}
    b: dict[str, torch.Tensor] = {}
    for name, layer in layers.items():
        outputs, inputs = layer.weight.shape
        bound = 1 / math.sqrt(inputs)
        values = torch.empty(spec.rank, inputs).uniform_(-bound, bound, generator=generator)
        a[name] = values.to(layer.weight.device).requires_grad_()
        b[name] = torch.zeros(outputs, spec.rank, device=layer.weight.device).requires_grad_()
    return Adapter(spec=spec, a=a, b=b)


def trainable(adapter: Adapter) -> Adapter:
    """A copy of *adapter* to train further."""
    copy = adapter.snapshot()
    for parameter in copy.parameters():
        parameter.requires_grad_()
    return copy


@final
class Active:
    """What the layers of a model do at this moment."""

    def __init__(self) -> None:
        self.adapter: Adapter | None = None
        """What they apply; None is the base model, exactly."""
        self.again = 0
        """How many decoder layers, the lowest first, keep their input alone for the backward pass of autograd."""


@final
class LoraLinear(nn.Module):
    """A frozen linear layer and the correction that the active adapter holds for it."""

    def __init__(self, name: str, weight: torch.Tensor, bias: torch.Tensor | None, active: Active) -> None:
        super().__init__()
        self.name = name
        self.weight = nn.Parameter(weight, requires_grad=False)
        """The frozen base weight, `[outputs, inputs]`."""
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)
        self.out_features, self.in_features = weight.shape
        self._active = active

    @override
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.linear(x, self.weight, self.bias)
        adapter = self._active.adapter
        if adapter is None or self.name not in adapter.a:
            return y
        # The matrices are fp32; the products run in the precision of the frozen weights.
        low = nn.functional.linear(x, adapter.a[self.name].to(x.dtype))
        return y + nn.functional.linear(low, (adapter.b[self.name] * adapter.spec.scale).to(x.dtype))
