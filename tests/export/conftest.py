"""Small tuned runs of every family, trained once for all tests of this folder."""

from __future__ import annotations

import json

import pytest

from glowgenius.lora.config import LoRAConfig
from glowgenius.reporting.saved_run import open_run
from glowgenius.training import SupervisedTrainer, TrainingConfig
from tests.support.tiny_models import write_tiny_model
from tests.support.training import questions


@pytest.fixture(scope="session")
def tuned(tmp_path_factory):
    """A function that gives the run of a family, and the folder of its base model."""
    pytest.importorskip("torch", reason="not installed: torch; pip install '.[local]'")
    from glowgenius.local import ServiceClient

    made = {}

    def tuned(architecture="llama", *, unembed=False, **settings):
        key = (architecture, unembed, *sorted(settings.items()))
        if key not in made:
            folder = tmp_path_factory.mktemp(architecture)
            base = write_tiny_model(folder / "base", architecture, **settings)
            if architecture == "mistral":
                config = json.loads((base / "config.json").read_text(encoding="utf-8"))
                (base / "config.json").write_text(json.dumps({**config, "sliding_window": 64}), encoding="utf-8")
            service = ServiceClient(checkpoint_directory=folder / "run" / "checkpoints", device="cpu")
            trainer = SupervisedTrainer(
                str(base),
                lora=LoRAConfig(rank=4, train_unembed=unembed),
                service=service,
                config=TrainingConfig(batch_size=4, max_steps=4, learning_rate=0.03, output_dir=folder / "run"),
            )
            trainer.train(questions(8), eval_dataset=questions(3, prefix="E"))
            made[key] = open_run(folder / "run"), base
        return made[key]

    return tuned
