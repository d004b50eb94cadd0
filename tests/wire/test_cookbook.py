"""The cookbook's own loop trains on our engine, in this process and over the wire."""

from __future__ import annotations

import json
import logging

import pytest

from tests.support.tiny_models import write_tiny_model
from tests.wire import cookbook
from tests.wire.server import WireServer

pytest.importorskip("torch")
cookbook.need_cookbook()
pytestmark = pytest.mark.filterwarnings("default")  # what it warns of is its own affair


@pytest.fixture(autouse=True)
def _its_log_handlers_go_with_it():
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    yield
    for handler in [handler for handler in root.handlers if handler not in before]:
        root.removeHandler(handler)
        handler.close()
    root.setLevel(level)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(write_tiny_model(tmp_path_factory.mktemp("tiny") / "model"))


@pytest.fixture
def local(tmp_path):
    from glowgenius.local import ServiceClient

    return ServiceClient(checkpoint_directory=tmp_path / "checkpoints", device="cpu")


def test_it_trains_on_the_local_engine(local, model, tmp_path, monkeypatch):
    from tinker_cookbook.supervised import train

    monkeypatch.setattr(train.tinker, "ServiceClient", lambda **_: local)
    rows = cookbook.write_rows(tmp_path / "rows.jsonl", 8)
    metrics = cookbook.run(cookbook.config(tmp_path / "log", model, rows, num_epochs=3, save_every=4))
    losses = [row["train_mean_nll"] for row in metrics]
    assert len(losses) == 12
    assert losses[-1] < 0.2 * losses[0]
    saved = [json.loads(line) for line in (tmp_path / "log" / "checkpoints.jsonl").read_text().splitlines()]
    assert [row["name"] for row in saved] == ["000004", "000008", "final"]


def test_it_trains_over_the_wire(local, model, tmp_path, monkeypatch):
    with WireServer(local) as server:
        monkeypatch.setenv("TINKER_API_KEY", server.api_key)
        rows = cookbook.write_rows(tmp_path / "rows.jsonl", 8)
        settings = cookbook.config(tmp_path / "log", model, rows, base_url=server.url)
        losses = [row["train_mean_nll"] for row in cookbook.run(settings)]
        assert len(losses) == 4
        [run] = server.backend.histories.values()
        assert [update.learning_rate for update in run.history] == pytest.approx([0.02, 0.015, 0.01, 0.005])
    local.close().result(timeout=60)
