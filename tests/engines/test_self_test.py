"""The self-test passes on engines that compute what Tinker computes, and names those that do not."""

from __future__ import annotations

import numpy as np
import pytest

from glowgenius.engines.self_test import self_test
from glowgenius.engines.tinker_types import Datum, EngineFuture, ForwardBackwardOutput, completed
from glowgenius.testing import ScriptedService
from glowgenius.training.connection import connect
from tests.support.tiny_models import write_tiny_model
from tests.wire.faults import Fault
from tests.wire.sdk import MODEL, scripted_server


class Around:
    """An engine with some methods replaced."""

    def __init__(self, inner, **replaced):
        self._inner, self._replaced = inner, replaced

    def __getattr__(self, name):
        if name in self._replaced:
            return lambda *args, **kwargs: self._replaced[name](self._inner, *args, **kwargs)
        return getattr(self._inner, name)


def engine(**replaced):
    """A scripted service whose training clients have *replaced* methods."""

    def wrapped(make):
        return lambda inner, *args, **kwargs: completed(
            Around(getattr(inner, make)(*args, **kwargs).result(), **replaced)
        )

    makers = ("create_lora_training_client", "create_training_client_from_state_with_optimizer")
    return Around(ScriptedService(), **{make: wrapped(make) for make in makers})


def scaled(data, factors):
    return [
        Datum(
            model_input=datum.model_input,
            loss_fn_inputs={
                "target_tokens": datum.loss_fn_inputs["target_tokens"],
                "weights": np.asarray(datum.loss_fn_inputs["weights"].to_numpy() * factor, np.float32),
            },
        )
        for datum, factor in zip(data, factors, strict=True)
    ]


def by_weights(data):
    return scaled(data, [1 / datum.loss_fn_inputs["weights"].to_numpy().sum() for datum in data])


def by_examples(data):
    return scaled(data, [1 / len(data)] * len(data))


def normalised(method, by):
    return {method: lambda inner, data, loss_fn: getattr(inner, method)(by(data), loss_fn)}


def test_a_plain_sum_passes():
    report = self_test(ScriptedService(), "m")
    assert report.passed
    assert [(finding.name, finding.passed) for finding in report.findings] == [
        ("loss", True),
        ("gradient", True),
        ("resume", True),
        ("sampling", True),
    ]
    assert str(report).splitlines()[0] == "self-test with m"
    assert str(report).splitlines()[3] == "ok    resume: goes on from a checkpoint with its optimizer"


def test_the_local_engine_passes(tmp_path):
    pytest.importorskip("torch")
    from glowgenius.local import ServiceClient

    service = ServiceClient(checkpoint_directory=tmp_path / "checkpoints", device="cpu")
    report = self_test(service, str(write_tiny_model(tmp_path / "model")))
    service.close().result(timeout=60)
    assert report.passed, str(report)


def test_a_server_passes_over_the_wire():
    with scripted_server() as server:
        connection = connect(base_url=server.url, api_key=server.api_key)
        report = connection.self_test(MODEL, seconds=60)
        connection.service.close("success").result(timeout=60)
    assert report.passed, str(report)


@pytest.mark.parametrize("by", [by_weights, by_examples])
def test_a_normalised_loss_is_found(by):
    report = self_test(engine(**normalised("forward", by)), "m")
    assert not report.passed
    loss = report.findings[0]
    assert not loss.passed
    assert loss.said.endswith("the loss is not a plain sum")


@pytest.mark.parametrize("by", [by_weights, by_examples])
def test_a_normalised_gradient_is_found_behind_a_plain_loss(by):
    report = self_test(engine(**normalised("forward_backward", by)), "m")
    assert [(finding.name, finding.passed) for finding in report.findings] == [
        ("loss", True),
        ("gradient", False),
        ("resume", True),
        ("sampling", True),
    ]
    assert report.findings[1].said.endswith("gradients are divided by weights or by examples")


def test_an_optimizer_that_is_not_restored_is_found():
    service = ScriptedService()
    forgetful = Around(
        service,
        create_training_client_from_state_with_optimizer=lambda inner, path: inner.create_training_client_from_state(
            path
        ),
    )
    report = self_test(forgetful, "m")
    assert [finding.name for finding in report.findings if not finding.passed] == ["resume"]


def test_a_client_that_samples_from_the_base_model_is_found():
    service = ScriptedService()
    report = self_test(
        engine(save_weights_and_get_sampling_client=lambda inner: service.create_sampling_client(base_model="m")), "m"
    )
    assert [finding.name for finding in report.findings if not finding.passed] == ["sampling"]


def test_an_answer_without_the_loss_is_found():
    empty = ForwardBackwardOutput(loss_fn_output_type="x", loss_fn_outputs=[{}], metrics={"loss": 1.0})
    report = self_test(engine(forward=lambda *_: completed(empty)), "m")
    assert str(report.findings[0]) == "FAIL  loss: forward reports no loss:sum with logprobs, but loss"


def test_it_ends_with_the_first_question_that_gets_no_answer():
    from concurrent.futures import Future

    report = self_test(engine(forward=lambda *_: EngineFuture(Future())), "m", seconds=0.05)
    [finding] = report.findings
    assert str(finding) == (
        "FAIL  loss: forward got no answer within 0.05 s; a server that is older than the SDK lets it wait instead of "
        "failing"
    )


def test_a_refusal_is_said():
    with scripted_server(faults=[Fault(kind="save_weights", action="fail", category="user", message="no")]) as server:
        connection = connect(base_url=server.url, api_key=server.api_key)
        report = connection.self_test(MODEL, seconds=60)
        connection.service.close("success").result(timeout=60)
    assert [(finding.name, finding.passed) for finding in report.findings] == [
        ("loss", True),
        ("gradient", True),
        ("resume", False),
    ]
    assert report.findings[-1].said.startswith("save_state: the service refuses the request")
