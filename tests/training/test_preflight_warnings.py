"""Preflight warns of rows that will mislead, and of runs that will hardly learn."""

from __future__ import annotations

import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.testing import ScriptedService
from tests.support.preflight import SHORT, check, warned
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, questions, trainer, updates


def test_eval_questions_that_are_trained_are_warned_about(tmp_path):
    held_out = Dataset.from_records([{"question": " q1? ", "answer": "x"}, {"question": "new?", "answer": "y"}])
    assert warned(TRAIN, held_out) == (
        (
            "the questions of 1 of 2 eval rows are also trained (the first: row 0: ' q1? '), so the eval loss will "
            "be optimistic; remove them from one of the two data sets"
        ),
    )
    path = tmp_path / "held_out.jsonl"
    path.write_text('\n{"question": "Q\u200b1", "answer": "x", "id": "a"}\n')
    assert warned(TRAIN, Dataset.from_file(path)) == (
        (
            f"the questions of 1 of 1 eval row are also trained (the first: {path}:2 (id 'a'): 'Q\\u200b1'), so the "
            "eval loss will be optimistic; remove them from one of the two data sets"
        ),
    )


def test_groups_on_both_sides_are_warned_about():
    train = questions(2, group="g")
    held_out = Dataset([*questions(1, group="g"), *questions(1, prefix="E", group="g"), *questions(1, prefix="F")])
    assert warned(train, held_out) == (
        (
            "the questions of 1 of 3 eval rows are also trained (the first: row 0: 'Q0?'), so the eval loss will "
            "be optimistic; remove them from one of the two data sets"
        ),
        (
            "1 of 3 eval rows is of a group that is also trained (the first: row 1, group 'g', as row 0), so the eval "
            "loss will be optimistic; Dataset.train_test_split keeps groups whole"
        ),
    )


def test_a_question_with_two_answers_is_warned_about():
    rows = Dataset.from_records([{"question": "Q?", "answer": "A"}, {"question": "q? ", "answer": "B"}])
    assert warned(rows) == (
        (
            "1 question of the training data has different answers (the first: row 0 and row 1: 'Q?'), so the model "
            "learns to guess among them; keep one, or give each row all accepted answers as 'references'"
        ),
    )
    more = Dataset.from_records([{"question": question, "answer": answer} for question in "QR" for answer in "AB"])
    assert warned(more) == (
        (
            "2 questions of the training data have different answers (the first: row 0 and row 1: 'Q'), so the model "
            "learns to guess among them; keep one, or give each row all accepted answers as 'references'"
        ),
    )
    agreed = [{"question": "Q?", "answer": answer, "references": ["A", "B"]} for answer in "AB"]
    assert [text for text in warned(Dataset.from_records(agreed)) if "different answers" in text] == []


def test_rows_that_are_there_twice_are_warned_about():
    rows = Dataset.from_records(
        [
            {"question": "Q?", "answer": "same"},
            {"question": "Q?", "answer": "same", "id": "b"},
            {"question": "q", "answer": " Same"},
            {"question": "Q?", "answer": "same"},
        ]
    )
    assert warned(rows) == (
        (
            "2 training rows are the same to the letter as an earlier one (the first: row 0 and row 1 (id 'b'): 'Q?'); "
            "keep one of them, a row that should count more has the column 'weight'"
        ),
        (
            "1 question of the training data is there again in other characters, with the same answer (the first: row "
            "0 and row 2: 'Q?'); keep one of them, unless both are meant"
        ),
    )


def test_parts_that_are_trained_together_are_warned_about():
    rows = [{"question": f"{at}?", "answer": "A", "split": "train" if at else "test"} for at in range(4)]
    (warning,) = warned(Dataset.from_records(rows))
    assert warning == (
        "the column 'split' of the training rows names 2 parts, 'test' (1), 'train' (3), and all of them are trained; "
        "dataset.splits has each part by itself"
    )
    assert warned(Dataset.from_records(rows).splits["train"]) == ()


def test_cadences_longer_than_the_run_are_warned_about():
    assert check(TRAIN, HELD_OUT, eval_every=10, save_every=20).warnings == (
        "eval_every=10 is more than the 9 steps of the run, so only the first and the last step are evaluated",
        "save_every=20 is more than the 9 steps of the run, so only the last step is saved",
        SHORT,
    )
    assert check(TRAIN, HELD_OUT, eval_every="epoch", max_steps=2, save_every="epoch").warnings == (
        (
            "eval_every='epoch' never comes, as max_steps=2 ends the run within the first epoch, so only the first and "
            "the last step are evaluated"
        ),
    )
    assert check(TRAIN, HELD_OUT, eval_every="epoch", max_steps=3, save_every=3).warnings == ()


def test_a_run_of_few_steps_is_warned_about_unless_it_was_asked_for():
    assert check().warnings == (SHORT,)
    assert check(max_steps=8).warnings == ()
    assert len(check(num_epochs=19, batch_size=10).warnings) == 1
    assert check(num_epochs=20, batch_size=10).warnings == ()


def weighted(*weights):
    return Dataset.from_records([{"question": f"Q{i}?", "answer": "A", "weight": w} for i, w in enumerate(weights)])


MEAN = "the loss is a mean over the rows of a step, so a weight counts beside other rows only"


@pytest.mark.parametrize(
    ("weights", "batch_size", "warning"),
    [
        (
            (1, 0.1, 1),
            1,
            (
                f"1 training row has a weight without effect, as every step has one row: {MEAN}; batch_size=2 or more "
                "makes them count"
            ),
        ),
        (
            (1, 2, 3),
            2,
            (
                f"the last step of every epoch has one row, whose weight has no effect: {MEAN}; another batch_size "
                "than 2 gives it company"
            ),
        ),
        ((0.5, 0.5, 0.5), 3, "every training row has the weight 0.5, so no row counts more than another"),
        ((1, 0.1, 1), 3, None),
        ((1, 1, 1), 1, None),
    ],
)
def test_a_weight_without_effect_is_warned_of(weights, batch_size, warning):
    found = [line for line in warned(weighted(*weights), batch_size=batch_size) if "weight" in line]
    assert found == ([] if warning is None else [warning])


def test_a_weight_that_is_warned_of_has_no_effect_and_followed_advice_gives_it_one():
    """What is sent for a weight of 1 and of 0.1 is the same where it is warned of, and differs where it is not."""

    def sent(weight, batch_size):
        service = ScriptedService(tokenizer=TOKENIZER)
        trainer(service, batch_size=batch_size, num_epochs=1).train(weighted(1, weight, 1, 1))
        return updates(service)

    assert sent(0.1, 1) == sent(1, 1)
    assert sent(0.1, 2) != sent(1, 2)
