"""When the service fails in the middle of a run: back to the last checkpoint, with a new client, a few times."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from attrs import asdict, frozen

from glowgenius._output import logger
from glowgenius._secrets import redact
from glowgenius.errors import EngineError, RateLimitError, ServiceUnavailableError
from glowgenius.training.events import TrainRestart

if TYPE_CHECKING:
    from collections.abc import Callable

    from glowgenius.engines.protocol import TrainingClient
    from glowgenius.training.agenda import Agenda
    from glowgenius.training.callbacks.dispatch import Callbacks
    from glowgenius.training.cost import Meter
    from glowgenius.training.loop import TrainingLoop
    from glowgenius.training.recorder import Recorder
    from glowgenius.training.requests import StopTraining
    from glowgenius.training.start import Start
    from glowgenius.training.waiting import Clock
    from glowgenius.typing import JSON

WORTH_A_RESTART: Final = (ServiceUnavailableError, RateLimitError)
"""Errors that may be gone the next time: the service's own, the network's, too many requests.

Not those that would only come again: a refused request, a key, a bill, a missing checkpoint, an answer in a form that
the SDK does not know; and not an error of this library or of a callback.
"""

FIRST_PAUSE: Final = 5.0
"""Seconds before the second restart; each further pause is 4 times as long.

There is none before the first, as the SDK itself has tried for minutes by then.
"""

LONGEST_PAUSE: Final = 300.0
"""Seconds before a restart, at most."""

_LOG = logger("glowgenius.training")


def worth_a_restart(error: BaseException) -> bool:
    """Whether the same requests, sent to a new client, may succeed."""
    return isinstance(error, WORTH_A_RESTART)


@final
@frozen(kw_only=True)
class Restart:
    """One failure that a run has survived."""

    failed_step: int
    """The last step that had been submitted."""

    from_step: int
    """Updates in the checkpoint that the run went on from; 0 where it started anew from its seed."""

    error: str
    """The class of the error."""

    message: str
    """What it said."""

    def to_json(self) -> dict[str, JSON]:
        """The restart as a JSON object."""
        return asdict(self)


@final
class Attempts:
    """Runs the loop, and again from the last checkpoint where the service has failed.

    A failed gradient may have been followed by its update all the same, so nothing is sent again to the same client:
    the steps behind the checkpoint are made anew on a client that stands where the checkpoint does.

    Args:
        make_client: A client that goes on from a state, or a fresh one for None.
        make_loop: The loop around a client.
        callbacks: Who is told, and set back to the state that they had.
        recorder: What is kept, and set back as well.
        meter: Counts what was sent in vain.
        total_steps: The length of the run.
        max_restarts: How often it may be tried again.
        clock: Lets time pass before that.
    """

    def __init__(
        self,
        *,
        make_client: Callable[[str | None], TrainingClient],
        make_loop: Callable[[TrainingClient, Agenda], TrainingLoop],
        callbacks: Callbacks,
        recorder: Recorder,
        meter: Meter,
        total_steps: int,
        max_restarts: int,
        clock: Clock,
    ) -> None:
        self._make_client = make_client
        self._make_loop = make_loop
        self._callbacks = callbacks
        self._recorder = recorder
        self._meter = meter
        self._total_steps = total_steps
        self._max_restarts = max_restarts
        self._clock = clock
        self._initial = callbacks.state()
        self.restarts: tuple[Restart, ...] = ()
        """Every restart so far."""

    def run(self, client: TrainingClient, start: Start) -> tuple[TrainingClient, StopTraining | None]:
        """Train to the end.

        Returns:
            The client that got there, and the request that ended the run early, if one did.

        Raises:
            EngineError: It is not worth a restart, or there have been as many as there may be.
        """
        failed_step = start.step
        made: TrainingClient | None = client
        while True:
            agenda = start.agenda(self._total_steps)
            try:
                if made is None:
                    made = self._make_client(start.state_path)
                loop = self._make_loop(made, agenda)
                try:
                    loop.run(start.step)
                finally:
                    failed_step = max(start.step, loop.submitted)
            except EngineError as error:
                start = self._restart(error, failed_step)
                made = None
            else:
                return made, agenda.stop

    def _restart(self, error: EngineError, failed_step: int) -> Start:
        """Set everything back to the last checkpoint, say so, and wait a little.

        Raises:
            EngineError: *error*, if this was the last time.
        """
        number = len(self.restarts) + 1
        if not worth_a_restart(error):
            raise error
        if number > self._max_restarts:
            if self.restarts:
                error.add_note(f"the run had been restarted {len(self.restarts)} times before (max_restarts)")
            raise error
        self._meter.count_lost(self._recorder.step, failed_step)
        start = self._recorder.rewind()
        self._callbacks.load_state(start.records[-1].callbacks if start.records else self._initial)
        self._recorder.restarts += 1
        self.restarts += (
            Restart(
                failed_step=failed_step,
                from_step=start.step,
                error=type(error).__name__,
                message=redact(str(error)),
            ),
        )
        event = TrainRestart(
            step=start.step,
            failed_step=failed_step,
            error=error,
            restart=number,
            max_restarts=self._max_restarts,
        )
        _LOG.warning("%s", event.message)
        self._callbacks.dispatch(event)
        if number > 1:
            self._clock.sleep(min(FIRST_PAUSE * 4.0 ** (number - 2), LONGEST_PAUSE))
        return start
