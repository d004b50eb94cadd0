"""Every test that the page of complaints names is there."""

from __future__ import annotations

import re

import pytest

from tests.support.source import ROOT

PAGE = ROOT / "docs" / "complaints.md"
ROWS = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if re.match(r"\| \d+ \|", line)]
NAMED = sorted(set(re.findall(r"`([a-z_/]+\.py(?:::\w+)?)`", "\n".join(ROWS))))


def test_there_are_25_of_them_each_with_a_link_and_a_test():
    assert [int(row.split("|")[1]) for row in ROWS] == list(range(1, 26))
    for row in ROWS:
        tests = row.split("|")[-2]
        assert "](https://github.com/" in row
        assert ".py" in tests


@pytest.mark.parametrize("name", NAMED)
def test_the_named_test_exists(name):
    file, _, function = name.partition("::")
    path = ROOT / "tests" / file
    assert path.is_file()
    if function:
        assert f"def {function}(" in path.read_text(encoding="utf-8")
