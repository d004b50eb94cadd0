"""One transformer layer: forward and backward pass, its fused linear layers and pointwise operations."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Generic, Self, TypeVar, final

import torch
from attrs import field, frozen
from torch import nn

from glowgenius.local.native.plain_model import laid_out

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.local.adapter import Adapter, LoraLinear
    from glowgenius.local.native.attention import Attending, Attention, Heads
    from glowgenius.local.native.plain_model import Layout, Product


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """X / √(mean x² + eps) · weight over the last axis (Zhang and Sennrich 2019), and 1 / √(…) for its gradient."""
    wide = x.float()
    inverse = wide.square().mean(-1, keepdim=True).add_(eps).rsqrt_()
    return normalised(x, inverse, weight), inverse


def normalised(x: torch.Tensor, inverse: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """What `rms_norm` gave, from the *inverse* that came with it."""
    scaled = x * inverse if x.dtype == torch.float32 else (x.float() * inverse).to(x.dtype)
    return scaled.mul_(weight)


def rms_norm_backward(
    gradient: torch.Tensor, x: torch.Tensor, inverse: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The gradient of the input of `rms_norm`; *weight* is frozen. *gradient* is overwritten."""
    scaled = gradient.mul_(weight).float()
    mean = (scaled * x.float()).mean(-1, keepdim=True).mul_(inverse.square()).neg_()
    # inverse · (scaled − x · inverse² · mean(scaled · x))
    return scaled.addcmul_(x.float(), mean).mul_(inverse).to(x.dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> None:
    """Turn the halves of the last axis of *x* `[S, heads, D]` by the angles `[S, 1, D/2]`, in place (RoFormer).

    With −sin it is the backward pass, which is also right where cos and sin carry a factor.
    """
    first, second = x.chunk(2, dim=-1)
    turned = first * cos
    turned.addcmul_(second, sin, value=-1)
    second.mul_(cos).addcmul_(first, sin)
    first.copy_(turned)


def swiglu(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """silu(gate) · up (Shazeer 2020)."""
    return torch.nn.functional.silu(gate).mul_(up)


def swiglu_backward(gradient: torch.Tensor, gate: torch.Tensor, up: torch.Tensor) -> None:
    """Put the gradients of *gate* and *up* in their place; *gradient* is overwritten."""
    opened = torch.nn.functional.silu(gate)
    through = gradient * up
    torch.mul(gradient, opened, out=up)
    torch.ops.aten.silu_backward.grad_input(through, gate, grad_input=gate)


A_co = TypeVar("A_co", bound="Attending", covariant=True)


@final
@frozen(kw_only=True, eq=False)
class LayerAdapter:
    """Adapter matrices of one decoder layer."""

    qkv: StackAdapter | None
    """Beside queries, keys and values."""

    out: StackAdapter | None
    """Beside what follows the attention."""

    gate_up: StackAdapter | None
    """Beside the first half of the MLP."""

    down: StackAdapter | None
    """Beside its second half."""

    @property
    def attends(self) -> bool:
        """Whether any adapted matrix is in the attention."""
        return self.qkv is not None or self.out is not None

    @property
    def empty(self) -> bool:
        """Whether nothing beside this layer is trained."""
        return not self.attends and self.gate_up is None and self.down is None


@final
@frozen(kw_only=True, eq=False)
class Frame(Generic[A_co]):
    """Inputs that all layers of one pass share."""

    attention: A_co
    """Who sees whom."""

    cos: torch.Tensor = field(repr=False)
    """`[S, 1, D/2]`."""

    sin: torch.Tensor = field(repr=False)
    """`[S, 1, D/2]`."""

    scored: torch.Tensor = field(repr=False)
    """`[P]`: the places whose logits are needed."""


@final
@frozen(kw_only=True, eq=False)
class Kept:
    """What the backward pass through one layer needs; `P` stands for `S` where not only scored places went on."""

    x: torch.Tensor
    """The input, `[S, H]`."""

    norm: torch.Tensor
    """1 / √(mean x² + eps), `[S, 1]`."""

    raw: tuple[tuple[torch.Tensor, torch.Tensor], ...]
    """Queries and keys before their own norms, with 1 / √(…) of those, where the model has them."""

    qkv: torch.Tensor
    """Rotated queries and keys, and values, `[S, (Q + 2 K) · D]`."""

    attended: torch.Tensor
    """`[P, Q · D]`."""

    middle: torch.Tensor
    """The residual stream between attention and MLP, `[P, H]`."""

    middle_norm: torch.Tensor
    """1 / √(mean middle² + eps), `[P, 1]`."""

    gate_up: torch.Tensor
    """`[P, 2 I]`; the backward pass overwrites it."""

    low: tuple[torch.Tensor | None, ...]
    """A · input of the four stacks, in the order in which they are met."""


@final
@frozen(kw_only=True, eq=False)
class Layer:
    """The frozen parts of one decoder layer."""

    heads: Heads
    """The shape of its attention."""

    eps: float
    """Of its norms."""

    window: int | None
    """How many tokens back the attention sees, itself included; None where it sees all."""

    qkv: Stack
    """Queries, keys and values."""

    out: Stack
    """What follows the attention."""

    gate_up: Stack
    """The first half of the MLP."""

    down: Stack
    """Its second half."""

    before_attention: torch.Tensor = field(repr=False)
    """The weight of the norm before the attention, `[H]`."""

    before_mlp: torch.Tensor = field(repr=False)
    """The weight of the norm before the MLP, `[H]`."""

    head_norms: tuple[torch.Tensor, ...] = field(repr=False)
    """The weights of the norms of each query and each key, `[D]`, where the model has them (Qwen3)."""

    def forward(
        self, x: torch.Tensor, adapter: LayerAdapter, frame: Frame[Attending], *, last: bool = False
    ) -> tuple[torch.Tensor, Kept]:
        """Output residual stream of the layer, `[S, H]`, and the saved activations for the backward pass.

        Behind the attention of the *last* layer only the scored places go on, `[P, H]`: nobody looks at the others.
        """
        kept, opened = self._opened(x, adapter, frame, last=last)
        result = self.down.outputs(opened, kept.low[3], adapter.down)
        result += kept.middle
        return result, kept

    def again(self, x: torch.Tensor, adapter: LayerAdapter, frame: Frame[Attending], *, last: bool = False) -> Kept:
        """Recompute the saved activations of `forward` from its input *x* `[S, H]`; bitwise equal."""
        return self._opened(x, adapter, frame, last=last)[0]

    def numbers(self, adapter: LayerAdapter) -> int:
        """Activations saved per token for the backward pass."""
        heads, width = self.heads, self.qkv.weight.shape[1]
        raw = (heads.queries + heads.keys) * (heads.size + 1) if self.head_norms else 0
        stacks = [stack for stack in (adapter.qkv, adapter.out, adapter.gate_up, adapter.down) if stack is not None]
        wide = self.qkv.weight.shape[0] + self.out.weight.shape[1] + self.gate_up.weight.shape[0]
        return 2 * (width + 1) + raw + wide + sum(stack.a.shape[0] for stack in stacks)

    def _opened(
        self, x: torch.Tensor, adapter: LayerAdapter, frame: Frame[Attending], *, last: bool
    ) -> tuple[Kept, torch.Tensor]:
        """All but the last product, and what that reads, `[P, I]`."""
        normed, norm = rms_norm(x, self.before_attention, self.eps)
        qkv, qkv_low = self.qkv.forward(normed, adapter.qkv)
        raw = self.turn(qkv, frame.cos, frame.sin)
        attended, stream = frame.attention.forward(qkv, self.window), x
        if last:
            attended, stream = attended[frame.scored], stream[frame.scored]
        middle, out_low = self.out.forward(attended, adapter.out)
        middle += stream
        normed, middle_norm = rms_norm(middle, self.before_mlp, self.eps)
        gate_up, gate_up_low = self.gate_up.forward(normed, adapter.gate_up)
        opened = swiglu(*gate_up.chunk(2, 1))
        kept = Kept(
            x=x,
            norm=norm,
            raw=raw,
            qkv=qkv,
            attended=attended,
            middle=middle,
            middle_norm=middle_norm,
            gate_up=gate_up,
            low=(qkv_low, out_low, gate_up_low, self.down.low(opened, adapter.down)),
        )
        return kept, opened

    def backward(
        self,
        gradient: torch.Tensor,
        kept: Kept,
        adapter: LayerAdapter,
        frame: Frame[Attention],
        gradients: Gradients,
        *,
        lowest: bool = False,
        last: bool = False,
    ) -> torch.Tensor:
        """Add the gradients of the adapter to *gradients*; return that of the input, from that of the output.

        Below the *lowest* adapted layer no gradient is needed: the backward pass ends where the last matrix is met.
        """
        ends = lowest and not adapter.attends
        gradient = self._mlp_backward(gradient, kept, adapter, gradients, through=not ends)
        if ends:
            return gradient
        above = self.out.backward(gradient, lambda: kept.attended, kept.low[1], adapter.out, gradients)
        if last:
            above = _spread(above, frame.scored, len(kept.x))
            gradient = _spread(gradient, frame.scored, len(kept.x))
        above = frame.attention.backward(above, kept.qkv, self.window)
        self._turn_back(above, kept, frame)
        above = self.qkv.backward(
            above,
            lambda: normalised(kept.x, kept.norm, self.before_attention),
            kept.low[0],
            adapter.qkv,
            gradients,
            through=not lowest,
        )
        if lowest:
            return gradient
        return gradient.add_(rms_norm_backward(above, kept.x, kept.norm, self.before_attention))

    def turn(
        self, qkv: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor
    ) -> tuple[tuple[torch.Tensor, torch.Tensor], ...]:
        """Norm queries and keys where the model does so, and rotate them, in place; returns the pre-norm inputs."""
        raw: list[tuple[torch.Tensor, torch.Tensor]] = []
        for part, weight in zip(self._parts(qkv), self.head_norms, strict=False):
            before = part.clone()
            normed, inverse = rms_norm(before, weight, self.eps)
            part.copy_(normed)
            raw.append((before, inverse))
        rotate(self._turning(qkv), cos, sin)
        return tuple(raw)

    def _turn_back(self, gradient: torch.Tensor, kept: Kept, frame: Frame[Attention]) -> None:
        """The backward pass through `turn`, in place."""
        rotate(self._turning(gradient), frame.cos, -frame.sin)
        for part, weight, (before, inverse) in zip(self._parts(gradient), self.head_norms, kept.raw, strict=False):
            part.copy_(rms_norm_backward(part, before, inverse, weight))

    def _mlp_backward(
        self, gradient: torch.Tensor, kept: Kept, adapter: LayerAdapter, gradients: Gradients, *, through: bool
    ) -> torch.Tensor:
        gate, up = kept.gate_up.chunk(2, 1)
        above = self.down.backward(gradient, lambda: swiglu(gate, up), kept.low[3], adapter.down, gradients)
        swiglu_backward(above, gate, up)
        above = self.gate_up.backward(
            kept.gate_up,
            lambda: normalised(kept.middle, kept.middle_norm, self.before_mlp),
            kept.low[2],
            adapter.gate_up,
            gradients,
            through=through,
        )
        if not through:
            return gradient
        return gradient.add_(rms_norm_backward(above, kept.middle, kept.middle_norm, self.before_mlp))

    def _turning(self, qkv: torch.Tensor) -> torch.Tensor:
        """What is rotated: queries and keys, `[S, Q + K, D]`."""
        return qkv.view(len(qkv), -1, self.heads.size)[:, : self.heads.queries + self.heads.keys]

    def _parts(self, qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Queries `[S, Q, D]` and keys `[S, K, D]`."""
        both = self._turning(qkv)
        return both[:, : self.heads.queries], both[:, self.heads.queries :]


def _spread(values: torch.Tensor, places: torch.Tensor, length: int) -> torch.Tensor:
    return values.new_zeros(length, values.shape[1]).index_copy_(0, places, values)


@final
@frozen(kw_only=True, eq=False)
class StackAdapter:
    """Adapter matrices of fused linear layers, in the precision of the weights."""

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
        """Add the gradients of *a* and *b*."""
        for held, value in ((self.a, a), (self.b, b)):
            if name in held:
                held[name] += value
            else:
                held[name] = value

    def add_to(self, adapter: Adapter) -> None:
        """Add all gradients to those accumulated in the matrices of *adapter*."""
        for parameters, values in ((adapter.a, self.a), (adapter.b, self.b)):
            for name, value in values.items():
                parameter = parameters[name]
                parameter.grad = value if parameter.grad is None else parameter.grad.add_(value)


@final
class Stack:
    """One or more fused frozen linear layers on the same input."""

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
        """The adapter matrices of these fused layers, ready for use; None if there are none."""
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
