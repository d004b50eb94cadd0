"""How the package is put together, in figures: modules, import levels, repeated names, longest file and function.

    python -m tests.benchmarks.structure                     # the checkout
    python -m tests.benchmarks.structure --at HEAD~20        # beside an earlier commit

Counts come from the syntax trees. An arrow is one module that imports another one, anywhere in its text. The level of a
module is the length of the longest chain of imports below it within its package; levels are counted without cycles.
"""

from __future__ import annotations

import argparse
import ast
import io
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from tests.support.source import PACKAGE, ROOT, body_lines, cycles, functions, imports_of, read_modules

if TYPE_CHECKING:
    from tests.support.source import Module

REPEATED = {"__init__", "__main__", "base", "config", "errors"}
"""File names that may occur more than once, beside the verbs of the command line."""


def figures(package: Path) -> dict[str, str]:
    """Every figure of the package in the folder *package*, by its name in the table."""
    found = read_modules(package)
    names = frozenset(module.name for module in found)
    graph = {module.name: imports_of(module, names) - {module.name} for module in found}
    training = {name: {to for to in out if _in(to)} for name, out in graph.items() if _in(name)}
    sizes = {module.place: len(module.text.splitlines()) for module in found}
    bodies = {f"{module.place}:{one.name}": body_lines(one) for module in found for one in functions(module.tree)}
    imports, code = (sum(count(module) for module in found) for count in (_import_lines, _code_lines))
    repeated = repeated_names(found)
    return {
        "modules": str(len(found)),
        "lines": f"{sum(sizes.values()):,}",
        "lines of imports, of all lines of code": f"{100 * imports / code:.1f} %",
        "modules in training": str(len(training)),
        "import levels in training": str(_levels(training)),
        "arrows in training": str(sum(map(len, training.values()))),
        "cycles": str(len(cycles(found))),
        "names of several files": f"{len(repeated)} ({', '.join(repeated) or 'none'})",
        "longest file": _longest(sizes),
        "longest function": _longest(bodies),
    }


def repeated_names(found: tuple[Module, ...]) -> list[str]:
    """The file names that more than one module has, apart from those that may."""
    stems = Counter(module.path.stem for module in found if module.path.parent.name != "cli")
    return sorted(stem for stem, times in stems.items() if times > 1 and stem not in REPEATED)


def _in(name: str) -> bool:
    return name.startswith("glowgenius.training.") or name == "glowgenius.training"


def _levels(graph: dict[str, set[str]]) -> int:
    known: dict[str, int] = {}

    def level(name: str, above: frozenset[str]) -> int:
        if name not in known:
            known[name] = 1 + max((level(to, above | {name}) for to in graph[name] - above), default=0)
        return known[name]

    return max(level(name, frozenset({name})) for name in graph)


def _import_lines(module: Module) -> int:
    nodes = (node for node in ast.walk(module.tree) if isinstance(node, ast.Import | ast.ImportFrom))
    return sum((node.end_lineno or 0) - node.lineno + 1 for node in nodes)


def _code_lines(module: Module) -> int:
    lines = module.text.splitlines()
    texts: set[int] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            texts |= set(range(node.lineno, (node.end_lineno or 0) + 1))
    return sum(
        1 for number, line in enumerate(lines, 1) if number not in texts and line.strip() and line.strip()[0] != "#"
    )


def _longest(sizes: dict[str, int]) -> str:
    name = max(sizes, key=sizes.__getitem__)
    return f"{sizes[name]} ({name})"


def at(commit: str, scratch: Path) -> Path:
    """The package as it was in *commit*."""
    packed = subprocess.run(["git", "archive", commit, "glowgenius"], cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / "glowgenius"


def main() -> None:
    """Print the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--at", metavar="COMMIT", help="an earlier commit, for a column of its own")
    options = parser.parse_args()
    columns = {"now": figures(PACKAGE)}
    if options.at:
        with tempfile.TemporaryDirectory() as scratch:
            columns = {options.at: figures(at(options.at, Path(scratch))), **columns}
    sys.stdout.write(f"| | {' | '.join(columns)} |\n| --- |{' --- |' * len(columns)}\n")
    for name in columns["now"]:
        sys.stdout.write(f"| {name} | {' | '.join(column[name] for column in columns.values())} |\n")


if __name__ == "__main__":
    main()
