"""Fifty runs on the real local engine, each killed at a random moment, and resumed to the same bits."""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path

import pytest

from glowgenius.lora.config import LoRAConfig
from glowgenius.training import SupervisedTrainer, TrainingConfig
from tests.support.killing import Killed, MortalDisk, MortalService
from tests.support.resuming import Asking, Counting, Outcome
from tests.support.tiny_models import write_tiny_model
from tests.support.training import Recorder, questions

pytest.importorskip("torch")

TRAIN, HELD_OUT = questions(5), questions(2, prefix="E")
KILLS = 50


class Dying(Recorder):
    """Kills the process when it is told about the *at*-th event."""

    def __init__(self, at=None):
        super().__init__()
        self.at = at

    def _hear(self, hook, event):
        super()._hear(hook, event)
        if len(self.events) == self.at:
            raise Killed(f"event {self.at}")


def run(model, folder, *, callback=Counting, resume=False, lookahead=1, at_event=None, **moment):
    """One process: an engine of its own, which goes on with what is queued when the caller is killed."""
    from glowgenius.local import ServiceClient

    service = ServiceClient(checkpoint_directory=folder / "checkpoints", device="cpu")
    counting, dying, mortal = callback(), Dying(at_event), MortalService(service, **moment)
    trainer = SupervisedTrainer(
        str(model),
        lora=LoRAConfig(rank=2),
        service=mortal,
        config=TrainingConfig(
            batch_size=2,
            num_epochs=2,
            learning_rate=0.02,
            save_every=2,
            eval_every=3,
            lookahead=lookahead,
            output_dir=folder,
        ),
        callbacks=[counting, dying],
    )
    try:
        result = trainer.train(TRAIN, HELD_OUT, resume_from_checkpoint=resume)
    finally:
        service.close()
    service.close().result(timeout=60)
    counts = {"at_call": mortal.calls, "at_wait": mortal.waits, "at_event": len(dying.events)}
    return Outcome(state_of(result), folder, result, counting), counts


def state_of(result):
    """Every bit of adapter and optimizer."""
    files = sorted(Path(result.final_checkpoint.state_path).glob("*.safetensors"))
    assert [file.name for file in files] == ["adapter_model.safetensors", "optimizer.safetensors"]
    return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]


def test_fifty_random_kill_points(tmp_path):
    model = write_tiny_model(tmp_path / "model", num_hidden_layers=1)
    whole = {}
    for callback in (Counting, Asking):
        with pytest.MonkeyPatch.context() as patch:
            disk = MortalDisk(patch)
            outcome, counts = run(model, tmp_path / callback.__name__, callback=callback)
        whole[callback] = outcome, {**counts, "at_write": disk.writes}
    assert whole[Counting][0].weights != whole[Asking][0].weights
    chosen, kinds = random.Random(0), Counter()
    for number in range(KILLS):
        callback, folder = chosen.choice((Counting, Asking)), tmp_path / str(number)
        outcome, counts = whole[callback]
        kind = chosen.choice(("at_call", "at_wait", "at_event", "at_write"))
        kinds[kind] += 1
        # What a callback asks for takes effect `lookahead` steps later; without requests it makes no difference.
        lookahead = chosen.choice((0, 1, 2)) if callback is Counting else 1
        with pytest.MonkeyPatch.context() as patch:
            moment = {kind: chosen.randint(1, counts[kind])}
            if kind == "at_write":
                MortalDisk(patch, at=moment.pop(kind), moment=chosen.choice(MortalDisk.MOMENTS))
            with pytest.raises(Killed):
                run(model, folder, callback=callback, lookahead=lookahead, **moment)
        begun = (folder / "config.json").exists()
        resumed, _ = run(model, folder, callback=callback, lookahead=lookahead, resume=begun)
        resumed.check_same(outcome)
    assert min(kinds.values()) > KILLS // 10
