from __future__ import annotations

import pytest

from glowgenius.data import Conversation, Dataset
from glowgenius.errors import ConfigError, DatasetError
from tests.support.data_files import write

ROW = {"query": "Where?", "reply_text": "Queens", "year": 1964}


def pair(dataset):
    return [(row.question, row.answer) for row in dataset]


@pytest.mark.parametrize(
    "columns",
    [{"query": "question", "reply_text": "answer"}, {"question": "query", "answer": "reply_text"}],
    ids=["file to ours", "the other way round"],
)
def test_columns_are_read_under_the_names_that_the_user_gives(columns):
    dataset = Dataset.from_records([ROW], columns=columns)
    assert pair(dataset) == [("Where?", "Queens")]
    assert dataset.format == "question/answer"
    assert dataset[0].metadata == {"year": 1964}


def test_a_column_that_looks_like_a_slip_can_be_kept_as_metadata():
    row = {"question": "Q", "answer": "A", "anser": "x", "metadata": {"k": 1}}
    with pytest.raises(DatasetError, match="did you mean 'answer'"):
        Dataset.from_records([row])
    assert Dataset.from_records([row], columns={"anser": "metadata"})[0].metadata == {"k": 1, "anser": "x"}


def test_a_cell_of_a_table_is_read_as_what_its_column_is_here(folder):
    name = write(
        "a.csv", 'chat\n"[{""role"": ""user"", ""content"": ""Q""}, {""role"": ""assistant"", ""content"": ""A""}]"\n'
    )
    assert pair(Dataset.from_file(name, columns={"chat": "messages"})) == [("Q", "A")]


def test_conversations_have_their_names_already():
    row = Conversation.from_question("Q", "A")
    assert pair(Dataset.from_records([row, ROW], columns={"query": "question", "reply_text": "answer"})) == [
        ("Q", "A"),
        ("Where?", "Queens"),
    ]


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["query"], "columns must be a mapping such as {'query': 'question'}, got ['query']"),
        ({"query": 1}, "columns must map names to names, got 'query': 1"),
        ({"query": "qestion"}, "(did you mean 'question'?)"),
        ({"query": "question", "reply_text": "question"}, "columns gives 'question' twice: "),
        (
            {"qury": "question"},
            "columns names 'qury', which no row has (did you mean 'query'?); the rows have 'query', 'reply_text'",
        ),
    ],
)
def test_columns_that_make_no_sense(columns, message):
    with pytest.raises(ConfigError) as caught:
        Dataset.from_records([ROW], columns=columns)
    assert message in str(caught.value)


def test_two_columns_cannot_have_one_name():
    row = {"query": "Q", "question": "Q2", "answer": "A"}
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records([row], columns={"query": "question"})
    assert (
        str(caught.value).splitlines()[1]
        == "  row 0: question: two columns, 'question' is one of them → one of the two"
    )


def test_the_parts_that_the_column_split_names():
    rows = [
        {"question": f"Q{i}", "answer": "A", "split": part} for i, part in enumerate(["train", "test", None, "train"])
    ]
    parts = Dataset.from_records(rows).splits
    assert {name: [row.question for row in part] for name, part in parts.items()} == {
        "train": ["Q0", "Q3"],
        "test": ["Q1"],
    }
