"""`Tracker`: what the callbacks for experiment trackers have in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeAlias

from typing_extensions import override

from glowgenius._lazy import require
from glowgenius._output import logger
from glowgenius._secrets import redact
from glowgenius.training.callbacks.base import Callback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from glowgenius.training.events import EvaluateBegin, StepBegin, StepLogged, TrainBegin, TrainEnd, TrainFailed
    from glowgenius.typing import JSON

_LOG = logger("glowgenius.training")

Ending: TypeAlias = Literal["completed", "interrupted", "failed"]
"""How a run ended."""


class Tracker(Callback, ABC):
    """Hands the settings of a run, and every row of `metrics.jsonl`, to a tracker.

    A tracker that fails, whatever the reason, is said so once and left out from there on: it never ends the run.
    A resumed run goes on in the tracker's run of the checkpoint; steps that the tracker has already are not sent again,
    as they are made again exactly.

    Args:
        target: What the state is kept under, beside the class.

    Raises:
        MissingDependencyError: The tracker's library is not installed.
    """

    MODULE: ClassVar[str]
    """The tracker's library."""

    EXTRA: ClassVar[str]
    """The extra of glowgenius that brings it."""

    def __init__(self, target: str) -> None:
        self._library: Any = require(self.MODULE, extra=self.EXTRA, purpose=type(self).__name__)
        self._target = target
        self._begin: TrainBegin | None = None
        self._run_id: str | None = None
        self._last_step = -1
        self._open = self._broken = False

    @override
    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._target!r})"

    @property
    @override
    def state_key(self) -> str:
        return f"{type(self).__name__}[{self._target}]"

    @override
    def state_dict(self) -> Mapping[str, JSON]:
        return {"run": self._run_id}

    @override
    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._run_id = state["run"]

    @override
    def on_train_begin(self, event: TrainBegin) -> None:
        # The run is opened a moment later, when the state of a checkpoint has been handed over.
        self._begin, self._run_id, self._last_step = event, None, -1
        self._open = self._broken = False

    @override
    def on_step_begin(self, event: StepBegin) -> None:
        self._start()

    @override
    def on_evaluate_begin(self, event: EvaluateBegin) -> None:
        self._start()

    @override
    def on_log(self, event: StepLogged) -> None:
        if event.step > self._last_step:
            self._try(lambda: self._send(event.step, event.metrics))
            self._last_step = event.step

    @override
    def on_train_end(self, event: TrainEnd) -> None:
        self._stop("completed")

    @override
    def on_exception(self, event: TrainFailed) -> None:
        self._stop("interrupted" if isinstance(event.error, KeyboardInterrupt) else "failed")

    def _start(self) -> None:
        begin = self._begin
        if begin is not None and not self._open:
            self._open = True
            self._try(lambda: self._open_run(begin))

    def _stop(self, ending: Ending) -> None:
        if self._open:
            self._open = False
            self._try(lambda: self._close_run(ending))

    def _try(self, action: Callable[[], None]) -> None:
        if self._broken:
            return
        try:
            action()
        except Exception as error:  # noqa: BLE001 - whatever a tracker has, the run goes on
            self._broken = True
            _LOG.warning(
                "%r has failed and is left out from here on; the run goes on: %s: %s",
                self,
                type(error).__name__,
                redact(str(error)),
            )

    @abstractmethod
    def _open_run(self, event: TrainBegin) -> None:
        """Open the run `_run_id`, or a new one, and set `_run_id` and `_last_step`."""

    @abstractmethod
    def _send(self, step: int, metrics: Mapping[str, float]) -> None:
        """Send one row."""

    @abstractmethod
    def _close_run(self, ending: Ending) -> None:
        """Close the run."""


def flat(settings: Mapping[str, JSON], prefix: str = "") -> dict[str, str]:
    """Nested settings as `training.batch_size` → `16`; lists are left as they print."""
    values: dict[str, str] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            values |= flat(value, f"{prefix}{name}.")
        else:
            values[f"{prefix}{name}"] = str(value)
    return values
