from __future__ import annotations

import hashlib
import json
import os
import pickle
from pathlib import Path

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowgenius.data import Conversation, Dataset, Message, find_leaks
from glowgenius.errors import ConfigError, DatasetError
from tests.support.conversations import CONVERSATIONS, DATASETS, questions

ROWS = Dataset(questions("a", "b", "c"))


def texts(dataset):
    return [row.question for row in dataset]


# Reading from memory


def test_a_notebook_shows_the_first_rows_and_no_markup_of_the_data():
    rows = [{"question": f"<b>{i}</b>", "answer": "<script>", "id": f"r{i}", "group": "g"} for i in range(7)]
    shown = Dataset.from_records(rows)._repr_html_()
    assert "<b>" not in shown
    assert "<script>" not in shown
    assert "<td>&lt;b&gt;0&lt;/b&gt;</td><td>&lt;script&gt;</td><td>2</td><td>r0</td><td>g</td></tr>" in shown
    assert shown.count("<tr>") == 6
    assert ">split<" not in shown  # no row has one
    assert "<p>… and 2 more</p>" in shown
    assert "<p>Dataset(0 rows" in Dataset()._repr_html_()


def test_records_may_be_mappings_and_conversations_together():
    row = Conversation.from_question("Q", "A", id="1")
    dataset = Dataset.from_records(iter([{"prompt": "Q", "completion": "A", "id": 1}, row]))
    assert (list(dataset), dataset.format, dataset[0].source) == ([row, row], "prompt/completion", None)
    assert Dataset.from_records([row]).format == "messages"


def test_problems_of_records_name_the_row():
    unanswered = Conversation(messages=[Message("user", "Q")], id="x")
    blank = Conversation.from_question("Q", " ")
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records([{"question": "Q", "answer": "A"}, "question", 5, unanswered, blank, {"question": "Q"}])
    ended = "a last message with the role 'assistant', which is what is trained"
    mapping = 'a mapping such as {"question": "…", "answer": "…"}, or a Conversation'
    assert str(caught.value).splitlines() == [
        "5 of 6 records cannot be used; nothing was loaded",
        f"  row 1: a Python str → {mapping}",
        f"  row 2: a Python int → {mapping}",
        f"  row 3 (id 'x'): messages: no message of the assistant → {ended}",
        "  row 4: messages[1].content: only white space (' ') → a string with something in it",
        "  row 5: answer: missing → a string with something in it",
    ]


@pytest.mark.parametrize(
    ("records", "found"),
    [
        ("a.jsonl", "a str; Dataset.from_file reads files"),
        ({"question": "Q"}, "a dict"),
        (b"x", "a bytes"),
        (5, "a int"),
    ],
)
def test_what_is_no_series_of_records(records, found):
    with pytest.raises(ConfigError) as caught:
        Dataset.from_records(records)
    expected = 'records must be an iterable of rows such as {"question": "…", "answer": "…"}, got '
    assert str(caught.value) == expected + found


def test_no_records_are_an_error():
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records([])
    assert str(caught.value) == "the records cannot be used; nothing was loaded\n  no rows → at least one row"


def test_the_constructor_takes_conversations_that_can_be_trained_on():
    assert len(Dataset()) == 0
    with pytest.raises(DatasetError) as caught:
        Dataset([*questions("a"), {"question": "Q"}])
    assert str(caught.value) == (
        "1 of 2 records cannot be used; nothing was loaded\n  row 1: a Python dict → a Conversation"
    )


# A sequence


def test_it_is_a_sequence():
    assert len(ROWS) == 3
    assert ROWS[-1].question == "c"
    assert texts(ROWS[1:]) == ["b", "c"]
    assert texts(ROWS[::-1]) == ["c", "b", "a"]
    assert ROWS[0] in ROWS
    assert ROWS.index(ROWS[2]) == 2
    assert list(reversed(ROWS)) == [ROWS[2], ROWS[1], ROWS[0]]
    with pytest.raises(IndexError) as caught:
        ROWS[3]
    assert str(caught.value) == "row 3 of a data set of 3 rows"


def test_it_cannot_be_changed():
    with pytest.raises(AttributeError):
        ROWS.format = "alpaca"
    with pytest.raises(AttributeError):
        ROWS.fingerprint = ""
    with pytest.raises(AttributeError):
        ROWS.note = ""
    with pytest.raises(TypeError):
        ROWS[0] = ROWS[1]


def test_the_repr_tells_the_essentials():
    assert repr(ROWS) == f"Dataset(3 rows, format='messages', fingerprint {ROWS.fingerprint[:12]}…)"
    one = Dataset.from_records([{"question": "Q", "answer": "A", "group": "g"}])
    assert repr(one) == f"Dataset(1 row, format='question/answer', 1 group, fingerprint {one.fingerprint[:12]}…)"


def test_groups_come_once_in_order():
    rows = [*questions("a", group="g2"), *questions("b"), *questions("c", group="g1"), *questions("d", group="g2")]
    assert Dataset(rows).groups == ("g2", "g1")


# Equality and fingerprint


def test_the_fingerprint_is_the_hash_of_one_spelling_of_the_rows():
    rows = [
        Conversation.from_question("Who \u2028 é?", "A", id="1", group="g", weight=0.1, metadata={"b": 1, "a": [None]}),
        Conversation(messages=[Message("assistant", "", tool_calls=[{"name": "f"}], weight=0)]),
    ]
    spelling = (
        b"glowgenius dataset 1\n"
        b'{"group":"g","id":"1","messages":[{"content":"Who \\u2028 \\u00e9?","role":"user"},'
        b'{"content":"A","role":"assistant"}],"metadata":{"a":[null],"b":1},"weight":0.1}\n'
        b'{"messages":[{"content":"","role":"assistant","tool_calls":[{"function":{"arguments":{},"name":"f"},'
        b'"type":"function"}],"weight":0.0}]}\n'
    )
    assert Dataset(rows).fingerprint == hashlib.sha256(spelling).hexdigest()


@settings(max_examples=30)
@given(DATASETS, DATASETS)
def test_equal_means_equal_fingerprints(one, other):
    assert (one == other) == (one.fingerprint == other.fingerprint)
    assert one == Dataset(list(one))
    assert hash(one) == hash(Dataset(list(one)))
    if list(one) != list(other):
        assert one != other
    assert one != list(one)


@settings(max_examples=30)
@given(st.lists(CONVERSATIONS, min_size=2, max_size=4, unique=True))
def test_the_order_matters(rows):
    assert Dataset(rows) != Dataset(rows[::-1])


def test_every_field_but_the_source_counts(tmp_path):
    row = Conversation.from_question("Q", "A")
    changes = {
        "messages": [Message("user", "Q"), Message("assistant", "A", weight=0)],
        "id": "1",
        "group": "1",
        "split": "1",
        "tags": ["1"],
        "references": ["1"],
        "tools": [{"name": "1"}],
        "weight": 2,
        "metadata": {"a": 1},
    }
    assert set(changes) == {field.name for field in attrs.fields(Conversation)} - {"source"}
    changed = [Dataset([attrs.evolve(row, **{name: value})]) for name, value in changes.items()]
    assert len({dataset.fingerprint for dataset in [Dataset([row]), *changed]}) == len(changes) + 1
    path = tmp_path / "a.csv"
    path.write_text("question,answer\nQ,A\n")
    assert Dataset.from_file(path) == Dataset([row])


def test_numbers_that_differ_only_in_type_are_different_content():
    one, other = (Dataset([Conversation.from_question("Q", "A", metadata={"n": n})]) for n in (1, True))
    assert one[0] == other[0]
    assert one != other


@settings(max_examples=30)
@given(DATASETS)
def test_it_survives_pickling(dataset):
    twin = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own bytes
    assert (twin, twin.format) == (dataset, dataset.format)


# New data sets from old ones


def test_map_gives_what_the_function_gives():
    dataset = Dataset.from_records([{"question": "Q", "answer": "A"}])
    changed = dataset.map(lambda row: attrs.evolve(row, tags=["new"]))
    assert (changed[0].tags, changed.format, dataset[0].tags) == (("new",), "question/answer", ())


def test_map_refuses_what_cannot_be_trained_on():
    with pytest.raises(DatasetError) as caught:
        ROWS.map(lambda row: None if row.question == "b" else attrs.evolve(row, messages=row.prompt))
    ended = "a last message with the role 'assistant', which is what is trained"
    assert str(caught.value).splitlines() == [
        "3 of 3 records cannot be used; nothing was loaded",
        f"  row 0: messages: no message of the assistant → {ended}",
        "  row 1: a Python NoneType → a Conversation",
        f"  row 2: messages: no message of the assistant → {ended}",
    ]


def test_filter_and_select():
    assert texts(ROWS.filter(lambda row: row.question != "b")) == ["a", "c"]
    assert len(ROWS.filter(lambda _: False)) == 0
    assert texts(ROWS.select([2, 0, -2, 0])) == ["c", "a", "b", "a"]


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (3, "select takes positions of 3 rows, got 3"),
        (-4, "select takes positions of 3 rows, got -4"),
        (True, "select takes integers, got True (bool)"),
        ("a", "select takes integers, got 'a' (str)"),
    ],
)
def test_select_refuses_what_is_no_position(index, message):
    with pytest.raises(ConfigError) as caught:
        ROWS.select([index])
    assert str(caught.value) == message


def test_concatenate_keeps_order_and_names_the_formats():
    pair = Dataset.from_records([{"question": "d", "answer": "A"}])
    both = ROWS + pair
    assert (texts(both), both.format) == (["a", "b", "c", "d"], "messages + question/answer")
    assert (both + pair).format == "messages + question/answer"
    assert ROWS.concatenate() == ROWS
    assert ROWS.concatenate(pair, ROWS) == Dataset([*ROWS, *pair, *ROWS])
    assert (pair[:0] + pair[:0]).format == "question/answer"
    with pytest.raises(ConfigError) as caught:
        ROWS.concatenate(5)
    assert str(caught.value) == "concatenate takes Dataset objects, got 5 (int)"
    with pytest.raises(TypeError):
        ROWS + list(ROWS)


@settings(max_examples=30)
@given(DATASETS, DATASETS, DATASETS)
def test_concatenation_is_associative_and_has_an_identity(a, b, c):
    assert (a + b) + c == a + (b + c) == a.concatenate(b, c)
    assert a + Dataset() == a == Dataset() + a


@settings(max_examples=30)
@given(DATASETS, st.integers(0, 2**70))
def test_shuffle_is_an_order_of_the_same_rows_that_the_seed_decides(dataset, seed):
    shuffled = dataset.shuffle(seed)
    assert shuffled == dataset.shuffle(seed)
    assert sorted(map(repr, shuffled)) == sorted(map(repr, dataset))


# Writing


@settings(max_examples=30)
@given(DATASETS)
def test_what_is_written_is_read_back(tmp_path_factory, dataset):
    path = tmp_path_factory.mktemp("round") / "rows.jsonl"
    dataset.to_jsonl(path)
    again = Dataset.from_file(path)
    assert again == dataset
    assert list(again) == list(dataset)
    assert again.format == "messages"


def test_a_line_is_readable_json(folder):
    Dataset([Conversation.from_question("Wo?", "Überall", id="1")]).to_jsonl("a.jsonl")
    assert Path("a.jsonl").read_bytes().decode() == (
        '{"id": "1", "messages": [{"role": "user", "content": "Wo?"}, {"role": "assistant", "content": "Überall"}]}\n'
    )


def test_metadata_with_the_names_of_columns_survives_the_round_trip(folder):
    dataset = Dataset([Conversation.from_question("Q", "A", metadata={"question": "x", "anser": 1, "metadata": {}})])
    dataset.to_jsonl("a.jsonl")
    assert Dataset.from_file("a.jsonl") == dataset


def test_a_failed_write_leaves_the_old_file_and_nothing_else(folder, monkeypatch):
    ROWS.to_jsonl("a.jsonl")
    before = Path("a.jsonl").read_bytes()

    def fail(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(DatasetError) as caught:
        ROWS[:1].to_jsonl("a.jsonl")
    assert str(caught.value) == "a.jsonl: cannot be written: No space left on device"
    assert [entry.name for entry in folder.iterdir()] == ["a.jsonl"]
    assert Path("a.jsonl").read_bytes() == before


def test_writing_replaces_the_file_and_respects_the_umask(folder):
    before = os.umask(0o027)
    try:
        ROWS.to_jsonl("a.jsonl")
        ROWS[:1].to_jsonl(Path("a.jsonl"))
    finally:
        os.umask(before)
    assert Dataset.from_file("a.jsonl") == ROWS[:1]
    assert Path("a.jsonl").stat().st_mode & 0o777 == 0o640
    assert [json.loads(line)["messages"][0]["content"] for line in Path("a.jsonl").read_text().splitlines()] == ["a"]


def test_what_cannot_be_written(folder):
    with pytest.raises(ConfigError) as caught:
        ROWS.to_jsonl("a.json")
    assert str(caught.value) == "path must end in .jsonl, got 'a.json'"
    with pytest.raises(DatasetError) as caught:
        ROWS[:0].to_jsonl("a.jsonl")
    assert str(caught.value) == "a.jsonl: not written, since the data set has no rows"
    with pytest.raises(DatasetError) as caught:
        ROWS.to_jsonl("no/a.jsonl")
    assert str(caught.value) == "no/a.jsonl: cannot be written: No such file or directory"


NO_ROWS = (5, None, object(), 1.5)


@pytest.mark.parametrize("value", NO_ROWS)
@pytest.mark.parametrize("call", ["Dataset", "map", "filter", "select", "with_replay", "find_leaks", "tags"])
def test_a_value_of_a_wrong_kind_is_an_error_of_ours(call, value):
    dataset = Dataset.from_records([{"question": "Q", "answer": "A"}])
    calls = {
        "Dataset": Dataset,
        "map": dataset.map,
        "filter": dataset.filter,
        "select": dataset.select,
        "with_replay": dataset.with_replay,
        "find_leaks": lambda given: find_leaks(given, dataset),
        "tags": lambda given: Conversation(messages=dataset[0].messages, tags=given),
    }
    with pytest.raises(ConfigError):
        calls[call](value)


@pytest.mark.parametrize("value", [5, [1], {"a": 1}])
def test_a_format_or_columns_of_a_wrong_kind(value):
    with pytest.raises(ConfigError, match="format must be one of"):
        Dataset.from_records([], format=value)
    with pytest.raises(ConfigError, match="columns"):
        Dataset.from_records([], columns=value)
    with pytest.raises(ConfigError, match=r"find_leaks must be a Dataset, got a list$"):
        find_leaks(Dataset(), [value])
