from __future__ import annotations

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.data.dataset import Dataset
from glowgenius.errors import ConfigError, DatasetError
from tests.support.training import questions

TAUGHT, KEPT = questions(12), questions(9, prefix="K")


def replayed(dataset):
    return [row.question for row in dataset if "replay" in row.tags]


def test_all_replay_rows_by_default_behind_the_rows():
    mixed = TAUGHT.with_replay(KEPT)
    assert mixed[:12] == TAUGHT
    assert replayed(mixed) == [f"K{index}?" for index in range(9)]
    assert mixed[12] == evolve(KEPT[0], tags=("replay",))


@given(share=st.floats(0.01, 0.42), seed=st.integers(0, 5))
def test_the_share_is_met_as_nearly_as_rows_allow(share, seed):
    mixed = TAUGHT.with_replay(KEPT, share, seed)
    chosen = replayed(mixed)
    assert chosen == sorted(set(chosen))  # each once, in their own order
    best = min(range(1, 10), key=lambda count: abs(count - share * 12 / (1 - share)))
    assert abs(len(chosen) - best) <= (1 if share * 12 / (1 - share) % 1 == 0.5 else 0)
    assert mixed == TAUGHT.with_replay(KEPT, share, seed)


def test_the_seed_chooses():
    assert len({tuple(replayed(TAUGHT.with_replay(KEPT, 0.2, seed))) for seed in range(6)}) > 1


def test_tags_are_kept_and_not_doubled():
    tagged = KEPT.map(lambda row: evolve(row, tags=("replay", "history")))
    assert TAUGHT.with_replay(tagged)[-1].tags == ("replay", "history")
    other = KEPT.map(lambda row: evolve(row, tags=("history",)))
    assert TAUGHT.with_replay(other)[-1].tags == ("history", "replay")


def test_what_is_taught_is_not_replayed_with_another_answer():
    rows = Dataset.from_records(
        [
            {"question": "Q3", "answer": "else", "id": "a"},
            {"question": "Q4?", "answer": "A4"},
            {"question": "K?", "answer": "x"},
        ]
    )
    with pytest.raises(DatasetError) as error:
        TAUGHT.with_replay(rows)
    assert str(error.value).splitlines()[0] == "1 replay rows contradict what is taught; leave them out"
    assert [problem.found for problem in error.value.problems] == ["'Q3' is taught as 'A3' and replayed as 'else'"]
    assert len(TAUGHT.with_replay(rows[1:])) == 14


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (
            0.5,
            (
                "share=0.5 beside 12 rows takes 12 replay rows, and there are 9; "
                "give more of them, or a share of at most 0.428"
            ),
        ),
        (0.0, "share of with_replay must be None or a number above 0 and below 1, got 0.0"),
        (30, "share of with_replay must be None or a number above 0 and below 1, got 30"),
    ],
)
def test_shares_that_cannot_be(share, message):
    with pytest.raises(ConfigError) as error:
        TAUGHT.with_replay(KEPT, share)
    assert str(error.value) == message


def test_nothing_to_keep():
    with pytest.raises(DatasetError) as error:
        TAUGHT.with_replay(Dataset())
    assert str(error.value) == "with_replay needs rows on both sides, got 12 to learn and 0 to keep"
