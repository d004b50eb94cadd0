"""A sampling client as text that holds no key, for another process, which connects with a key of its own."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any

from glowgenius._secrets import redact
from glowgenius.engines.errors import mapped
from glowgenius.errors import NotPicklableError

if TYPE_CHECKING:
    from glowgenius.engines.protocol import SamplingClient


def sampler_handle(client: SamplingClient) -> str:
    """The handle of a sampler on Tinker.

    Raises:
        NotPicklableError: The client belongs to an engine of this process, or its address holds a password.
    """
    make: Any = getattr(client, "get_sampler_handle", None)
    if make is None:
        raise NotPicklableError(
            "a Sampler of an engine in this process cannot be pickled, as its weights live here; in the other process, "
            "make one from the run folder or the checkpoint"
        )
    with mapped("get_sampler_handle"):
        handle: str = make()
    try:
        held = base64.urlsafe_b64decode(handle).decode("utf-8")
    except (binascii.Error, UnicodeDecodeError):
        held = handle
    if redact(held) != held:
        raise NotPicklableError(
            "this Sampler cannot be pickled, as the address of its server holds a password or key, and a pickle "
            "travels; connect in the other process"
        )
    return handle


def sampler_from_handle(handle: str, api_key: str | None) -> SamplingClient:
    """The sampling client behind *handle*.

    Args:
        handle: From `sampler_handle`.
        api_key: The key; None is what the SDK finds.

    Raises:
        EngineError: The service refused or failed.
    """
    from glowgenius.engines import tinker_types as tinker

    with mapped("from_sampler_handle"):
        return tinker.SamplingClient.from_sampler_handle(handle, api_key=api_key)
