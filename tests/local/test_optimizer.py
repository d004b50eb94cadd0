"""The optimizer of the local engine, beside `torch.optim.AdamW` itself."""

from __future__ import annotations

import torch
from torch import nn

from glowgenius.engines.tinker_types import AdamParams
from glowgenius.local.training import AdamW

PARAMS = AdamParams(learning_rate=0.03, beta1=0.8, beta2=0.9, eps=1e-6, weight_decay=0.1, grad_clip_norm=0.5)
SHAPES = {"a": (3, 4), "b": (5,), "c": (2, 2)}


def parameters(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {name: nn.Parameter(torch.randn(shape, generator=generator)) for name, shape in SHAPES.items()}


def push(matrices, seed):
    """Give each matrix the gradient that *seed* draws."""
    for name, gradient in parameters(seed).items():
        matrices[name].grad = gradient.detach().clone()


def same(one, other):
    return all(torch.equal(one[name], other[name]) for name in SHAPES)


def test_an_update_is_that_of_torch_to_the_bit():
    ours, theirs = parameters(), parameters()
    optimizer = AdamW(ours)
    reference = torch.optim.AdamW(theirs.values(), lr=0.03, betas=(0.8, 0.9), eps=1e-6, weight_decay=0.1, fused=True)
    for step in range(4):
        for matrices in (ours, theirs):
            push(matrices, seed=step + 1)
        torch.nn.utils.clip_grad_norm_(theirs.values(), 0.5)
        reference.step()
        optimizer.step(PARAMS)
        assert same(ours, theirs)
        assert all(one.grad is None for one in ours.values())


def test_without_a_gradient_a_matrix_goes_on_by_its_momentum():
    matrices = parameters()
    optimizer = AdamW(matrices)
    push(matrices, seed=1)
    optimizer.step(PARAMS)
    before = {name: one.detach().clone() for name, one in matrices.items()}
    optimizer.step(PARAMS)
    assert not any(torch.equal(before[name], matrices[name]) for name in SHAPES)


def test_there_is_nothing_to_remember_before_the_first_step():
    assert AdamW(parameters()).moments == {}


def test_moments_belong_to_the_matrix_of_their_name_whichever_were_saved():
    matrices = parameters()
    optimizer = AdamW(matrices)
    for step in range(3):
        push(matrices, seed=step + 1)
        optimizer.step(PARAMS)
    # Of the second matrix alone: the others begin afresh, and come before and behind it all the same.
    saved = {name: value.clone() for name, value in optimizer.moments.items() if name.startswith("b.")}
    restored, expected = parameters(seed=9), parameters(seed=9)
    resumed, whole = AdamW(restored), AdamW(expected)
    resumed.restore(saved)
    whole.restore(
        saved
        | {
            f"{name}.{moment}": torch.zeros(SHAPES[name] if moment != "step" else ())
            for name in "ac"
            for moment in ("step", "exp_avg", "exp_avg_sq")
        }
    )
    for one, matrices in ((resumed, restored), (whole, expected)):
        push(matrices, seed=5)
        one.step(PARAMS)
    assert same(restored, expected)
    assert {name: resumed.moments[f"{name}.step"].item() for name in SHAPES} == {"a": 1, "b": 4, "c": 1}
