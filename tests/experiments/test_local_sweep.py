"""A sweep on the real local engine, with a tiny random model."""

from __future__ import annotations

import pytest

from glowgenius.experiments import sweep
from glowgenius.training.config import TrainingConfig
from tests.support.tiny_models import write_tiny_model
from tests.support.training import questions

pytest.importorskip("torch")


def test_a_sweep_on_the_local_engine(tmp_path):
    from glowgenius.local import ServiceClient

    model = write_tiny_model(tmp_path / "model")
    service = ServiceClient(checkpoint_directory=tmp_path / "checkpoints", device="cpu")
    rows = questions(4)

    def run(ranks):
        return sweep(
            str(model),
            rows,
            ranks=ranks,
            learning_rates=[1e-5, 0.05],
            config=TrainingConfig(batch_size=4, num_epochs=6),
            service=service,
            questions=rows,
            max_tokens=4,
            output_dir=tmp_path / "sweep",
            say=None,
        )

    found = run([2])
    assert found.metric == "nll"
    assert found.best().learning_rate == 0.05
    assert found.best().value < 0.8 * found.base_value()
    assert found.point(2, 1e-5).standing == "unclear"
    few = "Too few questions to tell points apart: 4 independent ones, and the rule asks for 10."
    assert few in found.findings()
    grown = run([2, 4])
    assert [cell for cell in grown.cells if cell.cell.rank == 2] == list(found.cells)
    assert grown.point(4, 0.05).value != grown.point(2, 0.05).value
    service.close().result(timeout=60)
