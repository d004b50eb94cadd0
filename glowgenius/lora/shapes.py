"""The weight matrices that LoRA adapts, and how many numbers it adds to them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

Component = Literal["attn", "mlp", "unembed"]
"""The three switches of LoRA: attention (and what stands in for it), feed-forward, unembedding."""


@final
@frozen(kw_only=True)
class LinearGroup:
    """Equal weight matrices `[hidden, other]`, one or a bank of experts in each of some layers.

    Rank r adds a factor on each side: r · hidden and r · other numbers.
    Routed experts share the factor on the side of the hidden state; each has its own on the other side.
    Which side is the input makes no difference to the count.
    """

    component: Component
    """The switch that trains these matrices."""

    hidden: int
    """Size of the side that the experts share."""

    other: int
    """Size of the other side."""

    matrices: int = 1
    """How many there are of them over all layers, a bank of experts counted once."""

    experts: int = 1
    """Experts in each bank; 1 for a dense layer."""

    @property
    def parameters_per_rank(self) -> int:
        """Numbers that LoRA of rank 1 adds."""
        return self.matrices * (self.hidden + self.experts * self.other)

    @property
    def base_weights(self) -> int:
        """Numbers in the frozen matrices themselves."""
        return self.matrices * self.experts * self.hidden * self.other


@final
@frozen(kw_only=True)
class ParameterBreakdown:
    """How many numbers a LoRA adapter trains, by component, and how many frozen ones it corrects."""

    attn: int
    """Trained numbers in attention layers (also linear attention and state-space layers)."""

    mlp: int
    """Trained numbers in feed-forward layers, experts included."""

    unembed: int
    """Trained numbers in the unembedding."""

    base_weights: int
    """Frozen numbers in the matrices that the adapter corrects; embeddings, norms and routers are in none."""

    @property
    def total(self) -> int:
        """All trained numbers."""
        return self.attn + self.mlp + self.unembed

    @property
    def fraction(self) -> float:
        """Trained numbers as a fraction of the frozen ones that they correct."""
        return self.total / self.base_weights


def break_down(groups: Iterable[LinearGroup], *, rank: int, components: frozenset[Component]) -> ParameterBreakdown:
    """Count what LoRA of *rank* adds to those *groups* whose component is trained."""
    trained: dict[Component, int] = {"attn": 0, "mlp": 0, "unembed": 0}
    base_weights = 0
    for group in groups:
        if group.component in components:
            trained[group.component] += rank * group.parameters_per_rank
            base_weights += group.base_weights
    return ParameterBreakdown(
        attn=trained["attn"], mlp=trained["mlp"], unembed=trained["unembed"], base_weights=base_weights
    )
