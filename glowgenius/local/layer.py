"""One decoder layer of a Llama-shaped model, forwards and backwards, without autograd.

What is kept for the way back is the residual stream, queries, keys, values, what was attended, gate and up; all else
is computed again, which costs less than the memory it would take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar, final

from attrs import field, frozen

from glowgenius.local.pointwise import (
    normalised,
    rms_norm,
    rms_norm_backward,
    rotate,
    swiglu,
    swiglu_backward,
)

if TYPE_CHECKING:
    import torch

    from glowgenius.local.attention import Attending, Attention, Heads
    from glowgenius.local.stack import Gradients, Stack, StackAdapter

A_co = TypeVar("A_co", bound="Attending", covariant=True)


@final
@frozen(kw_only=True, eq=False)
class LayerAdapter:
    """What an adapter holds beside one layer."""

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
        """Whether anything beside the attention is trained."""
        return self.qkv is not None or self.out is not None

    @property
    def empty(self) -> bool:
        """Whether nothing beside this layer is trained."""
        return not self.attends and self.gate_up is None and self.down is None


@final
@frozen(kw_only=True, eq=False)
class Frame(Generic[A_co]):
    """What all layers of one pass share."""

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
    """What the way back through one layer needs; `P` stands for `S` where not only scored places went on."""

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
    """`[P, 2 I]`; the way back overwrites it."""

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
        """The residual stream behind the layer, `[S, H]`, and what the way back needs.

        Behind the attention of the *last* layer only the scored places go on, `[P, H]`: nobody looks at the others.
        """
        kept, opened = self._opened(x, adapter, frame, last=last)
        result = self.down.outputs(opened, kept.low[3], adapter.down)
        result += kept.middle
        return result, kept

    def again(self, x: torch.Tensor, adapter: LayerAdapter, frame: Frame[Attending], *, last: bool = False) -> Kept:
        """What `forward` gave for the way back, from its input *x* `[S, H]` alone; bit for bit."""
        return self._opened(x, adapter, frame, last=last)[0]

    def numbers(self, adapter: LayerAdapter) -> int:
        """How many numbers a token leaves behind for the way back."""
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

        Below the *lowest* adapted layer no gradient is needed: the way back ends where the last matrix is met.
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
        """Norm queries and keys where the model does so, and rotate them; in place. What the norms met comes back."""
        raw: list[tuple[torch.Tensor, torch.Tensor]] = []
        for part, weight in zip(self._parts(qkv), self.head_norms, strict=False):
            before = part.clone()
            normed, inverse = rms_norm(before, weight, self.eps)
            part.copy_(normed)
            raw.append((before, inverse))
        rotate(self._turning(qkv), cos, sin)
        return tuple(raw)

    def _turn_back(self, gradient: torch.Tensor, kept: Kept, frame: Frame[Attention]) -> None:
        """The way back through `turn`, in place."""
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
