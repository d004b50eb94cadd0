"""Rows of files: what is read, and what is wrong with rows, each with its true line."""

# ruff: noqa: E501 - messages are compared whole, each on one line

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from glowgenius.data import Conversation, Dataset, Source
from glowgenius.errors import ConfigError, DatasetError
from tests.support.data_files import EXAMPLE, GOOD, cannot, error, lines, rows, write

A_LINE = f"one JSON object a line, such as {EXAMPLE}"
SOME = "a string with something in it"
ROW = Conversation.from_question("Q", "A")


# What is fine


@pytest.mark.parametrize(
    "content",
    [
        f"{GOOD}\n{GOOD}\n",
        f"{GOOD}\n{GOOD}",
        f"\ufeff{GOOD}\n{GOOD}\n",
        f"{GOOD}\r\n{GOOD}\r\n",
        f"\n  \n{GOOD}\n\t\r\n{GOOD}\n\n",
    ],
    ids=["plain", "no last newline", "byte order mark", "CRLF", "blank lines"],
)
def test_json_lines_in_every_dress(folder, content):
    assert rows("a.jsonl", content) == [ROW, ROW]


@pytest.mark.parametrize(
    "content",
    [
        f"[{GOOD},{GOOD}]",
        f"\ufeff\n[\r\n{GOOD} ,\r\n{GOOD}\r\n]\n",
        f'{{"data": [{GOOD}, {GOOD}]}}',
        f'\n{{ "data" :\n[{GOOD}, {GOOD}] }}\n',
    ],
)
def test_json_arrays_in_every_dress(folder, content):
    assert rows("a.json", content) == [ROW, ROW]


@pytest.mark.parametrize(
    "content",
    [
        "question,answer\nQ,A\nQ,A\n",
        "question,answer\r\nQ,A\r\nQ,A",
        '\ufeff"question",answer\n\nQ,A\n  \n"Q","A"\n\n',
    ],
)
def test_tables_in_every_dress(folder, content):
    assert rows("a.csv", content) == [ROW, ROW]
    assert rows("a.TSV", content.replace(",", "\t")) == [ROW, ROW]


def test_sources_are_the_lines_on_which_rows_start(folder):
    assert [row.source for row in Dataset.from_file(write("a.jsonl", f"\n{GOOD}\n\n{GOOD}"))] == [
        Source("a.jsonl", 2, 0),
        Source("a.jsonl", 4, 1),
    ]
    assert [row.source.line for row in rows("a.json", f"[\n\n{GOOD},\n{{\n}},\n{GOOD}]".replace("{\n}", GOOD))] == [
        3,
        4,
        5,
    ]
    assert [row.source.line for row in rows("a.csv", 'question,answer\n\n"Q\n\nQ",A\nQ,"A\nA"\nQ,A')] == [3, 6, 8]


def test_json_lines_split_at_newlines_only(folder):
    (row,) = rows("a.jsonl", '{"question": "a\u2028b\u0085c", "answer": "A"}\n')
    assert row.question == "a\u2028b\u0085c"


def test_cells_of_tables_mean_what_their_columns_mean(folder):
    header = "id,group,tags,references,weight,metadata,topic,question,answer,system"
    cells = '007,,"[""a"", ""b""]",New York,0.5,"{""k"": 1}",,Q,"A, ""B"".",\n8,g, [],,,,x,Q,A,S'
    assert rows("a.csv", f"{header}\n{cells}\n") == [
        Conversation.from_question(
            "Q",
            'A, "B".',
            id="007",
            tags=["a", "b"],
            references=["New York"],
            weight=0.5,
            metadata={"k": 1, "topic": ""},
        ),
        Conversation.from_question("Q", "A", id="8", group="g", system="S", metadata={"topic": "x"}),
    ]


def test_messages_in_a_table_are_json_text(folder):
    messages = json.dumps([{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}])
    with Path("a.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["messages", "id"], [messages, "1"]])
    dataset = Dataset.from_file("a.csv")
    assert (dataset.format, list(dataset)) == ("messages", [Conversation.from_question("Q", "A", id="1")])


def test_a_long_cell_is_read_and_the_limit_of_the_csv_module_put_back(folder):
    before = csv.field_size_limit()
    assert rows("a.csv", f"question,answer\nQ,{'x' * 200_000}\n")[0].answer == "x" * 200_000
    assert csv.field_size_limit() == before


def test_format_overrules(folder):
    content = '{"question": "Q", "answer": "A", "prompt": "P", "completion": "C"}'
    assert rows("a.jsonl", content, format="prompt/completion")[0].question == "P"
    with pytest.raises(ConfigError, match=r"did you mean 'alpaca'"):
        Dataset.from_file("a.jsonl", format="Alpaka")


def test_paths_may_be_path_objects_but_not_bytes(folder):
    write("a.jsonl", GOOD)
    assert Dataset.from_file(Path("a.jsonl")).format == "question/answer"
    with pytest.raises(ConfigError) as caught:
        Dataset.from_file(b"a.jsonl")
    assert str(caught.value) == "path must be a str or a pathlib.Path, got b'a.jsonl' (bytes)"


# What is wrong with rows


def test_all_problems_of_a_file_come_together(folder):
    content = "\n".join(
        [
            GOOD,
            "",
            '{"id": "x7", "question": "Q"}',
            '{"question": " ", "answer": 5}\r',
            '{"question": "Q", "answer": "A"',
            '{"question": "Q" "answer": "A"}',
            f"{GOOD} {GOOD}",
            "[1]",
            '{"question": "Q", "answer": "A", "answer": "B"}',
            '{"id": 9, "question": "Q", "answer": NaN}',
            '{"question": "Q", "answer": "A", "n": 1e999, "m": -Infinity}',
        ]
    )
    assert error("nyc.jsonl", content) == lines(
        "nyc.jsonl: 9 of 10 rows cannot be used; nothing was loaded",
        f"nyc.jsonl:3 (id 'x7'): answer: missing → {SOME}",
        f"nyc.jsonl:4: question: only white space (' ') → {SOME}",
        f"nyc.jsonl:4: answer: the number 5 → {SOME}",
        f"nyc.jsonl:5: no JSON at column 32: Expecting ',' delimiter → {A_LINE}",
        f"nyc.jsonl:6: no JSON at column 18: Expecting ',' delimiter → {A_LINE}",
        f"nyc.jsonl:7: no JSON at column 34: Extra data → {A_LINE}",
        f"nyc.jsonl:8: a list of 1 → an object such as {EXAMPLE}",
        "nyc.jsonl:9: answer: given twice in one object → each key once",
        "nyc.jsonl:10 (id '9'): NaN, which is no JSON → a finite number, a string or null",
        "nyc.jsonl:11: the number 1e999, beyond what a float can hold → a smaller number",
        "nyc.jsonl:11: -Infinity, which is no JSON → a finite number, a string or null",
    )


def test_problems_are_values(folder):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(write("a.jsonl", f'{GOOD}\n\n{{"id": 3, "question": "Q"}}'))
    (problem,) = caught.value.problems
    assert (
        problem.path,
        problem.line,
        problem.row,
        problem.row_id,
        problem.field,
        problem.found,
        problem.accepted,
    ) == (
        "a.jsonl",
        3,
        1,
        "3",
        "answer",
        "missing",
        SOME,
    )


def test_twenty_problems_are_printed_and_all_are_kept(folder):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(write("a.jsonl", "{bad\n" * 25 + GOOD))
    assert len(caught.value.problems) == 25
    assert str(caught.value).splitlines()[-1] == "  … and 5 more (all of them in error.problems)"


def test_a_wrong_column_of_a_long_file_is_one_problem(folder):
    bad = '{"question": "Q", "anser": "A"}\n'
    assert error("a.jsonl", bad * 30) == lines(
        "a.jsonl: 30 of 30 rows cannot be used; nothing was loaded",
        "a.jsonl:1: anser: no column of that name (in all 30 rows) → did you mean 'answer'? columns={'anser': 'answer'} reads it so",
    )
    assert error("a.jsonl", bad + GOOD + "\n" + bad) == lines(
        "a.jsonl: 2 of 3 rows cannot be used; nothing was loaded",
        "a.jsonl:1: anser: no column of that name → did you mean 'answer'? columns={'anser': 'answer'} reads it so",
        "a.jsonl:3: anser: no column of that name → did you mean 'answer'? columns={'anser': 'answer'} reads it so",
    )


def test_rows_without_a_format_wait_for_the_first_that_has_one(folder):
    content = f'{{"question": "Q"}}\n{GOOD}\n{{"messages": []}}'
    of_another = "a column of the format 'messages', in a row read as 'question/answer'"
    one_only = "the columns of one format only: columns={'messages': 'metadata'} keeps this one untrained"
    assert error("a.jsonl", content) == lines(
        "a.jsonl: 2 of 3 rows cannot be used; nothing was loaded",
        f"a.jsonl:1: answer: missing → {SOME}",
        f"a.jsonl:3: messages: {of_another} → {one_only}",
        f"a.jsonl:3: question: missing → {SOME}",
        f"a.jsonl:3: answer: missing → {SOME}",
    )


def test_bytes_that_are_not_utf8_are_found_by_line_and_offset(folder):
    bad = GOOD.encode().replace(b"Q", b"Caf\xe9")
    assert error("a.jsonl", GOOD.encode() + b"\n" + bad + b"\n" + bad) == lines(
        "a.jsonl: 2 of 3 rows cannot be used; nothing was loaded",
        "a.jsonl:2: byte 0xe9 at offset 50 is not UTF-8 (in Windows-1252 it would be 'é') → text in UTF-8",
        "a.jsonl:3: byte 0xe9 at offset 86 is not UTF-8 (in Windows-1252 it would be 'é') → text in UTF-8",
    )
    assert error("a.json", b"\xef\xbb\xbf[\n" + bad + b"]") == cannot(
        "a.json", ":2: byte 0xe9 at offset 22 is not UTF-8 (in Windows-1252 it would be 'é') → text in UTF-8"
    )
    assert error("a.csv", b"\xef\xbb\xbfquestion,answer\nQ,A\nQ,\xff\n") == lines(
        "a.csv: 1 of 2 rows cannot be used; nothing was loaded",
        "a.csv:3: byte 0xff at offset 25 is not UTF-8 (in Windows-1252 it would be 'ÿ') → text in UTF-8",
    )
    assert error("a.csv", b"question,\xff\nQ,A\n") == cannot(
        "a.csv", ":1: byte 0xff at offset 9 is not UTF-8 (in Windows-1252 it would be 'ÿ') → text in UTF-8"
    )


def test_ragged_tables_and_quotes(folder):
    content = 'question,answer\nQ\n"two\nlines",A\n\nQ,A,B\n"Q"x,A\n\n"Q,A\nQ,A\n'
    needs = "2 cells, as in the header (a cell with a separator in it needs quotes)"
    assert error("a.csv", content) == lines(
        "a.csv: 4 of 5 rows cannot be used; nothing was loaded",
        f"a.csv:2: 1 cell → {needs}",
        f"a.csv:6: 3 cells → {needs}",
        'a.csv:7: a quote inside a quoted cell → the quote doubled, as in "say ""hi"""',
        "a.csv:9: a quoted cell that is never closed → a closing quote",
    )


def test_cells_that_are_no_json(folder):
    content = (
        "question,answer,references,metadata,weight\n"
        'Q,A,"[""A""",,\n'
        "Q,A,,{k},\n"
        "Q,A,,,heavy\n"
        'Q,A,,"{""k"": 1, ""k"": 2}",NaN\n'
    )
    assert error("a.csv", content) == lines(
        "a.csv: 4 of 4 rows cannot be used; nothing was loaded",
        "a.csv:2: references: no JSON at character 5: Expecting ',' delimiter → JSON text of a list of strings, or one string",
        "a.csv:3: metadata: no JSON at character 2: Expecting property name enclosed in double quotes → JSON text",
        "a.csv:4: weight: the string 'heavy' → a number > 0",
        "a.csv:5: metadata.k: given twice in one object → each key once",
        "a.csv:5: weight: the string 'NaN' → a number > 0",
    )


def test_wrong_columns_of_a_table_are_reported_at_its_header(folder):
    use = "columns={'query': 'question', 'response': 'answer'} reads it so"
    assert error("a.csv", "\nquery,response\nQ,A\nQ,A\n") == lines(
        "a.csv: 2 of 2 rows cannot be used; nothing was loaded",
        f"a.csv:2: query: no column of that name → did you mean 'question'? {use}",
        f"a.csv:2: response: no column of that name → did you mean 'answer'? {use}",
    )
    assert error("a.csv", "question,topic\nQ,A\n,A\n") == lines(
        "a.csv: 2 of 2 rows cannot be used; nothing was loaded",
        f"a.csv:1: answer: missing → {SOME}",
        f"a.csv:3: question: an empty string → {SOME}",
    )
    formats = "messages, question + answer, prompt + completion, instruction + output, input + output, conversations, text + label"
    names = "columns={'Who?': 'question', 'Ada': 'answer'}, which says which is which"
    assert error("a.csv", "Who?,Ada\nWhere?,Paris\n") == lines(
        "a.csv: 1 of 1 rows cannot be used; nothing was loaded",
        "a.csv:1: the columns 'Who?', 'Ada', which make no known format → "
        f"one of {formats}, or {names}; perhaps the header line is missing",
    )
