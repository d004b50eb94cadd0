"""`BudgetGuard`: a run ends before it costs more than it may."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from typing_extensions import override

from glowgenius._validators import is_number, reject
from glowgenius.errors import ConfigError
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.requests import StopTraining

if TYPE_CHECKING:
    from glowgenius.training.events import StepEnd, TrainBegin


@final
class BudgetGuard(Callback):
    """Ends the run, its state saved, before it would cost more than *usd*.

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
