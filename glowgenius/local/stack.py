"""Frozen linear layers that read the same input, as one matrix, with what an adapter adds; forwards and backwards."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Self, final

import torch
from attrs import field, frozen
from torch import nn

from glowgenius.local.layout import laid_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.local.adapter import Adapter, LoraLinear
    from glowgenius.local.layout import Layout, Product


@final
@frozen(kw_only=True, eq=False)
class StackAdapter:
    """The matrices of one adapter beside a stack, in the precision of its weights."""

    a: torch.Tensor = field(repr=False)
    """The A of all layers one below the other, `[layers · R, inputs]`."""

    b: tuple[torch.Tensor, ...] = field(repr=False)
    """B · alpha / rank of each layer, `[outputs, R]`."""

    scale: float
    """Alpha / rank."""


@final
class Gradients:
    """What one pass adds to the gradient of an adapter, by the name of the layer."""

    def __init__(self) -> None:
        self.a: dict[str, torch.Tensor] = {}
        """name → gradient of A, `[R, inputs]`, fp32."""
        self.b: dict[str, torch.Tensor] = {}
        """name → gradient of B, `[outputs, R]`, fp32."""

    def add(self, name: str, a: torch.Tensor, b: torch.Tensor) -> None:
        """Count *a* and *b* in."""
        for held, value in ((self.a, a), (self.b, b)):
            if name in held:
                held[name] += value
            else:
                held[name] = value

    def add_to(self, adapter: Adapter) -> None:
        """Add all of it to what the matrices of *adapter* have accumulated."""
        for parameters, values in ((adapter.a, self.a), (adapter.b, self.b)):
            for name, value in values.items():
                parameter = parameters[name]
                parameter.grad = value if parameter.grad is None else parameter.grad.add_(value)


@final
class Stack:
    """One or more frozen linear layers on the same input."""

    def __init__(
        self,
        names: tuple[str, ...],
        sizes: tuple[int, ...],
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        product: Product | None = None,
    ) -> None:
        self.names = names
        """Of the layers."""
        self.sizes = sizes
        """How many outputs each of them has."""
        self.weight = weight
        """All weights one below the other, `[outputs, inputs]`."""
        self._bias = bias
        self._product = (
            functools.partial(nn.functional.linear, weight=weight, bias=bias) if product is None else product
        )

    @classmethod
    def of(cls, layers: Sequence[LoraLinear]) -> Self:
        """*layers* as one; where they are several they keep their numbers, and lose their copies of them."""
        sizes = tuple(layer.out_features for layer in layers)
        weight = layers[0].weight.detach()
        if len(layers) > 1:
            weight = torch.cat([layer.weight.detach() for layer in layers])
            for layer, part in zip(layers, weight.split_with_sizes(sizes), strict=True):
                layer.weight = nn.Parameter(part, requires_grad=False)
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        return cls(tuple(layer.name for layer in layers), sizes, weight, torch.cat(biases) if biases else None)

    def ready(self, adapter: Adapter | None, layout: Layout) -> Stack:
        """The same layers with *adapter* added to their weights, in *layout*; only `forward` is left."""
        weight = self.weight
        if adapter is not None and self.names[0] in adapter.a:
            weight = weight.clone()
            for part, name in zip(weight.split_with_sizes(self.sizes), self.names, strict=True):
                part.addmm_(adapter.b[name].detach(), adapter.a[name].detach(), alpha=adapter.spec.scale)
        return Stack(self.names, self.sizes, self.weight, self._bias, laid_out(weight, self._bias, layout))

    def adapter(self, adapter: Adapter | None) -> StackAdapter | None:
        """What *adapter* holds for this stack, ready for its products; None where it holds nothing."""
        if adapter is None or self.names[0] not in adapter.a:
            return None
        dtype, scale = self.weight.dtype, adapter.spec.scale
        return StackAdapter(
            a=torch.cat([adapter.a[name].detach() for name in self.names]).to(dtype),
            b=tuple((adapter.b[name].detach() * scale).to(dtype) for name in self.names),
            scale=scale,
        )

    def forward(self, x: torch.Tensor, adapter: StackAdapter | None) -> tuple[torch.Tensor, torch.Tensor | None]:
        """The outputs `[S, outputs]` of all layers side by side, and A · x `[S, layers · R]` where it is adapted."""
        low = self.low(x, adapter)
        return self.outputs(x, low, adapter), low

    @staticmethod
    def low(x: torch.Tensor, adapter: StackAdapter | None) -> torch.Tensor | None:
        """A · x, `[S, layers · R]`, where it is adapted."""
        return None if adapter is None else x @ adapter.a.t()

    def outputs(self, x: torch.Tensor, low: torch.Tensor | None, adapter: StackAdapter | None) -> torch.Tensor:
        """The outputs of all layers side by side, `[S, outputs]`, from their input and *low*."""
        y = self._product(x)
        if adapter is None or low is None:
            return y
        for part, inner, b in zip(
            y.split_with_sizes(self.sizes, 1), low.chunk(len(self.sizes), 1), adapter.b, strict=True
        ):
            part.addmm_(inner, b.t())
        return y

    def backward(
        self,
        gradient: torch.Tensor,
        x: Callable[[], torch.Tensor],
        low: torch.Tensor | None,
        adapter: StackAdapter | None,
        gradients: Gradients,
        *,
        through: bool = True,
    ) -> torch.Tensor:
        """Add the gradients of the adapter to *gradients*; return that of the input *x*.

        *x* is asked for only where the adapter needs it. Without *through*, nothing is needed below and what comes
        back means nothing.
        """
        result = gradient @ self.weight if through else gradient
        if adapter is None or low is None:
            return result
        inner = torch.empty_like(low)
        count = len(self.sizes)
        parts = zip(
            gradient.split_with_sizes(self.sizes, 1), low.chunk(count, 1), inner.chunk(count, 1), adapter.b, strict=True
        )
        b: list[torch.Tensor] = []
        for part, forward, backward, matrix in parts:
            torch.mm(part, matrix, out=backward)
            b.append((part.t() @ forward).float().mul_(adapter.scale))
        for name, one, other in zip(self.names, (inner.t() @ x()).float().chunk(count), b, strict=True):
            gradients.add(name, one, other)
        return result.addmm_(inner, adapter.a) if through else result
