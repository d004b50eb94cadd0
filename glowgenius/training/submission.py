"""What is sent to the engine, and in which order: the order of submission is the order on the engine."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, assert_never, final

from glowgenius.engines.errors import mapped
from glowgenius.engines.order import settle_place
from glowgenius.engines.tinker_types import AdamParams
from glowgenius.errors import ConfigError
from glowgenius.training.checkpoints import checkpoint_name
from glowgenius.training.dropped import naming_rows
from glowgenius.training.pending import Pending, Update, to_data
from glowgenius.training.requests import RunEvaluation, SaveCheckpoint, StopTraining

if TYPE_CHECKING:
    from glowgenius.engines.protocol import TrainingClient
    from glowgenius.engines.tinker_types import Datum
    from glowgenius.training.agenda import Agenda
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.prepared import PreparedRun
    from glowgenius.training.schedule import PlannedStep


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
