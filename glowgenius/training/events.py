"""Events of a run, as frozen values: one class per event.

Events come in the order of the steps, the same for every `lookahead`:

    TrainBegin
      EvaluateBegin(step 0) · EvaluateEnd(step 0) · StepLogged(step 0)
      EpochBegin
        StepBegin · StepEnd [· EvaluateBegin · EvaluateEnd] … [· CheckpointSaved] · StepLogged
      EpochEnd (before the CheckpointSaved of its last step)
    TrainEnd, or TrainFailed

and, at any time in between, ServiceWait and TrainRestart.

A step is reported when its result is there. By then `lookahead` later steps have been submitted: a request to save,
to evaluate or to stop takes effect behind those, and what comes of it carries their number.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast, final

import attrs
from attrs import asdict, field, frozen

from glowgenius.training.config import TrainingConfig
from glowgenius.training.cost import CostEstimate, CostSoFar

if TYPE_CHECKING:
    from glowgenius.errors import EngineError
    from glowgenius.training.sampler import Sampler
    from glowgenius.typing import JSON


@final
@frozen(kw_only=True)
class TrainBegin:
    """The data is checked, and the first request is about to be sent."""

    header: tuple[str, ...]
    """The run in a few lines: engine and why, model, rows, steps, rate, warnings."""

    config: TrainingConfig
    """The settings of the run."""

    base_model: str
    """The model that is adapted."""

    engine: str
    """Where it runs."""

    start_step: int
    """Updates that the adapter has already had: 0, or where a resumed run goes on."""

    total_steps: int
    """Updates that it will have had at the end."""

    steps_per_epoch: int
    """Batches of one epoch."""

    learning_rate: float
    """The peak rate."""

    has_evaluation: bool
    """Whether there is an evaluation set."""

    resumed: bool = False
    """Whether a run is gone on with, at `start_step`, or anew where it had no checkpoint yet."""

    cost: CostEstimate | None = None
    """What the whole run is going to cost."""

    least_usd: float | None = None
    """What it costs, with what was spent before a resume, if it is ended as early as can be; None without a price."""

    settings: Mapping[str, JSON] = field(factory=dict[str, "JSON"], eq=False)
    """What `config.json` of the run folder says: model, adapter, settings, fingerprints, versions."""

    rows: tuple[Mapping[str, float], ...] = field(default=(), eq=False, repr=False)
    """The rows of a resumed run up to `start_step`."""


@final
@frozen(kw_only=True)
class EpochBegin:
    """The first batch of an epoch comes next; not repeated where a run resumes inside an epoch."""

    epoch: int
    """1-based."""

    num_epochs: int
    """Epochs of the run."""


@final
@frozen(kw_only=True)
class StepBegin:
    """A step has been submitted, and its result is awaited."""

    step: int
    """1-based: the number of updates when it is done."""

    epoch: int
    """1-based."""

    learning_rate: float
    """The rate of the update."""

    num_rows: int
    """Rows of the batch."""


@final
@frozen(kw_only=True)
class StepEnd:
    """An optimizer update is complete."""

    step: int
    """1-based: the number of updates so far."""

    epoch: int
    """1-based."""

    total_steps: int
    """Updates of the whole run."""

    loss: float
    """Mean negative log-likelihood of the batch's trained tokens before the update, in nats, weighted by the masks."""

    learning_rate: float
    """The rate of the update."""

    num_rows: int
    """Rows of the batch."""

    trained_tokens: int
    """Tokens of the batch that carry loss."""

    input_tokens: int
    """Tokens of the batch that the model read."""

    metrics: Mapping[str, float]
    """What the engine said about the update, such as the gradient's norm; often nothing."""

    cost: CostSoFar | None = None
    """What the run has cost so far, and in the end if it is stopped; None where no price is known."""


@final
@frozen(kw_only=True)
class EvaluateBegin:
    """The weights of a step are being evaluated. `LogMetrics` returned here becomes part of the evaluation."""

    step: int
    """The number of updates that the weights have had."""

    num_rows: int
    """Rows of the evaluation set."""

    sampler: Sampler | None = field(default=None, eq=False)
    """Answers with exactly these weights; there where a callback has `needs_sampler = True`."""


@final
@frozen(kw_only=True)
class EvaluateEnd:
    """An evaluation is complete."""

    step: int
    """The number of updates that the weights have had."""

    metrics: Mapping[str, float]
    """`eval/loss` in nats per trained token, and what callbacks measured."""

    is_best: bool
    """Whether `metric_for_best` is better than at every evaluation since the first update."""


@final
@frozen(kw_only=True)
class CheckpointSaved:
    """A checkpoint of exactly `step` updates is saved on the engine and listed in the run folder."""

    step: int
    """The number of updates in it."""

    name: str
    """Its name on the engine."""

    state_path: str | None
    """Where training can go on from, optimizer included; None where only weights were kept."""

    sampler_path: str | None
    """Where weights can be sampled from; None where only a state was kept."""

    final: bool
    """Whether it is the last of the run."""


@final
@frozen(kw_only=True)
class StepLogged:
    """All metrics of a step are known: its row in the history and in `metrics.jsonl`, one per step."""

    step: int
    """The number of updates so far; 0 is the evaluation before the first."""

    metrics: Mapping[str, float]
    """The row: `train/loss`, `learning_rate`, `eval/loss`, what callbacks returned as `LogMetrics`, …"""


@final
@frozen(kw_only=True)
class EpochEnd:
    """Every row has been visited once more."""

    epoch: int
    """1-based."""

    step: int
    """The number of updates so far."""

    loss: float
    """Mean training loss of the epoch's steps, weighted by their trained tokens, in nats."""


@final
@frozen(kw_only=True)
class ServiceWait:
    """A result is late: the service is paused for lack of capacity or credit, slow, or unreachable.

    Told again at growing intervals. Nothing can be asked for, as nothing could be done.
    """

    step: int
    """The step that is being waited for."""

    operation: str
    """What of it: `forward_backward`, `optim_step`, `evaluation`, `save_state`, …."""

    seconds: float
    """How long the wait has taken so far."""

    since: str
    """When it began, as `2026-11-24 14:03:20` in local time."""

    interrupted: bool
    """Whether Ctrl-C has been pressed already; the next one leaves without saving."""

    @property
    def message(self) -> str:
        """The wait as one line for the user."""
        leave = "Ctrl-C again leaves at once" if self.interrupted else "Ctrl-C saves and leaves"
        return (
            f"waiting for the service since {self.since} ({self.seconds:,.0f} s): {self.operation} of step "
            f"{self.step}; {leave}"
        )


@final
@frozen(kw_only=True)
class TrainRestart:
    """The service failed; a new client resumes at the last checkpoint, and the steps after it are repeated.

    Each callback with state has been given the state that it had at `step`.
    """

    step: int
    """Updates in that checkpoint; 0 where there was none, so that the run starts anew from its seed."""

    failed_step: int
    """The last step that had been submitted."""

    error: EngineError = field(eq=False)
    """What happened."""

    restart: int
    """1-based: which restart of this run it is."""

    max_restarts: int
    """How many it may have."""

    @property
    def message(self) -> str:
        """The restart as one line for the user."""
        place = f"the checkpoint of step {self.step}" if self.step else "the seed, as there is no checkpoint yet"
        again = self.failed_step - self.step
        steps = "1 step is" if again == 1 else f"{again} steps are"
        return (
            f"restart {self.restart} of {self.max_restarts} from {place}; {steps} made again, because of "
            f"{type(self.error).__name__}: {self.error}"
        )


@final
@frozen(kw_only=True)
class TrainEnd:
    """The run is over and everything is saved."""

    step: int
    """The number of updates made."""

    stop_reason: str
    """`completed`, `max_steps`, or what a callback gave."""

    best_step: int | None
    """The evaluated step with the best `metric_for_best`."""

    trained_tokens: int
    """Tokens that carried loss, all steps together, those before a resume included."""


@final
@frozen(kw_only=True)
class TrainFailed:
    """The run is over because of an error or an interruption, which is raised after every callback has seen this."""

    error: BaseException = field(eq=False)
    """What is going to be raised."""

    step: int
    """The number of updates reported before it."""


Event: TypeAlias = (
    TrainBegin
    | EpochBegin
    | StepBegin
    | StepEnd
    | EvaluateBegin
    | EvaluateEnd
    | CheckpointSaved
    | StepLogged
    | EpochEnd
    | ServiceWait
    | TrainRestart
    | TrainEnd
    | TrainFailed
)
"""Everything that a callback can be told."""

EVENTS: Final[tuple[type[Event], ...]] = (
    TrainBegin,
    EpochBegin,
    StepBegin,
    StepEnd,
    EvaluateBegin,
    EvaluateEnd,
    CheckpointSaved,
    StepLogged,
    EpochEnd,
    ServiceWait,
    TrainRestart,
    TrainEnd,
    TrainFailed,
)
"""The event classes."""


def to_json(event: Event) -> dict[str, JSON]:
    """*event* as a JSON object: its class name as `event`, then its fields; an error becomes its text.

    Clients and the rows of a resumed run are left out.
    """
    values: dict[str, Any] = {"event": type(event).__name__}
    for attribute in attrs.fields(type(event)):
        value = getattr(event, attribute.name)
        if attribute.name in {"sampler", "rows"}:
            continue
        if isinstance(value, BaseException):
            values["error"] = type(value).__name__
            values["message"] = str(value)
        elif isinstance(value, TrainingConfig | CostEstimate):
            values[attribute.name] = value.to_json()
        elif isinstance(value, CostSoFar):
            values[attribute.name] = attrs.asdict(value)
        else:
            values[attribute.name] = _plain(value)
    return values


def _plain(value: Any) -> JSON:
    match value:
        case Mapping():
            return {str(name): _plain(item) for name, item in cast("Mapping[object, Any]", value).items()}
        case tuple():
            items: Sequence[Any] = cast("Sequence[Any]", value)
            return [_plain(item) for item in items]
        case float() if not math.isfinite(value):
            return None  # JSON has no NaN
        case _:
            return cast("JSON", value)


@final
@frozen(kw_only=True)
class Restart:
    """One service failure after which the run was restarted."""

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
