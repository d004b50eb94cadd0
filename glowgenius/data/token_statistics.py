"""Lengths in tokens to the few numbers that decide `max_length`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from glowgenius.data.report import TokenStatistics

if TYPE_CHECKING:
    from array import array

_BINS: Final = 10
_STEPS: Final = (1, 2, 5)


def summary(lengths: array[int], trained: int, renderer: str) -> TokenStatistics:
    """The statistics of rows of these *lengths* in tokens; at least one row.

    Percentiles are lengths that occur: the smallest that the share of the rows does not exceed.
    """
    sizes = np.sort(np.frombuffer(lengths, dtype=np.int64))
    count = len(sizes)

    def percentile(share: int) -> int:
        return int(sizes[max(0, -(-share * count // 100) - 1)])

    return TokenStatistics(
        total=int(sizes.sum()),
        trained=trained,
        shortest=int(sizes[0]),
        median=percentile(50),
        p90=percentile(90),
        p99=percentile(99),
        longest=int(sizes[-1]),
        histogram=_histogram(sizes),
        renderer=renderer,
    )


def _histogram(sizes: np.typing.NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    """At most about ten bins of one width, which is 1, 2 or 5 times a power of ten."""
    low, high = int(sizes[0]), int(sizes[-1])
    power = 1
    while True:
        width = next((step * power for step in _STEPS if (high // (step * power)) - (low // (step * power)) < _BINS), 0)
        if width:
            break
        power *= 10
    start = low // width * width
    counts = np.bincount((sizes - start) // width)
    return tuple(
        (start + index * width, start + (index + 1) * width - 1, int(rows)) for index, rows in enumerate(counts)
    )
