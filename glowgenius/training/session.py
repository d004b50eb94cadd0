"""One call of `train`: from the header to the result, or to the error."""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, final

from attrs import evolve, frozen

from glowgenius.engines.errors import redact
from glowgenius.errors import ConfigError, TrainingError
from glowgenius.training.agenda import Agenda
from glowgenius.training.checkpoints import CheckpointRecord, check_identity
from glowgenius.training.events import TrainBegin, TrainEnd, TrainFailed
from glowgenius.training.loop import TrainingLoop
from glowgenius.training.recorder import Recorder
from glowgenius.training.result import TrainingResult
from glowgenius.training.setup import settings_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from glowgenius.engines.protocol import TrainingClient
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.callbacks.dispatch import Callbacks
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.history import Row
    from glowgenius.training.preflight import Preflight
    from glowgenius.training.run_folder import RunFolder
    from glowgenius.training.schedule import Plan
    from glowgenius.training.waiting import Clock
    from glowgenius.typing import JSON

_LOG = logging.getLogger("glowgenius.training")


@final
@frozen(kw_only=True)
class Start:
    """Where a run begins: at nothing, or behind the last of `records`."""

    rows: tuple[Row, ...] = ()
    """The rows up to there."""

    records: tuple[CheckpointRecord, ...] = ()
    """The checkpoints up to there."""

    anew: bool = False
    """Whether a run was to be resumed that had no checkpoint yet."""

    @property
    def step(self) -> int:
        """Updates that have been made."""
        return self.records[-1].step if self.records else 0

    @property
    def state_path(self) -> str | None:
        """What to go on from."""
        return self.records[-1].state_path if self.records else None

    def checked(self, identity: Mapping[str, JSON], total_steps: int) -> Start:
        """The start of a run that goes on with the same updates, up to *total_steps*.

        A run that has ended is complete, whatever ended it, as long as its length is what it was.

        Raises:
            ResumeMismatchError: Something that decides the updates has changed.
            ConfigError: There is nothing left to do.
        """
        if not self.records:
            return self
        last = self.records[-1]
        check_identity(last, identity)
        if last.final and last.total_steps == total_steps:
            return self
        if last.step >= total_steps:
            raise ConfigError(
                f"there is nothing left to train: the checkpoint has {last.step} updates, and the run is to have "
                f"{total_steps}; raise num_epochs or max_steps to go on"
            )
        # What ended it then does not end it now.
        last = evolve(last, final=False, requests={}) if last.final else last
        return evolve(self, records=(*self.records[:-1], last))

    def agenda(self, total_steps: int) -> Agenda:
        """What callbacks had asked for, and where the run ends."""
        if not self.records:
            return Agenda(end=total_steps)
        last = self.records[-1]
        agenda = Agenda.from_json(last.requests, total_steps=total_steps)
        if last.final:
            agenda.end = last.step
        return agenda

    def lines(self, callbacks: Callbacks, plan: Plan) -> list[str]:
        """What the header says about it."""
        if self.anew:
            return ["resume: the run had no checkpoint yet, so it starts anew"]
        if not self.records:
            return []
        last = self.records[-1]
        lines = [f"resume: from step {last.step}, at {last.state_path}"]
        if last.final:
            stop = self.agenda(plan.total_steps).stop
            why = "" if stop is None else f" ({stop.reason})"
            lines = [f"resume: the run is complete, it ended at step {last.step}{why}; nothing is left to train"]
        elif last.total_steps != plan.total_steps:
            lines.append(self._new_length(last, plan))
        lines += [
            f"warning: the checkpoint holds the state of a callback {key!r}, which is not among the callbacks"
            for key in callbacks.strangers(last.callbacks)
        ]
        return lines

    def _new_length(self, last: CheckpointRecord, plan: Plan) -> str:
        """What becomes of the learning rate in a run of another length than it had when it began."""
        begins = f"resume: the run was to have {last.total_steps} steps and now has {plan.total_steps}; "
        if plan.lr_schedule == "constant":
            return begins + "a constant learning rate is the same either way"
        before, after = self.rows[-1]["learning_rate"], plan.step(last.step + 1).learning_rate
        return (
            f"{begins}the steps so far followed the {plan.lr_schedule} schedule of {last.total_steps}, the others "
            f"follow that of {plan.total_steps}: the learning rate was {before:.3g} at step {last.step} and is "
            f"{after:.3g} at step {last.step + 1}"
        )


@final
@frozen(kw_only=True, eq=False)
class Session:
    """Everything that one run needs, checked."""

    base_model: str
    """The model that is adapted."""

    config: TrainingConfig
    """The settings."""

    engine: str
    """Where it runs."""

    renderer: Renderer
    """Between messages and tokens."""

    callbacks: Callbacks
    """Who is told."""

    run: Preflight
    """The rendered rows and the plan."""

    identity: Mapping[str, JSON]
    """What decides the updates."""

    start: Start
    """Where it begins."""

    header: tuple[str, ...]
    """The run in a few lines."""

    lora: LoRAConfig | None
    """The adapter; None where it came with a client."""

    rank: int | None
    """Its rank, where it is known."""

    folder: RunFolder | None
    """Where it is written."""

    clock: Clock
    """What time it is."""

    def train(self, make_client: Callable[[], TrainingClient]) -> TrainingResult:
        """Do it; *make_client* is the first request.

        Raises:
            BaseException: Whatever ended the run, after every callback has been told.
        """
        for line in self.header:
            _LOG.info("%s", line)
        recorder = Recorder(self.folder, self.start.rows, self.start.records)
        began = time.monotonic()
        writing = False
        try:
            self.callbacks.dispatch(self._train_begin())
            if self.start.records:
                self.callbacks.load_state(self.start.records[-1].callbacks)
            client = make_client()
            if self.folder is not None:
                self.folder.begin(self._settings(), self.start.rows, self.start.records)
                writing = True
            result = self._loop(client, recorder, began)
            self._end(result)
        except BaseException as error:
            self.callbacks.dispatch_failure(TrainFailed(error=error, step=recorder.step))
            if self.folder is not None and writing:
                self.folder.end(_failure(error, recorder.step))
            raise
        return result

    def _settings(self) -> dict[str, JSON]:
        return settings_file(
            base_model=self.base_model,
            lora=self.lora,
            rank=self.rank,
            config=self.config,
            renderer=self.renderer,
            engine=self.engine,
            identity=self.identity,
            header=self.header,
        )

    def _train_begin(self) -> TrainBegin:
        plan = self.run.plan
        return TrainBegin(
            header=self.header,
            config=self.config,
            base_model=self.base_model,
            engine=self.engine,
            start_step=self.start.step,
            total_steps=plan.total_steps,
            steps_per_epoch=plan.steps_per_epoch,
            learning_rate=plan.learning_rate,
            has_evaluation=self.run.evaluation is not None,
            resumed=bool(self.start.records) or self.start.anew,
            settings=self._settings(),
        )

    def _loop(self, client: TrainingClient, recorder: Recorder, began: float) -> TrainingResult:
        agenda = self.start.agenda(self.run.plan.total_steps)
        loop = TrainingLoop(
            client,
            run=self.run,
            config=self.config,
            renderer=self.renderer,
            callbacks=self.callbacks,
            recorder=recorder,
            identity=self.identity,
            agenda=agenda,
            clock=self.clock,
        )
        loop.run(self.start.step)
        stop = agenda.stop
        if not recorder.records:
            reason = "no reason" if stop is None else stop.reason
            raise TrainingError(f"a callback stopped the run before its first update: {reason}")
        ended = "max_steps" if self.run.plan.cut_short else "completed"
        return TrainingResult(
            client=client,
            renderer=self.renderer,
            history=recorder.history,
            checkpoints=recorder.records,
            best_step=recorder.best_step(self.config.metric_for_best),
            stop_reason=ended if stop is None else stop.reason,
            use_step=None if stop is None else stop.use_step,
            trained_tokens=recorder.trained_tokens,
            seconds=time.monotonic() - began,
            output_dir=self.config.output_dir,
        )

    def _end(self, result: TrainingResult) -> None:
        self.callbacks.dispatch(
            TrainEnd(
                step=result.final_checkpoint.step,
                stop_reason=result.stop_reason,
                best_step=result.best_step,
                trained_tokens=result.trained_tokens,
            )
        )
        if self.folder is not None:
            self.folder.end(
                {
                    "status": "completed",
                    "stop_reason": result.stop_reason,
                    "step": result.final_checkpoint.step,
                    "best_step": result.best_step,
                    "sampler_step": result.sampler_step,
                    "state_path": result.final_checkpoint.state_path,
                    "sampler_path": result.final_checkpoint.sampler_path,
                    "trained_tokens": result.trained_tokens,
                    "seconds": round(result.seconds, 3),
                }
            )


def _failure(error: BaseException, step: int) -> dict[str, JSON]:
    """How the run ended, without keys that a message may contain."""
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    return {"status": status, "step": step, "error": type(error).__name__, "message": redact(str(error))}
