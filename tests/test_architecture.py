"""The rules of the code base that no linter knows: sizes, one way imports, abstract or final, everything documented."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import textwrap

import pytest

from tests.support.source import (
    Module,
    body_lines,
    classes,
    cycles,
    functions,
    modules,
    read_modules,
    word,
)

MAX_FILE_LINES = 701
MAX_FUNCTION_LINES = 40
MAX_ARGUMENTS = 7

HEAVY = ("gguf", "numpy", "rich", "tinker", "tokenizers", "torch", "transformers")
"""What `import glowgenius` must not load: each costs a user time before the first line of work."""

INTERFACES = {"ABC", "Protocol", "TypedDict", "NamedTuple", "Enum", "StrEnum", "IntEnum"}
"""Bases that make a class abstract, or one that cannot be subclassed usefully (an enum with members is final)."""

OPEN = {"glowgenius.training.callbacks.base.Callback"}
"""The one open class: users derive from it, and each hook of it does nothing."""


def too_long_files(found: tuple[Module, ...]) -> list[str]:
    counted = [(module, len(module.text.splitlines())) for module in found]
    return [f"{module.place}: {lines} lines" for module, lines in counted if lines >= MAX_FILE_LINES]


def too_long_functions(found: tuple[Module, ...]) -> list[str]:
    return [
        f"{module.place}:{function.lineno}: {function.name} has {body_lines(function)} lines"
        for module in found
        for function in functions(module.tree)
        if body_lines(function) > MAX_FUNCTION_LINES
    ]


def wide_constructors(found: tuple[Module, ...]) -> list[str]:
    """Classes of training that need more than seven things; values with fields (results, events) are attrs classes."""
    return [
        f"{module.place}:{method.lineno}: {node.name} takes {count} arguments"
        for module in found
        if ".training." in module.name and not module.name.endswith(".result")
        for node in classes(module.tree)
        for method in node.body
        if isinstance(method, ast.FunctionDef) and method.name == "__init__"
        if (count := len([*method.args.args, *method.args.kwonlyargs]) - 1) > MAX_ARGUMENTS
    ]


def assertions(found: tuple[Module, ...]) -> list[str]:
    return [
        f"{module.place}:{node.lineno}"
        for module in found
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Assert)
    ]


def leftovers(found: tuple[Module, ...]) -> list[str]:
    marks = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    return [
        f"{module.place}:{number}: {line.strip()}"
        for module in found
        for number, line in enumerate(module.text.splitlines(), 1)
        if marks.search(line)
    ]


def open_classes(found: tuple[Module, ...]) -> list[str]:
    """Classes that can be instantiated and subclassed; a private one is closed unless the package derives from it."""
    errors = error_names(found)
    parents = {word(base) for module in found for node in classes(module.tree) for base in node.bases}
    return [
        f"{module.place}:{node.lineno}: {node.name}"
        for module in found
        for node in classes(module.tree)
        if not ({word(base) for base in node.bases} & INTERFACES)
        and "final" not in {word(decorator) for decorator in node.decorator_list}
        and node.name not in errors
        and f"{module.name}.{node.name}" not in OPEN
        and not (node.name.startswith("_") and node.name not in parents)
    ]


def error_names(found: tuple[Module, ...]) -> set[str]:
    """The exceptions of the package: what derives, in some steps, from a class called `…Error` or `Exception`."""
    bases = {node.name: {word(base) for base in node.bases} for module in found for node in classes(module.tree)}
    names: set[str] = set()
    while True:
        more = {
            name for name, parents in bases.items() if any(p in names or p in {"Exception", "Warning"} for p in parents)
        }
        if more <= names:
            return names
        names |= more


def undocumented(found: tuple[Module, ...]) -> list[str]:
    """Public modules, classes, functions, methods and fields without a docstring."""
    missing = []
    for module in found:
        if ast.get_docstring(module.tree) is None:
            missing.append(f"{module.place}:1: the module")
        missing += [f"{module.place}:{line}: {name}" for line, name in bare_names(module.tree.body, "")]
    return missing


def bare_names(body: list[ast.stmt], owner: str) -> list[tuple[int, str]]:
    missing = []
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and not node.name.startswith("_"):
            inherited = {word(decorator) for decorator in node.decorator_list} & {"override", "overload", "setter"}
            if ast.get_docstring(node) is None and not inherited:
                missing.append((node.lineno, f"{owner}{node.name}"))
            if isinstance(node, ast.ClassDef):
                missing += bare_names(node.body, f"{owner}{node.name}.")
                missing += bare_fields(node, f"{owner}{node.name}.")
    return missing


def bare_fields(node: ast.ClassDef, owner: str) -> list[tuple[int, str]]:
    """The public fields of an attrs class that no docstring follows."""
    if not {word(decorator) for decorator in node.decorator_list} & {"frozen", "define", "mutable", "dataclass"}:
        return []
    return [
        (field.lineno, f"{owner}{field.target.id}")
        for field, after in zip(node.body, [*node.body[1:], None], strict=True)
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and not field.target.id.startswith("_")
        and word(field.annotation) != "ClassVar"
        and not (
            isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) and isinstance(after.value.value, str)
        )
    ]


RULES = {
    "files have at most 700 lines": too_long_files,
    "functions have at most 40 lines after the docstring": too_long_functions,
    "constructors in training take at most seven arguments": wide_constructors,
    "no assert: it vanishes under python -O": assertions,
    "no leftovers": leftovers,
    "classes are abstract or final": open_classes,
    "everything public is documented": undocumented,
    "no module cycles": cycles,
}


@pytest.mark.parametrize("rule", RULES)
def test_the_package_keeps_the_rule(rule):
    broken = RULES[rule](modules())
    assert broken == [], "\n".join(map(str, broken))


LONG = "def long():\n    '''Doc.'''\n" + "    print()\n" * 41
FITS = "def fits():\n    '''Doc.\n" + "    more\n" * 60 + "    '''\n" + "    print()\n" * 40

BROKEN = {
    "files have at most 700 lines": (
        {"a.py": "'''Doc.'''\n" + "\n" * 699, "b.py": "'''Doc.'''\n" + "\n" * 700},
        ["pkg/b.py: 701 lines"],
    ),
    "functions have at most 40 lines after the docstring": (
        {"a.py": FITS, "b.py": LONG, "c.py": "class C:\n    def outer(self):\n" + textwrap.indent(LONG, "        ")},
        [
            "pkg/b.py:1: long has 41 lines",
            "pkg/c.py:2: outer has 43 lines",
            "pkg/c.py:3: long has 41 lines",
        ],
    ),
    "constructors in training take at most seven arguments": (
        {
            "training/loop.py": "class A:\n    def __init__(self, a, b, c, d, *, e, f, g): ...\n"
            "class B:\n    def __init__(self, a, b, c, d, *, e, f, g, h): ...\n",
            "training/result.py": "class C:\n    def __init__(self, a, b, c, d, *, e, f, g, h): ...\n",
            "other.py": "class D:\n    def __init__(self, a, b, c, d, *, e, f, g, h): ...\n",
        },
        ["pkg/training/loop.py:4: B takes 8 arguments"],
    ),
    "no assert: it vanishes under python -O": ({"a.py": "def f(x):\n    assert x\n"}, ["pkg/a.py:2"]),
    "no leftovers": ({"a.py": "x = 1  # TODO: later\nphotodo = 2\n"}, ["pkg/a.py:1: x = 1  # TODO: later"]),
    "classes are abstract or final": (
        {
            "a.py": """
            class Open: ...
            class _Open(Interface): ...
            class Child(_Open): ...
            class _Private: ...
            @final
            class Closed: ...
            class Interface(Protocol[T]): ...
            class Abstract(abc.ABC): ...
            class Kind(StrEnum): ...
            class Wrong(ValueError, Exception): ...
            class Worse(Wrong): ...
            @frozen
            class Config: ...
            def f():
                class Inner: ...
            """
        },
        ["pkg/a.py:1: Open", "pkg/a.py:2: _Open", "pkg/a.py:3: Child", "pkg/a.py:13: Config", "pkg/a.py:15: Inner"],
    ),
    "everything public is documented": (
        {
            "a.py": """
            '''Doc.'''
            def bare(): ...
            def _private(): ...
            class Bare:
                def method(self): ...
                def __len__(self): ...
                @override
                def inherited(self): ...
            @frozen(kw_only=True)
            class Config:
                '''Doc.'''
                rank: int = 3
                '''Doc.'''
                alpha: int
                seed: int
                '''Doc.'''
                _hidden: int
                KINDS: ClassVar[int] = 3
            """,
            "b.py": "",
        },
        [
            "pkg/a.py:2: bare",
            "pkg/a.py:4: Bare",
            "pkg/a.py:5: Bare.method",
            "pkg/a.py:14: Config.alpha",
            "pkg/b.py:1: the module",
        ],
    ),
    "no module cycles": (
        {
            "a.py": "import pkg.b",
            "b.py": "def lazy():\n    from pkg import c",
            "c.py": "if TYPE_CHECKING:\n    from .a import thing",
            "d.py": "import pkg.a",
            "sub/__init__.py": "from .one import x",
            "sub/one.py": "from ..sub import y",
        },
        [["pkg.a", "pkg.b", "pkg.c"], ["pkg.sub", "pkg.sub.one"]],
    ),
}
"""For each rule, a small package that breaks it, and what is then said."""


@pytest.mark.parametrize("rule", RULES)
def test_the_rule_can_be_broken(rule, tmp_path):
    files, expected = BROKEN[rule]
    package = tmp_path / "pkg"
    for name, text in files.items():
        path = package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text).lstrip("\n"))
    assert RULES[rule](read_modules(package)) == expected


def loaded_by(statement: str) -> set[str]:
    """The top-level packages in memory after *statement* in a new interpreter."""
    code = f"{statement}\nimport sys\nprint(*{{name.partition('.')[0] for name in sys.modules}})"
    return set(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split())


def test_importing_the_package_loads_nothing_heavy():
    assert loaded_by("import glowgenius") & set(HEAVY) == set()


def test_listing_the_names_loads_nothing_heavy():
    assert loaded_by("import glowgenius; dir(glowgenius); glowgenius.__all__") & set(HEAVY) == set()


def test_the_check_of_what_is_loaded_can_fail():
    assert "numpy" in loaded_by("import numpy")
