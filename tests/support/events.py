"""One event of each class, in the order of `HOOKS`."""

from __future__ import annotations

from glowgenius.errors import EngineError
from glowgenius.training.events import (
    CheckpointSaved,
    EpochBegin,
    EpochEnd,
    EvaluateBegin,
    EvaluateEnd,
    ServiceWait,
    StepBegin,
    StepEnd,
    StepLogged,
    TrainBegin,
    TrainEnd,
    TrainFailed,
    TrainRestart,
)
from tests.support.training import config

BEGIN = TrainBegin(
    header=("one", "two"),
    config=config(output_dir="runs/x"),
    base_model="m",
    engine="e",
    start_step=0,
    total_steps=4,
    steps_per_epoch=2,
    learning_rate=0.5,
    has_evaluation=True,
)
EPOCH_BEGIN = EpochBegin(epoch=1, num_epochs=3)
STEP_BEGIN = StepBegin(step=1, epoch=1, learning_rate=0.5, num_rows=4)
STEP_END = StepEnd(
    step=1,
    epoch=1,
    total_steps=4,
    loss=float("nan"),
    learning_rate=0.5,
    num_rows=4,
    trained_tokens=12,
    input_tokens=100,
    metrics={"optimizer/norm": 1.5},
)
EVALUATE_BEGIN = EvaluateBegin(step=1, num_rows=3, sampler=object())
EVALUATE_END = EvaluateEnd(step=1, metrics={"eval/loss": 2.0}, is_best=True)
SAVED = CheckpointSaved(step=1, name="000001", state_path="p", sampler_path=None, final=False)
LOGGED = StepLogged(step=1, metrics={"train/loss": 2.0})
EPOCH_END = EpochEnd(epoch=1, step=1, loss=2.0)
WAIT = ServiceWait(step=2, operation="optim_step", seconds=60.5, since="2026-11-24 14:03:20", interrupted=False)
RESTART = TrainRestart(step=2, failed_step=3, error=EngineError("gone"), restart=1, max_restarts=3)
TRAIN_END = TrainEnd(step=4, stop_reason="completed", best_step=None, trained_tokens=48)
FAILED = TrainFailed(error=ValueError("broken"), step=1)
ALL = [
    BEGIN,
    EPOCH_BEGIN,
    STEP_BEGIN,
    STEP_END,
    EVALUATE_BEGIN,
    EVALUATE_END,
    SAVED,
    LOGGED,
    EPOCH_END,
    WAIT,
    RESTART,
    TRAIN_END,
    FAILED,
]
"""One of each, in the order of `HOOKS`."""
