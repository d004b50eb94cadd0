"""The advice in the package's messages: found in its source, divided into what can be looked up, and looked up.

A message is a text with a space in it that is no docstring, no pattern and no style sheet. What looks like code in it
(a call, a setting with its value, a dotted name, an option, a command, a variable of the environment, an extra, a page)
is a fragment. A fragment is good when what it names exists in the package's own source, in the command line, in
pyproject.toml, or in the library that it names.
"""

from __future__ import annotations

import ast
import builtins
import functools
import importlib
import re
import tomllib
from typing import TYPE_CHECKING, Final

from attrs import field, frozen

from tests.support.source import ROOT, Module, modules, word

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

HOLE: Final = "\N{WHITE SQUARE}"
"""Stands in a text for what is filled in when the message is made."""

_NO_MESSAGE: Final = re.compile(
    r"\(\?[:=!<P]|\\b|\{%|</?\w+[ >]|\n *--|^ *--\w+: |\bvar\(--|^glowgenius |^[\w.]+ = |^from \w+ import |^\w+: peft$"
)
"""Patterns, templates, markup, style sheets, phrases that chat templates are tried with, and lines of a program."""

_CALL: Final = re.compile(r"(?<![\w.])((?:[A-Za-z_]\w*\.)*[A-Za-z_]\w*)\(((?:[^()]|\([^()]*\))*)\)")
_SETTING: Final = re.compile(rf"(?<![\w.{HOLE}-])([a-z]\w*)=(?=['\"\w\[{{(….{HOLE}]|$)")
_DOTTED: Final = re.compile(r"(?<![\w./'{HOLE}-])((?:[A-Za-z_]\w*\.)+[a-z_]\w+)\b(?![(\w.]*\()")
_SNAKE: Final = re.compile(rf"(?<![\w./'\"{HOLE}-])([a-z]+(?:_[a-z0-9]+)+)\b(?![=(./{HOLE}])")
_CAMEL: Final = re.compile(r"(?<![\w.])([A-Z][a-z]+(?:[A-Z]\w+)+|LoRA[A-Z]\w+|JSONL\w+)\b(?!\()")
_OPTION: Final = re.compile(r"(?<![\w-])(--[a-z][\w-]*)")
_COMMAND: Final = re.compile(r"(?<![\w./])glowgenius (?!never|does)([a-z]+)(?=[ ,`)]|$)")
_VARIABLE: Final = re.compile(rf"(?<![\w.{HOLE}])([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)\b")
_EXTRA: Final = re.compile(r"glowgenius\[([\w,-]+)\]")
_PAGE: Final = re.compile(r"(docs/[\w/]+\.md)")
_SUFFIX: Final = re.compile(r"\.(?:gz|jsonl?|csv|tsv|parquet|md|html|safetensors|gguf|py|toml|txt|yaml)$")

VARIABLES_OF_OTHERS: Final = frozenset(
    {"TINKER_API_KEY", "TINKER_BASE_URL", "TINKER_CREDENTIAL_CMD", "NO_PROXY", "HF_HUB_OFFLINE", "HF_TOKEN"}
)
"""Variables that the SDK, the hub and HTTP clients read."""

FOREIGN: Final = ("json", "attrs", "multiprocessing", "tinker", "transformers", "datetime", "numpy", "torch")
"""Libraries whose names a message may give."""

NAMES_IN_PROSE: Final = frozenset(
    {"LoRA", "McNemar", "SmolLM2", "ChatML", "DatasetDict", "tinker_cookbook", "get_lr", "loss_fn_inputs"}
)
"""Words that are written like a name of code and are names of other things: methods, models, parts of a request."""

SPEAKERS: Final[Mapping[str, str]] = {
    "trainer": "SupervisedTrainer",
    "dataset": "Dataset",
    "first": "Dataset",
    "result": "TrainingResult",
    "error": "PreflightError",
}
"""Variables as messages call them → the class that is meant."""


@frozen
class Fragment:
    """What looks like code in one message."""

    kind: str
    """`call`, `setting`, `dotted`, `word`, `class`, `option`, `command`, `variable`, `extra` or `page`."""

    text: str
    """The name: of the callable, the setting, the option, and so on."""

    arguments: tuple[str, ...] = ()
    """The keywords of a call."""

    literal: str | None = None
    """The value of a setting, where it is written out."""


@frozen
class Message:
    """One text of the package that a user may see."""

    module: str
    line: int
    text: str
    """With `HOLE` where something is filled in."""

    fragments: tuple[Fragment, ...] = field(init=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "fragments", tuple(_fragments(self.text)))

    @property
    def place(self) -> str:
        """For the message of a failing test."""
        return f"{self.module}:{self.line}"


def messages(found: tuple[Module, ...]) -> tuple[Message, ...]:
    """The messages of the modules *found* that hold a fragment."""
    return tuple(message for module in found for message in _messages_of(module) if message.fragments)


OTHERS = re.compile(
    r"vllm|sglang|llama-server|llama\.cpp|lora-paths|vLLM|PeftModel|save_pretrained|merge_and_unload"
    r"|base_model_relation|library_name|as .* there shows"
)
"""Messages on exports that name programs, methods and fields of others, where an export is used."""


@functools.cache
def own_messages() -> tuple[Message, ...]:
    """The messages of glowgenius that hold a fragment, but for names of others in what is said of exports."""
    exports = ("glowgenius.export.", "glowgenius.training.adapter_export")
    return tuple(
        message
        for message in messages(modules())
        if not (message.module.startswith(exports) and OTHERS.search(message.text))
    )


def _messages_of(module: Module) -> Iterator[Message]:
    silent = _silent(module.tree)
    for node in ast.walk(module.tree):
        if id(node) in silent or not isinstance(node, ast.JoinedStr | ast.Constant):
            continue
        text = _text(node)
        if text is not None and " " in text.strip() and not _NO_MESSAGE.search(text):
            yield Message(module.name, node.lineno, text)


def _silent(tree: ast.Module) -> set[int]:
    """The nodes without a message: docstrings, parts of an f-string, what `repr` shows, names for type checkers."""
    silent: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name == "__repr__":
            silent.update(id(part) for part in ast.walk(node))
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            silent.add(id(node.value))
        elif isinstance(node, ast.JoinedStr):
            silent.update(id(part) for part in node.values if isinstance(part, ast.Constant))
            silent.update(
                id(part)
                for value in node.values
                if isinstance(value, ast.FormattedValue) and value.format_spec is not None
                for part in ast.walk(value.format_spec)
            )
        elif isinstance(node, ast.Call) and word(node.func) in {"cast", "TypeVar", "getLogger"} and node.args:
            silent.add(id(node.args[0]))
    return silent


def _text(node: ast.JoinedStr | ast.Constant) -> str | None:
    if isinstance(node, ast.Constant):
        return node.value if isinstance(node.value, str) else None
    return "".join(str(part.value) if isinstance(part, ast.Constant) else HOLE for part in node.values)


def _fragments(text: str) -> Iterator[Fragment]:
    rest = text
    for found in _CALL.finditer(text):
        keywords = tuple(re.findall(r"(?<![\w.])([a-z]\w*)=(?!=)", re.sub(r"\w+\([^()]*\)", "", found[2])))
        yield Fragment("call", found[1], keywords)
        rest = rest.replace(found[0], " ")
    rest = re.sub(r"'[^' ]*'", lambda quoted: quoted[0] if "=" in quoted[0] or "[" in quoted[0] else "''", rest)
    for found in _SETTING.finditer(rest):
        value = re.match(r"'[^']*'|\d+|True|False|None", text.partition(f"{found[1]}=")[2])
        yield Fragment("setting", found[1], literal=value[0] if value else None)
    plain = _EXTRA.sub(" ", rest)
    for kind, pattern in (
        ("dotted", _DOTTED),
        ("word", _SNAKE),
        ("class", _CAMEL),
        ("option", _OPTION),
        ("command", _COMMAND),
        ("variable", _VARIABLE),
    ):
        yield from (
            Fragment(kind, found[1])
            for found in pattern.finditer(plain)
            if found[1] not in NAMES_IN_PROSE and not (kind == "dotted" and _SUFFIX.search(found[1]))
        )
    yield from (Fragment("extra", each) for found in _EXTRA.finditer(text) for each in found[1].split(","))
    yield from (Fragment("page", found[1]) for found in _PAGE.finditer(text))


# --- what there is ---


@frozen
class _Callable:
    names: frozenset[str]
    """Of its parameters."""

    any_name: bool
    """Whether it takes keywords of any name."""


class Known:
    """Every name that the package's source defines for its users."""

    def __init__(self, found: tuple[Module, ...]) -> None:
        self.callables: dict[str, list[_Callable]] = {}
        self.members: dict[str, set[str]] = {}
        self.parameters: set[str] = set()
        self.words: set[str] = set()
        self.modules = {module.name for module in found}
        bases: dict[str, list[str]] = {}
        for module in found:
            self.words.update(
                node.value
                for node in ast.walk(module.tree)
                if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier()
            )
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ClassDef):
                    self._read_class(node)
                    bases[node.name] = [word(base) for base in node.bases]
            for node in module.tree.body:
                if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                    self._add(node.name, _parameters(node))
                    self.members.setdefault(module.name.rpartition(".")[2], set()).add(node.name)
        self._inherit(bases)

    def _read_class(self, node: ast.ClassDef) -> None:
        members = self.members.setdefault(node.name, set())
        fields: set[str] = set()
        made = None
        for each in node.body:
            if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef):
                members.add(each.name)
                if each.name == "__init__":
                    made = _parameters(each)
                    members.update(_set_on_self(each))
                else:
                    self._add(each.name, _parameters(each))
            elif isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
                fields.add(each.target.id)
            elif isinstance(each, ast.Assign):
                members.update(target.id for target in each.targets if isinstance(target, ast.Name))
        members.update(fields)
        self._add(node.name, made or _Callable(frozenset(name.lstrip("_") for name in fields), any_name=False))

    def _add(self, name: str, callable_: _Callable) -> None:
        self.callables.setdefault(name, []).append(callable_)
        if not name.startswith("_"):
            self.parameters |= callable_.names

    def _inherit(self, bases: Mapping[str, list[str]]) -> None:
        for _ in range(3):
            for name, above in bases.items():
                for base in above:
                    self.members[name] |= self.members.get(base, set())

    # --- looking up ---

    def fault(self, fragment: Fragment) -> str | None:
        """What is wrong with the fragment, or None."""
        kind, text = fragment.kind, fragment.text
        if kind == "call":
            return self._fault_of_call(text, fragment.arguments)
        good = {
            "setting": lambda: text in self.parameters,
            "dotted": lambda: self._is_dotted(text),
            "word": lambda: self._is_word(text),
            "class": lambda: text in self.members or _foreign(text) is not None,
            "option": lambda: text in options(),
            "command": lambda: text in options_of(),
            "variable": lambda: text in VARIABLES_OF_OTHERS or text in _own_variables(),
            "extra": lambda: text in extras(),
            "page": (ROOT / text).is_file,
        }[kind]
        return None if good() else f"there is no {kind} {text}"

    def _fault_of_call(self, text: str, arguments: tuple[str, ...]) -> str | None:
        owner, _, name = text.rpartition(".")
        if owner and owner.split(".")[0] not in (*FOREIGN, "row", "glowgenius"):
            owner = SPEAKERS.get(owner, owner).rpartition(".")[2]
            if owner in self.members and name not in self.members[owner]:
                return f"{owner} has no {name}"
            if owner not in self.members:
                return f"there is no {owner} to call {name} of"
        candidates = self.callables.get(name, [])
        if not candidates:
            return None if _foreign(text) is not None else f"there is no callable {text}"
        if any(each.any_name or each.names.issuperset(arguments) for each in candidates):
            return None
        if _foreign(text) is not None:
            return None
        best = max(candidates, key=lambda each: len(each.names & set(arguments)))
        return f"{text} takes no {', '.join(sorted(set(arguments) - best.names))}"

    def _is_dotted(self, text: str) -> bool:
        owner, _, name = text.rpartition(".")
        if owner == "tokenizer":
            return name in _special_tokens() or _foreign(name) is not None
        owner = SPEAKERS.get(owner, owner).rpartition(".")[2]
        return (
            text in self.modules
            or name in self.members.get(owner, set())
            or (text.startswith("glowgenius.") and name in self.words | set(self.members))
            or _foreign(text) is not None
        )

    def _is_word(self, text: str) -> bool:
        return (
            text in self.parameters
            or text in self.callables
            or text in self.words
            or any(text in members for members in self.members.values())
            or _foreign(text) is not None
        )


def _parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> _Callable:
    given = node.args
    names = {each.arg for each in (*given.posonlyargs, *given.args, *given.kwonlyargs)} - {"self", "cls"}
    return _Callable(frozenset(names), any_name=given.kwarg is not None)


def _set_on_self(node: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    return {
        each.attr
        for each in ast.walk(node)
        if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == "self"
    }


@functools.cache
def _foreign(text: str) -> object | None:
    """The thing of that dotted name in a library that messages may speak of, or None."""
    first, *rest = text.split(".")
    starts = [importlib.import_module(first)] if first in FOREIGN else []
    if first not in FOREIGN:
        rest = [first, *rest]
        tinker = importlib.import_module("tinker")
        transformers = importlib.import_module("transformers")
        starts = [tinker, tinker.TrainingClient, tinker.ServiceClient, tinker.SamplingClient]
        starts += [transformers.PreTrainedTokenizerBase, str, dict, builtins]
    for found in starts:
        thing: object | None = found
        for name in rest:
            thing = getattr(thing, name, None)
        if thing is not None:
            return thing
    return None


@functools.cache
def _special_tokens() -> frozenset[str]:
    from transformers import PreTrainedTokenizerBase

    return frozenset(PreTrainedTokenizerBase.SPECIAL_TOKENS_ATTRIBUTES)


@functools.cache
def options_of() -> dict[str, frozenset[str]]:
    """The options of each verb of the command line."""
    import typer

    from glowgenius.cli.app import app

    group = typer.main.get_command(app)
    verbs = getattr(group, "commands", {})
    return {
        name: frozenset(flag for parameter in command.params for flag in [*parameter.opts, *parameter.secondary_opts])
        | {"--help"}
        for name, command in verbs.items()
    }


def options() -> frozenset[str]:
    """The options of all verbs, and those of pip and the like that messages give."""
    return frozenset({"--version", "--no-deps"}).union(*options_of().values())


@functools.cache
def extras() -> frozenset[str]:
    """The extras of the package."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return frozenset(project["optional-dependencies"])


@functools.cache
def _own_variables() -> frozenset[str]:
    """Whole strings that are named like a variable of the environment: the names under which our source reads them."""
    return frozenset(
        node.value
        for module in modules()
        for node in ast.walk(module.tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and _VARIABLE.fullmatch(node.value)
    )
