"""Which precision the frozen weights have: asked for, or whichever the machine computes faster."""

from __future__ import annotations

import functools
import time
from typing import final

import torch
from attrs import frozen

from glowgenius.errors import ConfigError, nearest
from glowgenius.local.threads import alone

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
