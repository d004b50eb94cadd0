"""Print a command of the README: the fenced block below its mark, `<!-- run -->` or `<!-- test -->`.

usage: python .ci/readme.py run|test [--setup]      --setup leaves out the last line: what installs, not what runs
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

README = Path(__file__).resolve().parents[1] / "README.md"


def marked_block(text: str, mark: str) -> str:
    """The commands of the one block of *text* below `<!-- mark -->`; exits where there is not exactly one."""
    found = re.findall(rf"<!-- {re.escape(mark)} -->\n```bash\n(.*?)\n```", text, re.DOTALL)
    if len(found) != 1:
        sys.exit(
            f"README.md must have one ```bash block with <!-- {mark} --> on the line before it, found {len(found)}"
        )
    return found[0]


def setup_of(block: str) -> str:
    """The lines of *block* before the last, joined by `&&` as they are there."""
    lines, _, _ = block.rpartition(" &&\n")
    return lines


def main(words: list[str]) -> None:
    """Print what the command line asks for."""
    if words[:1] not in (["run"], ["test"]) or words[1:] not in ([], ["--setup"]):
        sys.exit(__doc__)
    block = marked_block(README.read_text(encoding="utf-8"), words[0])
    print(setup_of(block) if words[1:] else block)


if __name__ == "__main__":
    main(sys.argv[1:])
