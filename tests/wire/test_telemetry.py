"""What the SDK reports home: much by default, and nothing at all with the setting that the documentation names."""

from __future__ import annotations

import json

import pytest

from glowgenius.errors import EngineError
from tests.support.training import HELD_OUT, TRAIN, trainer
from tests.wire.faults import Fault
from tests.wire.sdk import MODEL, connected, scripted_server


def reported(monkeypatch, setting):
    """What arrives at the endpoint of the telemetry while a run trains and fails, and its session is closed."""
    monkeypatch.setenv("TINKER_TELEMETRY", setting)
    with scripted_server(faults=[Fault(kind="optim_step", action="status", status=400, nth=2)]) as server:
        with connected(server) as service:
            run = trainer(service, base_model=MODEL, max_restarts=0)
            with pytest.raises(EngineError):
                run.train(TRAIN, HELD_OUT)
        assert "forward_backward" in server.requests
        return server.telemetry, server.requests.count("telemetry")


def test_with_the_documented_setting_nothing_is_sent(monkeypatch):
    assert reported(monkeypatch, "0") == ([], 0)


def test_without_it_sessions_and_exceptions_are_reported(monkeypatch):
    """The premise of the test before: the run is one that would be reported, with paths of this machine."""
    sent, _ = reported(monkeypatch, "1")
    text = json.dumps(sent)
    assert "SESSION_START" in text
    assert __file__.rpartition("/")[2] in text or "site-packages" in text
