"""Training runs on any engine: connection, settings, training loop and results.

A name is imported from its module when it is first used: the settings and callbacks alone do not load `tinker`.
"""

from __future__ import annotations

from typing import Any

from glowgenius._lazy import defined_in, imported

_HOMES = defined_in(__file__)
"""Where each name is defined, as `__init__.pyi` says."""

__all__ = sorted(_HOMES)  # noqa: PLE0605  # pyright: ignore[reportUnsupportedDunderAll] - checkers read the stub


def __getattr__(name: str) -> Any:
    """Import a public name from its module on first use."""
    value = imported(__name__, name, _HOMES)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
