"""Imports on first use: of public names, and of optional packages with one message where they are missing."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from types import ModuleType


def defined_in(file: str) -> dict[str, str]:
    """The names that the stub beside a package's `__init__.py` exports, with the module of each.

    Each is a line `from module import name as name`, which exports it to type checkers. Modules and names that begin
    with an underscore are left out.

    Args:
        file: The `__init__.py`.
    """
    stub = Path(file).with_suffix(".pyi").read_text(encoding="utf-8")
    found = re.findall(r"^from (\w+(?:\.\w+)+) import (\w+) as \2$", stub, re.MULTILINE)
    return {name: module for module, name in found if not name.startswith("_")}


def imported(package: str, name: str, homes: Mapping[str, str], submodules: Collection[str] = ()) -> Any:
    """The public *name* of *package*, imported from its module.

    Args:
        package: Whose name it is, for the message.
        name: The name.
        homes: The module of each public name.
        submodules: Modules of the package that are public themselves.

    Raises:
        AttributeError: There is no such name; the message has the nearest.
    """
    if name in homes:
        return getattr(importlib.import_module(homes[name]), name)
    if name in submodules:
        return importlib.import_module(f"{package}.{name}")
    from glowgenius.errors import nearest

    raise AttributeError(f"module {package!r} has no attribute {name!r}{nearest(name, homes)}")


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
        from glowgenius.errors import MissingDependencyError  # not at import: a public name is looked up without it

        raise MissingDependencyError(message, name=package) from error


def installed(module: str) -> bool:
    """Whether *module*, a name without a dot, can be imported; it is not."""
    return importlib.util.find_spec(module) is not None
