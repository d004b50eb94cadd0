"""The package's own source as syntax trees: what the architecture tests look at."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

from attrs import frozen

ROOT = Path(__file__).resolve().parents[2]
"""The top of the repository."""

PACKAGE = ROOT / "glowgenius"


@frozen
class Module:
    """One file of the package."""

    name: str
    """Dotted; a package goes by its own name, without `__init__`."""

    path: Path
    text: str
    tree: ast.Module

    @property
    def place(self) -> str:
        """The path as a reader of a failure wants it."""
        return self.path.relative_to(
            self.path.parents[len(self.name.split(".")) + (self.path.stem == "__init__") - 1]
        ).as_posix()

    @property
    def package(self) -> str:
        """What a relative import starts from."""
        return self.name if self.path.stem == "__init__" else self.name.rpartition(".")[0]


def read_modules(package: Path) -> tuple[Module, ...]:
    """Every module of the package in the folder *package*, in the order of their names."""
    found = []
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        text = path.read_text(encoding="utf-8")
        found.append(Module(name, path, text, ast.parse(text)))
    return tuple(found)


@functools.cache
def modules() -> tuple[Module, ...]:
    """Every module of glowgenius."""
    return read_modules(PACKAGE)


def imports_of(module: Module, names: frozenset[str]) -> set[str]:
    """Those of the modules *names* that *module* imports anywhere: at the top, in functions, for type checkers."""
    targets: set[str] = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            targets.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = module.package.split(".")[: len(module.package.split(".")) - node.level + 1]
                base = ".".join([*up, *([base] if base else [])])
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                targets.add(inner if inner in names else base)
    return targets & names


def cycles(found: tuple[Module, ...]) -> list[list[str]]:
    """The groups of modules that import each other, each sorted; empty when the graph has no cycle."""
    names = frozenset(module.name for module in found)
    graph = {module.name: imports_of(module, names) - {module.name} for module in found}
    reach = {name: _reachable(graph, name) for name in graph}
    groups = {
        tuple(sorted(other for other in reach[name] if name in reach[other])) for name in graph if name in reach[name]
    }
    return [list(group) for group in sorted(groups)]


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(graph[name])
    return seen


def functions(tree: ast.AST) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones included."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def classes(tree: ast.AST) -> list[ast.ClassDef]:
    """Every class, nested ones included."""
    return [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """The lines of *function* after its docstring, or after its signature where it has none."""
    body = function.body
    if ast.get_docstring(function) is not None:
        body = body[1:]
    if not body:
        return 0
    return (function.end_lineno or 0) - body[0].lineno + 1


def word(node: ast.expr) -> str:
    """The last name of a decorator or base: `frozen` of `@attrs.frozen(kw_only=True)`, `Protocol` of `Protocol[T]`."""
    if isinstance(node, ast.Call):
        return word(node.func)
    if isinstance(node, ast.Subscript):
        return word(node.value)
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""
