"""The one path to optional packages, and the one message when they are missing."""

from __future__ import annotations

import importlib
import importlib.util
from typing import TYPE_CHECKING

from glowgenius.errors import MissingDependencyError

if TYPE_CHECKING:
    from types import ModuleType


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import *module*, or say which extra of glowgenius brings it.

    Args:
        module: The dotted name to import.
        extra: The extra of glowgenius that installs it.
        purpose: What needs it, as the subject of a sentence: `"the local engine"`.

    Raises:
        MissingDependencyError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        if error.name is None or package != error.name.partition(".")[0]:
            raise
        message = (
            f"{purpose} needs the package {package!r}, which is not installed. "
            f"Install it with: pip install 'glowgenius[{extra}]'"
        )
        raise MissingDependencyError(message, name=package) from error


def installed(module: str) -> bool:
    """Whether *module*, a name without a dot, can be imported; it is not."""
    return importlib.util.find_spec(module) is not None
