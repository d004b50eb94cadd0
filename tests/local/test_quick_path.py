"""The quick path computes what the modules of `transformers` compute under autograd, whatever the shape of the work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from glowgenius.local import loss
from glowgenius.local.adapter import AdapterSpec
from glowgenius.local.model import base_model
from glowgenius.local.native import attention, llama
from glowgenius.local.packing import Row, plan
from tests.support.local_engine import difference, tiny_rows

KINDS = ("llama", "mistral", "qwen2", "qwen3")


def rows_of(examples):
    return [Row(inputs=np.array(i), targets=np.array(t), weights=np.array(w, np.float32)) for i, t, w in examples]


def stirred(model, **settings):
    adapter = model.fresh_adapter(AdapterSpec(rank=3, alpha=6, seed=1, **settings))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in adapter.b.values():
            value.normal_(0.0, 0.05, generator=generator)
    return adapter


def scored(model, adapter, rows, *, max_tokens=4096, threads=1):
    """Loss, log-probabilities and gradients."""
    for parameter in adapter.parameters():
        parameter.grad = None
    total, logprobs = loss.score(model, adapter, rows, max_tokens=max_tokens, backward=True, threads=threads)
    return total, np.concatenate(logprobs), {name: value.grad for name, value in adapter.named_parameters()}


def assert_same(one, other, *, within=1e-5):
    assert one[0] == pytest.approx(other[0], rel=within)
    assert one[1] == pytest.approx(other[1], rel=10 * within, abs=10 * within)
    assert one[2].keys() == other[2].keys()
    assert max(difference(one[2][name].float(), other[2][name].float()) for name in one[2]) < within


@pytest.fixture
def model_of(tiny):
    return lambda kind="llama", dtype=torch.float32: base_model(str(tiny(kind)), "cpu", dtype)


def through_transformers(monkeypatch, model, *arguments, **settings):
    with monkeypatch.context() as patch:
        patch.setattr(model, "llama", None)
        return scored(model, *arguments, **settings)


def test_who_takes_the_quick_path(model_of):
    assert [model_of(kind).slow_because for kind in KINDS] == [None] * len(KINDS)
    model = model_of("gemma3")
    assert model.llama is None
    assert model.slow_because == "'gemma3_text' is not one of llama, mistral, qwen2, qwen3"


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("hidden_act", "gelu", "its activation is 'gelu', not 'silu'"),
        (
            "rope_parameters",
            {"rope_type": "dynamic"},
            "its rotary embedding is of the type 'dynamic', which depends on the length",
        ),
        ("rope_parameters", {"partial_rotary_factor": 0.5}, "only a part of each head is rotated"),
    ],
)
def test_a_model_of_another_shape_goes_through_transformers(model_of, monkeypatch, field, value, reason):
    from glowgenius.local.native.llama import unsuitable

    config = model_of().network.config
    monkeypatch.setattr(config, field, value)
    assert unsuitable(config) == reason


@pytest.mark.parametrize("prefix", [0, 12])
@pytest.mark.parametrize("kind", KINDS)
def test_it_is_what_transformers_and_autograd_compute(model_of, monkeypatch, kind, prefix):
    # Rows are longer than the window of the tiny Mistral, and differ enough in length for several tiles.
    model = model_of(kind)
    adapter = stirred(model)
    rows = rows_of(tiny_rows(9, lengths=(20, 3, 33, 14, 16), prefix=prefix, all_tokens=True))
    assert_same(scored(model, adapter, rows), through_transformers(monkeypatch, model, adapter, rows))


@pytest.mark.parametrize(
    "settings",
    [{"train_attn": False}, {"train_mlp": False}, {"train_attn": False, "train_mlp": False}, {"train_unembed": False}],
)
def test_whatever_is_adapted_gets_its_gradient_and_nothing_else(model_of, monkeypatch, settings):
    model = model_of()
    adapter = stirred(model, **settings)
    rows = rows_of(tiny_rows(3, prefix=7))
    assert_same(scored(model, adapter, rows), through_transformers(monkeypatch, model, adapter, rows))


def test_long_rows_are_done_in_blocks(model_of, monkeypatch):
    model = model_of("mistral")
    adapter = stirred(model)
    rows = rows_of(tiny_rows(4, lengths=(150, 90, 20), prefix=9))
    whole = scored(model, adapter, rows)
    monkeypatch.setattr(attention, "_MOST_SCORES", 5000)
    monkeypatch.setattr(attention, "_LEAST_BLOCK", 7)
    assert_same(scored(model, adapter, rows), whole)


@pytest.mark.parametrize("all_tokens", [False, True])
def test_a_chunked_vocabulary_is_the_whole_one(model_of, monkeypatch, all_tokens):
    model = model_of()
    adapter = stirred(model)
    rows = rows_of(tiny_rows(5, prefix=11, all_tokens=all_tokens))
    whole = scored(model, adapter, rows)
    monkeypatch.setattr(llama, "MOST_LOGITS", 3 * model.vocabulary_size)
    assert_same(scored(model, adapter, rows), whole)


def test_two_threads_give_what_one_gives_and_always_the_same_bits(model_of):
    model = model_of("qwen3")
    adapter = stirred(model)
    rows = rows_of(tiny_rows(6, lengths=(40,) * 9, prefix=10))
    assert len(plan(rows, 2048, parts=2)) == 2
    first, second = (scored(model, adapter, rows, threads=2) for _ in range(2))
    assert_same(first, scored(model, adapter, rows, threads=1))
    assert first[0] == second[0]
    assert all(torch.equal(first[2][name], second[2][name]) for name in first[2])


def test_bfloat16_is_near(model_of):
    rows = rows_of(tiny_rows(7, prefix=5))
    results = []
    for dtype in (torch.float32, torch.bfloat16):
        model = model_of("qwen3", dtype)
        assert model.llama.layers[0].qkv.weight.dtype == dtype
        results.append(scored(model, stirred(model), rows))
    assert_same(results[1], results[0], within=0.1)
    assert all(gradient.dtype == torch.float32 for gradient in results[1][2].values())


def test_the_layers_keep_their_numbers_in_one_place(model_of):
    model = model_of()
    layer = model.network.model.layers[0].mlp
    stacked = model.llama.layers[0].gate_up.weight
    assert torch.equal(torch.cat([layer.gate_proj.weight, layer.up_proj.weight]), stacked)
    assert layer.gate_proj.weight.data_ptr() == stacked.data_ptr()
