"""Callbacks that end a run: `EarlyStopping`, `BudgetGuard` and `TerminateOnNaN`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, final

from typing_extensions import override

from glowgenius._validators import is_integer, is_number, reject
from glowgenius.errors import ConfigError, nearest
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.history import direction, is_better, measured_as, of_evaluation
from glowgenius.training.requests import RunEvaluation, StopTraining

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from glowgenius.training.events import EpochEnd, EvaluateEnd, StepEnd, TrainBegin
    from glowgenius.typing import JSON

_MODES = ("auto", "min", "max")


@final
class EarlyStopping(Callback):
    """Ends the run when a metric of the evaluation has not improved for *patience* evaluations in a row.

    Where `TrainingConfig.eval_every` is None it asks for an evaluation at the end of every epoch, as there would be
    nothing to judge by. The evaluation before the first step does not count: there are no weights of its own to go back
    to.

    Args:
        monitor: The metric, such as `eval_loss`, or `exact_match` where a callback measures that; the word `eval`
            before it may be left out.
        patience: Evaluations without improvement after which the run ends; at least 1.
        min_delta: An improvement has to be larger than this.
        mode: `min` where low is good, `max` where high is; `auto` takes `loss`, `nll` and `perplexity` to be good low.
        restore_best: Whether `result.sampler` answers with the best weights where this callback ends the run. Where
            it does not, they are at `result.best_sampler`.

    Raises:
        ConfigError: An argument is not valid.
    """

    def __init__(
        self,
        monitor: str = "eval_loss",
        *,
        patience: int = 3,
        min_delta: float = 0.0,
        mode: Literal["auto", "min", "max"] = "auto",
        restore_best: bool = False,
    ) -> None:
        owner, name = EarlyStopping, of_evaluation(monitor)
        if not name.startswith("eval/") or name == "eval/":
            raise reject(owner, "monitor", "the name of an evaluation metric, such as 'eval_loss'", monitor)
        if not is_integer(patience) or patience < 1:
            raise reject(owner, "patience", "an integer ≥ 1", patience)
        if not is_number(min_delta) or min_delta < 0:
            raise reject(owner, "min_delta", "a number ≥ 0", min_delta)
        if mode not in _MODES:
            error = reject(owner, "mode", "one of 'auto', 'min', 'max'", mode)
            raise ConfigError(f"{error}{nearest(str(mode), _MODES)}")
        self._monitor = name
        self._patience = patience
        self._min_delta = min_delta
        self._mode: Literal["min", "max"] = direction(name) if mode == "auto" else mode
        self._restore_best = restore_best
        self._asks = False
        self._best: float | None = None
        self._best_step: int | None = None
        self._waited = 0

    @override
    def __repr__(self) -> str:
        return f"EarlyStopping({self._monitor!r}, patience={self._patience})"

    @property
    @override
    def needed_steps(self) -> Collection[int]:
        return () if self._best_step is None or not self._restore_best else (self._best_step,)

    @property
    @override
    def state_key(self) -> str:
        return f"EarlyStopping[{self._monitor}]"

    @override
    def state_dict(self) -> Mapping[str, JSON]:
        return {"best": self._best, "best_step": self._best_step, "waited": self._waited}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._best, self._best_step, self._waited = state["best"], state["best_step"], state["waited"]

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        if not event.has_evaluation:
            raise ConfigError(
                f"EarlyStopping watches {self._monitor!r}, but there is no evaluation set; "
                "train(..., eval_dataset=...), or take the callback out"
            )
        if self._restore_best and event.config.metric_for_best is None:
            raise ConfigError(
                "EarlyStopping(restore_best=True) needs the weights of evaluated steps, which metric_for_best=None "
                "does not keep; set metric_for_best"
            )
        self._asks = event.config.eval_every is None
        self._best, self._best_step, self._waited = None, None, 0

    @override
    def on_epoch_end(self, event: EpochEnd) -> RunEvaluation | None:
        return RunEvaluation() if self._asks else None

    @override
    def on_evaluate_end(self, event: EvaluateEnd) -> StopTraining | None:
        name = measured_as(self._monitor, event.metrics)
        if name is None:
            raise ConfigError(
                f"EarlyStopping watches {self._monitor!r}{nearest(self._monitor, event.metrics)}, which no evaluation "
                f"measures; measured are: {', '.join(event.metrics)}. A callback adds others by returning LogMetrics "
                "from on_evaluate_begin, as AnswerEvaluation does"
            )
        value = event.metrics[name]
        if event.step == 0:
            return None
        if is_better(value, self._best, self._mode, by=self._min_delta):
            self._best, self._best_step, self._waited = value, event.step, 0
            return None
        self._waited += 1
        if self._waited < self._patience:
            return None
        best = "nothing" if self._best is None else f"{self._best:.4g} at step {self._best_step}"
        times = "1 evaluation" if self._patience == 1 else f"{self._patience} evaluations"
        reason = f"{self._monitor} has not improved for {times}; best was {best}"
        use = self._best_step if self._restore_best else None
        return StopTraining(reason, use_step=use)


@final
class BudgetGuard(Callback):
    """Saves and ends the run before it would cost more than *usd*.

    It counts what has been sent, what is under way, and the evaluation that ends a run; steps that were made again
    after a failure or an interruption count as often as they were made. On the local engine nothing is charged, and
    nothing is guarded. What callbacks sample counts where they say how much.

    Args:
        usd: The most that the run may cost, in USD, what was spent before a resume included.

    Raises:
        ConfigError: *usd* is not a number above 0. When the run begins: the price of the model is not known, or not
            even one step can be paid for.
    """

    def __init__(self, usd: float) -> None:
        if not is_number(usd) or usd <= 0:
            raise reject(BudgetGuard, "usd", "a number > 0", usd)
        self._usd = float(usd)

    @override
    def __repr__(self) -> str:
        return f"BudgetGuard(usd={self._usd:g})"

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        if event.cost is None or event.cost.free:
            return
        if event.least_usd is None:
            raise ConfigError(f"{self!r} cannot watch the cost: it is {event.cost.reason}")
        if event.least_usd > self._usd:
            raise ConfigError(
                f"{self!r} is too small: ended as early as can be, the run would have cost ${event.least_usd:.4f}"
            )

    @override
    def on_step_end(self, event: StepEnd) -> StopTraining | None:
        cost = event.cost
        if cost is None or event.step == event.total_steps or cost.usd_if_stopped_next <= self._usd:
            return None
        return StopTraining(
            f"the budget of ${self._usd:g} is used up: ${cost.usd_if_stopped_now:.4f} with what is under way"
        )


@final
class TerminateOnNaN(Callback):
    """Ends the run as soon as a loss is NaN or infinite.

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
    def on_evaluate_end(self, event: EvaluateEnd) -> StopTraining | None:
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
