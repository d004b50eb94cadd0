"""How frozen weights lie in memory while a model samples: products of few tokens wait for memory, not for arithmetic.

Weights as they come are best for the many tokens of a training pass, and need no second copy.
"""

from __future__ import annotations

import enum
import functools
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

Product: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
"""x `[S, inputs]` → x · Wᵀ + bias, `[S, outputs]`."""


class Layout(enum.Enum):
    """What the weights are laid out for."""

    ONE = enum.auto()
    """One token at a time: transposed where the outputs are no fewer than the inputs."""

    SEVERAL = enum.auto()
    """Several at a time: in the blocks that oneDNN multiplies, where torch has it."""


def laid_out(weight: torch.Tensor, bias: torch.Tensor | None, layout: Layout) -> Product:
    """The product with *weight* `[outputs, inputs]`, from a copy in *layout* where one is faster here."""
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        if layout is Layout.ONE and weight.shape[0] >= weight.shape[1]:
            return functools.partial(_transposed, weight=weight.t().contiguous(), bias=bias)
        if layout is Layout.SEVERAL and blocks_work():
            return functools.partial(_in_blocks, weight=_blocks(weight), bias=bias)
    return functools.partial(nn.functional.linear, weight=weight, bias=bias)


@functools.cache
def blocks_work() -> bool:
    """Whether this torch multiplies weights in oneDNN's blocks, tried on a small product."""
    weight, x = torch.arange(96.0).view(6, 16), torch.arange(48.0).view(3, 16)
    try:
        y = _in_blocks(x, _blocks(weight), None)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(y, x @ weight.t())


def _blocks(weight: torch.Tensor) -> torch.Tensor:
    ops: Any = torch.ops.mkldnn
    blocks: torch.Tensor = ops._reorder_linear_weight(weight)  # noqa: SLF001 - what torch's own compiler calls
    return blocks


def _in_blocks(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    ops: Any = torch.ops.mkldnn
    y: torch.Tensor = ops._linear_pointwise(x, weight, bias, "none", [], "")  # noqa: SLF001 - as above
    return y


def _transposed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)
