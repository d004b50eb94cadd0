"""glowgenius: supervised LoRA fine-tuning on Tinker or on this machine, with honest before-and-after numbers.

Everything public is a name of this module; importing it loads nothing heavy.
"""

from __future__ import annotations

import warnings
from typing import Any

from glowgenius._lazy import defined_in, imported
from glowgenius._version import __version__ as __version__

_HOMES = defined_in(__file__)
"""Where each public name is defined, as `__init__.pyi` says; the module is imported when the name is first used."""

_MOVED = {
    "CostSoFar": "glowgenius.training",
    "LeakReport": "glowgenius.data",
    "LearningRateSuggestion": "glowgenius.lora",
    "ParameterBreakdown": "glowgenius.lora",
    "Preview": "glowgenius.rendering",
    "ReplayRows": "glowgenius.training",
    "RunCost": "glowgenius.training",
}
"""Names that were public here before → their module. Both places work in this version."""

_RENAMED = {"write_run_report": "glowgenius.reporting"}
"""Functions under the names that they had before; each warns when it is called."""

_SUBMODULES = ("errors", "local", "testing")
"""Public modules that `glowgenius.<name>` finds without an import of their own."""

__all__ = sorted(_HOMES)  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll] - checkers read the stub


def __getattr__(name: str) -> Any:
    """Import the module of a public name on first use."""
    if name in _MOVED:
        place = f"{_MOVED[name]}.{name}"
        warnings.warn(f"glowgenius.{name} is {place} now; the old place works in this version", DeprecationWarning, 2)
        return imported("glowgenius", name, _MOVED)
    value = imported("glowgenius", name, {**_HOMES, **_RENAMED}, _SUBMODULES)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
