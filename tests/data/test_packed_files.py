"""Files packed by gzip, Parquet files, and Hugging Face data sets: the same rows as from plain text."""

from __future__ import annotations

import gzip
import json
import sys

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings

from glowgenius.data import Dataset
from glowgenius.data.table_files import without_nulls
from glowgenius.errors import ConfigError, DatasetError, MissingDependencyError
from tests.support.conversations import DATASETS
from tests.support.data_files import GOOD, cannot, error, lines, write

ROWS = [
    {"question": "Where is Citi Field?", "answer": "Queens", "id": "citi", "tags": ["sport"]},
    {"question": "Where is the Met?", "answer": "Manhattan", "group": "met", "note": {"year": 1870}},
]


# The library takes the columns of the first row for those of all, so each row has to have every column.
FULL = [{column: row.get(column) for column in ("question", "answer", "id", "tags", "group", "note")} for row in ROWS]


@pytest.fixture(autouse=True)
def offline(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets.disable_progress_bars()


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv", ".tsv", ".JSONL"])
def test_a_packed_file_reads_as_the_plain_one(folder, suffix):
    text = {
        ".json": json.dumps(ROWS[:1]),
        ".csv": 'question,answer,id,tags\nWhere is Citi Field?,Queens,citi,"[""sport""]"\n',
        ".tsv": "question\tanswer\tid\ttags\nWhere is Citi Field?\tQueens\tciti\tsport\n",
    }.get(suffix, json.dumps(ROWS[0]))
    write(f"plain{suffix}", text)
    write(f"packed{suffix}.gz", gzip.compress(text.encode()))
    plain, packed = Dataset.from_file(f"plain{suffix}"), Dataset.from_file(f"packed{suffix}.gz")
    assert packed == plain == Dataset.from_records(ROWS[:1])
    assert str(packed[0].source) == f"packed{suffix}.gz:{plain[0].source.line}"


def test_a_packed_file_that_breaks_off_says_after_which_line(folder):
    packed = gzip.compress("".join(f"{GOOD}\n" for _ in range(3)).encode())
    found = error("a.jsonl.gz", packed[:-12])
    assert found.startswith("a.jsonl.gz: cannot be read")
    assert "the gzip archive ends too early → the complete file: copy or download it again" in found
    found = error("b.jsonl.gz", GOOD)
    assert found == cannot(
        "b.jsonl.gz", ": no gzip archive, or a damaged one (Not a gzipped file (b'{\"')) → a file packed by gzip"
    )


def parquet(name, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows, **options), name)
    return name


def test_parquet_gives_the_rows_that_were_written_without_the_nulls_of_arrow(folder):
    dataset = Dataset.from_file(parquet("a.parquet", FULL))
    assert dataset == Dataset.from_records(ROWS)
    assert dataset.format == "question/answer"
    assert str(dataset[1].source) == "a.parquet, row 1"
    packed = folder / "a.parquet.gz"
    packed.write_bytes(gzip.compress((folder / "a.parquet").read_bytes()))
    assert Dataset.from_file(packed) == dataset


def call(**arguments):
    return [{"id": "c", "type": "function", "function": {"name": "f", "arguments": arguments}}]


def test_null_fields_of_tool_calls_are_not_trained_as_the_word_none(folder):
    rows = [
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]},
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "tool_calls": call(city="NY")}]},
        {"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "tool_calls": call(unit="F")}]},
    ]
    names = [pa.field(name, pa.string()) for name in ("city", "unit")]
    function = pa.struct([pa.field("name", pa.string()), pa.field("arguments", pa.struct(names))])
    calls = pa.list_(
        pa.struct([pa.field("id", pa.string()), pa.field("type", pa.string()), pa.field("function", function)])
    )
    message = pa.struct(
        [pa.field("role", pa.string()), pa.field("content", pa.string()), pa.field("tool_calls", calls)]
    )
    schema = pa.schema([pa.field("messages", pa.list_(message))])
    assert Dataset.from_file(parquet("a.parquet", rows, schema=schema)) == Dataset.from_records(rows)


def test_what_is_wrong_in_a_parquet_file_is_named_by_row(folder):
    name = parquet("a.parquet", [*ROWS[:1], {"question": "Q", "answer": " "}])
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(name)
    assert str(caught.value) == lines(
        "a.parquet: 1 of 2 rows cannot be used; nothing was loaded",
        "a.parquet, row 1: answer: only white space (' ') → a string with something in it",
    )


def test_files_that_are_no_parquet(folder):
    assert ": no Parquet file, or a damaged one (" in error("a.parquet", GOOD)
    assert ": no gzip archive, or a damaged one (" in error("a.parquet.gz", GOOD)
    assert error("a.jsonl", b"PAR1rest") == cannot("a.jsonl", ": a Parquet file → a name that ends in .parquet")
    whole = (folder / parquet("b.parquet", ROWS[:1])).read_bytes()
    assert "a damaged one" in error("c.parquet", whole[:-10])
    with pytest.raises(DatasetError, match="no such file"):
        Dataset.from_file("none.parquet")


def test_bytes_in_a_parquet_file_that_are_not_utf8_are_an_error_of_ours(folder):
    broken = pa.array([b"Caf\xe9"], pa.binary()).view(pa.string())
    pq.write_table(pa.table({"question": broken, "answer": ["A"]}), "a.parquet")
    reason = "'utf-8' codec can't decode byte 0xe9 in position 3: unexpected end of data"
    assert error("a.parquet", (folder / "a.parquet").read_bytes()) == cannot(
        "a.parquet", f": no Parquet file, or a damaged one ({reason}) → a Parquet file"
    )


@pytest.mark.parametrize(("module", "read"), [("pyarrow.parquet", "a.parquet"), ("datasets", None)])
def test_without_the_package_the_extra_is_named(folder, monkeypatch, module, read):
    parquet("a.parquet", ROWS[:1])
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'glowgenius\[data\]'$"):
        Dataset.from_file(read) if read else Dataset.from_huggingface("x")


def test_nulls_are_taken_out_at_every_depth():
    assert without_nulls({"a": None, "b": [{"c": None, "d": 0}, None]}) == {"b": [{"d": 0}, None]}


def test_a_hugging_face_data_set_in_memory():
    found = Dataset.from_huggingface(datasets.Dataset.from_list(FULL))
    assert found == Dataset.from_records(ROWS)
    assert found[0].source is None
    assert Dataset.from_huggingface(datasets.Dataset.from_list(FULL).to_iterable_dataset()) == found


def test_labels_become_their_names():
    features = datasets.Features({"text": datasets.Value("string"), "label": datasets.ClassLabel(names=["no", "yes"])})
    found = datasets.Dataset.from_dict({"text": ["Q1", "Q2"], "label": [1, 0]}, features=features)
    rows = Dataset.from_huggingface(found, columns={"text": "input", "label": "output"})
    assert [(row.question, row.answer) for row in rows] == [("Q1", "yes"), ("Q2", "no")]


def test_parts_of_a_hugging_face_data_set_are_chosen_by_name(folder):
    parts = datasets.DatasetDict(
        {n: datasets.Dataset.from_list([row]) for n, row in zip(("train", "test"), ROWS, strict=True)}
    )
    assert Dataset.from_huggingface(parts, split="test") == Dataset.from_records(ROWS[1:])
    assert Dataset.from_huggingface(datasets.DatasetDict({"train": parts["train"]})) == Dataset.from_records(ROWS[:1])
    parts.save_to_disk("saved")
    assert Dataset.from_huggingface("saved", split="train") == Dataset.from_records(ROWS[:1])
    with pytest.raises(ConfigError) as caught:
        Dataset.from_huggingface(parts)
    assert str(caught.value) == "split must be one of 'train', 'test': it has several"
    with pytest.raises(ConfigError) as caught:
        Dataset.from_huggingface("saved", split="tset")
    assert str(caught.value) == "split must be one of 'train', 'test': got 'tset' (did you mean 'test'?)"
    with pytest.raises(ConfigError, match=r"^split='test' of a data set that is one part already"):
        Dataset.from_huggingface(datasets.Dataset.from_list(ROWS), split="test")


def test_a_folder_of_files_is_a_hugging_face_data_set(folder):
    (folder / "rows").mkdir()
    write("rows/train.jsonl", "".join(json.dumps(row) + "\n" for row in ROWS))
    found = Dataset.from_huggingface("rows", split="train")
    assert found == Dataset.from_records(ROWS)
    assert str(found[1].source) == "rows, row 1"
    with pytest.raises(DatasetError, match=r"^nowhere/at-all: the package 'datasets' cannot load it: "):
        Dataset.from_huggingface("nowhere/at-all")


def test_what_is_no_hugging_face_data_set():
    with pytest.raises(ConfigError) as caught:
        Dataset.from_huggingface(ROWS)
    accepted = "a name, a folder, a datasets.Dataset or a datasets.DatasetDict"
    assert str(caught.value) == f"from_huggingface takes {accepted}, got a builtins.list"


@settings(max_examples=40)
@given(DATASETS)
def test_every_field_survives_being_written_and_packed(tmp_path_factory, dataset):
    place = tmp_path_factory.mktemp("rows")
    dataset.to_jsonl(place / "a.jsonl")
    (place / "a.jsonl.gz").write_bytes(gzip.compress((place / "a.jsonl").read_bytes()))
    assert Dataset.from_file(place / "a.jsonl") == Dataset.from_file(place / "a.jsonl.gz") == dataset
