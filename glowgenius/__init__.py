"""glowgenius: supervised LoRA fine-tuning on Tinker or on this machine, with honest before-and-after numbers.

Everything public is a name of this module; importing it loads nothing heavy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glowgenius.errors import GlowGeniusError as GlowGeniusError

__version__ = "0.1.0"

_HOMES = {
    "GlowGeniusError": "glowgenius.errors",
}
"""Where each public name lives; the module is imported when the name is first used."""

__all__ = sorted(_HOMES)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use."""
    if name in _HOMES:
        value = getattr(importlib.import_module(_HOMES[name]), name)
        globals()[name] = value
        return value
    from glowgenius.errors import nearest

    raise AttributeError(f"module 'glowgenius' has no attribute {name!r}{nearest(name, __all__)}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
