"""Every test that the page of complaints names is there."""

from __future__ import annotations

import re

import pytest

from tests.support.source import ROOT

PAGE = ROOT / "docs" / "complaints.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
NAMED = sorted(set(re.findall(r"`([a-z_/]+\.py(?:::\w+)?)`", "\n".join(ROWS))))


def test_they_are_numbered_each_with_a_link_and_a_test():
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, len(ROWS) + 1))
    assert len(ROWS) > 25
    for row in ROWS:
        _, _, complaint, others, ours, tests, _ = row.split("|")
        assert "](https://github.com/" in complaint or "(found here)" in complaint
        assert others.strip()
        assert ours.strip()
        assert ".py" in tests


def test_what_others_do_is_not_claimed_without_a_report():
    assert {row.split("|")[3].strip() for row in ROWS if "(found here)" in row} == {"not tried"}


@pytest.mark.parametrize("name", NAMED)
def test_the_named_test_exists(name):
    file, _, function = name.partition("::")
    path = ROOT / "tests" / file
    assert path.is_file()
    if function:
        assert f"def {function}(" in path.read_text(encoding="utf-8")
