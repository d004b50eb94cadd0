"""Clients, samplers and trainers in a fork: told to be spawned, on every engine, and the fork ends."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

PROGRAM = """
import multiprocessing, sys
import glowgenius as gg
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.rendering import QuestionAnswerRenderer
from tests.training.test_forks import {make}

def child(sampler, trainer, rows):
    for use in (lambda: sampler.generate("What is 1?"), lambda: trainer.train(rows), trainer.base_sampler):
        try:
            use()
        except gg.errors.EngineError as error:
            print(str(error).partition(":")[0].rstrip("0123456789() "), flush=True)

rows = gg.Dataset.from_records([{{"question": f"What is {{n}}?", "answer": "one"}} for n in range(2)])
config = gg.TrainingConfig(num_epochs=1, learning_rate=1e-3)
settings = {make}(sys.argv[1])
trainer = gg.SupervisedTrainer(**settings, lora=gg.LoRAConfig(rank=2), config=config)
sampler = trainer.base_sampler()
sampler.generate("What is 1?", max_tokens=1)
process = multiprocessing.get_context("fork").Process(target=child, args=(sampler, trainer, rows))
process.start()
process.join(60)
print(process.exitcode)
"""


def local(folder):
    from glowgenius.local import ServiceClient

    return {"base_model": folder, "service": ServiceClient(checkpoint_directory=folder, device="cpu")}


def scripted(_):
    from glowgenius.rendering import QuestionAnswerRenderer
    from glowgenius.testing import ByteTokenizer, ScriptedService

    return {
        "base_model": "scripted",
        "service": ScriptedService(latency=0.001),
        "renderer": QuestionAnswerRenderer(ByteTokenizer()),
    }


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("make", [local, scripted])
def test_a_fork_is_told_to_be_spawned_and_ends(make, tmp_path):
    if make is local:
        pytest.importorskip("torch")
        from tests.support.tiny_models import write_tiny_model

        write_tiny_model(tmp_path)
    program = PROGRAM.format(make=make.__name__)
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, check=True, timeout=120
    )
    lines = [line for line in done.stdout.splitlines() if not line.startswith("engine:")]
    assert [" ".join(line.split()[:4]) for line in lines] == [
        "the Sampler 'base' belongs",
        "this trainer belongs to",
        "this trainer belongs to",
        "0",
    ]
