"""AdamW of torch, with moments that go by the names of the matrices.

`torch.optim.AdamW` loads torch's compiler when it is first made, which takes about as long as loading torch; the
function that it calls does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import torch
from torch.optim.adamw import adamw

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.engines.tinker_types import AdamParams

_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
"""What is remembered of each matrix, as `torch.optim.AdamW` calls it."""


@final
class AdamW:
    """Decoupled weight decay (Loshchilov and Hutter 2019, algorithm 2) on fp32 matrices, one kernel for all of them."""

    def __init__(self, parameters: Mapping[str, torch.Tensor]) -> None:
        self._parameters = dict(parameters)
        self._moments: dict[str, dict[str, torch.Tensor]] = {}

    @property
    def moments(self) -> dict[str, torch.Tensor]:
        """Every moment as `{matrix}.{moment}`, on the CPU; none before the first step."""
        return {f"{name}.{moment}": value.cpu() for name, one in self._moments.items() for moment, value in one.items()}

    def restore(self, moments: Mapping[str, torch.Tensor]) -> None:
        """Go on from *moments*; a matrix of which there are none begins afresh."""
        for name, parameter in self._parameters.items():
            if f"{name}.step" in moments:
                self._moments[name] = {
                    key: moments[f"{name}.{key}"].to(parameter.device, copy=True) for key in _MOMENTS
                }

    @torch.no_grad()
    def step(self, params: AdamParams) -> None:
        """Move every matrix by its gradient, which is taken away; one without a gradient goes on by its momentum."""
        parameters = list(self._parameters.values())
        gradients = [torch.zeros_like(one) if one.grad is None else one.grad for one in parameters]
        for one, gradient in zip(parameters, gradients, strict=True):
            one.grad = gradient
        if params.grad_clip_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, params.grad_clip_norm)
        for name, one in self._parameters.items():
            if name not in self._moments:
                start = (torch.zeros((), device=one.device), torch.zeros_like(one), torch.zeros_like(one))
                self._moments[name] = dict(zip(_MOMENTS, start, strict=True))
        steps, averages, squares = ([self._moments[name][key] for name in self._parameters] for key in _MOMENTS)
        adamw(
            parameters,
            gradients,
            averages,
            squares,
            [],
            steps,
            fused=True,
            amsgrad=False,
            beta1=params.beta1,
            beta2=params.beta2,
            lr=params.learning_rate,
            weight_decay=params.weight_decay,
            eps=params.eps,
            maximize=False,
        )
        for one in parameters:
            one.grad = None
