"""The page that compares: every claim of ours has its proof, and the proof exists."""

from __future__ import annotations

import re

from tests.support.source import ROOT

PAGE = ROOT / "docs" / "comparison.md"


def rows() -> list[list[str]]:
    """The rows of every table of features."""
    features = PAGE.read_text(encoding="utf-8").split("\n<!-- table: ", 1)[0]
    cells = [[cell.strip() for cell in line[1:-1].split("|")] for line in features.splitlines() if line.startswith("|")]
    return [row for row in cells if row[0] not in {"feature", "---"}]


def exists(proof: str) -> bool:
    """Whether a test file, and the test in it, are there."""
    path, _, name = proof.partition("::")
    file = ROOT / path
    return file.is_file() and (not name or f"\ndef {name}(" in file.read_text(encoding="utf-8"))


def test_every_yes_of_ours_names_a_test_that_exists():
    proofs = {row[0]: re.findall(r"`(tests/[^`]+)`", row[2]) for row in rows() if row[1].startswith(("✓", "◐"))}
    assert len(proofs) > 50
    assert [feature for feature, named in proofs.items() if not named] == []
    assert [proof for named in proofs.values() for proof in named if not exists(proof)] == []


def test_a_proof_that_is_not_there_is_noticed():
    assert exists("tests/docs/test_comparison.py::test_a_proof_that_is_not_there_is_noticed")
    assert not exists("tests/docs/test_comparison.py::test_of_something_else")
    assert not exists("tests/docs/test_nothing.py")


def test_what_is_missing_is_admitted():
    assert sum(row[1].startswith("✗") for row in rows()) >= 5
    assert all(len(row) == 8 for row in rows())
    assert {cell[:1] for row in rows() for cell in (row[1], *row[3:])} == {"✓", "◐", "✗", "?"}
    assert len({row[0] for row in rows()}) == len(rows())
