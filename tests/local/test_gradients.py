"""Losses, gradients and updates are those of PEFT and torch's AdamW on the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch

from glowgenius.engines.tinker_types import AdamParams
from tests.support.local_engine import data, difference, peft_parameters, peft_twin, plain_loss, stir, tiny_rows
from tests.support.tiny_models import ARCHITECTURES

# With a tiny eps the first update is the sign of the gradient, and rounding decides it where the gradient is near 0.
ADAM = {
    "plain": {"learning_rate": 1e-2, "eps": 1e-2},
    "all settings": {
        "learning_rate": 3e-3,
        "beta1": 0.8,
        "beta2": 0.9,
        "eps": 1e-2,
        "weight_decay": 0.1,
        "grad_clip_norm": 0.5,
    },
}


def adamw(parameters, *, learning_rate, beta1=0.9, beta2=0.95, eps, weight_decay=0.0, grad_clip_norm=0.0):
    """One function that does a step as torch does it."""
    optimizer = torch.optim.AdamW(
        parameters, lr=learning_rate, betas=(beta1, beta2), eps=eps, weight_decay=weight_decay
    )

    def step():
        if grad_clip_norm:
            torch.nn.utils.clip_grad_norm_(parameters, grad_clip_norm)
        optimizer.step()
        optimizer.zero_grad()

    return step


@pytest.mark.parametrize("prefix", [0, 11])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_losses_and_gradients_are_those_of_peft(train_on, tiny, architecture, prefix):
    client = train_on(architecture, rank=3, alpha=12)
    stir(client)
    rows = tiny_rows(1, prefix=prefix)
    twin = peft_twin(tiny(architecture), client._adapter)
    expected = plain_loss(twin, rows)
    expected.backward()
    loss = client.forward_backward(data(rows), "cross_entropy").result().metrics["loss:sum"]
    assert loss == pytest.approx(float(expected.detach()), rel=1e-5)
    theirs = peft_parameters(twin, client._adapter)
    differences = {n: difference(p.grad, theirs[n].grad) for n, p in client._adapter.named_parameters()}
    assert max(differences.values()) < 1e-5
    assert all(float(p.grad.norm()) > 0 for p in client._adapter.parameters())


def test_the_unembedding_of_a_tied_model_is_adapted_and_its_embedding_is_not(train_on, tiny):
    client = train_on("qwen3", train_attn=False, train_mlp=False)
    assert list(client._adapter.a) == ["lm_head"]
    stir(client)
    network = client._model.network
    embedding = network.get_input_embeddings().weight
    before = embedding.detach().clone()
    assert network.lm_head.weight.data_ptr() == embedding.data_ptr()
    rows = tiny_rows(2)
    twin = peft_twin(tiny("qwen3"), client._adapter)
    plain_loss(twin, rows).backward()
    client.forward_backward(data(rows), "cross_entropy").result()
    theirs = peft_parameters(twin, client._adapter)
    for name, parameter in client._adapter.named_parameters():
        assert difference(parameter.grad, theirs[name].grad) < 1e-5
    client.optim_step(AdamParams(learning_rate=0.1)).result()
    assert embedding.grad is None
    assert torch.equal(embedding, before)


@pytest.mark.parametrize("settings", ADAM.values(), ids=ADAM)
def test_an_update_is_that_of_torch_in_double_precision_on_the_same_gradients(train_on, settings):
    client = train_on()
    stir(client)
    reference = [parameter.detach().double().requires_grad_() for parameter in client._adapter.parameters()]
    step = adamw(reference, **settings)
    for seed in (3, 4, 5):
        client.forward_backward(data(tiny_rows(seed)), "cross_entropy").result()
        for parameter, twin in zip(client._adapter.parameters(), reference, strict=True):
            twin.grad = parameter.grad.double()
        client.optim_step(AdamParams(**settings)).result()
        step()
        pairs = zip(client._adapter.parameters(), reference, strict=True)
        assert max(difference(parameter.detach(), twin.detach()) for parameter, twin in pairs) < 1e-6


@pytest.mark.parametrize("settings", ADAM.values(), ids=ADAM)
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_after_two_updates_the_adapter_is_as_near_the_exact_one_as_that_of_peft(train_on, tiny, architecture, settings):
    """Adam divides by what may be small, and so enlarges rounding, by how much depends on the machine's kernels.

    So the yardstick is measured: how far PEFT in single precision ends from PEFT in double precision.
    """
    client = train_on(architecture)
    stir(client)
    single = peft_twin(tiny(architecture), client._adapter)
    double = copy.deepcopy(single).double()
    ends = []
    for twin in (single, double):
        theirs = peft_parameters(twin, client._adapter)
        step = adamw(list(theirs.values()), **settings)
        for seed in (3, 4):
            plain_loss(twin, tiny_rows(seed)).backward()
            step()
        ends.append({name: parameter.detach() for name, parameter in theirs.items()})
    for seed in (3, 4):
        client.forward_backward(data(tiny_rows(seed)), "cross_entropy")
        client.optim_step(AdamParams(**settings)).result()
    ours = {name: parameter.detach() for name, parameter in client._adapter.named_parameters()}
    yardstick = max(difference(ends[0][name], exact) for name, exact in ends[1].items())
    assert yardstick < 1e-4
    assert max(difference(ours[name], exact) for name, exact in ends[1].items()) < max(4 * yardstick, 1e-6)


def test_a_matrix_without_a_gradient_still_decays(train_on):
    client = train_on()
    before = {name: value.detach().clone() for name, value in client._adapter.a.items()}
    client.optim_step(AdamParams(learning_rate=0.1, weight_decay=0.5)).result()
    for name, value in client._adapter.a.items():
        assert torch.allclose(value, 0.95 * before[name])


@pytest.mark.parametrize("all_tokens", [False, True])
@pytest.mark.parametrize("prefix", [0, 13])
@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packing_changes_neither_losses_nor_gradients(make_service, tiny, architecture, prefix, all_tokens):
    rows = tiny_rows(6, prefix=prefix, all_tokens=all_tokens)
    outputs, gradients = [], []
    for limit in (1, 50, 4096):
        made = make_service(max_tokens_per_pass=limit)
        client = made.create_lora_training_client(str(tiny(architecture)), rank=4, seed=0).result()
        stir(client)
        outputs.append(client.forward_backward(data(rows), "cross_entropy").result())
        gradients.append([parameter.grad for parameter in client._adapter.parameters()])
    for output, gradient in zip(outputs[1:], gradients[1:], strict=True):
        assert output.metrics["loss:sum"] == pytest.approx(outputs[0].metrics["loss:sum"], rel=1e-5)
        for one, other in zip(output.loss_fn_outputs, outputs[0].loss_fn_outputs, strict=True):
            assert one["logprobs"].to_numpy() == pytest.approx(other["logprobs"].to_numpy(), rel=1e-4, abs=1e-5)
        assert max(difference(one, other) for one, other in zip(gradient, gradients[0], strict=True)) < 1e-5


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_fresh_adapter_changes_nothing(train_on, tiny, architecture):
    client = train_on(architecture)
    ids = torch.tensor([[5, 6, 7, 8, 9, 10, 11, 12, 13, 14]])
    with torch.no_grad():
        expected = plain_model_logits(tiny(architecture), ids)
        with client._model.using(None) as network:
            assert torch.equal(network(ids).logits, expected)
        with client._model.using(client._adapter) as network:
            assert torch.equal(network(ids).logits, expected)
        stir(client)
        with client._model.using(client._adapter) as network:
            assert not torch.allclose(network(ids).logits, expected, atol=1e-3)
        with client._model.using(None) as network:
            assert torch.equal(network(ids).logits, expected)


def plain_model_logits(directory, ids):
    from tests.support.local_engine import plain_model

    return plain_model(directory)(ids).logits


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_training_leaves_the_base_weights_alone(train_on, architecture):
    client = train_on(architecture)
    before = client._model.weights_hash()
    for seed in range(3):
        client.forward_backward(data(tiny_rows(seed)), "cross_entropy")
        client.optim_step(AdamParams(learning_rate=0.05)).result()
    assert client._model.weights_hash() == before
    assert not any(parameter.requires_grad for parameter in client._model.network.parameters())
    with torch.no_grad():
        next(iter(client._model.network.parameters())).view(-1)[0] += 1
    assert client._model.weights_hash() != before
    with torch.no_grad():
        next(iter(client._model.network.parameters())).view(-1)[0] -= 1


def test_the_count_of_trained_numbers_is_that_of_the_matrices(train_on):
    client = train_on(rank=4, train_attn=False, train_unembed=False)
    # Two layers of gate, up (32 → 48 each) and down (48 → 32).
    assert client.trainable_parameters == 2 * 3 * 4 * (32 + 48)
