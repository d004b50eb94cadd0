"""Gradient checkpointing where memory is short: how much a pass keeps, how much is free, what is computed again.

A layer that is computed again on the way back keeps its input alone. It computes the same numbers from it, so that the
gradient has the same bits, and nothing depends on how much memory there happened to be.
"""

from __future__ import annotations

import functools
import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, cast, final

import torch
from attrs import frozen

from glowgenius._output import logger
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

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
    """What the passes that are done side by side keep for their way back."""

    tokens: int
    """Of all these passes together."""

    layers: int
    """How many layers the way back goes through."""

    whole: int
    """What one of them keeps, in bytes."""

    least: int
    """What one of them keeps where it is computed again, in bytes."""


@final
class Checkpointing:
    """Decides how many layers are computed again on the way back, and says so."""

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
        """How many layers are computed again, the lowest first: none where half of the free memory holds them all.

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
