"""The local engine keeps the contract of an engine, on a tiny random model."""

from __future__ import annotations

import pytest

from tests.engines.contract import Engine, EngineContract
from tests.support.tiny_models import SIZES, VOCABULARY_SIZE, write_tiny_model

torch = pytest.importorskip("torch")


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    return str(write_tiny_model(tmp_path_factory.mktemp("tiny")))


class TestLocalEngine(EngineContract):
    @pytest.fixture
    def engine(self, base_model, tmp_path):
        from glowgenius.local.service import ServiceClient

        return Engine(
            service=lambda: ServiceClient(checkpoint_directory=tmp_path, device="cpu"),
            base_model=base_model,
            learning_rate=3e-3,
            tolerance=1e-4,
            shares_checkpoints=True,
            vocabulary_size=VOCABULARY_SIZE,
            context=SIZES["max_position_embeddings"],
        )
