"""The loop: synchronous code over futures, `lookahead` steps ahead of what has been reported.

Behind the two requests of step n stand, before anything of step n+1 is submitted: its state, its weights, its
evaluation. So a checkpoint of step n holds n updates, and an evaluation sees them, whatever the lookahead.
Results are awaited and reported in the order of the steps; nothing is ever sent twice.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from glowgenius.training.reporter import Reporter
from glowgenius.training.retention import Retention
from glowgenius.training.submission import Submitter
from glowgenius.training.waiting import Waiter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.engines.protocol import TrainingClient
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.agenda import Agenda
    from glowgenius.training.callbacks.dispatch import Callbacks
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.cost import Meter
    from glowgenius.training.pending import Pending
    from glowgenius.training.prepared import PreparedRun
    from glowgenius.training.recorder import Recorder
    from glowgenius.training.waiting import Clock
    from glowgenius.typing import JSON


@final
class TrainingLoop:
    """One pass over the plan, from one step to the end.

    Args:
        client: What is trained.
        run: The checked rows and the plan.
        config: The settings.
        renderer: For callbacks that sample.
        callbacks: Who is told.
        recorder: What is kept.
        identity: What decides the updates, for the checkpoints.
        agenda: What callbacks have asked for, and where the run ends.
        clock: What time it is.
        meter: Counts what is paid for.
    """

    def __init__(
        self,
        client: TrainingClient,
        *,
        run: PreparedRun,
        config: TrainingConfig,
        renderer: Renderer,
        callbacks: Callbacks,
        recorder: Recorder,
        identity: Mapping[str, JSON],
        agenda: Agenda,
        clock: Clock,
        meter: Meter,
    ) -> None:
        self._plan = run.plan
        self._config = config
        self._recorder = recorder
        self._agenda = agenda
        self._submitter = Submitter(client, run=run, config=config, agenda=agenda, snapshots=callbacks.needs_sampler)
        self._waiter = Waiter(self._submitter, callbacks, clock)
        self._retention = Retention(client, config=config, callbacks=callbacks, recorder=recorder, agenda=agenda)
        self._reporter = Reporter(
            run=run,
            config=config,
            renderer=renderer,
            callbacks=callbacks,
            recorder=recorder,
            identity=identity,
            agenda=agenda,
            retention=self._retention,
            submitter=self._submitter,
            waiter=self._waiter,
            meter=meter,
        )
        self._current: Pending | None = None

    def run(self, start_step: int) -> None:
        """Make the updates after *start_step*, up to the end of the plan or of a callback's patience.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was submitted is reported, and the state behind it saved. The second one
                leaves at once.
            EngineError: The engine refused or failed. The update of a failed gradient may have been made all the same,
                so the weights are not to be gone on with; the last checkpoint is.
        """
        with self._waiter.heeding():
            try:
                self._run(start_step)
            except Exception as error:
                self._settle()
                if self._waiter.interrupt is None:
                    raise
                # Whoever has pressed Ctrl-C waits for the end of the run, and not for an error of its end.
                self._waiter.interrupt.add_note(
                    f"its state could not be saved ({type(error).__name__}: {error}): resume_from_checkpoint goes on "
                    "from the last checkpoint before"
                )
                raise self._waiter.interrupt from error
        self._retention.finish()
        if self._waiter.interrupt is not None:
            if step := self._recorder.step:
                self._waiter.interrupt.add_note(
                    f"the state after step {step} is saved: resume_from_checkpoint goes on with it"
                )
            raise self._waiter.interrupt

    @property
    def submitted(self) -> int:
        """The last step of which anything was sent."""
        return self._submitter.submitted

    def _run(self, start_step: int) -> None:
        if start_step == 0:
            self._submitter.begin()
        number = start_step
        while True:
            self._report_until(self._config.lookahead)
            if number >= self._agenda.end or self._waiter.heeded:
                break
            number += 1
            self._submitter.submit(self._plan.step(number))
        self._report_until(0)

    def _report_until(self, left: int) -> None:
        while len(self._submitter.under_way) > left:
            self._current = self._submitter.under_way.popleft()
            self._reporter.report(self._current)
            self._current = None

    def _settle(self) -> None:
        """Wait for what is under way, so that no failure is left unread and nothing runs on behind the error."""
        pending = [*([] if self._current is None else [self._current]), *self._submitter.under_way]
        self._waiter.settle([(step, future) for step in pending for future in step.sent])
