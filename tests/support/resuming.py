"""One run for all tests of kill and resume, and what its two halves are compared with."""

from __future__ import annotations

import json

import numpy as np

from glowgenius.training.callbacks.base import Callback
from glowgenius.training.requests import RunEvaluation, SaveCheckpoint, StopTraining
from tests.support.training import HELD_OUT, questions, trainer

ROWS = questions(5)
SETTINGS = {"batch_size": 2, "num_epochs": 2, "save_every": 2, "eval_every": 3, "lr_schedule": "cosine"}
STEPS = 6


class Counting(Callback):
    """State that depends on every event: a resumed run has to end with the same."""

    def __init__(self):
        self.losses = []

    def state_dict(self):
        return {"losses": self.losses}

    def load_state_dict(self, state):
        self.losses = list(state["losses"])

    def on_train_begin(self, event):
        self.losses = []

    def on_step_end(self, event):
        self.losses.append(event.loss)

    def on_evaluate_end(self, event):
        self.losses.append(event.metrics["eval/loss"])

    def on_epoch_end(self, event):
        self.losses.append(event.loss)


class Asking(Counting):
    """Asks for an evaluation, a save and the end, each of which takes effect `lookahead` steps later."""

    def on_step_end(self, event):
        super().on_step_end(event)
        return {1: RunEvaluation(), 2: SaveCheckpoint(), 3: StopTraining("enough")}.get(event.step)


def train(service, folder, *, resume=None, lookahead=1, callbacks=(), **settings):
    run = trainer(service, callbacks=callbacks, output_dir=folder, lookahead=lookahead, **{**SETTINGS, **settings})
    return run.train(ROWS, HELD_OUT, resume_from_checkpoint=resume)


def weights_of(service, result):
    return service.checkpoints[result.final_checkpoint.state_path].model.parameters


class Outcome:
    """Everything that a run leaves behind which must not depend on whether it was killed in between."""

    def __init__(self, weights, folder, result, counting):
        self.weights = weights
        self.metrics = (folder / "metrics.jsonl").read_text()
        self.kept = {
            "history": result.history,
            "losses": counting.losses,
            "best_step": result.best_step,
            "stop_reason": result.stop_reason,
            "last": result.final_checkpoint.step,
            "status": json.loads((folder / "result.json").read_text())["status"],
            "files": sorted(path.name for path in folder.iterdir()),
        }

    def check_same(self, other):
        assert self.kept == other.kept
        assert self.metrics == other.metrics
        assert np.array_equal(self.weights, other.weights)
