"""Both type checkers over `tests/typing/api.py`: the errors that are meant, on their lines, and no other."""

from __future__ import annotations

import json
import re
import subprocess
import sys

from tests.support.source import ROOT

API = ROOT / "tests" / "typing" / "api.py"

Diagnostics = set[tuple[int, str]]
"""Line, from 1, and the name of what is reported there."""


def expected(position: int) -> Diagnostics:
    """What the comments of the file announce for the checker at *position* of them."""
    lines = enumerate(API.read_text(encoding="utf-8").splitlines(), 1)
    marks = [(number, re.search(r"# E: (\S+) \| (\S+)$", line)) for number, line in lines]
    return {(number, mark.groups()[position]) for number, mark in marks if mark}


def run(*command: str) -> str:
    """What a checker prints; both exit with 1, because the file has errors."""
    result = subprocess.run([sys.executable, "-m", *command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1, result.stdout + result.stderr
    return result.stdout


def differences(found: Diagnostics, position: int) -> dict[str, list[tuple[int, str]]]:
    """What was reported without being announced, and the other way round."""
    meant = expected(position)
    return {"not meant": sorted(found - meant), "not reported": sorted(meant - found)}


NONE = {"not meant": [], "not reported": []}


def test_pyright_reports_what_is_meant():
    """Strict, except for complaints that only follow from the one that is meant on the same line."""
    output = json.loads(run("pyright", "--outputjson", "--pythonpath", sys.executable, "--project", str(API.parent)))
    found = {(item["range"]["start"]["line"] + 1, item["rule"]) for item in output["generalDiagnostics"]}
    assert differences(found, 0) == NONE


def test_mypy_reports_what_is_meant():
    config = str(API.with_name("mypy.ini"))
    output = run("mypy", "--config-file", config, "--no-error-summary", "--hide-error-context", "--no-pretty", str(API))
    found = {
        (int(line), code) for line, code in re.findall(r"api\.py:(\d+): error: .*\[([a-z-]+)\]$", output, re.MULTILINE)
    }
    assert differences(found, 1) == NONE


def test_the_file_says_what_must_fail():
    assert len(expected(0)) == len(expected(1)) > 20
