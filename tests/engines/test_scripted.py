"""The scripted service keeps the contract of an engine, at once and with a worker thread behind it."""

from __future__ import annotations

import pytest

from glowgenius.testing import ScriptedService
from tests.engines.contract import Engine, EngineContract


class TestScriptedService(EngineContract):
    @pytest.fixture(params=[0.0, 1e-4], ids=["at once", "with latency"])
    def engine(self, request):
        return Engine(
            service=lambda: ScriptedService(models=("scripted-model",), latency=request.param, context=64),
            base_model="scripted-model",
            learning_rate=5e-4,
            context=64,
        )
