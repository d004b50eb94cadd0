"""Examples whose targets are distributions: several tokens at each position, each with its share of the weight."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
from attrs import frozen

from glowgenius.errors import RenderingError

if TYPE_CHECKING:
    from glowgenius.batching.shift import ShiftedExample
    from glowgenius.typing import LogprobArray, TokenArray, WeightArray


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
    """*example* with *width* targets at each position, of which the first has all the weight.

    The data of one request have one shape, so a row with one target stands beside others with many.
    """
    columns = ((0, 0), (0, width - 1))
    return SoftExample(
        inputs=example.inputs,
        targets=np.pad(example.targets[:, None], columns),
        weights=np.pad(example.weights[:, None], columns),
    )


def softened(example: ShiftedExample, tokens: TokenArray, logprobs: LogprobArray) -> SoftExample:
    """*example* with a distribution in the place of each trained target (Hinton et al. 2015, section 2, T = 1).

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
