"""What a file may unfold to: named, refused before it is read on, and raised as the error says."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest

from glowgenius.data import Dataset, ReadLimits
from glowgenius.data.files import RATIO_FROM, VARIABLE
from glowgenius.errors import ConfigError, DatasetError
from tests.support.data_files import GOOD, write

LOW = ReadLimits(line_bytes=200, columns=4, rows=3)


def refused(name, limits=LOW):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(name, limits=limits)
    return caught.value.problems[-1]


def raised(problem):
    """The limits that an error names, in both spellings."""
    settings = re.search(r"ReadLimits\((.*?)\)", problem.accepted)[1]
    variable = re.search(rf"{VARIABLE}=(\S+)", problem.accepted)[1]
    assert variable == settings.replace(" ", "").lower()
    return eval(f"dict({settings})"), variable  # noqa: S307 - our own advice


LONG = {"question": "Q", "answer": "A" * 300}
WIDE = {"question": "Q", "answer": "A", **{f"column number {i}": "x" for i in range(5)}}
FILES = {
    "long.jsonl": json.dumps(LONG),
    "long.json": json.dumps([LONG] * 2),
    "long.csv": f"question,answer\nQ,{'A' * 300}\n",
    "long cell.csv": 'question,answer\nQ,"' + "A\n" * 150 + '"\n',
    "wide.jsonl": json.dumps(WIDE),
    "wide.json": json.dumps([WIDE]),
    "wide.csv": ",".join(WIDE) + "\n" + ",".join(WIDE.values()) + "\n",
    "wide.tsv": "\t".join(WIDE) + "\n" + "\t".join(WIDE.values()) + "\n",
    "rows.jsonl": f"{GOOD}\n" * 5,
    "rows.csv": "question,answer\n" + "Q,A\n" * 5,
}


@pytest.mark.parametrize("name", FILES)
def test_a_limit_is_named_with_what_was_found_and_can_be_raised(folder, name, monkeypatch):
    problem = refused(write(name, FILES[name]))
    settings, variable = raised(problem)
    (limit,) = settings
    assert f"({limit})" in problem.accepted
    assert len(Dataset.from_file(name, limits=ReadLimits(**settings))) >= 1
    monkeypatch.setenv(VARIABLE, variable)
    assert len(Dataset.from_file(name)) >= 1


def test_the_whole_message(folder):
    write("a.csv", FILES["wide.csv"])
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file("a.csv", limits=LOW)
    assert str(caught.value) == (
        "a.csv: cannot be read; nothing was loaded\n"
        "  a.csv:1: 7 columns → at most 4 (columns); limits=glowgenius.data.ReadLimits(columns=7) takes this file, or "
        f"for a command the environment variable {VARIABLE}=columns=7"
    )
    write("a.jsonl", FILES["long.jsonl"])
    assert str(refused("a.jsonl")).startswith("a.jsonl:1: more than 200 bytes in one line → at most 200 (line_bytes); ")


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
def test_a_small_archive_does_not_unfold_without_end(folder, suffix):
    name = f"a{suffix}.gz"
    with gzip.open(name, "wb") as file:
        for _ in range(RATIO_FROM // (1 << 20) + 2):
            file.write(b" " * ((1 << 20) - 1) + b"\n")
    problem = refused(name, None)
    assert problem.found == "more than 200 unpacked bytes for each byte of the file"
    assert raised(problem)[0] == {"unpacked_ratio": None}
    assert refused(name, ReadLimits(unpacked_bytes=1000)).found == "more than 1,000 unpacked bytes"
    lifted = refused(name, ReadLimits(unpacked_ratio=None))
    assert "white space" in lifted.found or "no usable" in lifted.found


def test_a_table_of_nothing_is_refused_by_what_it_says_of_itself(folder):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    count = RATIO_FROM + 1
    parquet.write_table(pyarrow.table({"question": pyarrow.nulls(count, pyarrow.string())}), "a.parquet")
    problem = refused("a.parquet", None)
    assert problem.found.startswith(f"{count:,} rows and ")
    assert raised(problem)[0] == {"rows": count, "unpacked_ratio": None}
    one = pyarrow.array([[None] * count], pyarrow.list_(pyarrow.string()))
    parquet.write_table(pyarrow.table({"messages": one}), "a.parquet")
    assert "values for each byte of the file" in refused("a.parquet", None).found
    text = pyarrow.array(["x" * 1000]).take(pyarrow.array([0] * 30_000))
    parquet.write_table(pyarrow.table({"question": text, "answer": text}), "a.parquet")
    assert refused("a.parquet", None).found == "more than 200 unpacked bytes for each byte of the file"
    parquet.write_table(pyarrow.table({f"c{i}": ["x"] for i in range(6)}), "a.parquet")
    assert refused("a.parquet").found == "6 columns"


def test_the_header_of_a_wide_table_costs_what_it_holds(folder):
    names = ["question", "answer", *(f"column name {i}" for i in range(9_000))]
    write("a.csv", ",".join(names) + "\n" + ",".join(["x"] * len(names)) + "\n")
    assert len(Dataset.from_file("a.csv").untrained_columns) == 9_000


UNKNOWN = (
    f"{VARIABLE} sets 'column'; the limits are line_bytes, columns, rows, unpacked_bytes, unpacked_ratio "
    "(did you mean 'columns'?)"
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("column=5", UNKNOWN),
        ("columns=many", f"{VARIABLE}: columns must be a whole number or none, got 'many'"),
        ("columns", f"{VARIABLE}: columns must be a whole number or none, got ''"),
        ("columns=0", "ReadLimits.columns must be None or an integer ≥ 1, got 0 (int)"),
    ],
)
def test_a_variable_that_says_something_else(text, message):
    with pytest.raises(ConfigError) as caught:
        ReadLimits.from_environment({VARIABLE: text})
    assert str(caught.value) == message


def test_limits_are_values():
    assert ReadLimits.from_environment({}) == ReadLimits()
    assert ReadLimits.from_environment({VARIABLE: " columns = 20_000, rows=None "}) == ReadLimits(
        columns=20_000, rows=None
    )
    with pytest.raises(ConfigError) as caught:
        Dataset.from_file("a.csv", limits=5)
    assert str(caught.value) == (
        "limits must be a glowgenius.data.ReadLimits, such as ReadLimits(columns=20000), got a int"
    )
    assert Path("a.csv").exists() is False
