"""The table that leads from a wish to a file: its files exist, and define what it promises."""

from __future__ import annotations

import ast
import re

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "glowgenius"


def rows() -> list[tuple[str, list[str], list[str]]]:
    """Wish, files and names of every row of the table."""
    text = (ROOT / "docs" / "contributing.md").read_text("utf-8")
    table = text.split("## Where to change what", 1)[1].split("\n## ", 1)[0]
    found = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines() if line.startswith("|")]
    return [(wish, *(re.findall(r"`([^`]+)`", cell) for cell in cells)) for wish, *cells in found[2:]]


def defined(path: str) -> set[str]:
    """The names that the file of *path* defines at its top level."""
    tree = ast.parse((PACKAGE / path).read_text("utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


def test_the_table_is_there():
    assert len(rows()) > 30


@pytest.mark.parametrize(("files", "names"), [pytest.param(files, names, id=wish) for wish, files, names in rows()])
def test_a_row_of_the_table_leads_to_the_place(files, names):
    if files == ["cli/<verb>.py"]:
        assert {"train.py", "evaluate.py", "compare.py"} <= {path.name for path in (PACKAGE / "cli").glob("*.py")}
        return
    assert files, "a row names a file"
    assert names, "a row names what the file defines"
    assert set(names) <= set().union(*map(defined, files))
