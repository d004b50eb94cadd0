"""On a device where the native engine was never compared with `transformers`, it is compared when a model is loaded."""

from __future__ import annotations

import logging

import pytest
import torch

from glowgenius.local import loss
from glowgenius.local.model import BaseModel
from tests.support.local_engine import data, tiny_rows

NOWHERE = frozenset[str]()
"""As if no device had been proved: the CPU stands in for one."""


@pytest.fixture
def model(tiny):
    folder = tiny("llama")
    return BaseModel(str(folder), folder, "cpu", torch.float32)


def test_a_right_native_engine_stays_and_its_difference_is_logged(model, caplog):
    caplog.set_level(logging.INFO, "glowgenius.local")
    loss.prove(model, NOWHERE)
    assert model.llama is not None
    [record] = caplog.records
    assert record.getMessage().startswith("the native engine was compared with transformers on cpu: they differ by ")
    assert float(record.getMessage().rpartition(" ")[2]) < 1e-5


def test_it_is_compared_once(model, caplog):
    caplog.set_level(logging.INFO, "glowgenius.local")
    loss.prove(model, NOWHERE)
    loss.prove(model, NOWHERE)
    assert len(caplog.records) == 1


def test_where_tests_compare_it_nothing_is_computed(model):
    loss.prove(model)
    assert not model.proved


def forward_is_wrong(llama, monkeypatch):
    true = type(llama).unembed
    monkeypatch.setattr(type(llama), "unembed", lambda self, hidden, *rest: true(self, hidden * 1.05, *rest))


def backward_is_wrong(llama, monkeypatch):
    true = type(llama).backward
    monkeypatch.setattr(type(llama), "backward", lambda self, gradient, *rest: true(self, gradient * 1.01, *rest))


def numbers_are_nan(llama, monkeypatch):
    true = type(llama).unembed
    monkeypatch.setattr(type(llama), "unembed", lambda self, hidden, *rest: true(self, hidden * torch.nan, *rest))


@pytest.mark.parametrize("breaks", [forward_is_wrong, backward_is_wrong, numbers_are_nan])
def test_a_device_that_returns_wrong_numbers_is_served_by_transformers(model, monkeypatch, caplog, breaks):
    breaks(model.llama, monkeypatch)
    loss.prove(model, NOWHERE)
    assert model.llama is None
    assert model.slow_because.startswith("on cpu it differs from transformers by ")
    [record] = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith("the native engine differs from transformers by ")


def test_a_device_that_lacks_an_operation_is_served_by_transformers(model, monkeypatch, caplog):
    def forward(*_, **__):
        raise NotImplementedError("aten::something is not implemented for this device")

    monkeypatch.setattr(type(model.llama), "forward", forward)
    loss.prove(model, NOWHERE)
    assert model.slow_because == "on cpu it fails: aten::something is not implemented for this device"
    [message] = caplog.messages
    assert message == (
        "the native engine fails on cpu (aten::something is not implemented for this device): transformers is used, "
        "and is slower"
    )


def test_a_service_on_such_a_device_trains_through_transformers(tiny, service, monkeypatch, tmp_path):
    rows = data(tiny_rows(0))

    def trained(architecture, **overrides):
        client = service.create_lora_training_client(str(tiny("llama")), rank=3, seed=1).result()
        return client.forward_backward(rows, "cross_entropy").result().metrics["loss:sum"]

    native = trained("llama")
    true = loss.load

    def elsewhere(name, device, dtype):
        model = true(name, device, dtype)
        forward_is_wrong(model.llama, monkeypatch)
        loss.prove(model, NOWHERE)
        return model

    monkeypatch.setattr("glowgenius.local.service.load", elsewhere)
    assert trained("llama") == pytest.approx(native, rel=1e-5)
