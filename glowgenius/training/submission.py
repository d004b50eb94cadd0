"""Submitting steps, and waiting for their results."""

from __future__ import annotations

import time
from collections import deque
from concurrent import futures
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar, assert_never, final

import numpy as np
from attrs import define, field, frozen

from glowgenius._output import logger
from glowgenius.engines.datum import to_datum
from glowgenius.engines.errors import mapped
from glowgenius.engines.offered import settle_place
from glowgenius.engines.tinker_types import AdamParams
from glowgenius.errors import ConfigError, EngineError
from glowgenius.training.checkpoints import checkpoint_name
from glowgenius.training.events import ServiceWait
from glowgenius.training.requests import INTERRUPTIONS, RunEvaluation, SaveCheckpoint, StopTraining, called, handled
from glowgenius.training.rows import naming_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from glowgenius.batching.shift import ShiftedExample, SoftExample
    from glowgenius.engines.protocol import FutureLike, SamplingClient, TrainingClient
    from glowgenius.engines.tinker_types import (
        Datum,
        ForwardBackwardOutput,
        OptimStepResponse,
        SaveWeightsForSamplerResponse,
        SaveWeightsResponse,
    )
    from glowgenius.training.callbacks.base import Callbacks
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.requests import Agenda
    from glowgenius.training.rows import PreparedRun
    from glowgenius.training.schedule import PlannedStep

T = TypeVar("T")

FIRST_NOTICE: Final = 30.0
"""Seconds after which a wait is worth a word; the next comes after twice as long, and so on."""

LONGEST_SILENCE: Final = 600.0
"""Seconds between two notices, at most."""

UNUSUAL: Final = 3.0
"""How many times longer than the longest wait so far: on a slow machine every step may take minutes."""

_NAP: Final = 1.0
"""Seconds of one wait: on Windows, Ctrl-C is not noticed before it is over."""

_LOG = logger("glowgenius.training")


def _done_within(future: FutureLike[Any], seconds: float) -> bool:
    """Whether *future* is done, or is within so many seconds."""
    inner: Callable[[], futures.Future[Any]] | None = getattr(future, "future", None)
    if inner is None:
        # A double with nothing but `result()` is waited for there, without a word in between.
        return True
    end, waited = time.monotonic() + seconds, [inner()]
    while not futures.wait(waited, timeout=min(_NAP, max(0.0, end - time.monotonic()))).done:
        if time.monotonic() >= end:
            return False
    return True


@final
@frozen(kw_only=True)
class Clock:
    """What time it is, and how time passes; tests bring their own."""

    seconds: Callable[[], float] = time.monotonic
    """Seconds since some moment."""

    now: Callable[[], datetime] = datetime.now
    """The time of day, for people."""

    done_within: Callable[[FutureLike[Any], float], bool] = _done_within
    """Waits for a future, at most so many seconds, and says whether it is done."""

    sleep: Callable[[float], None] = time.sleep
    """Lets so many seconds pass."""


@final
class Waiter:
    """Waits for results, one after another.

    Ctrl-C, SIGTERM or SIGHUP while a result is being waited for, or while something else is being done, is remembered;
    the state behind what has been submitted is then saved, and the loop ends. The second is not held back.

    Args:
        submitter: Saves the state when it is interrupted.
        callbacks: Who is told of a long wait.
        clock: What time it is.
    """

    def __init__(self, submitter: Submitter, callbacks: Callbacks, clock: Clock) -> None:
        self._submitter = submitter
        self._callbacks = callbacks
        self._clock = clock
        self._longest = 0.0
        self._is_waiting = False
        self.interrupt: KeyboardInterrupt | None = None
        """The first Ctrl-C or signal."""
        self.heeded = False
        """Whether it has been acted upon, so that nothing more is to be submitted."""

    def result(self, future: FutureLike[T], pending: Pending, operation: str) -> T:
        """The result of *future*, which belongs to *pending*.

        Raises:
            EngineError: The operation failed.
            KeyboardInterrupt: The second one.
        """
        began = self._clock.seconds()
        while True:
            try:
                self._wait(future, pending.step, operation, began)
                with mapped(f"{operation} of step {pending.step}"):
                    value = future.result()
                self._longest = max(self._longest, self._clock.seconds() - began)
                return value  # noqa: TRY300 - an interruption in the line before asks for it again
            except KeyboardInterrupt as interrupt:
                if self.interrupt is not None:
                    raise
                self.interrupt = interrupt
            self.heed(pending)

    def settle(self, under_way: list[tuple[Pending, FutureLike[Any]]]) -> None:
        """Wait until all of it is done, well or badly."""
        for pending, future in under_way:
            self._wait(future, pending.step, "what was under way", self._clock.seconds())
            with suppress(Exception):  # the first error is the one that is raised
                future.result()

    def heed(self, pending: Pending) -> None:
        """If Ctrl-C was pressed, save the state behind what has been submitted, *pending* being reported."""
        if self.interrupt is None or self.heeded:
            return
        self.heeded = True
        newest = self._submitter.newest(pending)
        self._submitter.enqueue_state(newest)
        what = f"saving the state after step {newest.step}" if newest.step else "ending what is under way"
        name = called(self.interrupt)
        again = "Ctrl-C again" if name == "Ctrl-C" else "another signal"
        _LOG.warning("%s: %s, then leaving; %s leaves at once", name, what, again)

    def heeding(self) -> AbstractContextManager[None]:
        """Hold the first Ctrl-C or signal back until it can be heeded, as one between two requests could not be saved.

        Only in the main thread, which is where signals arrive, and only where nobody else has a handler.
        """
        return handled(self._on_interrupt, INTERRUPTIONS)

    def _on_interrupt(self, interrupt: KeyboardInterrupt) -> None:
        if self._is_waiting or self.interrupt is not None:
            raise interrupt
        self.interrupt = interrupt

    def _wait(self, future: FutureLike[Any], step: int, operation: str, began: float) -> None:
        """Return when *future* is done, and say meanwhile that it is not."""
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
@frozen(kw_only=True, eq=False)
class Update:
    """The two requests of one step."""

    planned: PlannedStep
    """What was meant to be done."""

    forward_backward: FutureLike[ForwardBackwardOutput]
    """The gradient."""

    optimizer: FutureLike[OptimStepResponse]
    """The update itself."""


@final
@define(kw_only=True, eq=False)
class Pending:
    """What was submitted for one step: the update, and what stands directly behind it in the engine's order."""

    step: int
    """The number of updates when it is done; 0 is the adapter before the first."""

    update: Update | None = None
    """The update; None for step 0, and while it is being submitted."""

    state: FutureLike[SaveWeightsResponse] | None = None
    """The checkpoint to go on from."""

    weights: FutureLike[SaveWeightsForSamplerResponse] | None = None
    """The checkpoint to sample from."""

    snapshot: FutureLike[SamplingClient] | None = None
    """A client for callbacks that sample from these weights."""

    evaluation: FutureLike[ForwardBackwardOutput] | None = None
    """The loss of the evaluation set."""

    final: bool = False
    """Whether the run ends here."""

    evaluated: bool = False
    """Whether the evaluation has been reported."""

    saved: tuple[bool, bool] = (False, False)
    """Whether state and weights have been reported."""

    row: dict[str, float] = field(factory=dict[str, float])
    """What has been measured so far."""

    sent: list[FutureLike[Any]] = field(factory=list["FutureLike[Any]"])
    """Everything that is or was under way, for when something goes wrong."""


def to_data(examples: Sequence[ShiftedExample | SoftExample]) -> list[Datum]:
    """The data of one request, weighted so that the engine's plain sum is the mean over their trained tokens."""
    scale = 1.0 / total_weight(examples)
    return [to_datum(example, scale) for example in examples]


def total_weight(examples: Sequence[ShiftedExample | SoftExample]) -> float:
    """The sum of the raw loss weights of *examples*."""
    return float(sum(example.weights.sum(dtype=np.float64) for example in examples))


def mean_loss(output: ForwardBackwardOutput, examples: Sequence[ShiftedExample | SoftExample]) -> float:
    """Σ −logprob · weight / Σ weight with the raw weights, in nats per trained token.

    Where a server has left the log-probabilities out, its own sum stands for them: it is over weights that add up to 1.

    Raises:
        EngineError: There is neither.
    """
    outputs = output.loss_fn_outputs
    if len(outputs) == len(examples) and all("logprobs" in record for record in outputs):
        total = 0.0
        for record, example in zip(outputs, examples, strict=True):
            logprobs = record["logprobs"].to_numpy().astype(np.float64)
            if logprobs.shape != example.weights.shape:
                raise EngineError(
                    f"the engine answered with log-probabilities of shape {list(logprobs.shape)} for an example of "
                    f"{len(example)} targets"
                )
            # Where nothing is trained the value is unspecified, and 0 times NaN would still be NaN.
            trained = example.weights != 0
            total -= float(logprobs[trained] @ example.weights[trained].astype(np.float64))
        return total / total_weight(examples)
    if "loss:sum" in output.metrics:
        return float(output.metrics["loss:sum"])
    raise EngineError(
        "the engine answered with neither log-probabilities nor 'loss:sum', so that the loss is unknown; it gave: "
        + (", ".join(sorted(output.metrics)) or "nothing")
    )


@final
class Submitter:
    """Sends steps, and enqueues checkpoints and evaluations directly behind them.

    Args:
        client: What is trained.
        run: The checked rows and the plan.
        config: The settings.
        agenda: What callbacks have asked for; those of a resumed run may have, before it was killed.
        snapshots: Whether every evaluation comes with a client that samples from the same weights.
    """

    def __init__(
        self, client: TrainingClient, *, run: PreparedRun, config: TrainingConfig, agenda: Agenda, snapshots: bool
    ) -> None:
        self._client = client
        self._run = run
        self._plan = run.plan
        self._config = config
        self._agenda = agenda
        self._snapshots = snapshots
        self._examples = run.train.examples
        # Built once and never written to, so that requests under way can share it.
        self._held_out: list[Datum] = [] if run.evaluation is None else to_data(run.evaluation.examples)
        self.under_way: deque[Pending] = deque()
        """What has been submitted and not yet been reported, the oldest first."""
        self.submitted = 0
        """The last step of which anything was sent."""

    @property
    def can_evaluate(self) -> bool:
        """Whether there is an evaluation set."""
        return bool(self._held_out)

    def newest(self, current: Pending) -> Pending:
        """The step behind which the next request would stand: *current*, being reported, if nothing else is."""
        return self.under_way[-1] if self.under_way else current

    def begin(self) -> None:
        """Evaluate the adapter before its first update, where there is an evaluation set."""
        if self.can_evaluate:
            pending = Pending(step=0)
            self.under_way.append(pending)
            self._enqueue_evaluation(pending)

    def submit(self, planned: PlannedStep) -> None:
        """Gradient, update, and what belongs directly behind them."""
        pending = Pending(step=planned.step)
        self.submitted = planned.step
        self.under_way.append(pending)
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
        with naming_rows(self._run, planned), mapped(f"step {planned.step}"):
            gradient = self._client.forward_backward(data, "cross_entropy")
            pending.sent.append(gradient)
            optimizer = self._client.optim_step(params)
            pending.sent.append(optimizer)
        pending.update = Update(planned=planned, forward_backward=gradient, optimizer=optimizer)
        if planned.step == self._agenda.end:
            self._enqueue_end(pending)
            return
        if self._plan.is_due(config.save_every, planned) or planned.step in self._agenda.saves:
            self.enqueue_state(pending)
        if self._plan.is_due(config.eval_every, planned) or planned.step in self._agenda.evaluations:
            self._enqueue_evaluation(pending)

    def ask(self, request: SaveCheckpoint | RunEvaluation | StopTraining, pending: Pending) -> None:
        """Put what a callback asks for when *pending* is reported behind the step that comes `lookahead` later.

        By then that step has been submitted, unless an interruption has ended the run: in that case what was asked for
        waits in the checkpoint for the run to be resumed, so that it makes no difference.

        Raises:
            ConfigError: An evaluation without an evaluation set.
        """
        step = min(pending.step + self._config.lookahead, self._agenda.end)
        target = next((each for each in (pending, *self.under_way) if each.step == step), None)
        match request:
            case SaveCheckpoint():
                self._agenda.saves.add(step)
                if target is not None:
                    self.enqueue_state(target)
            case RunEvaluation():
                if not self.can_evaluate:
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
        """*pending* is the last step: keep its state and its weights, and evaluate it."""
        pending.final = True
        self.enqueue_state(pending)
        self._enqueue_weights(pending)
        self._enqueue_evaluation(pending)

    def enqueue_state(self, pending: Pending) -> None:
        """Keep weights and optimizer of *pending*, once."""
        if pending.state is None and pending.step:
            epoch, batch = divmod(pending.step, self._plan.steps_per_epoch)
            position = {"step": str(pending.step), "epoch": str(epoch), "batch": str(batch)}
            with mapped(f"save_state of step {pending.step}"):
                pending.state = self._client.save_state(checkpoint_name(pending.step), user_metadata=position)
                pending.sent.append(pending.state)

    def _enqueue_weights(self, pending: Pending) -> None:
        """Keep the weights of *pending*, once; those of step 0 are the base model's."""
        if pending.weights is None and pending.step:
            with mapped(f"save_weights_for_sampler of step {pending.step}"):
                pending.weights = self._client.save_weights_for_sampler(checkpoint_name(pending.step))
                pending.sent.append(pending.weights)
            # Or the next step may overtake it, and be in the weights that are kept as those of this one.
            settle_place(self._client)

    def _enqueue_evaluation(self, pending: Pending) -> None:
        """Evaluate the weights of *pending*, once, and keep them where they may turn out to be the best."""
        if not self.can_evaluate or pending.evaluation is not None:
            return
        if self._config.metric_for_best is not None:
            self._enqueue_weights(pending)
        with mapped(f"evaluation of step {pending.step}"):
            if self._snapshots:
                pending.snapshot = self._client.save_weights_and_get_sampling_client()
                pending.sent.append(pending.snapshot)
            pending.evaluation = self._client.forward(self._held_out, "cross_entropy")
            pending.sent.append(pending.evaluation)
