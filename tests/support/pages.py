"""The Python of the README and the pages: found, and made ready to run.

A page runs in one namespace, from top to bottom, in an empty folder.
Three marks stand on the line before a block, as comments that a reader of the page does not see:

- `<!-- skip: reason -->` leaves the next block out, and the reason is reported;
- `<!-- prints -->` before a ```text block says that the Python block above prints exactly this;
- `<!-- hidden` … `-->` holds Python that runs although it is not shown: the files that the page presumes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from attrs import frozen

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = re.compile(
    r"(?:^<!-- skip: (?P<skip>[^\n]*?) -->\n)?^```python\n(?P<code>.*?)^```$|^<!-- hidden\n(?P<hidden>.*?)^-->$"
    r"|^<!-- prints -->\n```text\n(?P<prints>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@frozen
class Snippet:
    """One block of Python of a page."""

    code: str
    line: int
    """Where the code begins in the page, from 1."""

    skip: str | None = None
    """Why it is not run."""

    prints: str | None = None
    """What it must print; None where the page does not show it."""


def snippets(page: Path) -> list[Snippet]:
    """The blocks of *page*, hidden ones included, in their order."""
    text = page.read_text(encoding="utf-8")
    found: list[Snippet] = []
    for match in BLOCK.finditer(text):
        if match["prints"] is not None:
            above = found.pop()
            found.append(Snippet(above.code, above.line, above.skip, match["prints"]))
            continue
        kind = "code" if match["code"] is not None else "hidden"
        line = text.count("\n", 0, match.start(kind)) + 1
        found.append(Snippet(match[kind], line, match["skip"]))
    return found


def compiled(page: Path, snippet: Snippet) -> object:
    """The code of *snippet*, with the page's own line numbers in tracebacks."""
    return compile("\n" * (snippet.line - 1) + snippet.code, str(page), "exec")
