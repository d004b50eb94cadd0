"""The model behind the scripted service learns as a model does."""

from __future__ import annotations

import numpy as np
import pytest
from attrs import evolve

from glowgenius.engines.tinker_types import AdamParams
from glowgenius.testing.byte_tokenizer import CLASSES, Bigram

INPUTS, TARGETS = np.array([3, 5, 3, CLASSES + 7]), np.array([5, 3, 5, 300])
WEIGHTS = np.array([1.0, 0.5, 0.0, 2.0], dtype=np.float32)


def loss(model):
    return -float(model.logprobs(INPUTS, TARGETS) @ WEIGHTS)


def some_model():
    model = Bigram.fresh("m", 1)
    noise = np.random.default_rng(0).normal(0, 1e-3, model.parameters.shape)
    return evolve(model, parameters=noise)


def test_probabilities_sum_to_one():
    logprobs = some_model().next_logprobs(np.arange(CLASSES))
    assert np.exp(logprobs).sum(axis=1) == pytest.approx(np.ones(CLASSES))


def test_the_gradient_is_the_slope_of_the_loss():
    model = some_model()
    gradient = model.gradient(INPUTS, TARGETS, WEIGHTS)
    places = [(3, 5), (3, 9), (5, 3), (7, 300 % CLASSES), (7, 8), (100, 100)]
    for place in places:
        step = np.zeros_like(model.parameters)
        step[place] = 1e-6
        up = evolve(model, parameters=model.parameters + step)
        down = evolve(model, parameters=model.parameters - step)
        assert gradient[place] == pytest.approx((loss(up) - loss(down)) / 2e-6, rel=1e-4, abs=1e-4)


@pytest.mark.parametrize(
    "settings",
    [{}, {"beta1": 0.5, "beta2": 0.5, "eps": 1e-3}, {"weight_decay": 0.1}, {"grad_clip_norm": 0.5}],
    ids=str,
)
def test_updates_are_those_of_torch(settings):
    torch = pytest.importorskip("torch")
    params = AdamParams(learning_rate=1e-3, **settings)
    model = some_model()
    parameter = torch.nn.Parameter(torch.tensor(model.parameters))
    optimizer = torch.optim.AdamW(
        [parameter],
        lr=params.learning_rate,
        betas=(params.beta1, params.beta2),
        eps=params.eps,
        weight_decay=params.weight_decay,
    )
    for _ in range(4):
        gradient = model.gradient(INPUTS, TARGETS, WEIGHTS)
        parameter.grad = torch.tensor(gradient)
        if params.grad_clip_norm:
            torch.nn.utils.clip_grad_norm_([parameter], params.grad_clip_norm)
        optimizer.step()
        model = model.step(gradient, params)
        assert model.parameters == pytest.approx(parameter.detach().numpy(), rel=1e-9, abs=1e-12)
    assert (model.updates, model.optimizer_steps) == (4, 4)


def test_the_base_model_depends_on_its_name_only():
    first, second, other = Bigram.fresh("m", 1), Bigram.fresh("m", 2), Bigram.fresh("n", 1)
    assert loss(first) == loss(second) != loss(other)
