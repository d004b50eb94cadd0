"""Whatever the bytes of a file are, it is read, or refused with an error of ours; no row is lost on the way."""

from __future__ import annotations

import csv
import io
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowgenius.data import Dataset
from glowgenius.data.columns import OWN_NAMES
from glowgenius.errors import DatasetError, GlowGeniusError
from tests.support.conversations import JSON_VALUES, TEXT, WORDS

OTHERS = (
    "options",
    "A",
    "B",
    "article",
    "reward",
    "is_correct",
    "flagged",
    "chosen",
    "rejected",
    "review",
    "sentiment",
)
COLUMNS = st.sampled_from([*OWN_NAMES, *OTHERS, "response", "anser", "x"])
KEYS = st.sampled_from(["role", "content", "from", "value", "weight", "trainable", "tool_calls", "name", "function"])
WORDS_IN_ROWS = st.sampled_from(["user", "assistant", "system", "human", "gpt", "usr", "", " ", "Q"])
TURNS = st.lists(st.dictionaries(KEYS, WORDS_IN_ROWS | JSON_VALUES, max_size=4), max_size=3)
ROWS = st.dictionaries(COLUMNS | TEXT, TURNS | WORDS_IN_ROWS | JSON_VALUES, max_size=5)

PIECES = (
    *(
        b'{"question": "Q", "answer": "A"}',
        b"[",
        b"]",
        b"{",
        b"}",
        b",",
        b":",
        b'"',
        b"\\",
        b"\n",
        b"\r",
        b"\r\n",
        b" ",
    ),
    *(b"NaN", b"1e999", b"-", b"\xef\xbb\xbf", b"\xff", b"\x00", b"\xf0\x9f", b'"data"', b'"\\ud800"', b"null"),
    *(b"question,answer", b"Q,A", b'"Q ""x""",A', b"question\tanswer", b"messages", b"9" * 5000, b"[" * 3000),
)
FRAGMENTS = st.sampled_from(PIECES)
BYTES = st.binary(max_size=60) | st.lists(FRAGMENTS, max_size=12).map(b"".join)
SUFFIXES = st.sampled_from([".jsonl", ".json", ".csv", ".tsv"])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz")


def read(place, suffix, data):
    path = place / f"rows{suffix}"
    path.write_bytes(data)
    caught = None
    try:
        dataset = Dataset.from_file(path)
    except GlowGeniusError as error:
        caught = error
    if caught is not None:
        assert caught.problems
        assert all(problem.path == str(path) for problem in caught.problems)
        assert str(caught).encode()
        return None
    assert len(dataset) > 0
    assert len(dataset.fingerprint) == 64
    return dataset


@settings(max_examples=200)
@given(SUFFIXES, BYTES)
def test_any_bytes(place, suffix, data):
    read(place, suffix, data)


@settings(max_examples=60)
@given(st.lists(ROWS, min_size=1, max_size=4))
def test_any_rows_are_all_read_or_all_refused_alike_from_every_source(place, rows):
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    array = json.dumps(rows, indent=1).encode()
    from_lines, from_array = read(place, ".jsonl", lines), read(place, ".json", array)
    assert from_lines == from_array
    assert from_lines is None or len(from_lines) == len(rows)
    if from_lines is None:
        with pytest.raises(DatasetError):
            Dataset.from_records(rows)
    else:
        assert Dataset.from_records(rows) == from_lines


@settings(max_examples=50)
@given(st.lists(st.tuples(WORDS, WORDS, TEXT), min_size=1, max_size=4))
def test_any_text_survives_a_table(place, rows):
    file = io.StringIO(newline="")
    csv.writer(file).writerows([("question", "answer", "topic"), *rows])
    dataset = read(place, ".csv", file.getvalue().encode())
    assert [(row.question, row.answer, row.metadata["topic"]) for row in dataset] == rows


@settings(max_examples=50)
@given(st.integers(0, 200))
def test_a_json_file_cut_anywhere_is_never_read_in_part(place, cut):
    whole = json.dumps([{"question": f"Q{i}", "answer": "A", "tags": ["t"]} for i in range(4)], indent=1).encode()
    assert read(place, ".json", whole[: min(cut, len(whole) - 1)]) is None
