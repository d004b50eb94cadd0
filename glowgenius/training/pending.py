"""A step between its submission and its report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
from attrs import define, field, frozen

from glowgenius.engines.datum import to_datum
from glowgenius.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.batching.shift import ShiftedExample
    from glowgenius.batching.soft import SoftExample
    from glowgenius.engines.protocol import FutureLike, SamplingClient
    from glowgenius.engines.tinker_types import (
        Datum,
        ForwardBackwardOutput,
        OptimStepResponse,
        SaveWeightsForSamplerResponse,
        SaveWeightsResponse,
    )
    from glowgenius.training.schedule import PlannedStep


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
