"""What was trained is known afterwards, from hashes alone."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.data import trained as module
from glowgenius.data.dataset import Dataset
from glowgenius.data.trained import Trained, without
from glowgenius.errors import CheckpointError

LONG = "Which of the two bridges over the East River was opened to traffic in the year {}, and who designed it?"


def rows(*pairs, **columns):
    return Dataset.from_records([{"question": question, "answer": answer, **columns} for question, answer in pairs])


TRAINED = rows(("Where is Leith?", "Scotland"), (LONG.format(1883), "Roebling"), (LONG.format(1909), "Moisseiff"))


@pytest.mark.parametrize(
    ("question", "answer", "known"),
    [
        ("Where is Leith?", "Scotland", "exactly"),
        ("  where IS\u00a0Leith ", "Fife", "exactly"),
        ("Where is Leith? ", "another answer", "exactly"),
        (LONG.format(1883).replace("opened", "open"), "Roebling", "nearly"),
        # Another year is another question, and so is another short answer.
        (LONG.format(1884), "Roebling", None),
        (LONG.format(1883).replace("opened", "open"), "Buck", None),
        ("Where is Deal?", "Kent", None),
        ("", "", None),
    ],
)
def test_how_a_question_was_trained(question, answer, known):
    assert Trained.of(TRAINED).known(
        Dataset.from_records(
            [
                {
                    "messages": [
                        *([{"role": "user", "content": question}] if question else []),
                        {"role": "assistant", "content": answer or "x"},
                    ]
                }
            ]
        )
    ) == [known]


def test_a_question_of_a_group_that_was_trained():
    trained = Trained.of(rows(("Where is Leith?", "Scotland"), group="leith"))
    assert trained.known(rows(("In which country lies Leith?", "Scotland"), group="leith")) == ["by group"]
    assert trained.known(rows(("In which country lies Deal?", "England"), group="deal")) == [None]


def test_every_row_was_trained_on_itself_and_nothing_on_nothing():
    assert Trained.of(TRAINED).known(TRAINED) == ["exactly"] * 3
    assert Trained.of(()).known(TRAINED) == [None] * 3
    assert Trained.of(TRAINED).known(()) == []


def test_no_text_can_be_read_back_and_the_file_is_small():
    text = json.dumps(Trained.of(TRAINED).to_json())
    assert not any(word in text.casefold() for word in ("leith", "scotland", "bridge", "roebling"))
    many = rows(*((f"Which is number {row}?", f"It is {row}") for row in range(1000)))
    assert len(json.dumps(Trained.of(many).to_json())) < 250 * 1000


def test_a_file_gives_the_same_answers():
    kept = json.loads(json.dumps(Trained.of(TRAINED).to_json()))
    again = Trained.from_json(kept, "trained.json")
    asked = rows(("Where is Leith?", "S"), (LONG.format(1909).replace("opened", "open"), "Moisseiff"), ("Who?", "I"))
    assert again.known(asked) == ["exactly", "nearly", None]
    assert again.to_json() == kept


def test_hashes_are_the_same_in_every_process():
    code = "import json, tests.data.test_trained as t; print(json.dumps(t.Trained.of(t.TRAINED).to_json()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == Trained.of(TRAINED).to_json()


@pytest.mark.parametrize(
    "damage",
    [
        lambda kept: kept.pop("questions"),
        lambda kept: kept.update(sketches="not base64!"),
        lambda kept: kept.update(sketches=kept["sketches"][:8]),
        lambda kept: kept.update(answers=""),
        lambda kept: kept.update(rows="many"),
    ],
)
def test_a_damaged_file_is_refused_by_name(damage):
    kept = Trained.of(TRAINED).to_json()
    damage(kept)
    with pytest.raises(CheckpointError, match=r"runs/a/trained\.json: not a record of what was trained"):
        Trained.from_json(kept, "runs/a/trained.json")


def test_with_too_many_rows_only_near_copies_are_not_known(monkeypatch):
    monkeypatch.setattr(module, "_BUDGET", 20)
    trained = Trained.of(TRAINED)
    near = rows((LONG.format(1883).replace("opened", "open"), "Roebling"), ("Where is Leith?", "S"))
    assert trained.sketches.shape == (3, 0)
    assert Trained.from_json(trained.to_json(), "x").known(near) == [None, "exactly"]


@given(st.lists(st.text(min_size=1, max_size=60).filter(str.strip), min_size=1, max_size=8))
def test_whatever_was_trained_is_known(texts):
    data = rows(*((f"{text} ({at})", text) for at, text in enumerate(texts)))
    trained = Trained.from_json(Trained.of(data).to_json(), "x")
    assert trained.known(data) == ["exactly"] * len(data)
    assert trained.known(rows(("A question that nobody has ever asked of this library", "no"))) == [None]


def test_rows_without_those_that_were_held_out():
    data = rows(("a", "1"), ("b", "2"), ("a", "1"), ("c", "3"))
    assert without(data, data[:1]) == data[1:]
    assert without(data, data[3:]) == data[:3]
    assert without(data, rows(("d", "4"))) is None
    assert without(data, data) is None
