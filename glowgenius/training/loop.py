"""The loop: synchronous code over futures, `lookahead` steps ahead of what has been reported.

Behind the two requests of step n stand, before anything of step n+1 is submitted: its state, its weights, its
evaluation. So a checkpoint of step n holds n updates, and an evaluation sees them, whatever the lookahead.
Results are awaited and reported in the order of the steps; nothing is ever sent twice.
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, TypeVar, assert_never, final

from glowgenius.engines.errors import mapped
from glowgenius.errors import ConfigError
from glowgenius.training.checkpoints import CheckpointRecord, checkpoint_name
from glowgenius.training.events import (
    CheckpointSaved,
    EpochBegin,
    EpochEnd,
    EvaluateBegin,
    EvaluateEnd,
    Event,
    LogMetrics,
    RunEvaluation,
    SaveCheckpoint,
    StepBegin,
    StepEnd,
    StepLogged,
    StopTraining,
)
from glowgenius.training.history import canonical
from glowgenius.training.pending import mean_loss
from glowgenius.training.sampler import Sampler
from glowgenius.training.submission import Submitter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.engines.protocol import FutureLike, TrainingClient
    from glowgenius.engines.tinker_types import ForwardBackwardOutput, OptimStepResponse
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.callbacks.dispatch import Callbacks
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.pending import Pending, Update
    from glowgenius.training.preflight import Preflight
    from glowgenius.training.recorder import Recorder
    from glowgenius.training.schedule import PlannedStep
    from glowgenius.typing import JSON

T = TypeVar("T")

OWN_METRICS = frozenset({"step", "epoch", "train/loss", "eval/loss", "learning_rate", "tokens/trained", "tokens/input"})
"""What only the trainer writes into a row."""


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
    """

    def __init__(
        self,
        client: TrainingClient,
        *,
        run: Preflight,
        config: TrainingConfig,
        renderer: Renderer,
        callbacks: Callbacks,
        recorder: Recorder,
        identity: Mapping[str, JSON],
    ) -> None:
        self._run = run
        self._config = config
        self._renderer = renderer
        self._callbacks = callbacks
        self._recorder = recorder
        self._identity = identity
        self._examples = run.train.examples
        self._held_out = () if run.evaluation is None else run.evaluation.examples
        self._submitter = Submitter(client, run=run, config=config, snapshots=callbacks.needs_sampler)
        self._current: Pending | None = None
        self._stop: StopTraining | None = None
        self._interrupt: KeyboardInterrupt | None = None

    @property
    def stop(self) -> StopTraining | None:
        """The request that ended the run early, if one did."""
        return self._stop

    def run(self, start_step: int) -> None:
        """Make the updates after *start_step*, up to the end of the plan or of a callback's patience.

        Raises:
            KeyboardInterrupt: Ctrl-C; what was submitted is reported, and the state behind it saved. The second one
                leaves at once.
            EngineError: The engine refused or failed. The update of a failed gradient may have been made all the same,
                so the weights are not to be gone on with; the last checkpoint is.
        """
        try:
            if start_step == 0:
                self._submitter.begin()
            for number in range(start_step + 1, self._run.plan.total_steps + 1):
                self._report_until(self._config.lookahead)
                if self._stop is not None or self._interrupt is not None:
                    break
                self._submitter.submit(self._run.plan.step(number))
            self._report_until(0)
        except Exception:
            self._settle()
            raise
        if self._interrupt is not None:
            if step := self._recorder.step:
                self._interrupt.add_note(
                    f"the state after step {step} is saved: resume_from_checkpoint goes on with it"
                )
            raise self._interrupt

    def _report_until(self, left: int) -> None:
        while len(self._submitter.under_way) > left:
            self._current = self._submitter.under_way.popleft()
            self._report(self._current)
            self._current = None

    def _settle(self) -> None:
        """Wait for what is under way, so that no failure is left unread and nothing runs on behind the error."""
        pending = [*([] if self._current is None else [self._current]), *self._submitter.under_way]
        for future in (future for step in pending for future in step.sent):
            with suppress(Exception):  # the first error is the one that is raised
                future.result()

    def _wait(self, future: FutureLike[T], pending: Pending, operation: str) -> T:
        """The result of *future*; the first Ctrl-C only asks for the end."""
        with mapped(f"{operation} of step {pending.step}"):
            try:
                return future.result()
            except KeyboardInterrupt as interrupt:
                if self._interrupt is not None:
                    raise
                self._interrupt = interrupt
        self._submitter.enqueue_state(self._newest(pending))
        with mapped(f"{operation} of step {pending.step}"):
            return future.result()

    def _newest(self, current: Pending) -> Pending:
        """The step behind which the next request would stand: the one that is being reported if it is the last."""
        return self._submitter.under_way[-1] if self._submitter.under_way else current

    def _tell(self, event: Event, pending: Pending) -> dict[str, float]:
        """Tell everyone, do what they ask for, and return what they have measured."""
        measured: dict[str, float] = {}
        for request in self._callbacks.dispatch(event):
            match request:
                case LogMetrics():
                    measured |= {canonical(name): value for name, value in request.metrics.items()}
                case SaveCheckpoint():
                    self._submitter.enqueue_state(self._newest(pending))
                case RunEvaluation():
                    self._enqueue_requested_evaluation(pending)
                case StopTraining():
                    self._end_behind_newest(request, pending)
                case _:
                    assert_never(request)
        taken = sorted(OWN_METRICS & set(measured))
        if taken:
            raise ConfigError(f"LogMetrics[{taken[0]!r}] is measured by the trainer itself; choose another name")
        pending.row |= measured
        return measured

    def _end_behind_newest(self, request: StopTraining, pending: Pending) -> None:
        if self._stop is None:
            self._check_use_step(request, pending)
            self._stop = request
            self._submitter.enqueue_end(self._newest(pending))

    def _enqueue_requested_evaluation(self, pending: Pending) -> None:
        if not self._submitter.can_evaluate:
            raise ConfigError("a callback asked for RunEvaluation(), but train() was given no eval_dataset")
        self._submitter.enqueue_evaluation(self._newest(pending))

    def _check_use_step(self, request: StopTraining, pending: Pending) -> None:
        record = self._recorder.record_of(request.use_step)
        kept = record is not None and record.sampler_path is not None
        if request.use_step is None or kept or (request.use_step == pending.step and pending.weights is not None):
            return
        raise ConfigError(
            f"StopTraining(use_step={request.use_step}): the weights of that step were not kept; those of evaluated "
            "steps are, with an eval_dataset and metric_for_best set"
        )

    def _report(self, pending: Pending) -> None:
        """Everything about one step, in one fixed order."""
        pending.row["step"] = pending.step
        if pending.update is not None:
            self._report_update(pending, pending.update)
        self._report_evaluation(pending)
        if pending.update is not None and pending.update.planned.ends_epoch:
            epoch = pending.update.planned.epoch
            loss = self._recorder.epoch_loss(epoch, pending.row)
            self._tell(EpochEnd(epoch=epoch, step=pending.step, loss=loss), pending)
        record: CheckpointRecord | None = None
        # A callback may ask for more about this very step while it is told about the last thing.
        while True:
            if pending.evaluation is not None and not pending.evaluated:
                self._report_evaluation(pending)
            elif pending.saved != (pending.state is not None, pending.weights is not None):
                record = self._report_saved(pending)
            else:
                break
        metrics = {name: value for name, value in pending.row.items() if name != "step"}
        self._tell(StepLogged(step=pending.step, metrics=metrics), pending)
        self._recorder.commit(pending.row, record)

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
        output = self._wait(update.forward_backward, pending, "forward_backward")
        response = self._wait(update.optimizer, pending, "optim_step")
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
            metrics={f"optimizer/{name}": float(value) for name, value in (response.metrics or {}).items()},
        )

    def _report_evaluation(self, pending: Pending) -> None:
        if pending.evaluation is None or pending.evaluated:
            return
        pending.evaluated = True
        sampler = None
        if pending.snapshot is not None:
            client = self._wait(pending.snapshot, pending, "snapshot")
            sampler = Sampler(client, self._renderer, name=f"step {pending.step}")
        measured = self._tell(EvaluateBegin(step=pending.step, num_rows=len(self._held_out), sampler=sampler), pending)
        output = self._wait(pending.evaluation, pending, "evaluation")
        metrics = {"eval/loss": mean_loss(output, self._held_out), **measured}
        pending.row.update(metrics)
        best = self._config.metric_for_best
        value = self._value_for_best(metrics)
        is_best = pending.step > 0 and self._recorder.is_best(best, value)
        self._tell(EvaluateEnd(step=pending.step, metrics=metrics, is_best=is_best), pending)

    def _value_for_best(self, metrics: Mapping[str, float]) -> float | None:
        if self._config.metric_for_best is None:
            return None
        name = canonical(self._config.metric_for_best)
        if name not in metrics:
            raise ConfigError(
                f"metric_for_best={self._config.metric_for_best!r} is not measured at an evaluation; "
                f"measured are: {', '.join(metrics)}. A callback adds others by returning LogMetrics from "
                "on_evaluate_begin"
            )
        return metrics[name]

    def _report_saved(self, pending: Pending) -> CheckpointRecord:
        """Wait for the checkpoints of a step, and tell about them."""
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
        epoch, batch = divmod(pending.step, self._run.plan.steps_per_epoch)
        return CheckpointRecord(
            name=saved.name,
            step=pending.step,
            epoch=epoch,
            batch=batch,
            total_steps=self._run.plan.total_steps,
            final=pending.final,
            state_path=state_path,
            sampler_path=sampler_path,
            identity=self._identity,
            callbacks=self._callbacks.state() if state_path is not None else {},
        )
