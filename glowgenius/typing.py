"""Names for the arrays and values that travel through the library.

Axes, as docstrings write them: `B` batch, `T` tokens of one sequence, `V` vocabulary, `R` rank.
A list of sequences of different lengths is written `B × [T]`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import numpy.typing as npt

    TokenArray: TypeAlias = npt.NDArray[np.int64]
    """Token ids, `[T]`."""

    WeightArray: TypeAlias = npt.NDArray[np.float32]
    """Loss weights, `[T]`; 0 is not trained."""

    LogprobArray: TypeAlias = npt.NDArray[np.float32]
    """Natural-log probabilities of tokens, `[T]`."""

    Tools: TypeAlias = Sequence[Mapping[str, Any]]
    """Tools that an assistant may call, as in `Conversation.tools`."""

JSON: TypeAlias = "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
"""Anything that a JSON file can hold."""
