"""Work done side by side, each piece on its own thread.

Two threads inside one product must wait for each other after every product: on a busy machine that is most of their
time. Two passes need not wait at all, and their results do not depend on which thread was quicker.
"""

from __future__ import annotations

import contextlib
import functools
import math
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch

from glowgenius.local.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

T = TypeVar("T")
R = TypeVar("R")

_QUOTA = Path("/sys/fs/cgroup/cpu.max")
"""Where Linux says how much of the machine a container may use: `<microseconds> <of microseconds>`, or `max`."""


def usable_threads(quota: Path = _QUOTA) -> int:
    """How many threads are worth starting: what torch would use (`OMP_NUM_THREADS` is heard), within the *quota*.

    In a container that may use 2 of 64 cores torch would start 64 threads, which then wait for each other.
    """
    try:
        share, period = quota.read_text(encoding="ascii").split()
        allowed = torch.get_num_threads() if share == "max" else math.ceil(int(share) / int(period))
    except (OSError, ValueError):  # not Linux, or an older one
        return torch.get_num_threads()
    return max(1, min(torch.get_num_threads(), allowed))


def side_by_side(work: Callable[[T], R], items: Sequence[T], threads: int) -> Iterator[R]:
    """`work` of every item, in the order of *items*; an item has a thread, or several where there are fewer items.

    An error is raised in its place in the order, once nothing runs any more.
    """
    crew_size = min(threads, len(items))
    if crew_size < 2:  # noqa: PLR2004 - one needs no crew
        yield from map(work, items)
        return
    each = threads // crew_size
    crew = _crew(crew_size, each)
    with _products_of(each):
        futures = [crew[index % crew_size].submit(functools.partial(work, item)) for index, item in enumerate(items)]
        try:
            for future in futures:
                yield future.result()
        finally:
            for future in futures:
                future.future().exception()


def alone(work: Callable[[], R]) -> R:
    """`work`, on a thread whose products use no other."""
    with _products_of(1):
        return _crew(1, 1)[0].submit(work).result()


@contextlib.contextmanager
def _products_of(threads: int) -> Generator[None]:
    """Let products use so many *threads* each, on whichever thread they are asked for.

    Torch's own loops go by the number that their thread was given, but MKL's products by the number that any thread
    was given last: without this, two passes on two cores would be four threads that wait for each other.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@functools.cache
def _crew(size: int, each: int) -> tuple[Worker, ...]:
    """*size* threads whose products use *each* threads."""
    before = torch.get_num_threads()
    crew = tuple(Worker("glowgenius-pass") for _ in range(size))
    for worker in crew:
        worker.submit(functools.partial(torch.set_num_threads, each)).result()
    # Torch keeps the latest number for every thread that is yet to come.
    torch.set_num_threads(before)
    return crew
