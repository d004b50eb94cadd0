"""How far two sequences agree."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def num_shared(first: Sequence[object], second: Sequence[object]) -> int:
    """How many items, or letters, the two begin with in common."""
    pairs = zip(first, second, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))
