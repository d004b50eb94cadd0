"""The training loop: what is submitted, what is awaited, what is reported, where a checkpoint stands.

`TrainingLoop.run` keeps `TrainingConfig.lookahead` steps submitted ahead of the one that it reports. A step is a
gradient and an update; evaluations and checkpoints stand directly behind the update that they belong to, in the
engine's order. Results are awaited and reported step by step, and a step is recorded at the end of its report.
"""

from __future__ import annotations

import math
import time
from collections import deque
from concurrent import futures
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, assert_never, final

from attrs import asdict, define, field, frozen

from glowgenius._output import logger
from glowgenius.engines.datum import mean_loss, to_data
from glowgenius.engines.errors import mapped
from glowgenius.engines.offered import settle_place, stored_digest
from glowgenius.engines.tinker_types import AdamParams
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
    ServiceWait,
    StepBegin,
    StepEnd,
    StepLogged,
)
from glowgenius.training.history import canonical, measured_as
from glowgenius.training.recorder import Retention
from glowgenius.training.requests import (
    INTERRUPTIONS,
    LogMetrics,
    RunEvaluation,
    SaveCheckpoint,
    StopTraining,
    called,
    handled,
)
from glowgenius.training.rows import naming_rows
from glowgenius.training.sampler import Sampler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from glowgenius.engines.protocol import FutureLike, SamplingClient, TrainingClient
    from glowgenius.engines.tinker_types import (
        Datum,
        ForwardBackwardOutput,
        OptimStepResponse,
        SaveWeightsForSamplerResponse,
        SaveWeightsResponse,
    )
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.callbacks.base import Callbacks
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.cost import Meter
    from glowgenius.training.recorder import Recorder
    from glowgenius.training.requests import Agenda
    from glowgenius.training.rows import PreparedRun
    from glowgenius.training.schedule import PlannedStep
    from glowgenius.typing import JSON

T = TypeVar("T")

OWN_METRICS = frozenset(
    {"step", "epoch", "train/loss", "eval/loss", "learning_rate", "tokens/trained", "tokens/input", "restarts", COST}
)
"""Metrics of a row that only the trainer writes."""

FIRST_NOTICE: Final = 30.0
"""Seconds after which a wait is reported; the next report comes after twice as long, and so on."""

LONGEST_SILENCE: Final = 600.0
"""Seconds between two reports of one wait, at most."""

UNUSUAL: Final = 3.0
"""A wait is reported when it is this many times longer than the longest so far: steps may take minutes everywhere."""

_NAP: Final = 1.0
"""Seconds of one wait: on Windows, Ctrl-C is not noticed before it is over."""

_LOG = logger("glowgenius.training")


def _done_within(future: FutureLike[Any], seconds: float) -> bool:
    """Whether *future* is done, or is within so many seconds."""
    inner: Callable[[], futures.Future[Any]] | None = getattr(future, "future", None)
    if inner is None:
        # A test double with only `result()` is awaited there, without progress reports.
        return True
    end, waited = time.monotonic() + seconds, [inner()]
    while not futures.wait(waited, timeout=min(_NAP, max(0.0, end - time.monotonic()))).done:
        if time.monotonic() >= end:
            return False
    return True


@final
@frozen(kw_only=True)
class Clock:
    """Current time and waiting; tests replace it."""

    seconds: Callable[[], float] = time.monotonic
    """Seconds since some moment."""

    now: Callable[[], datetime] = datetime.now
    """The time of day, for people."""

    done_within: Callable[[FutureLike[Any], float], bool] = _done_within
    """Waits for a future, at most so many seconds, and returns whether it is done."""

    sleep: Callable[[float], None] = time.sleep
    """Lets so many seconds pass."""


@final
@frozen(kw_only=True, eq=False)
class RunContext:
    """Everything a run is made of that a restart does not change."""

    rows: PreparedRun
    """The checked rows, and the plan of the steps."""

    config: TrainingConfig
    """The settings."""

    renderer: Renderer
    """Between messages and tokens, for callbacks that sample."""

    callbacks: Callbacks
    """They receive every event."""

    identity: Mapping[str, JSON]
    """What decides the updates; every checkpoint records it."""

    meter: Meter
    """Counts the tokens that are paid for."""

    clock: Clock
    """The time."""


@final
@frozen(kw_only=True, eq=False)
class Update:
    """The two requests of one step: gradient and optimizer update."""

    planned: PlannedStep
    """The step as it was planned."""

    forward_backward: FutureLike[ForwardBackwardOutput]
    """The gradient."""

    optimizer: FutureLike[OptimStepResponse]
    """The update itself."""


@final
@define(kw_only=True, eq=False)
class Pending:
    """The requests submitted for one step: the update, and those queued right after it."""

    step: int
    """The number of updates when it is done; 0 is the adapter before the first."""

    update: Update | None = None
    """The update; None for step 0, and while it is being submitted."""

    state: FutureLike[SaveWeightsResponse] | None = None
    """The checkpoint to resume from."""

    weights: FutureLike[SaveWeightsForSamplerResponse] | None = None
    """The checkpoint to sample from."""

    snapshot: FutureLike[SamplingClient] | None = None
    """A client for callbacks that sample from these weights."""

    evaluation: FutureLike[ForwardBackwardOutput] | None = None
    """The loss of the evaluation set."""

    final: bool = False
    """Whether the run ends here."""

    evaluated: bool = False
    """Whether the evaluation was reported."""

    saved: tuple[bool, bool] = (False, False)
    """Whether state and weights were reported."""

    row: dict[str, float] = field(factory=dict[str, float])
    """The metrics of the step so far."""

    sent: list[FutureLike[Any]] = field(factory=list["FutureLike[Any]"])
    """Every request of the step, for when something fails."""


@final
class Waiter:
    """Waits for results, and defers the first interruption: Ctrl-C, SIGTERM or SIGHUP.

    Args:
        callbacks: Receive an event when a wait is long.
        clock: The time.
    """

    def __init__(self, callbacks: Callbacks, clock: Clock) -> None:
        self._callbacks = callbacks
        self._clock = clock
        self._longest = 0.0
        self._is_waiting = False
        self.interrupt: KeyboardInterrupt | None = None
        """The first Ctrl-C or signal."""

    def result(self, future: FutureLike[T], step: int, operation: str, began: float) -> T:
        """The result of *future*, which was submitted at *began*.

        Raises:
            EngineError: The operation failed.
            KeyboardInterrupt: An interruption during the wait.
        """
        self._wait(future, step, operation, began)
        with mapped(f"{operation} of step {step}"):
            value = future.result()
        self._longest = max(self._longest, self._clock.seconds() - began)
        return value

    def settle(self, future: FutureLike[Any], step: int) -> None:
        """Wait until *future* is done, with a result or an error."""
        self._wait(future, step, "what was under way", self._clock.seconds())
        with suppress(Exception):  # the first error is the one that is raised
            future.result()

    def holding_back(self) -> AbstractContextManager[None]:
        """Defer the first interruption until the loop handles it; between two requests no state can be saved.

        Only in the main thread, which receives the signals, and only where nobody else has a handler.
        """
        return handled(self._on_interrupt, INTERRUPTIONS)

    def _on_interrupt(self, interrupt: KeyboardInterrupt) -> None:
        if self._is_waiting or self.interrupt is not None:
            raise interrupt
        self.interrupt = interrupt

    def _wait(self, future: FutureLike[Any], step: int, operation: str, began: float) -> None:
        """Wait until *future* is done; report a long wait."""
        pause = max(FIRST_NOTICE, UNUSUAL * self._longest)
        while not self._is_done(future, pause):
            waited = self._clock.seconds() - began
            event = ServiceWait(
                step=step,
                operation=operation,
                seconds=waited,
                since=(self._clock.now() - timedelta(seconds=waited)).isoformat(sep=" ", timespec="seconds"),
                interrupted=self.interrupt is not None,
            )
            _LOG.warning("%s", event.message)
            self._callbacks.dispatch(event)
            pause = min(max(waited, FIRST_NOTICE), LONGEST_SILENCE)

    def _is_done(self, future: FutureLike[Any], seconds: float) -> bool:
        try:
            self._is_waiting = True
            return self._clock.done_within(future, seconds)
        finally:
            self._is_waiting = False


@final
class TrainingLoop:
    """One pass over the plan: submits, awaits and reports every step up to the end of the run.

    Args:
        client: The training client.
        run: What the run is made of.
        recorder: Its rows and checkpoints.
        agenda: Requests of callbacks that are scheduled, and the last step.
    """

    def __init__(self, client: TrainingClient, run: RunContext, recorder: Recorder, agenda: Agenda) -> None:
        self._client = client
        self._run = run
        self._recorder = recorder
        self._agenda = agenda
        self._waiter = Waiter(run.callbacks, run.clock)
        self._retention = Retention(
            client, config=run.config, callbacks=run.callbacks, recorder=recorder, agenda=agenda
        )
        self._config = run.config
        self._plan = run.rows.plan
        self._examples = run.rows.train.examples
        self._held_out = () if run.rows.evaluation is None else run.rows.evaluation.examples
        # Built once and never written to, so that requests under way can share it.
        self._held_out_data: list[Datum] = to_data(self._held_out) if self._held_out else []
        self._under_way: deque[Pending] = deque()
        """Submitted and not yet reported, the oldest first."""
        self._current: Pending | None = None
        """The step that is being reported."""
        self._is_leaving = False
        """Whether an interruption was acted on, so that nothing more is submitted."""
        self.submitted = 0
        """The last step of which anything was sent."""

    def run(self, start_step: int) -> None:
        """Make the updates after *start_step*, up to the end of the plan or to the step where a callback stops.

        Raises:
            KeyboardInterrupt: Ctrl-C or a signal; what was submitted is reported, and the state behind it saved. The
                second one leaves at once.
            EngineError: The engine refused or failed. The update of a failed gradient may have been made all the same,
                so these weights must not be trained further; resume from the last checkpoint.
        """
        with self._waiter.holding_back():
            try:
                self._run_from(start_step)
            except Exception as error:
                self._settle()
                if self._waiter.interrupt is None:
                    raise
                # After Ctrl-C the user expects the run to end, not an error raised while it ends.
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

    def _run_from(self, start_step: int) -> None:
        if start_step == 0 and self._held_out:
            # The adapter before its first update.
            self._under_way.append(Pending(step=0))
            self._enqueue_evaluation(self._under_way[-1])
        number = start_step
        while True:
            self._report_until(self._config.lookahead)
            if number >= self._agenda.end or self._is_leaving:
                break
            number += 1
            self._submit(self._plan.step(number))
        self._report_until(0)

    def _report_until(self, left: int) -> None:
        """Report the oldest steps until only *left* are pending."""
        while len(self._under_way) > left:
            self._current = self._under_way.popleft()
            self._report(self._current)
            self._current = None

    def _settle(self) -> None:
        """Wait for all pending requests, so that no failure is unread and nothing runs after the error is raised."""
        for pending in [*([] if self._current is None else [self._current]), *self._under_way]:
            for future in pending.sent:
                self._waiter.settle(future, pending.step)

    # What is submitted

    def _submit(self, planned: PlannedStep) -> None:
        """Submit gradient and update of a step, and the requests that follow them."""
        pending = Pending(step=planned.step)
        self.submitted = planned.step
        self._under_way.append(pending)
        config = self._config
        data = to_data([self._examples[row] for row in planned.rows])
        params = AdamParams(
            learning_rate=planned.learning_rate,
            beta1=config.beta1,
            beta2=config.beta2,
            eps=config.eps,
            weight_decay=config.weight_decay,
            grad_clip_norm=config.grad_clip_norm or 0.0,
        )
        with naming_rows(self._run.rows, planned), mapped(f"step {planned.step}"):
            gradient = self._client.forward_backward(data, "cross_entropy")
            pending.sent.append(gradient)
            optimizer = self._client.optim_step(params)
            pending.sent.append(optimizer)
        pending.update = Update(planned=planned, forward_backward=gradient, optimizer=optimizer)
        if planned.step == self._agenda.end:
            self._enqueue_end(pending)
            return
        if self._plan.is_due(config.save_every, planned) or planned.step in self._agenda.saves:
            self._enqueue_state(pending)
        if self._plan.is_due(config.eval_every, planned) or planned.step in self._agenda.evaluations:
            self._enqueue_evaluation(pending)

    def _schedule(self, request: SaveCheckpoint | RunEvaluation | StopTraining, pending: Pending) -> None:
        """Schedule a callback's requests from *pending* for the step that is `lookahead` later.

        By then that step was submitted, unless an interruption has ended the run: then the request waits in the
        checkpoint for the run to be resumed, so that the interruption makes no difference.

        Raises:
            ConfigError: An evaluation without an evaluation set.
        """
        step = min(pending.step + self._config.lookahead, self._agenda.end)
        target = next((each for each in (pending, *self._under_way) if each.step == step), None)
        match request:
            case SaveCheckpoint():
                self._agenda.saves.add(step)
                if target is not None:
                    self._enqueue_state(target)
            case RunEvaluation():
                if not self._held_out:
                    raise ConfigError("a callback asked for RunEvaluation(), but train() was given no eval_dataset")
                self._agenda.evaluations.add(step)
                if target is not None:
                    self._enqueue_evaluation(target)
            case StopTraining():
                if self._agenda.stop is None:
                    self._agenda.stop, self._agenda.end = request, step
                    if target is not None:
                        self._enqueue_end(target)
            case _:
                assert_never(request)

    def _enqueue_end(self, pending: Pending) -> None:
        """Make *pending* the last step: save its state and its weights, and evaluate it."""
        pending.final = True
        self._enqueue_state(pending)
        self._enqueue_weights(pending)
        self._enqueue_evaluation(pending)

    def _enqueue_state(self, pending: Pending) -> None:
        """Save weights and optimizer of *pending*, once."""
        if pending.state is None and pending.step:
            epoch, batch = divmod(pending.step, self._plan.steps_per_epoch)
            position = {"step": str(pending.step), "epoch": str(epoch), "batch": str(batch)}
            with mapped(f"save_state of step {pending.step}"):
                pending.state = self._client.save_state(checkpoint_name(pending.step), user_metadata=position)
                pending.sent.append(pending.state)

    def _enqueue_weights(self, pending: Pending) -> None:
        """Save the weights of *pending*, once; those of step 0 are the base model's."""
        if pending.weights is None and pending.step:
            with mapped(f"save_weights_for_sampler of step {pending.step}"):
                pending.weights = self._client.save_weights_for_sampler(checkpoint_name(pending.step))
                pending.sent.append(pending.weights)
            # Otherwise the next step may run first, and its update would be in the weights saved for this step.
            settle_place(self._client, pending.weights)

    def _enqueue_evaluation(self, pending: Pending) -> None:
        """Evaluate the weights of *pending*, once, and save them if they could become the best."""
        if not self._held_out or pending.evaluation is not None:
            return
        if self._config.metric_for_best is not None:
            self._enqueue_weights(pending)
        with mapped(f"evaluation of step {pending.step}"):
            if self._run.callbacks.needs_sampler:
                pending.snapshot = self._client.save_weights_and_get_sampling_client()
                pending.sent.append(pending.snapshot)
            pending.evaluation = self._client.forward(self._held_out_data, "cross_entropy")
            pending.sent.append(pending.evaluation)

    # What is awaited

    def _wait(self, future: FutureLike[T], pending: Pending, operation: str) -> T:
        """The result of *future*, which belongs to *pending*; the first interruption saves the state during the wait.

        Raises:
            EngineError: The operation failed.
            KeyboardInterrupt: The second interruption.
        """
        began = self._run.clock.seconds()
        while True:
            try:
                return self._waiter.result(future, pending.step, operation, began)
            except KeyboardInterrupt as interrupt:
                if self._waiter.interrupt is not None:
                    raise
                self._waiter.interrupt = interrupt
            self._heed_interrupt(pending)

    def _heed_interrupt(self, pending: Pending) -> None:
        """After an interruption, save the state after the last submitted step."""
        if self._waiter.interrupt is None or self._is_leaving:
            return
        self._is_leaving = True
        newest = self._under_way[-1] if self._under_way else pending
        self._enqueue_state(newest)
        what = f"saving the state after step {newest.step}" if newest.step else "ending what is under way"
        name = called(self._waiter.interrupt)
        again = "Ctrl-C again" if name == "Ctrl-C" else "another signal"
        _LOG.warning("%s: %s, then leaving; %s leaves at once", name, what, again)

    # What is reported

    def _report(self, pending: Pending) -> None:
        """Report everything about one step in a fixed order, and record it."""
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
        # A callback may still request something for this step in the step's last event.
        while True:
            self._heed_interrupt(pending)
            if pending.evaluation is not None and not pending.evaluated:
                self._report_evaluation(pending)
            elif pending.saved != (pending.state is not None, pending.weights is not None):
                paths = self._report_saved(pending)
            else:
                break
        pending.row |= self._run.meter.column()
        metrics = {name: value for name, value in pending.row.items() if name != "step"}
        self._tell(StepLogged(step=pending.step, metrics=metrics), pending)
        # The record is made last, so that it holds the callbacks' state after all of these events.
        record = None if paths == (None, None) else self._record(pending, *paths)
        self._recorder.commit(pending.row, record)
        if record is not None:
            self._retention.apply(record)

    def _tell(self, event: Event, pending: Pending) -> dict[str, float]:
        """Dispatch *event*, schedule what callbacks request, and return the metrics they log."""
        measured: dict[str, float] = {}
        for request in self._run.callbacks.dispatch(event):
            if isinstance(request, LogMetrics):
                measured |= {canonical(name): value for name, value in request.metrics.items()}
                continue
            if isinstance(request, StopTraining):
                self._check_use_step(request, pending)
            self._schedule(request, pending)
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
        """Report the beginning and the end of a step, with its loss."""
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
        with naming_rows(self._run.rows, planned):
            output = self._wait(update.forward_backward, pending, "forward_backward")
        response = self._wait(update.optimizer, pending, "optim_step")
        self._run.meter.count_step(pending.step)
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
        self._check_finite("train/loss", event.loss, pending)

    def _step_end(self, planned: PlannedStep, output: ForwardBackwardOutput, response: OptimStepResponse) -> StepEnd:
        examples = [self._examples[row] for row in planned.rows]
        return StepEnd(
            step=planned.step,
            epoch=planned.epoch,
            total_steps=self._plan.total_steps,
            loss=mean_loss(output, examples),
            learning_rate=planned.learning_rate,
            num_rows=len(examples),
            trained_tokens=sum(example.num_trained for example in examples),
            input_tokens=sum(map(len, examples)),
            cost=self._run.meter.at(planned.step),
            metrics={f"optimizer/{name}": float(value) for name, value in (response.metrics or {}).items()},
        )

    def _report_evaluation(self, pending: Pending) -> None:
        """Report the evaluation of a step, if there is one that was not reported."""
        if pending.evaluation is None or pending.evaluated:
            return
        pending.evaluated = True
        sampler = None
        if pending.snapshot is not None:
            client = self._wait(pending.snapshot, pending, "snapshot")
            sampler = Sampler(
                client,
                self._run.renderer,
                name=f"step {pending.step}",
                trained=self._run.rows.trained,
                context_length=self._run.rows.context,
            )
        measured = self._tell(EvaluateBegin(step=pending.step, num_rows=len(self._held_out), sampler=sampler), pending)
        output = self._wait(pending.evaluation, pending, "evaluation")
        self._run.meter.count_evaluation()
        metrics = {"eval/loss": mean_loss(output, self._held_out), **measured}
        pending.row.update(metrics)
        value = self._value_for_best(metrics)  # refuses an unknown metric at step 0, before the first update
        is_best = pending.step > 0 and self._recorder.is_best(self._config.metric_for_best, value)
        self._tell(EvaluateEnd(step=pending.step, metrics=metrics, is_best=is_best), pending)
        self._check_finite("eval/loss", metrics["eval/loss"], pending)

    def _check_finite(self, name: str, loss: float, pending: Pending) -> None:
        """End the run if its loss is NaN or infinite, unless a callback ends it already or the settings allow it.

        Raises:
            TrainingError: The loss is not finite.
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

    # Where a checkpoint stands

    def _report_saved(self, pending: Pending) -> tuple[str | None, str | None]:
        """Wait for the checkpoints of a step, report them, and return the paths of state and weights."""
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
        """The checkpoint record of a step: its paths, and everything that resuming needs."""
        epoch, batch = divmod(pending.step, self._plan.steps_per_epoch)
        return CheckpointRecord(
            name=checkpoint_name(pending.step),
            step=pending.step,
            epoch=epoch,
            batch=batch,
            total_steps=self._plan.total_steps,
            final=pending.final,
            state_path=state_path,
            sampler_path=sampler_path,
            state_digest=None if state_path is None else stored_digest(state_path),
            sampler_digest=None if sampler_path is None else stored_digest(sampler_path),
            identity=self._run.identity,
            callbacks=self._run.callbacks.state() if state_path is not None else {},
            usage=asdict(self._run.meter.usage),
            dropped_rows={str(row): count for row, count in self._run.rows.train.left_out.items()},
            requests=self._agenda.after(pending.step) if state_path is not None else {},
        )
