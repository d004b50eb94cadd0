"""Rows from memory in every form that people have them in, and the nulls that Arrow puts into them."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import uuid
from collections import UserList
from pathlib import Path

import numpy as np
import pytest

from glowgenius.data import Dataset
from glowgenius.errors import ConfigError, DatasetError

datasets = pytest.importorskip("datasets")
pandas = pytest.importorskip("pandas")
pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")


def calling(name, arguments, **columns):
    """A row with one call."""
    call = {"id": "1", "type": "function", "function": {"name": name, "arguments": arguments}}
    turns = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    return {"messages": turns, **columns}


def tool(name, *arguments):
    schema = {"type": "object", "properties": {argument: {"type": "string"} for argument in arguments}}
    return {"type": "function", "function": {"name": name, "description": name, "parameters": schema}}


CALLS = [calling("boats", {"kinds": ["yawl"]}), calling("tide", {"harbour": "Leith"}), calling("boats", {"kinds": []})]


def arguments(dataset):
    return [row.messages[-1].tool_calls[0]["function"]["arguments"] for row in dataset]


def written(rows, name):
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


# Nulls that a union has put there


@pytest.mark.parametrize(
    "door", ["rows", "Dataset", "iterable", "Table", "batch", "frame", "records", "jsonl", "parquet"]
)
def test_the_nulls_of_arrow_leave_through_every_door(folder, door):
    unified = datasets.Dataset.from_list(CALLS)
    table = unified.data.table.combine_chunks()
    if door == "parquet":
        parquet.write_table(table, "a.parquet")
        found = Dataset.from_file("a.parquet")
    elif door == "jsonl":
        found = Dataset.from_file(written(list(unified), "a.jsonl"))
    else:
        forms = {
            "rows": list(unified),
            "Dataset": unified,
            "iterable": unified.to_iterable_dataset(),
            "Table": table,
            "batch": table.to_batches()[0],
            "frame": unified.to_pandas(),
            "records": unified.to_pandas().to_dict("records"),
        }
        found = Dataset.from_records(forms[door])
    assert arguments(found) == [{"kinds": ["yawl"]}, {"harbour": "Leith"}, {"kinds": []}]
    assert found == Dataset.from_records(CALLS)
    said = ("null arguments that Arrow has put into tool calls were taken out of 3 rows",)
    assert found.notes == (said if door in ("rows", "jsonl", "frame", "records") else ())


def test_what_was_changed_is_in_the_report_and_goes_with_the_rows():
    found = Dataset.from_records(list(datasets.Dataset.from_list(CALLS)))
    assert found[:1].notes == found.notes == found.check(near=False).notes
    assert f"  {found.notes[0]}" in found.check(near=False).lines()
    assert (found + Dataset.from_records(CALLS)).notes == found.notes
    assert found.splits == {}


@pytest.mark.parametrize(
    "rows",
    [
        [calling("tide", {"harbour": "Leith", "unit": "m"}), calling("tide", {"harbour": "Dover", "unit": None})],
        [calling("tide", {"harbour": "Leith", "unit": None}), calling("boats", {"kinds": ["yawl"]})],
        [calling("tide", {"harbour": "Leith", "unit": None}), calling("wind", {"harbour": "Dover", "unit": None})],
    ],
    ids=["one function", "other keys", "null everywhere"],
)
def test_a_null_that_was_meant_stays(rows):
    found = Dataset.from_records(rows)
    assert arguments(found) == [row["messages"][1]["tool_calls"][0]["function"]["arguments"] for row in rows]
    assert found.notes == ()


def test_a_schema_proves_a_null_that_nobody_gave():
    row = calling("tide", {"harbour": "Leith", "kinds": None}, tools=[tool("tide", "harbour")])
    found = Dataset.from_records([row])
    assert arguments(found) == [{"harbour": "Leith"}]
    assert found.notes == ("null arguments that Arrow has put into tool calls were taken out of 1 row",)
    row = calling("tide", {"harbour": "Leith", "unit": None}, tools=[tool("tide", "harbour", "unit")])
    assert arguments(Dataset.from_records([row])) == [{"harbour": "Leith", "unit": None}]


def test_schemas_lose_the_properties_of_other_tools():
    rows = [
        calling("tide", {"harbour": "Leith"}, tools=[tool("tide", "harbour")]),
        calling("boats", {"kinds": "yawl"}, tools=[tool("boats", "kinds")]),
    ]
    assert Dataset.from_records(list(datasets.Dataset.from_list(rows))) == Dataset.from_records(rows)


def test_a_union_inside_an_argument():
    rows = [calling("boats", {"by": {"kind": "yawl"}}), calling("tide", {"by": {"harbour": "Leith"}})]
    assert arguments(Dataset.from_records(list(datasets.Dataset.from_list(rows)))) == [
        {"by": {"kind": "yawl"}},
        {"by": {"harbour": "Leith"}},
    ]


# Values


def test_a_data_frame_as_it_is():
    frame = pandas.DataFrame(
        {
            "question": ["Q", "R"],
            "answer": ["A", "B"],
            "tags": [np.array(["t"], dtype=object), float("nan")],
            "weight": [2.0, float("nan")],
            "day": [pandas.Timestamp("2026-01-02"), pandas.NaT],
            "count": pandas.array([1, None], dtype="Int64"),
        }
    )
    rows = Dataset.from_records(frame)
    assert rows == Dataset.from_records(frame.to_dict("records"))
    assert rows[0].metadata == {"day": "2026-01-02T00:00:00", "count": 1}
    assert (rows[0].tags, rows[1].tags, rows[0].weight, rows[1].weight) == (("t",), (), 2, 1)
    assert rows[1].metadata == {"day": None, "count": None}


def test_values_that_json_lacks_are_written_as_json_would():
    row = {
        "question": np.str_("Q"),
        "answer": "A",
        "day": dt.date(2026, 1, 2),
        "took": dt.timedelta(seconds=5),
        "price": decimal.Decimal("1.5"),
        "whole": decimal.Decimal(3),
        "none": decimal.Decimal("nan"),
        "key": uuid.UUID(int=1),
        "n": np.float32(0.5),
        "grid": np.array([[1, 2]]),
    }
    assert Dataset.from_records([row])[0].metadata == {
        "day": "2026-01-02",
        "took": "0:00:05",
        "price": 1.5,
        "whole": 3,
        "none": None,
        "key": "00000000-0000-0000-0000-000000000001",
        "n": 0.5,
        "grid": ((1, 2),),
    }


def test_a_missing_answer_is_missing():
    with pytest.raises(DatasetError, match="answer: null"):
        Dataset.from_records([{"question": "Q", "answer": float("nan")}])


@pytest.mark.parametrize("door", ["Dataset", "Table", "parquet"])
def test_class_labels_become_their_names(folder, door):
    features = datasets.Features(
        {"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham", "spam"])}
    )
    rows = datasets.Dataset.from_dict({"text": ["a", "b"], "label": [0, 1]}, features=features)
    if door == "parquet":
        rows.to_parquet("a.parquet")
        found = Dataset.from_file("a.parquet")
    else:
        found = Dataset.from_records(rows if door == "Dataset" else rows.data.table)
    assert (found.format, [row.answer for row in found]) == ("text/label", ["ham", "spam"])


def test_a_label_that_is_not_known_is_missing():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["ham"])})
    with pytest.raises(DatasetError, match="label: missing"):
        Dataset.from_records(datasets.Dataset.from_dict({"text": ["a"], "label": [-1]}, features=features))


@pytest.mark.parametrize(("label", "answer"), [("ham", "ham"), (0, "0"), (True, "true"), (False, "false"), (-3, "-3")])
def test_a_label_is_its_own_name(label, answer):
    (row,) = Dataset.from_records([{"text": "T", "label": label}])
    assert (row.question, row.answer) == ("T", answer)


@pytest.mark.parametrize("label", [1.5, ["a", "b"], {}, ""])
def test_what_is_no_label(label):
    with pytest.raises(DatasetError, match="label: "):
        Dataset.from_records([{"text": "T", "label": label}])


def test_a_number_beside_its_name():
    record = {"text": "T", "label": 0, "label_text": "ham"}
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records([record])
    assert str(caught.value.problems[0]) == (
        "row 0: label_text: the name of the label, beside its number → "
        "columns={'label_text': 'label', 'label': 'metadata'} trains the name"
    )
    (row,) = Dataset.from_records([record], columns={"label_text": "label", "label": "metadata"})
    assert (row.answer, row.metadata) == ("ham", {"label": 0})


# Columns that come twice


def test_a_column_that_comes_twice_is_refused_wherever_it_comes_from(folder):
    table = pyarrow.table([["Q"], ["A"], ["B"]], names=["question", "answer", "answer"])
    frame = pandas.DataFrame([["Q", "A", "B"]], columns=["question", "answer", "answer"])
    parquet.write_table(table, "a.parquet")
    for read in (
        lambda: Dataset.from_records(table),
        lambda: Dataset.from_records(frame),
        lambda: Dataset.from_file("a.parquet"),
    ):
        with pytest.raises(DatasetError) as caught:
            read()
        assert caught.value.problems[0].found == "two columns with the name 'answer'"
        assert caught.value.problems[0].accepted == "each name once: rename or leave out one of them"


def test_a_key_that_comes_twice_inside_a_column():
    kind = pyarrow.struct([("role", pyarrow.string()), ("role", pyarrow.string())])
    table = pyarrow.table({"messages": pyarrow.array([], pyarrow.list_(kind))})
    with pytest.raises(DatasetError, match="two columns with the name 'role'"):
        Dataset.from_records(table)


# What is no row


@pytest.mark.parametrize(
    ("records", "message"),
    [
        (5, "got a int"),
        ("rows.jsonl", "got a str; Dataset.from_file reads files"),
        ({"question": "Q"}, "got a dict"),
        (
            {"question": ["Q"], "answer": ["A"]},
            "got a dict; rows of columns are [dict(zip(columns, row)) for row in zip(*columns.values())]",
        ),
    ],
)
def test_what_is_no_series_of_rows(records, message):
    with pytest.raises(ConfigError) as caught:
        Dataset.from_records(records)
    start = 'records must be an iterable of rows such as {"question": "…", "answer": "…"}, '
    assert str(caught.value) == f"{start}{message}"


def test_a_series_of_columns_can_be_read_as_it_is_advised():
    columns = {"question": ["Q", "R"], "answer": ["A", "B"]}
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    assert [row.answer for row in Dataset.from_records(rows)] == ["A", "B"]


def test_parts_of_a_data_set_are_read_one_at_a_time():
    parts = datasets.DatasetDict({"train": datasets.Dataset.from_list([{"question": "Q", "answer": "A"}])})
    with pytest.raises(ConfigError) as caught:
        Dataset.from_records(parts)
    assert str(caught.value) == (
        "records must be rows, got a DatasetDict, which has several parts; "
        "Dataset.from_huggingface(dataset, split=…) reads one of them"
    )
    assert len(Dataset.from_huggingface(parts, split="train")) == 1


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (5, "got 5 (int)"),
        (None, "got None (NoneType)"),
        (
            ["a.jsonl"],
            "got a list; each file is one Dataset.from_file(…), and first.concatenate(second) joins them",
        ),
        (UserList([{}]), "got a UserList; Dataset.from_records(…) takes rows from memory"),
        ({"a": 1}, "got a dict; Dataset.from_huggingface(…, split=…) takes a DatasetDict"),
        (object(), "got a object"),
    ],
)
def test_what_is_no_path(path, message):
    for use in (Dataset.from_file, Dataset.from_records([{"question": "Q", "answer": "A"}]).to_jsonl):
        with pytest.raises(ConfigError) as caught:
            use(path)
        assert str(caught.value) == f"path must be a str or a pathlib.Path, {message}"


def test_a_home_folder_is_meant_by_a_tilde(folder, monkeypatch):
    monkeypatch.setenv("HOME", str(folder))
    dataset = Dataset.from_records([{"question": "Q", "answer": "A"}])
    dataset.to_jsonl("~/a.jsonl")
    dataset.to_jsonl("~nobody-of-this-name.jsonl")
    assert Dataset.from_file("~/a.jsonl") == Dataset.from_file("~nobody-of-this-name.jsonl") == dataset
    assert sorted(path.name for path in folder.iterdir()) == ["a.jsonl", "~nobody-of-this-name.jsonl"]
    with pytest.raises(DatasetError, match=r"^~/b.jsonl: cannot be read"):
        Dataset.from_file("~/b.jsonl")


def test_what_openai_writes_into_every_message():
    turns = [
        {"role": "user", "content": "Q"},
        {"role": "assistant", "content": "A", "refusal": None, "annotations": [], "audio": None, "function_call": None},
    ]
    assert Dataset.from_records([{"messages": turns}])[0].answer == "A"
