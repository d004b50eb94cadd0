"""`{public-names} glowgenius.data`: the reference of every public name that lives there, never a stale list."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective
from sphinx.util.nodes import nested_parse_with_titles

import glowgenius


def names_of(home: str) -> list[str]:
    """The public names of the module *home*: its part of `glowgenius.__all__`, or its own `__all__`."""
    found = [name for name in glowgenius.__all__ if glowgenius._HOMES.get(name) == home]  # noqa: SLF001
    moved = [name for name, module in glowgenius._MOVED.items() if module == home]  # noqa: SLF001
    return sorted([*found, *moved]) if found else list(importlib.import_module(home).__all__)


def entry(home: str, name: str) -> list[str]:
    """The lines that document one name under the name that a user imports."""
    module = "glowgenius" if name in glowgenius.__all__ and glowgenius._HOMES[name] == home else home  # noqa: SLF001
    value = getattr(importlib.import_module(module), name)
    if inspect.isclass(value):
        options = [":members:", ":show-inheritance:"] if issubclass(value, BaseException) else [":members:"]
        return [f".. autoclass:: {module}.{name}", *(f"   {option}" for option in options), ""]
    kind = "autofunction" if callable(value) else "autodata"
    return [f".. {kind}:: {module}.{name}", ""]


class PublicNames(SphinxDirective):
    """One entry for each public name of a module."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Parse what `autodoc` would be given by hand."""
        home = self.arguments[0]
        lines = [line for name in names_of(home) for line in entry(home, name)]
        section = nodes.section()
        section.document = self.state.document
        source = StringList(["```{eval-rst}", *lines, "```"], source=home)
        nested_parse_with_titles(self.state, source, section)
        return section.children


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("public-names", PublicNames)
    return {"parallel_read_safe": True}
