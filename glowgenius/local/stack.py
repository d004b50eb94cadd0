"""Frozen linear layers that read the same input, as one matrix, with what an adapter adds; forwards and backwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from attrs import field, frozen
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.local.adapter import Adapter, LoraLinear


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

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.names = tuple(layer.name for layer in layers)
        self.sizes = tuple(layer.out_features for layer in layers)
        self.weight = layers[0].weight.detach()
        """All weights one below the other, `[outputs, inputs]`."""
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        self.bias = torch.cat(biases) if biases else None
        if len(layers) > 1:
            self.weight = torch.cat([layer.weight.detach() for layer in layers])
            # The layers keep their numbers, and lose their copies of them.
            for layer, part in zip(layers, self.weight.split_with_sizes(self.sizes), strict=True):
                layer.weight = nn.Parameter(part, requires_grad=False)

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
        y = nn.functional.linear(x, self.weight, self.bias)
        if adapter is None:
            return y, None
        low = x @ adapter.a.t()
        for part, inner, b in zip(
            y.split_with_sizes(self.sizes, 1), low.chunk(len(self.sizes), 1), adapter.b, strict=True
        ):
            part.addmm_(inner, b.t())
        return y, low

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
