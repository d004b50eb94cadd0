"""`TerminateOnNaN`: end a run whose loss is no number any more."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, final

from typing_extensions import override

from glowgenius.training.callbacks.base import Callback
from glowgenius.training.requests import StopTraining

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from glowgenius.training.events import EvaluateEnd, StepEnd, TrainBegin
    from glowgenius.typing import JSON


@final
class TerminateOnNaN(Callback):
    """Ends the run as soon as a loss is NaN or infinite, as nothing that comes after can be of use.

    Where an evaluation has found a best step before that, `result.sampler` answers with its weights, and not with the
    broken ones of the last step.
    """

    def __init__(self) -> None:
        self._keeps_best = False
        self._best_step: int | None = None

    @property
    @override
    def needed_steps(self) -> Collection[int]:
        return () if self._best_step is None or not self._keeps_best else (self._best_step,)

    @override
    def state_dict(self) -> Mapping[str, JSON]:
        return {"best_step": self._best_step}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best_step = state["best_step"]

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        self._keeps_best = event.config.metric_for_best is not None
        self._best_step = None

    @override
    def on_step_end(self, event: StepEnd) -> StopTraining | None:
        return self._judge("train/loss", event.loss, event.step)

    @override
    def on_evaluate(self, event: EvaluateEnd) -> StopTraining | None:
        loss = event.metrics["eval/loss"]
        if event.is_best and math.isfinite(loss):
            self._best_step = event.step
        return self._judge("eval/loss", loss, event.step)

    def _judge(self, name: str, loss: float, step: int) -> StopTraining | None:
        if math.isfinite(loss):
            return None
        best = self._best_step if self._keeps_best else None
        kept = "no earlier weights were kept" if best is None else f"result.sampler has the weights of step {best}"
        return StopTraining(f"{name} is {loss} at step {step}; {kept}", use_step=best)
