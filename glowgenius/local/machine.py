"""What the machine offers (memory for saved activations, threads, precision), and the state that clients share."""

from __future__ import annotations

import contextlib
import functools
import importlib
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar, cast, final

import torch
from attrs import frozen

from glowgenius._output import logger
from glowgenius.errors import ConfigError, nearest
from glowgenius.local.worker import Worker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

Asked: TypeAlias = bool | Literal["auto"]
"""Whether layers are computed again: all, none, or as many as it takes."""

_LOG = logger("glowgenius.local")

_SHARE = 0.5
"""Of the free memory, what passes may keep: the rest is for what they need for a moment, and for other programs."""

_SAID: dict[Asked, str] = {
    "auto": "",
    True: "every layer computed twice to save memory, as asked for",
    False: "no layer computed twice, however little memory is free, as asked for",
}
"""What there is to say before anything was computed."""

_CGROUP = Path("/sys/fs/cgroup")
"""Where Linux says how much memory a container may use."""


@final
@frozen(kw_only=True)
class Kept:
    """What the passes that are done side by side keep for their backward passes."""

    tokens: int
    """Of all these passes together."""

    layers: int
    """How many layers the backward pass goes through."""

    whole: int
    """What one of them keeps, in bytes."""

    least: int
    """What one of them keeps where it is computed again, in bytes."""


@final
class Checkpointing:
    """Decides how many layers use activation checkpointing, and logs it."""

    def __init__(self, asked: Asked, device: str, free: Callable[[], int | None] | None = None) -> None:
        if asked not in (True, False, "auto"):
            raise ConfigError(f"gradient_checkpointing must be 'auto', True or False, got {asked!r}")
        self._asked = asked
        self._device = device
        self._free: Callable[[], int | None] = functools.partial(free_bytes, device) if free is None else free
        self._fitted = 0
        self.said: str = _SAID[asked]
        """What was decided, in words that can stand in a list; empty while there was nothing to decide."""

    @property
    def measures(self) -> bool:
        """Whether it matters to `again` how much is kept."""
        return self._asked == "auto"

    def again(self, kept: Kept) -> int:
        """Number of layers to recompute, lowest first: none if half of the free memory holds all activations.

        Passes no larger than those that were held before are held again without a question: the allocator has not
        given the memory back, so it does not count as free, and is there.
        """
        total = kept.layers * kept.whole
        if self._asked != "auto":
            return kept.layers if self._asked else 0
        if total <= self._fitted:
            return 0
        free = self._free()
        if free is None:
            self.said = f"no layer computed twice, as it is not known how much memory is free on {self._device}"
            return 0
        lacking = total - int(_SHARE * free)
        if lacking <= 0:
            self._fitted = total
            return 0
        return self._short(kept, min(kept.layers, -(-lacking // max(1, kept.whole - kept.least))), free)

    def _short(self, kept: Kept, again: int, free: int) -> int:
        first = not self.said
        self.said = (
            f"{again} of {kept.layers} layers computed twice, as passes of {kept.tokens:,} tokens keep "
            f"{_size(kept.layers * kept.whole)} and {_size(free)} of memory are free"
        )
        if first:
            _LOG.warning(
                "memory is short, so the local engine checkpoints gradients: %s; the gradient is the same, bit for "
                "bit, and takes longer. Shorter rows or a smaller max_tokens_per_pass need less, and "
                "ServiceClient(gradient_checkpointing=False) turns it off",
                self.said,
            )
        return again


def free_bytes(device: str) -> int | None:
    """How much memory a pass on *device* could take now; None where that is not known."""
    kind = device.partition(":")[0]
    if kind == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free + torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    if kind == "mps":
        return torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory()
    if kind != "cpu":
        return None
    try:
        psutil = cast("Any", importlib.import_module("psutil"))
    except ImportError:
        return None
    machine = int(psutil.virtual_memory().available)
    container = _container_bytes(_CGROUP)
    return machine if container is None else min(machine, container)


def _container_bytes(folder: Path) -> int | None:
    """What is left of the limit of a container; None where there is no limit, or no container."""
    try:
        limit = int((folder / "memory.max").read_text(encoding="ascii"))
        used = int((folder / "memory.current").read_text(encoding="ascii"))
        stat = dict(line.split() for line in (folder / "memory.stat").read_text(encoding="ascii").splitlines())
    except (OSError, ValueError):  # not Linux, an older one, or "max"
        return None
    # Pages of files that nobody looks at are given back before the limit is reached.
    return max(0, limit - used + int(stat.get("inactive_file", 0)))


def _size(count: int) -> str:
    return f"{count / 1e9:.2f} GB"


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


_WORTH_IT = 1.3
"""How much faster bfloat16 must be: it is less exact, and the steps between the products gain less than they do."""

_ROWS, _WIDTH = 64, 1024
"""The product that is measured: as many tokens as a small pass, and a layer of a small model."""


@final
@frozen(kw_only=True)
class Precision:
    """The precision of the frozen weights."""

    dtype: torch.dtype
    """As torch names it."""

    reason: str
    """Why this one, in words that can follow it in brackets."""


def choose_precision(name: str, device: str) -> Precision:
    """The precision called *name*; `auto` measures on a CPU, and asks the driver of a GPU.

    Raises:
        ConfigError: There is none by that name.
    """
    known = {"float32": torch.float32, "bfloat16": torch.bfloat16}
    if name in known:
        return Precision(dtype=known[name], reason="as asked for")
    if name != "auto":
        raise ConfigError(f"dtype must be 'auto', 'float32' or 'bfloat16', got {name!r}{nearest(name, known)}")
    if device.startswith("cuda"):
        able = bool(torch.cuda.is_bf16_supported())
        return Precision(
            dtype=torch.bfloat16 if able else torch.float32,
            reason=f"the GPU {'computes' if able else 'does not compute'} in bfloat16",
        )
    if device != "cpu":
        return Precision(dtype=torch.float32, reason=f"nothing else was tried on {device}")
    single, half = measured_gflops(torch.float32), measured_gflops(torch.bfloat16)
    return Precision(
        dtype=torch.bfloat16 if half > _WORTH_IT * single else torch.float32,
        reason=f"measured on one thread: float32 {single:.0f}, bfloat16 {half:.0f} GFLOP/s",
    )


@functools.cache
def measured_gflops(dtype: torch.dtype) -> float:
    """How many 10⁹ operations of a product one thread does in a second of its own time, whoever else is busy."""

    def measure() -> float:
        x, weight = torch.ones(_ROWS, _WIDTH, dtype=dtype), torch.ones(_WIDTH, _WIDTH, dtype=dtype)
        times: list[float] = []
        for _ in range(4):  # the first makes the kernels ready
            start = time.thread_time()
            torch.nn.functional.linear(x, weight)
            times.append(time.thread_time() - start)
        return 2e-9 * _ROWS * _WIDTH * _WIDTH / max(min(times), 1e-9)

    return alone(measure)


@final
@frozen(kw_only=True, eq=False)
class Runtime:
    """The queue and the sizes of one service."""

    worker: Worker
    """The queue behind every client of the service."""

    device: str
    """The torch device in use."""

    dtype: torch.dtype
    """Of the frozen weights."""

    max_tokens_per_pass: int
    """How many tokens go through the network at once."""

    checkpointing: Checkpointing
    """Decides how many layers are computed twice where memory is short."""

    threads: int
    """How many passes are done side by side."""

    sampling_batch_size: int
    """How many sequences are generated side by side at most."""
