"""The shift by one between inputs and targets, and targets that are distributions."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
from attrs import field, frozen
from typing_extensions import override

from glowgenius.errors import RenderingError
from glowgenius.rendering.renderer import as_token_array, as_weight_array

if TYPE_CHECKING:
    from glowgenius.rendering.renderer import RenderedExample
    from glowgenius.typing import LogprobArray, TokenArray, WeightArray


@final
@frozen(eq=False)
class ShiftedExample:
    """What the model reads, and for each position the token that follows; equal when all three arrays are."""

    inputs: TokenArray = field(converter=as_token_array)
    """Tokens that the model reads, `[T-1]`, read-only."""

    targets: TokenArray = field(converter=as_token_array)
    """The token after each input, `[T-1]`, read-only."""

    weights: WeightArray = field(converter=as_weight_array)
    """Loss weight of each target, `[T-1]`, read-only."""

    def __attrs_post_init__(self) -> None:
        lengths = [len(self.inputs), len(self.targets), len(self.weights)]
        if len(set(lengths)) != 1:
            raise RenderingError(f"inputs, targets and weights must have the same length, got {lengths}")

    def __len__(self) -> int:
        return len(self.inputs)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ShiftedExample):
            return NotImplemented
        return bool(
            np.array_equal(self.inputs, other.inputs)
            and np.array_equal(self.targets, other.targets)
            and np.array_equal(self.weights, other.weights)
        )

    @override
    def __hash__(self) -> int:
        return hash((self.inputs.tobytes(), self.targets.tobytes(), self.weights.tobytes()))

    @property
    def num_trained(self) -> int:
        """How many targets carry loss; the same number as in the example that was shifted."""
        return int(np.count_nonzero(self.weights))


def shift(example: RenderedExample) -> ShiftedExample:
    """Each token of *example* as the target of the one before it, with the target's own weight.

    Raises:
        RenderingError: There are fewer than two tokens, so that there is nothing to predict.
    """
    if len(example) < 2:  # noqa: PLR2004 - one to read and one to predict
        raise RenderingError(f"an example needs at least 2 tokens, one to read and one to predict, got {len(example)}")
    return ShiftedExample(example.tokens[:-1], example.tokens[1:], example.weights[1:])


@final
@frozen(kw_only=True, eq=False)
class SoftExample:
    """What the model reads, and for each position K tokens that may follow."""

    inputs: TokenArray
    """Tokens that the model reads, `[T]`."""

    targets: TokenArray
    """The tokens that may follow each input, `[T, K]`."""

    weights: WeightArray
    """Loss weight of each of them, `[T, K]`; at one position they add up to the weight of that position."""

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def num_trained(self) -> int:
        """How many positions carry loss."""
        return int(np.count_nonzero(self.weights.any(axis=1)))


def widened(example: ShiftedExample, width: int) -> SoftExample:
    """*example* with its targets padded to *width* per position; the first has all the weight.

    The data of one request have one shape, so a row with one target stands beside others with many.
    """
    columns = ((0, 0), (0, width - 1))
    return SoftExample(
        inputs=example.inputs,
        targets=np.pad(example.targets[:, None], columns),
        weights=np.pad(example.weights[:, None], columns),
    )


def softened(example: ShiftedExample, tokens: TokenArray, logprobs: LogprobArray) -> SoftExample:
    """*example* with soft targets in place of its trained targets (Hinton et al. 2015, section 2, T = 1).

    What the K tokens lack of the whole probability is shared out among them in proportion.

    Args:
        example: Where it carries no weight it stays as it is.
        tokens: The likeliest tokens at each trained position, `[n, K]`.
        logprobs: Their natural-log probabilities, `[n, K]`.

    Raises:
        RenderingError: There are more or fewer distributions than trained positions.
    """
    places = np.flatnonzero(example.weights)
    if len(tokens) != len(places):
        raise RenderingError(f"{len(places)} trained positions need as many distributions, got {len(tokens)}")
    wide = widened(example, tokens.shape[1])
    targets, weights = wide.targets.copy(), wide.weights.copy()
    shares = np.exp(logprobs.astype(np.float64))
    targets[places] = tokens
    weights[places] = example.weights[places, None] * (shares / shares.sum(axis=1, keepdims=True))
    return SoftExample(inputs=example.inputs, targets=targets, weights=weights)
