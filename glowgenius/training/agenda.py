"""What callbacks have asked for, and behind which step it takes effect."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, final

from attrs import define, field

from glowgenius.training.requests import StopTraining

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.typing import JSON

_SAVE, _EVALUATE, _STOP = "save", "evaluate", "stop"
_KINDS: Final = (_SAVE, _EVALUATE)


@final
@define(kw_only=True)
class Agenda:
    """The steps behind which something was asked for, besides what the settings ask for.

    A request that is made when step n is reported takes effect `lookahead` steps later. A run that is killed in
    between has to do it all the same when it is resumed, so each checkpoint holds what is still to come.
    """

    end: int
    """The last step: of the plan, or where a callback has ended the run."""

    stop: StopTraining | None = None
    """The request that ends the run before its plan does."""

    saves: set[int] = field(factory=set[int])
    """Steps of which a state is to be kept."""

    evaluations: set[int] = field(factory=set[int])
    """Steps that are to be evaluated."""

    def after(self, step: int) -> dict[str, JSON]:
        """What is still to come when *step* is done, or ends the run there, as JSON; empty where that is nothing."""
        steps: dict[str, set[int]] = {_SAVE: self.saves, _EVALUATE: self.evaluations}
        left: dict[str, JSON] = {}
        for kind in _KINDS:
            later: list[JSON] = [each for each in sorted(steps[kind]) if each > step]
            if later:
                left[kind] = later
        if self.stop is not None and self.end >= step:
            left[_STOP] = {"step": self.end, "reason": self.stop.reason, "use_step": self.stop.use_step}
        return left

    @classmethod
    def from_json(cls, left: Mapping[str, Any], *, total_steps: int) -> Agenda:
        """The agenda of a run that goes on with what `after` gave."""
        agenda = cls(end=total_steps, saves=set(left.get(_SAVE, ())), evaluations=set(left.get(_EVALUATE, ())))
        stop = left.get(_STOP)
        if stop is not None and stop["step"] <= total_steps:
            agenda.end = stop["step"]
            agenda.stop = StopTraining(stop["reason"], use_step=stop["use_step"])
        return agenda
