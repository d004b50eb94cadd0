"""The training client: sums, order, seeds, going on from a checkpoint, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glowgenius.engines.tinker_types import AdamParams, Datum, ModelInput, TensorData
from glowgenius.errors import RequestRejectedError
from tests.support.local_engine import data, datum, difference, plain_logprobs, plain_model, stir, tiny_rows

ADAM = AdamParams(learning_rate=5e-3, weight_decay=0.01, grad_clip_norm=1.0)


def trained(client, seeds):
    """The losses of one step for each seed."""
    losses = []
    for seed in seeds:
        losses.append(client.forward_backward(data(tiny_rows(seed)), "cross_entropy"))
        last = client.optim_step(ADAM)
    last.result()
    return [loss.result().metrics["loss:sum"] for loss in losses]


def numbers(client):
    """A copy of every matrix."""
    return {name: value.detach().clone() for name, value in client._adapter.named_parameters()}


def same(one, other):
    """Whether two adapters are the same, bit for bit and in the same order."""
    return list(one) == list(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_logprobs_are_those_of_the_targets_and_0_where_nothing_is_trained(train_on, tiny):
    client = train_on()
    rows = tiny_rows(1)
    output = client.forward_backward(data(rows), "cross_entropy").result()
    plain = plain_model(tiny())
    total = 0.0
    for (inputs, targets, weights), outputs in zip(rows, output.loss_fn_outputs, strict=True):
        with torch.no_grad():
            expected = plain_logprobs(plain, inputs)[torch.arange(len(targets)), torch.tensor(targets)].numpy()
        expected = np.where(np.array(weights) != 0, expected, 0.0)
        values = outputs["logprobs"].to_numpy()
        assert values.dtype == np.float32
        assert values == pytest.approx(expected, rel=1e-4)
        total -= float(expected @ np.array(weights))
    assert output.metrics == {"loss:sum": pytest.approx(total, rel=1e-5)}
    assert output.loss_fn_output_type == "ArrayRecord"


def test_several_backward_passes_add_up(train_on):
    rows = tiny_rows(2)
    together, apart = train_on(), train_on()
    for client in (together, apart):
        stir(client)
    whole = together.forward_backward(data(rows), "cross_entropy").result().metrics["loss:sum"]
    parts = [apart.forward_backward([datum(*row)], "cross_entropy").result().metrics["loss:sum"] for row in rows]
    assert sum(parts) == pytest.approx(whole, rel=1e-5)
    ours, theirs = together._adapter.parameters(), apart._adapter.parameters()
    assert max(difference(one.grad, other.grad) for one, other in zip(ours, theirs, strict=True)) < 1e-5


def test_a_backward_pass_that_fails_adds_nothing(train_on, monkeypatch):
    from glowgenius.local import training

    client = train_on()
    stir(client)
    score = training.score

    def exhausted(*arguments, **settings):
        score(*arguments, **settings)
        raise RuntimeError("out of memory")

    for started in (False, True):
        if started:
            client.forward_backward(data(tiny_rows(2)), "cross_entropy").result()
        before = [p.grad.clone() if started else None for p in client._adapter.parameters()]
        monkeypatch.setattr(training, "score", exhausted)
        with pytest.raises(RuntimeError, match="out of memory"):
            client.forward_backward(data(tiny_rows(3)), "cross_entropy").result()
        monkeypatch.setattr(training, "score", score)
        for parameter, gradient in zip(client._adapter.parameters(), before, strict=True):
            assert parameter.grad is gradient is None or torch.equal(parameter.grad, gradient)


def test_forward_leaves_no_gradient(train_on):
    client = train_on()
    client.forward(data(tiny_rows(3)), "cross_entropy").result()
    assert [parameter.grad for parameter in client._adapter.parameters() if parameter.grad is not None] == []


def test_one_seed_is_one_run_bit_for_bit(train_on):
    runs = [train_on(seed=seed) for seed in (7, 7, 8)]
    losses = [trained(client, range(4)) for client in runs]
    assert losses[0] == losses[1]
    assert losses[0][0] == losses[2][0]  # B = 0: the first loss is the base model's
    assert losses[0][1:] != losses[2][1:]
    assert same(numbers(runs[0]), numbers(runs[1]))


def test_without_a_seed_every_adapter_is_another(train_on):
    one, other = (next(iter(numbers(train_on(seed=None)).values())) for _ in range(2))
    assert not torch.equal(one, other)


def test_the_first_numbers_are_uniform_by_the_number_of_inputs(train_on):
    client = train_on(rank=16)
    for name, value in client._adapter.a.items():
        bound = value.shape[1] ** -0.5
        assert 0.8 * bound < float(value.detach().abs().max()) <= bound, name
        assert float(client._adapter.b[name].detach().abs().max()) == 0


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_training_goes_on_from_a_state_bit_for_bit(train_on, service, architecture):
    client = train_on(architecture)
    trained(client, range(3))
    path = client.save_state("here").result().path
    resumed = service.create_training_client_from_state_with_optimizer(path).result()
    assert same(numbers(client), numbers(resumed))
    assert trained(client, range(3, 7)) == trained(resumed, range(3, 7))
    assert same(numbers(client), numbers(resumed))


def test_without_the_optimizer_only_the_optimizer_differs(train_on, service):
    client = train_on()
    trained(client, range(3))
    path = client.save_state("here").result().path
    afresh = service.create_training_client_from_state(path).result()
    assert same(numbers(client), numbers(afresh))
    assert trained(client, [3]) == trained(afresh, [3])
    assert not same(numbers(client), numbers(afresh))


def test_a_state_saved_before_the_first_update_is_a_state(train_on, service):
    client = train_on()
    path = client.save_state("start").result().path
    resumed = service.create_training_client_from_state_with_optimizer(path).result()
    assert trained(client, range(2)) == trained(resumed, range(2))


def test_buffers_may_be_reused_after_the_call(train_on):
    inputs, targets, weights = tiny_rows(4, lengths=(9,))[0]
    array = np.array(weights, np.float32)
    one = Datum(
        model_input=ModelInput.from_ints(inputs),
        loss_fn_inputs={
            "target_tokens": TensorData.from_numpy(np.array(targets)),
            "weights": TensorData.from_numpy(array),
        },
    )
    client = train_on()
    expected = client.forward([datum(inputs, targets, weights)], "cross_entropy").result().metrics["loss:sum"]
    waiting = client.forward([one] * 40, "cross_entropy")
    array[:] = 0
    assert waiting.result().metrics["loss:sum"] == pytest.approx(40 * expected, rel=1e-5)


def test_it_says_what_it_is(train_on, tiny):
    client = train_on(rank=2)
    info = client.get_info()
    assert (info.model_data.arch, info.model_name, info.is_lora, info.lora_rank) == (
        "LlamaForCausalLM",
        str(tiny()),
        True,
        2,
    )
    assert client.model_id.startswith("local-")
    assert client.get_tokenizer().decode(client.get_tokenizer().encode("34 St–Penn")) == "34 St–Penn"


REFUSED = {
    "another loss": (
        ([datum([1], [2], [1.0])], "importance_sampling"),
        (
            "loss_fn 'importance_sampling' is not available here: this engine computes 'cross_entropy', the loss of "
            "supervised training"
        ),
    ),
    "settings of the loss": (
        ([datum([1], [2], [1.0])], "cross_entropy", {"clip": 0.2}),
        "loss_fn_config must be None on the local engine: 'cross_entropy' has no settings, got {'clip': 0.2}",
    ),
    "no data": (([], "cross_entropy"), "No data provided: forward and forward_backward need at least one datum"),
    "no tokens": (([datum([], [], [])], "cross_entropy"), "datum 0: must hold at least one token, got none"),
    "unequal lengths": (
        ([datum([1], [2], [1.0]), datum([1, 2], [2], [1.0, 0.0])], "cross_entropy"),
        "datum 1: model_input, target_tokens and weights must have one length, got 2, 1 and 2",
    ),
    "an input outside the vocabulary": (
        ([datum([1, 259], [2, 3], [0.0, 1.0])], "cross_entropy"),
        "datum 0: model_input must be token ids in 0 … 258, got 259 at position 1",
    ),
    "a target outside the vocabulary": (
        ([datum([1], [-100], [1.0])], "cross_entropy"),
        "datum 0: target_tokens must be token ids in 0 … 258, got -100 at position 0",
    ),
    "a weight that is no number": (
        ([datum([1], [2], [float("nan")])], "cross_entropy"),
        "datum 0: weights must be finite, got nan",
    ),
    "no weights": (
        ([Datum(model_input=ModelInput.from_ints([1]), loss_fn_inputs={"target_tokens": [2]})], "cross_entropy"),
        "datum 0: loss_fn_inputs must be 'target_tokens' and 'weights', got 'target_tokens'",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_scored_is_refused_at_once(train_on, arguments, message):
    client = train_on()
    for method in (client.forward, client.forward_backward):
        with pytest.raises(RequestRejectedError) as caught:
            method(*arguments)
        assert str(caught.value) == message


def test_a_row_longer_than_the_model_was_made_for_is_refused(train_on, tiny):
    client = train_on()
    client.forward([datum([3] * 256, [4] * 256, [0.0] * 255 + [1.0])], "cross_entropy").result()
    with pytest.raises(RequestRejectedError) as caught:
        client.forward([datum([3] * 257, [4] * 257, [1.0] * 257)], "cross_entropy")
    assert str(caught.value) == (
        f"datum 0: 257 tokens are too long for {str(tiny())!r}, which was made for 256 at most; shorten the example "
        "or set max_length"
    )


def test_other_parameters_than_adam_are_refused(train_on):
    with pytest.raises(RequestRejectedError) as caught:
        train_on().optim_step({"learning_rate": 1e-3})
    assert str(caught.value) == "optim_step() takes tinker.AdamParams on the local engine, got dict"
