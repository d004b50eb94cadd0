"""Columns beside a question: used where the model needs them, refused with what to do, or kept and named."""

# ruff: noqa: E501 - messages are compared whole, each on one line

from __future__ import annotations

import csv
import json
import re
from ast import literal_eval
from pathlib import Path

import pytest

from glowgenius.data import Conversation, Dataset, Message
from glowgenius.errors import DatasetError
from tests.support.data_files import write

ASKED = {"question": "Which is nearest?", "answer": "B"}
TURNS = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
LETTERED = "Which is nearest?\nA) Dover\nB) Leith"


def advised(error):
    """The `columns={…}` that an error names; the same in every line that names one."""
    (columns,) = set(re.findall(r"columns=(\{[^{}]*\})", str(error)))
    return literal_eval(columns)


def refused(rows):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records(rows)
    return caught.value


@pytest.mark.parametrize(
    "choices",
    [
        ["Dover", "Leith"],
        ("Dover", "Leith", None),
        '["Dover", "Leith"]',
        {"A": "Dover", "B": "Leith"},
        '{"A": "Dover", "B": "Leith", "C": ""}',
        {"text": ["Dover", "Leith"], "label": ["A", "B"]},
        [{"label": "A", "text": "Dover"}, {"label": "B", "text": "Leith"}],
        [{"key": "A", "value": "Dover"}, {"key": "B", "value": "Leith"}],
        "A) Dover\nB) Leith",
    ],
)
def test_choices_stand_below_the_question(choices):
    (row,) = Dataset.from_records([{**ASKED, "choices": choices}])
    assert row.messages == (Message("user", LETTERED), Message("assistant", "B"))
    assert not row.metadata


def test_numbers_and_many_choices():
    (row,) = Dataset.from_records([{**ASKED, "choices": [0, 1.5]}])
    assert row.question == "Which is nearest?\nA) 0\nB) 1.5"
    (row,) = Dataset.from_records([{**ASKED, "choices": [f"n{i}" for i in range(27)]}])
    assert row.question.splitlines()[27] == "27) n26"


@pytest.mark.parametrize("choices", [5, [["Dover"]], [{"name": "Dover"}, "Leith"], [{"label": "A"}], {"A": ["Dover"]}])
def test_choices_that_cannot_be_written(choices):
    error = refused([{**ASKED, "choices": choices}])
    assert error.problems[0].field == "choices"
    assert error.problems[0].accepted == (
        "a list of choices, such as ['Dover', 'Leith'], or an object such as {'A': 'Dover', 'B': 'Leith'}"
    )


def test_choices_given_twice_in_json_text():
    assert refused([{**ASKED, "choices": '{"A": "x", "A": "y"}'}]).problems[0].found == "given twice in one object"


@pytest.mark.parametrize(
    ("context", "shown"),
    [
        ("Leith lies on the Forth.", "Leith lies on the Forth.\n\n"),
        (["One.", "", "Two."], "One.\n\nTwo.\n\n"),
        ({"port": "Leith"}, '{"port": "Leith"}\n\n'),
        ([["port", "km"], ["Leith", 3]], '[["port", "km"], ["Leith", 3]]\n\n'),
        ("", ""),
        ([], ""),
        (None, ""),
    ],
)
@pytest.mark.parametrize("names", [("question", "answer"), ("prompt", "completion"), ("instruction", "output")])
def test_a_context_stands_before_the_question(context, shown, names):
    asks, answers = names
    (row,) = Dataset.from_records([{asks: "Q?", answers: "A", "context": context}])
    assert (row.question, row.answer) == (f"{shown}Q?", "A")


def test_a_context_that_is_no_json():
    assert refused([{**ASKED, "context": [{1}]}]).problems[0].found == "a Python set"


def test_context_and_choices_of_a_table(folder):
    write("a.csv", 'question,answer,context,choices\nQ?,A,C,"[""x"", ""y""]"\nQ2?,A,,\n')
    assert [row.question for row in Dataset.from_file("a.csv")] == ["C\n\nQ?\nA) x\nB) y", "Q2?"]


NEEDED = {
    "options": {**ASKED, "options": ["Dover", "Leith"]},
    "letters": {**ASKED, "A": "Dover", "B": "Leith"},
    "numbered": {**ASKED, "option_1": "Dover", "option_2": "Leith"},
    "article": {**ASKED, "article": "Leith is near."},
    "other names as well": {"query": "Which is nearest?", "response": "B", "passage": "Leith is near."},
    "table": {**ASKED, "table": [["port", "km"], ["Leith", 3]]},
    "schema": {**ASKED, "schema": {"ports": ["name"]}},
    "code": {"instruction": "Explain.", "output": "It sails.", "code": "sail()"},
    "text": {**ASKED, "text": "Leith is near."},
    "premise": {"premise": "Leith is near.", "hypothesis": "It is far.", "label": "contradiction"},
    "summary": {"article": "Leith is near.", "summary": "Near."},
    "sentences": {"sentence1": "Leith is near.", "sentence2": "It is far.", "label": 0},
    "answers of another name": {"question": "Q", "support": "S", "correct_answer": "A", "distractor1": "B"},
}


@pytest.mark.parametrize("case", NEEDED)
def test_what_a_question_needs_is_refused_and_the_advice_puts_it_into_the_prompt(case):
    record = NEEDED[case]
    (row,) = Dataset.from_records([record], columns=advised(refused([record])))
    said = row.question + row.answer
    for value in record.values():
        for text in value if isinstance(value, list) and isinstance(value[0], str) else [value]:
            assert (text if isinstance(text, str) else json.dumps(text)) in said
    assert not row.metadata


def test_a_column_of_choices_that_is_called_context_is_read_as_choices():
    for columns, values in [(["options"], [["Dover", "Leith"]]), (["A", "B"], ["Dover", "Leith"])]:
        record = {**ASKED, **dict(zip(columns, values, strict=True))}
        (row,) = Dataset.from_records([record], columns=dict.fromkeys(columns, "context"))
        assert row.question == LETTERED
    (row,) = Dataset.from_records([{**ASKED, "choices": ["Dover", "Leith"]}], columns={"choices": "context"})
    assert row.question == LETTERED


def test_kept_on_purpose():
    (row,) = Dataset.from_records([{**ASKED, "article": "x"}], columns={"article": "metadata"})
    assert (row.question, row.metadata) == ("Which is nearest?", {"article": "x"})


@pytest.mark.parametrize(
    "record",
    [
        {"messages": TURNS, "documents": ["x"]},
        {"messages": TURNS, "context": "x"},
        {"messages": TURNS, "prompt": "Q"},
        {"messages": TURNS, "chat_template_kwargs": {"enable_thinking": False}},
        {**ASKED, "rationale": "x"},
        {**ASKED, "images": ["x.png"]},
        {**ASKED, "prompt": "x"},
        {**ASKED, "anser": "x"},
    ],
)
def test_what_no_prompt_can_hold_is_refused_and_kept_when_that_is_said(record):
    dataset = Dataset.from_records([record], columns=advised(refused([record])))
    assert len(dataset.untrained_columns) == 1
    assert dataset.untrained_columns[0].name in record


def test_settings_of_the_template_in_a_row_name_the_renderer():
    error = refused([{"messages": TURNS, "chat_template_kwargs": {"enable_thinking": False}}])
    assert str(error.problems[0]) == (
        "row 0: chat_template_kwargs: settings of the chat template for one row → "
        "columns={'chat_template_kwargs': 'metadata'} keeps them unused; one setting for all rows is "
        "ChatTemplateRenderer(tokenizer, chat_template_kwargs={…})"
    )


def test_null_is_not_there():
    assert not Dataset.from_records([{**ASKED, "article": None, "rejected": None, "system_prompt": None}])[0].metadata


# Kept and not trained


def test_every_column_that_is_kept_and_not_trained_is_named():
    rows = [
        {**ASKED, "topic": None, "source_url": "", "answered_by": "Ada"},
        {"question": "Q2", "answer": "A2", "topic": "ports" * 20, "places": ["Dover", "Leith"]},
    ]
    dataset = Dataset.from_records(rows)
    assert [(column.name, column.num_rows) for column in dataset.untrained_columns] == [
        ("answered_by", 1),
        ("topic", 1),
        ("places", 1),
    ]
    assert dataset[:1].untrained_columns == dataset.untrained_columns[:1]
    kept = "  kept, not trained: "
    assert dataset.check(near=False).lines()[2:5] == (
        f"""{kept}answered_by (1 row, such as "Ada"): columns={{'answered_by': 'context'}} puts it before the question""",
        f"""{kept}topic (1 row, such as "{("ports" * 20)[:58]}…): columns={{'topic': 'context'}} puts it before the question""",
        f"""{kept}places (1 row, such as ["Dover", "Leith"]): {dataset.untrained_columns[2].advice}""",
    )
    assert dataset.untrained_columns[2].advice == (
        "columns={'places': 'choices'} puts it below the question, columns={'places': 'context'} before it"
    )
    assert dataset.check(near=False).to_dict()["untrained"][0]["name"] == "answered_by"


def test_the_advice_about_a_kept_column_works_from_the_metadata_too():
    for record in ({**ASKED, "topic": "Ports"}, {**ASKED, "metadata": {"topic": "Ports", "n": 1}}):
        (row,) = Dataset.from_records([record], columns={"topic": "context"})
        assert row.question == "Ports\n\nWhich is nearest?"
        assert "topic" not in row.metadata


def test_a_dialogue_has_its_own_advice():
    (column,) = Dataset.from_records([{"messages": TURNS, "topic": "x"}]).untrained_columns
    assert column.advice == "write it into the content of a message if the model shall see it"


# Systems, text, and JSON in text


def test_a_system_prompt_beside_messages_is_their_first_message():
    (row,) = Dataset.from_records([{"system": "Answer in French.", "messages": TURNS}])
    assert row.messages[0] == Message("system", "Answer in French.")
    assert len(row.messages) == 3
    own = [{"role": "system", "content": "Answer in French."}, *TURNS]
    assert Dataset.from_records([{"system": "Answer in French.", "messages": own}])[0] == row
    error = refused([{"system": "Answer in German.", "messages": own}])
    assert str(error.problems[0]) == (
        "row 0: system: a system message beside another one in the first message → one of the two"
    )
    record = {"system_prompt": "Answer in French.", "messages": TURNS}
    assert Dataset.from_records([record], columns=advised(refused([record])))[0] == row


def test_json_text_of_messages_is_read_from_every_kind_of_file(folder):
    text = json.dumps(TURNS)
    write("a.jsonl", json.dumps({"messages": text, "metadata": '{"k": 1}'}))
    with Path("a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "metadata"], [text, '{"k": 1}']])
    expected = [Conversation(messages=[Message("user", "Q"), Message("assistant", "A")], metadata={"k": 1})]
    assert list(Dataset.from_file("a.jsonl")) == list(Dataset.from_file("a.csv")) == expected


def test_pythons_spelling_in_a_cell_has_a_way_out():
    error = refused([{"messages": str(TURNS)}])
    assert error.problems[0].accepted == (
        "JSON text, not Python's: json.dumps(…) in each cell, or a .jsonl or .parquet file"
    )


def test_a_blank_input_adds_no_line():
    assert Dataset.from_records([{"instruction": "I", "input": " \n", "output": "O"}])[0].question == "I"


def test_prompts_and_completions_that_are_messages():
    (row,) = Dataset.from_records([{"prompt": TURNS[:1], "completion": TURNS[1:]}])
    assert row.messages == (Message("user", "Q"), Message("assistant", "A"))
    assert refused([{"prompt": TURNS[:1], "completion": "A"}]).problems[0].field == "prompt"
