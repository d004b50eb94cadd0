"""What the real SDK is asked before a run begins, and what becomes of the answer."""

from __future__ import annotations

import warnings

import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.engines.offered import OfferQuestion
from glowgenius.errors import AuthenticationError, PreflightError
from tests.support.training import TRAIN, trainer
from tests.wire.faults import Fault
from tests.wire.sdk import MODEL, connected, scripted_server


def test_a_model_that_the_server_does_not_have_is_refused_without_a_session():
    with scripted_server() as server, connected(server) as service, warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PreflightError) as raised:
            trainer(service, base_model="scripted-modl").train(TRAIN)
        asked = list(server.requests)
    assert str(raised.value).split("\n")[1:] == [
        f"  base_model: the service does not have 'scripted-modl' → {MODEL!r}, its only model"
    ]
    assert asked.count("get_server_capabilities") == 1
    assert {"create_session", "create_model", "forward_backward"}.isdisjoint(asked)


def test_one_that_it_has_is_trained():
    with scripted_server() as server, connected(server) as service:
        result = trainer(service, base_model=MODEL, max_steps=2).train(TRAIN)
        assert result.final_checkpoint.step == 2
        assert server.requests.count("get_server_capabilities") == 1


def test_rows_that_it_would_refuse_as_too_long_are_refused_here():
    """The server of the tests says that each of its models takes 4,096 tokens."""
    rows = Dataset.from_records([{"question": "Q" * size, "answer": "A"} for size in (1, 5000)])
    with scripted_server() as server, connected(server) as service, pytest.raises(PreflightError) as raised:
        trainer(service, base_model=MODEL).preflight(rows)
    (problem,) = raised.value.problems
    assert problem.found == "5,022 tokens, more than the model takes on this engine"
    assert problem.row == 1


def test_a_refused_key_is_said_at_once():
    refused = Fault(kind="get_server_capabilities", action="status", status=401, message="no such key")
    with scripted_server(faults=[refused]) as server, connected(server) as service:
        with pytest.raises(AuthenticationError) as raised:
            trainer(service, base_model=MODEL).preflight(TRAIN)
        assert "create_session" not in server.requests
    assert str(raised.value).startswith("asking the service for its models: the service refuses the API key. ")


def test_a_server_that_does_not_answer_is_a_warning(monkeypatch):
    monkeypatch.setattr(OfferQuestion.answer, "__defaults__", (1.0,))
    silent = Fault(kind="get_server_capabilities", action="hang", seconds=3)
    with scripted_server(faults=[silent]) as server, connected(server) as service:
        first, *_ = trainer(service, base_model=MODEL).preflight(TRAIN).warnings
    assert first == (
        f"the service did not say which models it has, so whether {MODEL!r} is one of them is not known: nothing came "
        "within 1 s"
    )
