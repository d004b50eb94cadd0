"""`Datum` of the SDK from our arrays, and top-k log-probabilities from its answers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, TypeAlias, final

import numpy as np
from attrs import frozen

from glowgenius.engines.tinker_types import MASK_LOGPROB, Datum, ModelInput, TopkLogprobs
from glowgenius.errors import ConfigError, EngineError, RequestRejectedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from glowgenius.batching.shift import ShiftedExample, SoftExample
    from glowgenius.engines.tinker_types import ForwardBackwardOutput, SampleResponse, TensorData
    from glowgenius.typing import LogprobArray, TokenArray, WeightArray

    AnyArray: TypeAlias = npt.NDArray[Any]

CROSS_ENTROPY = "cross_entropy"
"""The loss of supervised training, by the SDK's name."""

CROSS_ENTROPY_INPUTS = ("target_tokens", "weights")
"""The loss inputs that a datum of the cross-entropy loss has, no more and no fewer."""


def to_datum(shifted: ShiftedExample | SoftExample, scale: float = 1.0) -> Datum:
    """The datum of one example, its weights multiplied by *scale*.

    The loss of an engine is a plain sum. A mean is made here, by weights that were divided beforehand: by the same
    number for all batches whose gradients accumulate before one optimizer step.
    The arrays are fresh: the SDK keeps what it is given, and a request may still be on its way when the caller goes on.

    Args:
        shifted: Inputs `[T]`, and targets and weights, each `[T]` or, with K targets for each input, `[T, K]`.
        scale: A finite number ≥ 0.

    Raises:
        ConfigError: *scale* is not a finite number ≥ 0.
    """
    if not math.isfinite(scale) or scale < 0:
        raise ConfigError(f"to_datum: scale must be a finite number ≥ 0, got {scale!r}")
    # float64 in between: one rounding to float32 at the end instead of two.
    weights = (shifted.weights.astype(np.float64) * scale).astype(np.float32)
    loss_fn_inputs: dict[str, Any] = {"target_tokens": np.array(shifted.targets, dtype=np.int64), "weights": weights}
    return Datum(model_input=ModelInput.from_ints(shifted.inputs.tolist()), loss_fn_inputs=loss_fn_inputs)


@final
@frozen(kw_only=True, eq=False)
class DatumArrays:
    """What a datum of the cross-entropy loss says, as arrays of one length; K targets are weighed at each position."""

    inputs: TokenArray
    """The tokens that the model reads, `[T]`."""

    targets: TokenArray
    """The token to predict at each position, `[T]`, or the tokens, `[T, K]`."""

    weights: WeightArray
    """The weight of each target in the loss, of the shape of `targets`."""


def read_data(data: Sequence[Datum], loss_fn: str, *, vocabulary_size: int | None = None) -> list[DatumArrays]:
    """The arrays of all data of one request, checked as the service checks them.

    Args:
        data: The data of one `forward` or `forward_backward`.
        loss_fn: The loss asked for.
        vocabulary_size: Token ids lie in `0 … vocabulary_size − 1`; None leaves them unchecked above.

    Raises:
        RequestRejectedError: No data, another loss than cross-entropy, or a datum that does not fit together; the
            message says which datum and what was found.
    """
    if loss_fn != CROSS_ENTROPY:
        raise RequestRejectedError(
            f"loss_fn {loss_fn!r} is not available here: this engine computes {CROSS_ENTROPY!r}, the loss of "
            "supervised training"
        )
    if not data:
        raise RequestRejectedError("No data provided: forward and forward_backward need at least one datum")
    return [_read_datum(index, datum, vocabulary_size) for index, datum in enumerate(data)]


def _read_datum(index: int, datum: Datum, vocabulary_size: int | None) -> DatumArrays:
    try:
        inputs: TokenArray = np.asarray(datum.model_input.to_ints(), dtype=np.int64)
    except ValueError as error:
        raise RequestRejectedError(
            f"datum {index}: model_input must hold text tokens only, got other chunks"
        ) from error
    fields = datum.loss_fn_inputs
    if set(fields) != set(CROSS_ENTROPY_INPUTS):
        raise RequestRejectedError(
            f"datum {index}: loss_fn_inputs must be 'target_tokens' and 'weights', got "
            + (", ".join(repr(name) for name in sorted(fields)) or "none")
        )
    targets = _row(index, "target_tokens", fields["target_tokens"])
    weights = _row(index, "weights", fields["weights"]).astype(np.float32)
    if not len(inputs) == len(targets) == len(weights):
        raise RequestRejectedError(
            f"datum {index}: model_input, target_tokens and weights must have one length, got "
            f"{len(inputs)}, {len(targets)} and {len(weights)}"
        )
    if targets.shape != weights.shape:
        raise RequestRejectedError(
            f"datum {index}: target_tokens and weights must have one shape, got {targets.shape} and {weights.shape}"
        )
    if not len(inputs):
        raise RequestRejectedError(f"datum {index}: must hold at least one token, got none")
    if targets.dtype.kind != "i":
        raise RequestRejectedError(f"datum {index}: target_tokens must be integers, got {targets.dtype}")
    if not np.isfinite(weights).all():
        raise RequestRejectedError(f"datum {index}: weights must be finite, got {weights[~np.isfinite(weights)][0]}")
    for name, tokens in (("model_input", inputs), ("target_tokens", targets)):
        _check_range(index, name, tokens, vocabulary_size)
    return DatumArrays(inputs=inputs, targets=targets.astype(np.int64), weights=weights)


def _row(index: int, name: str, tensor: TensorData) -> AnyArray:
    array: AnyArray = tensor.to_numpy()
    if array.ndim not in {1, 2}:
        raise RequestRejectedError(
            f"datum {index}: {name} must have one axis, or a second for several targets, got the shape {array.shape}"
        )
    return array


def _check_range(index: int, name: str, tokens: TokenArray, vocabulary_size: int | None) -> None:
    outside = tokens < 0 if vocabulary_size is None else (tokens < 0) | (tokens >= vocabulary_size)
    if outside.any():
        position = int(np.flatnonzero(outside.reshape(len(tokens), -1).any(axis=1))[0])
        accepted = "≥ 0" if vocabulary_size is None else f"in 0 … {vocabulary_size - 1}"
        raise RequestRejectedError(
            f"datum {index}: {name} must be token ids {accepted}, got {tokens[outside][0]} at position {position}"
        )


MOST_ALTERNATIVES: Final = 20
"""The most tokens that can be asked for at each place of a prompt."""


def topk_of(ids: TokenArray, logprobs: LogprobArray) -> TopkLogprobs:
    """What the SDK gives for the tokens `[T-1, K]` that may follow the first T-1 of a prompt.

    The SDK has a row for every token of the prompt; the first, which nothing predicts, is masked.
    """
    first = (1, ids.shape[1])
    return TopkLogprobs(
        token_ids=np.concatenate([np.zeros(first, np.int32), ids.astype(np.int32)]),
        logprobs=np.concatenate([np.full(first, MASK_LOGPROB, np.float32), logprobs.astype(np.float32)]),
    )


def read_top(response: SampleResponse, positions: TokenArray, k: int) -> tuple[TokenArray, LogprobArray]:
    """Ids and natural-log probabilities of the *k* tokens likeliest at *positions* `[n]` of the prompt, `[n, k]` each.

    Raises:
        EngineError: The engine left them out, or gave fewer.
    """
    found = response.topk_prompt_logprobs_np
    if found is None or found.token_ids.shape[1] < k or len(found.token_ids) <= int(positions.max(initial=0)):
        shape = "none" if found is None else f"{list(found.token_ids.shape)}"
        raise EngineError(f"the engine was asked for the {k} likeliest tokens along a prompt, and gave {shape}")
    logprobs = found.logprobs[positions, :k].astype(np.float32)
    if (logprobs <= MASK_LOGPROB).any():
        raise EngineError("the engine left out the likeliest tokens at some places of a prompt")
    return found.token_ids[positions, :k].astype(np.int64), logprobs


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
