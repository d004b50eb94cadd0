"""The steps of a Llama-shaped layer between its products, forwards and backwards, on tensors of any precision.

Sums are taken in fp32 whatever the precision of the activations, as `transformers` does.
"""

from __future__ import annotations

import torch


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> tuple[torch.Tensor, torch.Tensor]:
    """X / √(mean x² + eps) · weight over the last axis (Zhang and Sennrich 2019), and 1 / √(…) for the way back."""
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

    With −sin it is the way back, which is also right where cos and sin carry a factor.
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
