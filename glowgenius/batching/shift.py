"""The shift by one between what the model reads and what it is to predict; it happens here and nowhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

import numpy as np
from attrs import field, frozen
from typing_extensions import override

from glowgenius.errors import RenderingError
from glowgenius.rendering.example import as_token_array, as_weight_array

if TYPE_CHECKING:
    from glowgenius.rendering.example import RenderedExample
    from glowgenius.typing import TokenArray, WeightArray


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
