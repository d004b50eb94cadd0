"""The local engine: LoRA training and sampling with torch in this process, behind the Tinker client interface.

    import glowgenius
    service = glowgenius.local.ServiceClient()

has the methods of `tinker.ServiceClient` that the library uses, with the same types, order and futures.
"""

from __future__ import annotations

import os

from glowgenius._lazy import require

# Two OpenMP threads that spin at a barrier make a busy two-core machine up to ten times slower; waiting passively
# costs nothing measurable on an idle one. It only takes effect when torch is not loaded yet, and never overrides.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
require("torch", extra="local", purpose="the local engine")

from glowgenius.local.service import ServiceClient  # noqa: E402 - torch is asked for first, with a message that helps
from glowgenius.models.catalog import model_directory  # noqa: E402

__all__ = ["ServiceClient", "model_directory"]
