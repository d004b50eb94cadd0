"""The names that users type: sorted, complete, importable, lazy, and frozen signature by signature."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import glowgenius
import glowgenius.training
from glowgenius import errors
from tests.support.snapshot import GOLDEN, public_api

MINIMUM = {
    "Callback",
    "ChatTemplateRenderer",
    "Comparison",
    "Conversation",
    "Dataset",
    "EvaluationResult",
    "GlowGeniusError",
    "History",
    "JSONLLogger",
    "LoRAConfig",
    "Message",
    "ProgressBar",
    "QuestionAnswerRenderer",
    "RenderedExample",
    "Renderer",
    "Sampler",
    "StopTraining",
    "SupervisedTrainer",
    "TrainOn",
    "TrainingConfig",
    "TrainingResult",
    "compare",
    "connect",
    "evaluate",
    "preview",
    "suggest_learning_rate",
}
"""What the README, the pages and the examples use; none of it may go."""


def test_all_is_sorted_without_doubles():
    assert list(glowgenius.__all__) == sorted(set(glowgenius.__all__))


def test_nothing_that_was_promised_is_missing():
    assert MINIMUM - set(glowgenius.__all__) == set()


@pytest.mark.parametrize("name", glowgenius.__all__)
def test_each_name_is_importable_and_documented(name):
    value = getattr(glowgenius, name)
    assert inspect.getdoc(value)
    assert getattr(value, "__name__", name) == name


def test_dir_lists_every_public_name_once():
    listed = dir(glowgenius)
    assert set(glowgenius.__all__) <= set(listed)
    assert listed == sorted(set(listed))


SHADOWED = """
import importlib, inspect, pkgutil, sys
import glowgenius
for found in pkgutil.walk_packages(glowgenius.__path__, "glowgenius."):
    if not found.name.endswith("__main__"):
        importlib.import_module(found.name)
for package in [name for name in sys.modules if name.partition(".")[0] == "glowgenius"]:
    for name in getattr(sys.modules[package], "__all__", ()):
        if inspect.ismodule(getattr(sys.modules[package], name)):
            print(f"{package}.{name}")
"""
"""Importing a module sets its name in its package, where a function of the same name would be found before."""


def test_no_public_name_turns_into_a_module():
    result = subprocess.run([sys.executable, "-c", SHADOWED], capture_output=True, text=True, check=True)
    assert result.stdout == ""


@pytest.mark.parametrize("package", [glowgenius, glowgenius.training], ids=lambda package: package.__name__)
def test_type_checkers_and_the_runtime_read_the_same_names(package):
    """The stub is the only list; whatever it exports is found where it says."""
    stub = Path(package.__file__).with_suffix(".pyi")
    tree = ast.parse(stub.read_text(encoding="utf-8"))
    seen = {
        alias.asname: node.module
        for node in tree.body
        if isinstance(node, ast.ImportFrom) and node.module != "glowgenius"
        for alias in node.names
        if alias.asname == alias.name and not alias.name.startswith("_")
    }
    assert sorted(seen) == package.__all__
    assert seen == package._HOMES
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(package, name)


@pytest.mark.parametrize(("name", "home"), glowgenius._MOVED.items())
def test_types_of_results_are_public_in_their_module_and_found_here_with_a_warning(name, home):
    module = importlib.import_module(home)
    assert name in module.__all__
    assert name not in glowgenius.__all__
    with pytest.warns(DeprecationWarning) as warned:  # noqa: PT030 - its whole text is compared
        value = getattr(glowgenius, name)
    assert value is getattr(module, name)
    assert [str(one.message) for one in warned] == [
        f"glowgenius.{name} is {home}.{name} now; the old place works in this version"
    ]


def test_an_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(AttributeError) as caught:
        glowgenius.LoraConfig  # noqa: B018
    assert str(caught.value) == "module 'glowgenius' has no attribute 'LoraConfig' (did you mean 'LoRAConfig'?)"


def test_an_unknown_name_like_no_other_is_just_refused():
    with pytest.raises(AttributeError) as caught:
        glowgenius.xyzzy  # noqa: B018
    assert str(caught.value) == "module 'glowgenius' has no attribute 'xyzzy'"


def test_the_signatures_are_those_of_the_golden_file():
    golden, now = GOLDEN.read_text(encoding="utf-8"), public_api()
    changes = difflib.unified_diff(golden.splitlines(), now.splitlines(), "golden", "now", lineterm="", n=0)
    advice = "if the change is meant, run `python -m tests.support.snapshot` and write a line in CHANGELOG.md"
    assert golden == now, "\n".join([*changes, advice])


def error_classes() -> list[type[Exception]]:
    """Every public exception of the tree."""
    found = vars(errors).values()
    return [
        item
        for item in found
        if inspect.isclass(item)
        and issubclass(item, errors.GlowGeniusError)
        and item.__module__ == errors.__name__
        and not item.__name__.startswith("_")
    ]


def test_the_tree_in_the_docstring_is_the_tree():
    drawn = (errors.__doc__ or "").split("Each class")[0]
    in_tree = [word for line in drawn.splitlines()[2:] for word in line.split() if word.endswith("Error")]
    bracketed = {word for word in in_tree if word.startswith("(")}
    assert set(in_tree) - bracketed == {item.__name__ for item in error_classes()}


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_each_error_is_a_built_in_and_survives_pickling(kind):
    builtin = [
        base
        for base in kind.__mro__
        if base.__module__ == "builtins" and base not in {Exception, BaseException, object}
    ]
    assert builtin or kind is errors.GlowGeniusError
    problem = errors.Problem(found="nothing", accepted="an answer", path="a.jsonl", line=3, field="answer")
    for error in [kind("what happened"), *([kind("rows", [problem])] if hasattr(kind("x"), "problems") else [])]:
        again = pickle.loads(pickle.dumps(error))  # noqa: S301
        assert type(again) is kind
        assert str(again) == str(error)
        assert getattr(again, "problems", ()) == getattr(error, "problems", ())
