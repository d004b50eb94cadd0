"""Files that cannot be read, or not to their end: what they are, where they break, what came before."""

# ruff: noqa: E501 - messages are compared whole, each on one line

from __future__ import annotations

from pathlib import Path

import pytest

from glowgenius.data import Dataset, files, readers
from glowgenius.data.loading import read_all
from glowgenius.data.raw_rows import Renaming
from glowgenius.data.readers import file_rows
from glowgenius.errors import DatasetError
from tests.support.data_files import EXAMPLE, GOOD, cannot, error, lines, rows, write

SOME = "a string with something in it"


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("a.jsonl", "", f": an empty file → at least one row, such as {EXAMPLE}"),
        ("a.jsonl", "\n \r\n", f": a file with nothing but white space → at least one row, such as {EXAMPLE}"),
        ("a.json", "", f": an empty file → an array of rows, such as [{EXAMPLE}]"),
        ("a.json", "\ufeff \n", f": a file with nothing but white space → an array of rows, such as [{EXAMPLE}]"),
        ("a.json", "\n[ ]", f":2: an empty array → at least one row, such as [{EXAMPLE}]"),
        ("a.csv", "", ": an empty file → a header such as question,answer with rows below it"),
        ("a.tsv", "\n\n", ": a file with nothing but white space → a header such as question,answer with rows below it"),
        ("a.csv", "\nquestion,answer\n\n", ":2: a header and no rows → at least one row below the header"),
        ("a.txt", GOOD, ": the suffix '.txt' → one of .csv, .json, .jsonl, .parquet, .tsv; it begins like JSON lines, so name it .jsonl"),
        ("a", " [1]", ": a file name without a suffix → one of .csv, .json, .jsonl, .parquet, .tsv; it begins like a JSON array, so name it .json"),
        ("a.md", "# Rows", ": the suffix '.md' → one of .csv, .json, .jsonl, .parquet, .tsv"),
        ("a.xlsx", "PK", ": the suffix '.xlsx' → one of .csv, .json, .jsonl, .parquet, .tsv; a workbook can be exported as CSV (UTF-8)"),
        ("a.jsonls", GOOD, ": the suffix '.jsonls' → one of .csv, .json, .jsonl, .parquet, .tsv (did you mean '.jsonl'?)"),
        ("a", GOOD, ": a file name without a suffix → one of .csv, .json, .jsonl, .parquet, .tsv; it begins like JSON lines, so name it .jsonl"),
        ("a.jsonl", f"\n[{GOOD}]", ":2: a JSON document that begins with '[', not one object a line → one JSON object a line; or name the file .json"),
        ("a.jsonl", '{\n"question": "Q"\n}', ":1: a JSON document that begins with '{', not one object a line → one JSON object a line; or name the file .json"),
        ("a.json", f"{GOOD}\n{GOOD}", ":1: one object after the other → an array of rows; or name the file .jsonl"),
        ("a.json", GOOD, ":1: a single row, not an array of rows → square brackets around it"),
        ("a.json", "\n 5", f":2: column 2: neither an array nor an object → an array, such as [{EXAMPLE}]"),
        ("a.json", '{"v": 1, "data": []}', f":1: an object with 'v', 'data' → an array of rows, such as [{EXAMPLE}], or {{\"data\": [...]}} alone"),
        ("a.json", '{"data": 5}', f":1: an object with 'data' → an array of rows, such as [{EXAMPLE}], or {{\"data\": [...]}} alone"),
        ("a.json", "{}", f':1: an object with no key → an array of rows, such as [{EXAMPLE}], or {{"data": [...]}} alone'),
        ("a.json", '{"dat', ":1: the file ends at column 6, before the closing bracket, after 0 whole rows → the complete file: copy or download it again"),
        ("a.json", '{"data" 5}', ":1: column 9: Expecting ':' delimiter, after 0 whole rows → JSON; the rest cannot be read"),
        ("a.csv", "question;answer\nQ;A", ":1: one column, 'question;answer', which semicolons seem to divide → columns divided by commas: save it with that separator"),
        ("a.csv", "question\tanswer\nQ\tA", ":1: one column, 'question\\tanswer', which tabs seem to divide → columns divided by commas: save it with that separator; or name the file .tsv"),
        ("a.tsv", "question,answer\nQ,A", ":1: one column, 'question,answer', which commas seem to divide → columns divided by tabs: save it with that separator"),
        ("a.csv", ",question,answer\n0,Q,A", ":1: a header whose column 1 has no name → a name for each column (pandas writes its index without one: index=False)"),
        ("a.csv", "question,answer,answer\nQ,A,B", ":1: a header that names the column 'answer' twice → each name once"),
        ("a.csv", 'question,"answer\nQ,A', ":1: a quoted cell that is never closed → a closing quote"),
        ("a.csv", "question,answer\rQ,A\r", ":1: a line that ends in a bare carriage return → lines that end in \\n or \\r\\n"),
        ("a.jsonl", GOOD.encode("utf-16"), ": UTF-16 text → UTF-8 text: save it with that encoding"),
        ("a.csv", b"PK\x03\x04rest", ": a zip archive, perhaps an Excel workbook → a text file: unpack it, or export it as CSV (UTF-8)"),
        ("a.json", b"\x1f\x8brest", ": a gzip archive → a name that ends in .gz, such as data.jsonl.gz"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_read(folder, name, content, problem):
    assert error(name, content) == cannot(name, problem)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f'[\n{GOOD},\n{GOOD},\n{{"question": "Q",\n"answ', ":5: the file ends at column 6, in the middle of the row that starts on line 4, after 2 whole rows"),
        (f"[\n{GOOD},\n\n", ":2: the file ends at column 34, before the closing bracket, after 1 whole row"),
        (f"[{GOOD}", ":1: the file ends at column 34, before the closing bracket, after 1 whole row"),
        (f'{{"data": [{GOOD},{GOOD}]\n', ":1: the file ends at column 77, before the closing bracket, after 2 whole rows"),
    ],
)  # fmt: skip
def test_a_truncated_json_file_says_where_and_how_many_rows_came_before(folder, content, problem):
    assert error("a.json", content) == cannot(
        "a.json", f"{problem} → the complete file: copy or download it again", "read to the end"
    )


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (f"[\n{GOOD}\n{GOOD}]", ":3: column 1: Expecting ',' or ']' after a row, after 1 whole row"),
        (f'[{GOOD},\n\n{{"question": Q}}]', ":3: column 14: Expecting value, after 1 whole row"),
        (f"[{GOOD}]\n]", ":2: column 1: Expecting the end of the file, after 1 whole row"),
        (f'{{"data": [{GOOD}], x', ":1: column 44: Expecting the end of the object around 'data', after 1 whole row"),
        (f"[{GOOD},\n{'[' * 100_000}", ":2: column 1: Lists or objects nested too deeply, after 1 whole row"),
    ],
)
def test_broken_json_says_where(folder, content, problem):
    assert error("a.json", content) == cannot("a.json", f"{problem} → JSON; the rest cannot be read", "read to the end")


@pytest.mark.parametrize(("before", "behind"), [("", ""), ('{"data": ', "}")])
def test_a_comma_behind_the_last_row_is_named(folder, before, behind):
    problem = ":2: a comma behind the last row → no comma before the closing bracket: take it away"
    content = f"{before}[{GOOD},\n{GOOD},\n\n]{behind}"
    assert error("a.json", content) == cannot("a.json", problem, "read to the end")


def test_the_rows_before_a_break_are_checked_too(folder):
    assert error("a.json", '[\n\n{"question": "Q"},\n5,\n{"question": "Q", "answer": "A"') == lines(
        "a.json: cannot be read to the end; nothing was loaded",
        f"a.json:3: answer: missing → {SOME}",
        f"a.json:4: the number 5 → an object such as {EXAMPLE}",
        "a.json:5: the file ends at column 32, in the middle of the row that starts on line 5, after 2 whole rows → "
        "the complete file: copy or download it again",
    )


def test_huge_integers_are_named_and_not_raised(folder):
    digits = "9" * 5000
    assert error("a.jsonl", f'{{"question": "Q", "answer": "A", "n": {digits}, "m": {"1" * 308}}}') == lines(
        "a.jsonl: 1 of 1 rows cannot be used; nothing was loaded",
        "a.jsonl:1: an integer of 5000 digits → a smaller number",
    )
    assert error("a.jsonl", f'{{"question": "Q", "answer": "A", "n": {"9" * 309}}}') == lines(
        "a.jsonl: 1 of 1 rows cannot be used; nothing was loaded",
        "a.jsonl:1: an integer of 309 digits → a smaller number",
    )
    assert rows("a.jsonl", f'{{"question": "Q", "answer": "A", "n": {2**1023 - 1}}}')[0].metadata["n"] == 2**1023 - 1


def missing(path):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(path)
    return str(caught.value)


def test_a_missing_file_names_its_neighbours(folder):
    here = str(folder)
    assert missing("nyc.jsonl") == cannot("nyc.jsonl", f": no such file in {here!r} → the path of a file that exists")
    write("nyc_qa.jsonl", GOOD)
    write("notes.txt", "")
    assert missing("nyc.jsonl") == cannot(
        "nyc.jsonl", f": no such file in {here!r} → the path of a file that exists (did you mean 'nyc_qa.jsonl'?)"
    )
    assert missing("other.csv") == cannot(
        "other.csv", f": no such file in {here!r} → the path of a file that exists (it holds nyc_qa.jsonl)"
    )
    gone = str(folder / "data")
    assert missing("data/a.csv") == cannot(
        "data/a.csv", f": the folder {gone!r} does not exist → the path of a file that exists"
    )


def test_a_folder_says_what_it_holds(folder):
    for i in range(7):
        write(f"{i}.jsonl", GOOD)
    join = "one file; Dataset.concatenate joins the rows of several"
    listed = "0.jsonl, 1.jsonl, 2.jsonl, 3.jsonl, 4.jsonl, …"
    assert missing(".") == cannot(".", f": a folder (it holds {listed}) → {join}")
    (folder / "empty.csv").mkdir()
    assert missing("empty.csv") == cannot("empty.csv", f": a folder → {join}")


def test_a_name_that_no_file_can_have(folder):
    assert missing("a\0.csv") == cannot("a\\x00.csv", ": a name with a NUL character in it → the name of a file")
    assert missing(f"{'x' * 300}.csv") == cannot(f"{'x' * 300}.csv", ": File name too long → a file that can be read")


def test_a_file_in_a_place_that_may_not_be_listed(folder, monkeypatch):
    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert missing("a.csv") == cannot("a.csv", f": no such file in {str(folder)!r} → the path of a file that exists")


@pytest.mark.parametrize(
    ("content", "found"),
    [
        (GOOD.encode("utf-16-le"), "UTF-16 text without a byte order mark"),
        (GOOD.encode("utf-16-be"), "UTF-16 text without a byte order mark"),
        (GOOD.encode("utf-32"), "UTF-32 text"),
    ],
)
def test_other_encodings_are_named(folder, content, found):
    assert error("a.jsonl", content) == cannot("a.jsonl", f": {found} → UTF-8 text: save it with that encoding")


# --- a JSON file that does not fit into one part ---


@pytest.mark.parametrize("part", [1, 2, 3, 7, 64])
@pytest.mark.parametrize(
    "content",
    [
        f"[{GOOD},\n{GOOD}]",
        '\ufeff [\n\n{"question": "Où ça? 🗽 \\u00e9\\ud83d\\uddfd", "answer": "12.5e3", "weight": 12.5e3, "x": [true, null]}\n ]\n\n',
        f'{{ "data" :\n[{GOOD}, {GOOD}\n] }}\n',
        f'{{"data": [{GOOD}], "more": 1}}',
        '{"question": "Q"}',
        f"{GOOD}\n{GOOD}",
        f'[{GOOD},\n\n\n{{"question": Q}}]',
        f"[{GOOD},\n12,\n-3, true, nul]",
        f"[{GOOD}\n\n  \n",
        f'[\n{GOOD},\n{{"question": "Q",\n"answ',
        f"[\n{GOOD},\n\n\n   ",
        f"[{GOOD}]\n]",
        "  \n\n ",
        "",
    ],
)
def test_a_json_file_reads_the_same_in_parts_of_any_size(folder, monkeypatch, part, content):
    """Its rows, its lines and what is wrong with it: read in one part, and in parts that end everywhere."""
    path = folder / "a.json"
    path.write_text(content, encoding="utf-8")
    whole = read_all(file_rows(str(path), Renaming(None)), path=str(path), shape=None)
    monkeypatch.setattr(files, "_PART", part)
    assert read_all(file_rows(str(path), Renaming(None)), path=str(path), shape=None) == whole


@pytest.mark.parametrize("part", [1, 5, 1 << 20])
def test_a_byte_that_is_not_utf_8_is_named_after_the_rows_before_it(folder, monkeypatch, part):
    monkeypatch.setattr(files, "_PART", part)
    path = folder / "a.json"
    path.write_bytes(f"[{GOOD},\n{GOOD},\n".encode() + b'{"question": "caf\xe9", "answer": "A"}]')
    found = read_all(file_rows(str(path), Renaming(None)), path=str(path), shape=None)
    assert len(found.conversations) == 2
    at = path.read_bytes().index(b"\xe9")
    assert [(problem.line, problem.found) for problem in found.problems] == [
        (3, f"byte 0xe9 at offset {at} is not UTF-8 (in Windows-1252 it would be 'é')")
    ]


def test_no_more_of_a_json_file_is_held_than_the_row_at_hand(folder, monkeypatch):
    monkeypatch.setattr(files, "_PART", 1000)
    path = folder / "a.json"
    path.write_text("[" + ",\n".join([GOOD] * 5000) + "]")
    longest, read_on = 0, readers._ArrayWalk._read_on

    def measured(walk):
        nonlocal longest
        read_on(walk)
        longest = max(longest, len(walk._text))

    monkeypatch.setattr(readers._ArrayWalk, "_read_on", measured)
    assert sum(1 for _ in file_rows(str(path), Renaming(None))) == 5000
    assert 0 < longest < 2100
