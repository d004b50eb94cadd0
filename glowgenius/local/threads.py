"""Work done side by side, each piece on one thread.

Two threads inside one product must wait for each other after every product: on a busy machine that is most of their
time. Two passes need not wait at all, and their results do not depend on which thread was quicker.
"""

from __future__ import annotations

import functools
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

T = TypeVar("T")
R = TypeVar("R")


def side_by_side(work: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """`work` of every item, in the order of *items*, on as many *threads* as there are items for."""
    if threads == 1 or len(items) < 2:  # noqa: PLR2004 - one item needs no pool
        return map(work, items)
    return _pool(threads).map(work, items)


@functools.cache
def _pool(threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, "glowgenius-pass", initializer=_alone)


def _alone() -> None:
    torch.set_num_threads(1)
