"""Rows that say that their answer is not to be learned are not trained as good ones."""

from __future__ import annotations

import re
from ast import literal_eval

import pytest

from glowgenius.data import Dataset
from glowgenius.errors import DatasetError
from tests.support.data_files import write

PAIR = {"prompt": "Q", "completion": "A"}
TURN = {"role": "user", "content": "Q"}
GOOD = {"role": "assistant", "content": "good"}
BAD = {"role": "assistant", "content": "bad"}


def refused(rows, **options):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records(rows, **options)
    return caught.value


def followed(rows, error):
    """The data set after the advice of an error is taken to the letter."""
    text = str(error)
    (columns,) = set(re.findall(r"columns=(\{[^{}]*\})", text))
    dataset = Dataset.from_records(rows, columns=literal_eval(columns))
    keeps = re.search(r"dataset\.filter\((lambda row: .*?)\) leaves", text)
    return dataset if keeps is None else dataset.filter(eval(keeps[1]))  # noqa: S307 - our own advice


@pytest.mark.parametrize(
    ("column", "bad", "good"),
    [
        ("label", False, True),
        ("label", 0, 1),
        ("label", "False", "True"),
        ("is_correct", False, True),
        ("isCorrect", False, True),
        ("correct", 0, 1),
        ("train", False, True),
        ("accepted", False, True),
        ("approved", "no", "yes"),
        ("feedback", "bad", "good"),
        ("feedback", "👎", "👍"),
        ("feedback", -1, 1),
        ("thumbs_up", False, True),
        ("verdict", "Incorrect", "correct"),
        ("status", "rejected", "published"),
        ("flagged", True, False),
        ("is_bad", 1, 0),
        ("toxic", "true", "false"),
        ("exclude", True, False),
        ("reward", -1, 1),
        ("score", 0.0, 0.9),
        ("rating", "-1", "5"),
    ],
)
def test_a_row_that_is_not_to_be_learned_is_refused_and_the_advice_leaves_it_out(column, bad, good):
    rows = [{**PAIR, column: bad}, {**PAIR, "completion": "B", column: good}, {**PAIR, "completion": "C"}]
    error = refused(rows[:2])
    assert all(problem.field == column for problem in error.problems)
    assert [row.answer for row in followed(rows[:2], error)] == ["B"]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("label", True),
        ("label", "negative"),
        ("label", "geography"),
        ("is_correct", 1),
        ("train", True),
        ("feedback", "Nice answer!"),
        ("flagged", False),
        ("reward", "high"),
        ("correct", None),
        ("difficulty", 0),
    ],
)
def test_praise_and_what_says_nothing_is_kept(column, value):
    (row,) = Dataset.from_records([{**PAIR, column: value}])
    assert row.metadata == {column: value}


def test_a_score_is_one_problem_of_a_long_file(folder):
    name = write("a.csv", "prompt,completion,reward\n" + "".join(f"Q{i},A,{i % 3 - 1}\n" for i in range(30)))
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(name)
    assert str(caught.value) == (
        "a.csv: 30 of 30 rows cannot be used; nothing was loaded\n"
        "  a.csv:1: reward: a score of the answer, which training would not look at → "
        "columns={'reward': 'metadata'} trains every row alike; then "
        "dataset.filter(lambda row: float(row.metadata['reward']) > 0) leaves the good ones"
    )
    kept = Dataset.from_file(name, columns={"reward": "metadata"})
    assert len(kept.filter(lambda row: float(row.metadata["reward"]) > 0)) == 10


def test_the_whole_message():
    assert str(refused([{**PAIR, "label": False}]).problems[0]) == (
        "row 0: label: false: the row says that its answer is not to be learned, as in KTO's preference data → "
        "rows to learn from; columns={'label': 'metadata'} keeps the column, and "
        "dataset.filter(lambda row: row.metadata.get('label') is not False) leaves such rows out"
    )


def test_the_format_that_is_forced_says_nothing_about_a_verdict():
    assert refused([{**PAIR, "is_correct": False}], format="prompt/completion").problems[0].field == "is_correct"


PREFERENCES = {
    "text": {"prompt": "Q", "chosen": "good", "rejected": "bad"},
    "another name": {"query": "Q", "chosen": "good", "rejected": "bad", "id": 1},
    "dialogues": {"prompt": "Q", "chosen": [TURN, GOOD], "rejected": [TURN, BAD]},
    "dialogues alone": {"chosen": [TURN, GOOD], "rejected": [TURN, BAD]},
    "messages that go on": {"prompt": [TURN], "chosen": [GOOD], "rejected": [BAD]},
    "beside an answer": {"question": "Q", "answer": "good", "rejected": "bad"},
}


@pytest.mark.parametrize("case", PREFERENCES)
def test_preference_data_is_named_and_the_advice_trains_the_chosen_answer(case):
    error = refused([PREFERENCES[case]])
    assert "preference data" in str(error)
    (row,) = followed([PREFERENCES[case]], error)
    assert (row.question, row.answer) == ("Q", "good")


def test_preferences_between_dialogues_in_one_text():
    (problem,) = refused([{"chosen": "Human: Q\n\nAssistant: good", "rejected": "Human: Q\n\nAssistant: bad"}]).problems
    assert problem.accepted == "rows of the chosen dialogues alone, their turns as 'messages' instead of one text"
    assert problem.found == "preference data ('chosen' beside 'rejected'), which supervised training does not compare"
