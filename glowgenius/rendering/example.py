"""Tokens with their loss weights, and the one way to build them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
from attrs import field, frozen
from typing_extensions import override

from glowgenius.errors import RenderingError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from glowgenius.typing import TokenArray, WeightArray


def as_token_array(tokens: Any) -> TokenArray:
    """A fresh, read-only `[T]` array of token ids; anything that is not a list of integers is refused."""
    given = np.asarray(tokens)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise RenderingError(f"tokens must be integers of shape [T], got {given.dtype} of shape {list(given.shape)}")
    array = given.astype(np.int64, copy=True)
    array.setflags(write=False)
    return array


def as_weight_array(weights: Any) -> WeightArray:
    """A fresh, read-only `[T]` array of loss weights; negative and non-finite ones are refused."""
    given = np.asarray(weights)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "biuf"):
        raise RenderingError(f"weights must be numbers of shape [T], got {given.dtype} of shape {list(given.shape)}")
    array = given.astype(np.float32, copy=True)
    if not bool(np.all(np.isfinite(array) & (array >= 0))):
        worst = int(np.argmin(np.isfinite(array) & (array >= 0)))
        raise RenderingError(f"weights must be finite and ≥ 0, got {given[worst]} at position {worst}")
    array.setflags(write=False)
    return array


@final
@frozen(eq=False)
class RenderedExample:
    """A conversation as the model sees it; equal when tokens and weights are."""

    tokens: TokenArray = field(converter=as_token_array)
    """Token ids, `[T]`, read-only."""

    weights: WeightArray = field(converter=as_weight_array)
    """Loss weight of each token as a target, `[T]`, read-only; 0 is not trained."""

    def __attrs_post_init__(self) -> None:
        if len(self.tokens) != len(self.weights):
            raise RenderingError(
                f"tokens and weights must have the same length, got {len(self.tokens)} and {len(self.weights)}"
            )

    def __len__(self) -> int:
        return len(self.tokens)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RenderedExample):
            return NotImplemented
        return bool(np.array_equal(self.tokens, other.tokens) and np.array_equal(self.weights, other.weights))

    @override
    def __hash__(self) -> int:
        return hash((self.tokens.tobytes(), self.weights.tobytes()))

    @property
    def num_trained(self) -> int:
        """How many tokens carry loss; the first token never counts, as nothing before it predicts it."""
        return int(np.count_nonzero(self.weights[1:]))


@final
class ExampleBuilder:
    """Grows tokens and weights together, so that a mask is never looked for afterwards."""

    def __init__(self) -> None:
        self._tokens: list[int] = []
        self._runs: list[tuple[float, int]] = []

    def __len__(self) -> int:
        return len(self._tokens)

    def add(self, tokens: Iterable[int], weight: float) -> None:
        """Append *tokens*, each with *weight*."""
        before = len(self._tokens)
        self._tokens.extend(tokens)
        self._runs.append((weight, len(self._tokens) - before))

    def build(self) -> RenderedExample:
        """The example so far; its first token is not trained, as nothing comes before it to predict it from."""
        weights = np.repeat([weight for weight, _ in self._runs], [number for _, number in self._runs])
        weights[:1] = 0
        return RenderedExample(np.array(self._tokens, dtype=np.int64), weights)
