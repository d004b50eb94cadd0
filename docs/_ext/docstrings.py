"""Docstrings as they are written in the package, made ready for reStructuredText.

They follow Google's style with two habits of Markdown: an indented block after a blank line is code, and so is what
stands between single backticks. Both are told to Sphinx before napoleon reads the sections.
"""

from __future__ import annotations

import re
from typing import Any

SINGLE = re.compile(r"(?<!`)`([^`]+)`(?!`)")
SECTIONS = re.compile(r"^(Args|Attributes|Example|Examples|Note|Raises|Returns|Warns|Yields):$")


def mark_code(lines: list[str]) -> list[str]:
    """*lines* with `::` before every block that is indented although no section and no list asks for it.

    >>> mark_code(["One line.", "", "    x = 1", "", "More."])
    ['One line.', '', '::', '', '    x = 1', '', 'More.']
    """
    marked: list[str] = []
    inside = False
    for number, line in enumerate(lines):
        indented = line.startswith("    ")
        if line.strip() and not indented:
            inside = bool(SECTIONS.match(line)) or line.lstrip().startswith(("- ", "* ", "1. "))
        begins = indented and not inside and number > 0 and not lines[number - 1].strip()
        if begins and not any(before.startswith("    ") for before in _paragraph_before(lines, number)):
            marked += ["::", ""]
        marked.append(line)
    return marked


def _paragraph_before(lines: list[str], number: int) -> list[str]:
    """The lines of the paragraph that ends before the blank line above *number*."""
    end = number - 1
    while end >= 0 and not lines[end].strip():
        end -= 1
    start = end
    while start >= 0 and lines[start].strip():
        start -= 1
    return lines[start + 1 : end + 1]


def _process(_app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    lines[:] = SINGLE.sub(r"``\1``", "\n".join(mark_code(lines))).split("\n")


def setup(app: Any) -> dict[str, bool]:
    """Register with Sphinx, in front of napoleon."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}
