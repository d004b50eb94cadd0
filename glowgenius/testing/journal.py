"""What a scripted service was asked to do, as values."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, final

import numpy as np
from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.engines.datum import DatumArrays
    from glowgenius.engines.tinker_types import AdamParams

SERVICE_KINDS = (
    "create_lora_training_client",
    "create_training_client_from_state",
    "create_training_client_from_state_with_optimizer",
    "create_sampling_client",
    "close",
)
"""The operations of a service."""

TRAINING_KINDS = (
    "forward",
    "forward_backward",
    "optim_step",
    "save_state",
    "save_weights_for_sampler",
    "save_weights_and_get_sampling_client",
)
"""The ordered operations of a training client."""

SAMPLING_KINDS = ("sample", "compute_logprobs")
"""The operations of a sampling client."""

KINDS = (*SERVICE_KINDS, *TRAINING_KINDS, *SAMPLING_KINDS, "delete_checkpoint")
"""Every kind of operation, by the name of its method."""


@final
@frozen(kw_only=True)
class Operation:
    """One call, entered in the order in which the calls were made."""

    kind: str
    """The name of the method, one of `KINDS`."""

    client: str | None = None
    """The id of the training or sampling client; None for a call of the service."""

    sequence: int | None = None
    """1-based place in the order of this training client; None outside of it."""

    num_data: int | None = None
    """How many data the request held."""

    num_tokens: int | None = None
    """How many input tokens the request held."""

    weight_sum: float | None = None
    """The sum of all loss weights of the request."""

    fingerprint: str | None = None
    """sha256 over tokens, targets and weights of the request: two requests with one fingerprint are the same."""

    adam_params: AdamParams | None = None
    """What `optim_step` was given."""

    name: str | None = None
    """What a save was to be called, the base model of a new client, or the status of `close`."""

    path: str | None = None
    """The checkpoint that was written or read."""

    user_metadata: tuple[tuple[str, str], ...] = ()
    """What was stored with it, sorted by key."""

    error: str | None = None
    """The error that the script answered with; None where the script let it pass."""


def fingerprint(data: Sequence[DatumArrays]) -> str:
    """sha256 over all rows of a request, the same on every machine."""
    digest = hashlib.sha256()
    for datum in data:
        digest.update(len(datum.inputs).to_bytes(8, "little"))
        digest.update(datum.inputs.astype("<i8").tobytes())
        digest.update(datum.targets.astype("<i8").tobytes())
        digest.update(datum.weights.astype("<f4").tobytes())
    return digest.hexdigest()


def describe(data: Sequence[DatumArrays]) -> dict[str, int | float | str]:
    """The fields of an `Operation` that describe a request's data."""
    return {
        "num_data": len(data),
        "num_tokens": sum(len(datum.inputs) for datum in data),
        "weight_sum": float(sum(datum.weights.sum(dtype=np.float64) for datum in data)),
        "fingerprint": fingerprint(data),
    }
