"""The import contracts of pyproject.toml: kept as the package is, and each one noticed when it is broken."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.source import PACKAGE, ROOT

LAYERS = "Each layer imports only those before it"
TORCH = "torch is imported in glowgenius.local only"
TRANSFORMERS = "transformers is imported in glowgenius.models.hub only"
TINKER = "tinker is imported in glowgenius.engines only"
TRAINING = "Training never imports evaluation"
COMMAND_LINE = "Only the entry point imports the command line"
FACADE = "No module imports the package's own facade"
CONTRACTS = [LAYERS, TORCH, TRANSFORMERS, TINKER, TRAINING, COMMAND_LINE, FACADE]

LAZY = "def lazy():\n    "

VIOLATIONS = {
    "upwards": ({"errors.py": "import glowgenius.typing"}, {LAYERS}),
    "upwards in a function": ({"data/bad.py": LAZY + "from glowgenius.training import bad"}, {LAYERS}),
    "a module without a layer": ({"junk.py": ""}, {LAYERS}),
    "torch in training": ({"training/bad.py": "import torch.nn"}, {TORCH}),
    "torch in testing, lazily": ({"testing/bad.py": LAZY + "import torch"}, {TORCH}),
    "transformers beside its door": ({"models/bad.py": LAZY + "from transformers import AutoConfig"}, {TRANSFORMERS}),
    "transformers in local": ({"local/bad.py": "import transformers"}, {TRANSFORMERS}),
    "tinker in training": ({"training/bad.py": LAZY + "import tinker"}, {TINKER}),
    "evaluation in training": ({"training/bad.py": LAZY + "import glowgenius.evaluation.bad"}, {LAYERS, TRAINING}),
    "the command line in data": ({"data/bad.py": LAZY + "import glowgenius.cli.bad"}, {LAYERS, COMMAND_LINE}),
    "the facade": ({"data/bad.py": LAZY + "from glowgenius import __version__"}, {FACADE}),
}
"""What is written into a copy of the package, and the contracts that must then be broken."""


def lint_imports(folder: Path) -> tuple[int, set[str], str]:
    """Exit code, names of the broken contracts, and everything said, for the package in *folder*."""
    code = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"
    result = subprocess.run(
        [sys.executable, "-c", code, "--no-cache", "--no-logo", "--config", str(ROOT / "pyproject.toml")],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )
    said = result.stdout + result.stderr
    return result.returncode, {name for name in CONTRACTS if f"{name} BROKEN" in said}, said


def copy_package(folder: Path) -> Path:
    """A copy of the package in which every module that the violations name exists."""
    copy = folder / "glowgenius"
    shutil.copytree(PACKAGE, copy, ignore=shutil.ignore_patterns("__pycache__"))
    for layer in ("cli", "data", "evaluation", "local", "models", "testing", "training"):
        if not (copy / f"{layer}.py").exists():
            (copy / layer).mkdir(exist_ok=True)
            (copy / layer / "__init__.py").touch()
            (copy / layer / "bad.py").touch()
    return copy


def test_the_package_keeps_its_contracts():
    code, _, said = lint_imports(ROOT)
    assert code == 0, said
    assert f"Contracts: {len(CONTRACTS)} kept, 0 broken." in said
    assert all(f"{name} KEPT" in said for name in CONTRACTS)


def test_the_copy_keeps_them_too(tmp_path):
    copy_package(tmp_path)
    code, broken, said = lint_imports(tmp_path)
    assert (code, broken) == (0, set()), said


@pytest.mark.parametrize("name", VIOLATIONS)
def test_a_violation_is_noticed(name, tmp_path):
    files, expected = VIOLATIONS[name]
    copy = copy_package(tmp_path)
    for path, text in files.items():
        target = copy / path
        if not target.parent.is_dir():
            target = copy / Path(path).parts[0]
            target = target.with_suffix(".py")
        target.write_text((target.read_text() if target.exists() else "") + f"\n{text}\n")
    code, broken, said = lint_imports(tmp_path)
    assert (code, broken) == (1, expected), said
