"""What the clients of one local service share."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from attrs import frozen

if TYPE_CHECKING:
    import torch

    from glowgenius.local.memory import Checkpointing
    from glowgenius.local.worker import Worker


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
