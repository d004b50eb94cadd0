"""Gradient checkpointing: the same bits, less memory, and a decision that is said."""

from __future__ import annotations

import sys

import numpy as np
import psutil
import pytest
import torch

from glowgenius.errors import ConfigError
from glowgenius.local import loss, machine
from glowgenius.local.adapter import AdapterSpec
from glowgenius.local.machine import Checkpointing, Kept
from glowgenius.local.model import base_model
from glowgenius.local.native.layer import Layer
from glowgenius.local.packing import Row, plan
from tests.support.local_engine import data, difference, peft_parameters, peft_twin, plain_loss, stir, tiny_rows
from tests.support.tiny_models import ARCHITECTURES

KEPT = Kept(tokens=2048, layers=30, whole=40_000_000, least=4_000_000)
"""1.2 GB, or 0.12."""


@pytest.fixture
def model_of(tiny):
    return lambda kind="llama", dtype=torch.float32: base_model(str(tiny(kind)), "cpu", dtype)


def stirred(model, **settings):
    adapter = model.fresh_adapter(AdapterSpec(rank=3, alpha=6, seed=1, **settings))
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for value in adapter.b.values():
            value.normal_(0.0, 0.05, generator=generator)
    return adapter


def rows_of(lengths=(20, 3, 33, 14)):
    return [
        Row(inputs=np.array(inputs), targets=np.array(targets), weights=np.array(weights, np.float32))
        for inputs, targets, weights in tiny_rows(9, lengths=lengths, prefix=12)
    ]


class Always:
    """Has so many layers computed again, whatever they keep."""

    measures = False

    def __init__(self, count):
        self.count = count

    def again(self, kept):
        return self.count


def gradients(model, adapter, count, *, threads=1):
    """Of everything, with *count* layers computed again, and the loss and the log-probabilities."""
    for parameter in adapter.parameters():
        parameter.grad = None
    total, logprobs = loss.score(
        model, adapter, rows_of(), max_tokens=64, backward=True, threads=threads, checkpointing=Always(count)
    )
    return total, [*map(torch.tensor, logprobs), *(parameter.grad for parameter in adapter.parameters())]


@pytest.mark.parametrize("modules", [False, True], ids=["own code", "transformers"])
@pytest.mark.parametrize("kind", ["llama", "mistral", "qwen3", "gemma3"])
def test_layers_that_are_computed_again_change_no_bit(model_of, monkeypatch, kind, modules):
    model = model_of(kind)
    if modules:
        monkeypatch.setattr(model, "llama", None)
    adapter = stirred(model)
    total, expected = gradients(model, adapter, 0)
    for count in (1, 2):
        other, found = gradients(model, adapter, count)
        assert other == total
        assert all(torch.equal(one, twin) for one, twin in zip(found, expected, strict=True))


@pytest.mark.parametrize("settings", [{"train_attn": False}, {"train_attn": False, "train_mlp": False}])
def test_whatever_is_adapted_it_is_the_same(model_of, settings):
    model = model_of("qwen3", torch.bfloat16)
    adapter = stirred(model, **settings)
    (one, expected), (other, found) = (gradients(model, adapter, count, threads=2) for count in (0, 2))
    assert one == other
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_only_the_lowest_layers_are_computed_again(model_of, monkeypatch):
    model = model_of()
    met = []
    again = Layer.again
    monkeypatch.setattr(Layer, "again", lambda self, *a, **k: (met.append(self), again(self, *a, **k))[1])
    for count in (0, 1, 2):
        met.clear()
        gradients(model, stirred(model), count)
        passes = len(plan(rows_of(), 64))
        assert met == [*reversed(model.llama.layers[:count])] * passes


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_what_the_quick_path_keeps_is_known_to_the_byte(model_of, kind):
    model = model_of(kind)
    llama, adapter = model.llama, model.llama.adapter(stirred(model))
    [packed] = plan(rows_of(), 4096)
    kept = llama.kept(adapter, len(packed.tokens))
    with torch.no_grad():
        _, states = llama.forward(torch.tensor(packed.tokens), llama.frame(packed), adapter, keep=True, again=0)
        _, [least, _] = llama.forward(torch.tensor(packed.tokens), llama.frame(packed), adapter, keep=True, again=1)
    first = states[0]
    held = [first.x, first.norm, first.qkv, first.attended, first.middle, first.middle_norm, first.gate_up, *first.low]
    assert kept.layers == len(states)
    assert kept.whole == sum(tensor.nbytes for tensor in [*held, *(one for pair in first.raw for one in pair)])
    assert kept.least == least.nbytes


@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_what_modules_keep_is_measured(model_of, monkeypatch, kind):
    model = model_of(kind)
    monkeypatch.setattr(model, "llama", None)
    adapter = stirred(model)
    kept = loss.kept_by_modules(model, adapter, 200)
    assert kept.layers * kept.whole == pytest.approx(loss._kept_of(model, adapter, 200), rel=0.02)
    with monkeypatch.context() as patch:
        patch.setattr(model._active, "again", 2)  # `using` sets it back, so the modules are asked one by one
        patch.setattr(model, "using", lambda adapter: _as_it_is(model, adapter))
        assert loss._kept_of(model, adapter, 200) < 0.3 * kept.layers * kept.whole


def _as_it_is(model, adapter):
    import contextlib

    @contextlib.contextmanager
    def using():
        model._active.adapter = adapter
        yield model.network
        model._active.adapter = None

    return using()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_with_every_layer_computed_again_it_is_what_peft_computes(make_service, tiny, architecture):
    service = make_service(gradient_checkpointing=True)
    client = service.create_lora_training_client(str(tiny(architecture)), rank=3, seed=0, alpha=12).result()
    stir(client)
    rows = tiny_rows(1, prefix=11)
    twin = peft_twin(tiny(architecture), client._adapter)
    expected = plain_loss(twin, rows)
    expected.backward()
    found = client.forward_backward(data(rows), "cross_entropy").result().metrics["loss:sum"]
    assert found == pytest.approx(float(expected.detach()), rel=1e-5)
    theirs = peft_parameters(twin, client._adapter)
    assert max(difference(p.grad, theirs[n].grad) for n, p in client._adapter.named_parameters()) < 1e-5
    assert service.description.endswith(", every layer computed twice to save memory, as asked for")


@pytest.mark.parametrize(
    ("free", "again"),
    [(2_400_000_000, 0), (2_399_999_998, 1), (2_000_000_000, 6), (240_000_000, 30), (0, 30), (None, 0)],
)
def test_as_many_layers_as_it_takes(free, again):
    assert Checkpointing("auto", "cpu", lambda: free).again(KEPT) == again


def test_whoever_decides_is_heard():
    assert Checkpointing(True, "cpu", lambda: 10**12).again(KEPT) == 30
    assert Checkpointing(False, "cpu", lambda: 0).again(KEPT) == 0
    with pytest.raises(ConfigError) as caught:
        Checkpointing("always", "cpu")
    assert str(caught.value) == "gradient_checkpointing must be 'auto', True or False, got 'always'"


def test_what_was_held_once_is_held_again_and_what_is_larger_is_asked_about():
    free = [10**10]
    checkpointing = Checkpointing("auto", "cpu", lambda: free[0])
    assert checkpointing.again(KEPT) == 0
    free[0] = 10**8
    assert checkpointing.again(KEPT) == 0
    larger = Kept(tokens=2049, layers=30, whole=40_010_000, least=4_000_000)
    assert checkpointing.again(larger) == 30
    free[0] = 10**10
    assert checkpointing.again(larger) == 0


def test_memory_that_is_short_is_said_once_and_described_as_it_is(caplog):
    free = [2_000_000_000]
    checkpointing = Checkpointing("auto", "cpu", lambda: free[0])
    checkpointing.again(KEPT)
    said = "6 of 30 layers computed twice, as passes of 2,048 tokens keep 1.20 GB and 2.00 GB of memory are free"
    assert checkpointing.said == said
    warned = (
        f"memory is short, so the local engine checkpoints gradients: {said}; the gradient is the same, bit for bit, "
        f"and takes longer. Shorter rows or a smaller max_tokens_per_pass need less, and "
        f"ServiceClient(gradient_checkpointing=False) turns it off"
    )
    assert [record.getMessage() for record in caplog.records] == [warned]
    free[0] = 1_000_000_000
    checkpointing.again(KEPT)
    assert checkpointing.said.startswith("20 of 30 layers")
    assert len(caplog.records) == 1


@pytest.mark.parametrize("architecture", ["llama", "gemma3"])
def test_a_client_that_is_short_of_memory_trains_the_same(make_service, tiny, monkeypatch, architecture):
    found = []
    for free in (10**12, 10_000):
        monkeypatch.setattr(machine, "free_bytes", lambda device, free=free: free)
        service = make_service()
        client = service.create_lora_training_client(str(tiny(architecture)), rank=4, seed=0).result()
        stir(client)
        client.forward_backward(data(tiny_rows(3)), "cross_entropy").result()
        found.append([parameter.grad for parameter in client._adapter.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert "2 of 2 layers computed twice, as passes of " in service.description


def test_where_free_memory_is_not_known_nothing_is_computed_twice_and_that_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "psutil", None)
    checkpointing = Checkpointing("auto", "cpu")
    assert checkpointing.again(KEPT) == 0
    assert checkpointing.said == "no layer computed twice, as it is not known how much memory is free on cpu"
    assert machine.free_bytes("xpu") is None


def test_free_memory_is_what_is_left_of_the_machine_or_of_the_container(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "_CGROUP", tmp_path)
    computer = psutil.virtual_memory()
    assert 0 < machine.free_bytes("cpu") <= computer.total
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 500\ninactive_file 120\n")
    for limit, free in (("1000", 420), ("100", 0)):
        (tmp_path / "memory.max").write_text(f"{limit}\n")
        assert machine.free_bytes("cpu") == free
    (tmp_path / "memory.max").write_text("max\n")
    assert machine.free_bytes("cpu") > 10**6


def test_on_a_gpu_what_torch_holds_unused_counts_as_free(monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (100, 1000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: 50)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 30)
    assert machine.free_bytes("cuda:0") == 120
    monkeypatch.setattr(torch.mps, "recommended_max_memory", lambda: 1000)
    monkeypatch.setattr(torch.mps, "current_allocated_memory", lambda: 300)
    assert machine.free_bytes("mps") == 700
