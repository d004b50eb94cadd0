"""The training loop: what is submitted, what is awaited, what is reported, where a checkpoint stands."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, final

from attrs import asdict

from glowgenius.engines.offered import stored_digest
from glowgenius.errors import ConfigError, TrainingError, nearest
from glowgenius.training.checkpoints import CheckpointRecord, checkpoint_name
from glowgenius.training.cost import COST
from glowgenius.training.events import (
    CheckpointSaved,
    EpochBegin,
    EpochEnd,
    EvaluateBegin,
    EvaluateEnd,
    Event,
    StepBegin,
    StepEnd,
    StepLogged,
)
from glowgenius.training.history import canonical, measured_as
from glowgenius.training.recorder import Retention
from glowgenius.training.requests import LogMetrics, StopTraining
from glowgenius.training.rows import naming_rows
from glowgenius.training.sampler import Sampler
from glowgenius.training.submission import Submitter, Waiter, mean_loss

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.engines.protocol import TrainingClient
    from glowgenius.engines.tinker_types import ForwardBackwardOutput, OptimStepResponse
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.callbacks.base import Callbacks
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.cost import Meter
    from glowgenius.training.recorder import Recorder
    from glowgenius.training.requests import Agenda
    from glowgenius.training.rows import PreparedRun
    from glowgenius.training.schedule import PlannedStep
    from glowgenius.training.submission import Clock, Pending, Update
    from glowgenius.typing import JSON

OWN_METRICS = frozenset(
    {"step", "epoch", "train/loss", "eval/loss", "learning_rate", "tokens/trained", "tokens/input", "restarts", COST}
)
"""What only the trainer writes into a row."""


@final
class Reporter:
    """Waits for everything about one step, tells the callbacks, and commits the row and the checkpoint.

    Args:
        run: The checked rows and the plan.
        config: The settings.
        renderer: For callbacks that sample.
        callbacks: Who is told.
        recorder: What is kept.
        identity: What decides the updates, for the checkpoints.
        agenda: What callbacks have asked for, for the checkpoints.
        retention: Lets go of checkpoints that are not to be kept.
        submitter: Takes what callbacks ask for.
        waiter: Waits for results.
        meter: Counts what is paid for.
    """

    def __init__(
        self,
        *,
        run: PreparedRun,
        config: TrainingConfig,
        renderer: Renderer,
        callbacks: Callbacks,
        recorder: Recorder,
        identity: Mapping[str, JSON],
        agenda: Agenda,
        retention: Retention,
        submitter: Submitter,
        waiter: Waiter,
        meter: Meter,
    ) -> None:
        self._run = run
        self._config = config
        self._renderer = renderer
        self._callbacks = callbacks
        self._recorder = recorder
        self._identity = identity
        self._agenda = agenda
        self._retention = retention
        self._submitter = submitter
        self._wait = waiter.result
        self._heed = waiter.heed
        self._meter = meter
        self._examples = run.train.examples
        self._held_out = () if run.evaluation is None else run.evaluation.examples

    def report(self, pending: Pending) -> None:
        """Everything about one step, in one fixed order."""
        pending.row["step"] = pending.step
        if self._recorder.restarts:
            pending.row["restarts"] = self._recorder.restarts
        if pending.update is not None:
            self._report_update(pending, pending.update)
        self._report_evaluation(pending)
        if pending.update is not None and pending.update.planned.ends_epoch:
            epoch = pending.update.planned.epoch
            loss = self._recorder.epoch_loss(epoch, pending.row)
            self._tell(EpochEnd(epoch=epoch, step=pending.step, loss=loss), pending)
        paths: tuple[str | None, str | None] = (None, None)
        # A callback may ask for more about this very step while it is told about the last thing.
        while True:
            self._heed(pending)
            if pending.evaluation is not None and not pending.evaluated:
                self._report_evaluation(pending)
            elif pending.saved != (pending.state is not None, pending.weights is not None):
                paths = self._report_saved(pending)
            else:
                break
        pending.row |= self._meter.column()
        metrics = {name: value for name, value in pending.row.items() if name != "step"}
        self._tell(StepLogged(step=pending.step, metrics=metrics), pending)
        # The record is made last, so that the state of the callbacks is what it was when all of this was over.
        record = None if paths == (None, None) else self._record(pending, *paths)
        self._recorder.commit(pending.row, record)
        if record is not None:
            self._retention.apply(record)

    def _tell(self, event: Event, pending: Pending) -> dict[str, float]:
        """Tell everyone, do what they ask for, and return what they have measured."""
        measured: dict[str, float] = {}
        for request in self._callbacks.dispatch(event):
            if isinstance(request, LogMetrics):
                measured |= {canonical(name): value for name, value in request.metrics.items()}
                continue
            if isinstance(request, StopTraining):
                self._check_use_step(request, pending)
            self._submitter.ask(request, pending)
        taken = sorted(OWN_METRICS & set(measured))
        if taken:
            raise ConfigError(f"LogMetrics[{taken[0]!r}] is measured by the trainer itself; choose another name")
        pending.row |= measured
        return measured

    def _check_use_step(self, request: StopTraining, pending: Pending) -> None:
        if self._agenda.stop is not None:
            return  # the first one counts
        record = self._recorder.record_of(request.use_step)
        kept = record is not None and record.sampler_path is not None
        if request.use_step is None or kept or (request.use_step == pending.step and pending.weights is not None):
            return
        raise ConfigError(
            f"StopTraining(use_step={request.use_step}): the weights of that step were not kept; those of evaluated "
            "steps are, with an eval_dataset and metric_for_best set"
        )

    def _report_update(self, pending: Pending, update: Update) -> None:
        planned = update.planned
        if planned.batch == 1:
            self._tell(EpochBegin(epoch=planned.epoch, num_epochs=self._config.num_epochs), pending)
        begin = StepBegin(
            step=planned.step,
            epoch=planned.epoch,
            learning_rate=planned.learning_rate,
            num_rows=len(planned.rows),
        )
        self._tell(begin, pending)
        with naming_rows(self._run, planned):
            output = self._wait(update.forward_backward, pending, "forward_backward")
        response = self._wait(update.optimizer, pending, "optim_step")
        self._meter.count_step(pending.step)
        event = self._step_end(planned, output, response)
        pending.row |= {
            "epoch": event.epoch,
            "train/loss": event.loss,
            "learning_rate": event.learning_rate,
            "tokens/trained": event.trained_tokens,
            "tokens/input": event.input_tokens,
            **event.metrics,
        }
        self._tell(event, pending)
        self._check_number("train/loss", event.loss, pending)

    def _step_end(self, planned: PlannedStep, output: ForwardBackwardOutput, response: OptimStepResponse) -> StepEnd:
        examples = [self._examples[row] for row in planned.rows]
        return StepEnd(
            step=planned.step,
            epoch=planned.epoch,
            total_steps=self._run.plan.total_steps,
            loss=mean_loss(output, examples),
            learning_rate=planned.learning_rate,
            num_rows=len(examples),
            trained_tokens=sum(example.num_trained for example in examples),
            input_tokens=sum(map(len, examples)),
            cost=self._meter.at(planned.step),
            metrics={f"optimizer/{name}": float(value) for name, value in (response.metrics or {}).items()},
        )

    def _report_evaluation(self, pending: Pending) -> None:
        if pending.evaluation is None or pending.evaluated:
            return
        pending.evaluated = True
        sampler = None
        if pending.snapshot is not None:
            client = self._wait(pending.snapshot, pending, "snapshot")
            sampler = Sampler(client, self._renderer, name=f"step {pending.step}", trained=self._run.trained)
        measured = self._tell(EvaluateBegin(step=pending.step, num_rows=len(self._held_out), sampler=sampler), pending)
        output = self._wait(pending.evaluation, pending, "evaluation")
        self._meter.count_evaluation()
        metrics = {"eval/loss": mean_loss(output, self._held_out), **measured}
        pending.row.update(metrics)
        best = self._config.metric_for_best
        value = self._value_for_best(metrics)
        is_best = pending.step > 0 and self._recorder.is_best(best, value)
        self._tell(EvaluateEnd(step=pending.step, metrics=metrics, is_best=is_best), pending)
        self._check_number("eval/loss", metrics["eval/loss"], pending)

    def _check_number(self, name: str, loss: float, pending: Pending) -> None:
        """End a run that has lost its weights, unless a callback ends it already, or the run is to go on all the same.

        Raises:
            TrainingError: The loss is no number.
        """
        if math.isfinite(loss) or not self._config.stop_on_nan or self._agenda.stop is not None:
            return
        kept = [record.step for record in self._recorder.records if record.state_path is not None]
        saved = f"the state of step {kept[-1]} was saved before" if kept else "no state had been saved before"
        raise TrainingError(
            f"{name} is {loss} at step {pending.step}, so nothing that comes after it can be of use; {saved}. Try a "
            "lower learning_rate, or grad_clip_norm=1.0. TerminateOnNaN() ends such a run without an error and keeps "
            "its best weights, and TrainingConfig(stop_on_nan=False) lets it go on"
        )

    def _value_for_best(self, metrics: Mapping[str, float]) -> float | None:
        if self._config.metric_for_best is None:
            return None
        name = measured_as(self._config.metric_for_best, metrics)
        if name is None:
            raise ConfigError(
                f"metric_for_best={self._config.metric_for_best!r}{nearest(self._config.metric_for_best, metrics)} is "
                f"not measured at an evaluation; measured are: {', '.join(metrics)}. A callback adds others by "
                "returning LogMetrics from on_evaluate_begin, as AnswerEvaluation does"
            )
        return metrics[name]

    def _report_saved(self, pending: Pending) -> tuple[str | None, str | None]:
        """Wait for the checkpoints of a step, tell about them, and return the paths of state and weights."""
        state, weights = pending.state, pending.weights
        pending.saved = (state is not None, weights is not None)
        state_path = None if state is None else self._wait(state, pending, "save_state").path
        sampler_path = None if weights is None else self._wait(weights, pending, "save_weights_for_sampler").path
        saved = CheckpointSaved(
            step=pending.step,
            name=checkpoint_name(pending.step),
            state_path=state_path,
            sampler_path=sampler_path,
            final=pending.final,
        )
        self._tell(saved, pending)
        return state_path, sampler_path

    def _record(self, pending: Pending, state_path: str | None, sampler_path: str | None) -> CheckpointRecord:
        epoch, batch = divmod(pending.step, self._run.plan.steps_per_epoch)
        return CheckpointRecord(
            name=checkpoint_name(pending.step),
            step=pending.step,
            epoch=epoch,
            batch=batch,
            total_steps=self._run.plan.total_steps,
            final=pending.final,
            state_path=state_path,
            sampler_path=sampler_path,
            state_digest=None if state_path is None else stored_digest(state_path),
            sampler_digest=None if sampler_path is None else stored_digest(sampler_path),
            identity=self._identity,
            callbacks=self._callbacks.state() if state_path is not None else {},
            usage=asdict(self._meter.usage),
            dropped_rows={str(row): count for row, count in self._run.train.left_out.items()},
            requests=self._agenda.after(pending.step) if state_path is not None else {},
        )


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
