from __future__ import annotations

import attrs
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from glowgenius.data import Conversation, Dataset, Message
from glowgenius.data.grouping import question_key
from glowgenius.data.splits import families, permutation, split_positions
from glowgenius.errors import ConfigError, DatasetError
from tests.support.conversations import questions

GROUPED = st.lists(
    st.builds(
        lambda question, group: Conversation.from_question(question, "A", group=group),
        st.sampled_from(["a", "A ", "b?", "b", "c", "d", "e", "f"]),
        st.none() | st.sampled_from(["1", "2", "3", "4"]),
    ),
    min_size=2,
    max_size=12,
)


def alone(count):
    return Dataset(questions(*(f"question {i}" for i in range(count))))


# Orders


def test_the_order_of_a_seed_is_fixed_for_good():
    # By hand for three: random.Random(0) gives 0.844… and 0.757…; ⌊0.844 · 3⌋ = 2 keeps 2, ⌊0.757 · 2⌋ = 1 keeps 1.
    assert permutation(3, 0) == [0, 1, 2]
    # random.Random(1) gives 0.134… and 0.847…; ⌊0.134 · 3⌋ = 0 swaps 2 and 0, ⌊0.847 · 2⌋ = 1 keeps 1.
    assert permutation(3, 1) == [2, 1, 0]
    assert permutation(10, 0) == [9, 4, 0, 5, 2, 7, 1, 3, 6, 8]
    assert permutation(10, 1) == [8, 0, 3, 4, 5, 2, 9, 6, 7, 1]
    assert (permutation(0, 0), permutation(1, 0)) == ([], [0])


@given(st.integers(0, 300), st.integers(0, 2**64))
def test_a_permutation_holds_every_position_once(length, seed):
    assert sorted(permutation(length, seed)) == list(range(length))


def test_every_order_of_three_comes_up_about_equally_often():
    counts = {}
    for seed in range(3000):
        order = tuple(permutation(3, seed))
        counts[order] = counts.get(order, 0) + 1
    # 500 expected of each, standard deviation 20.4; five of them, so that no honest change of seed fails.
    assert len(counts) == 6
    assert all(abs(count - 500) < 102 for count in counts.values())


SEEDS = [(-1, "-1 (int)"), (0.5, "0.5 (float)"), (True, "True (bool)"), (None, "None (NoneType)")]


@pytest.mark.parametrize(("seed", "found"), SEEDS)
def test_seeds(seed, found):
    for use in (lambda: permutation(3, seed), lambda: alone(4).train_test_split(0.5, seed=seed)):
        with pytest.raises(ConfigError) as caught:
            use()
        assert str(caught.value) == f"seed must be an integer ≥ 0, got {found}"


# What belongs together


def test_rows_that_ask_the_same_are_alike_whatever_they_look_like():
    keys = {question_key(row) for row in questions("Where is  it?", "where is it", "WHERE IS\nIT ? ", "Where is it.")}
    assert keys == {("user: where is it",)}
    fullwidth = "\uff37here is it"
    assert question_key(questions(fullwidth)[0]) == ("user: where is it",)
    assert question_key(questions("?")[0]) == ("user: ?",)


def test_all_turns_count_but_the_systems():
    turns = [("system", "S"), ("user", "Hi"), ("assistant", "Yes?"), ("user", "Why?"), ("assistant", "So")]
    row = Conversation(messages=[Message(role, text) for role, text in turns])
    assert question_key(row) == ("user: hi", "assistant: yes", "user: why")
    assert question_key(attrs.evolve(row, messages=row.messages[1:])) == question_key(row)


def test_families_join_through_groups_and_questions():
    rows = [
        *questions("a", group="1"),
        *questions("b"),
        *questions("c", group="2"),
        *questions("A?", group="2"),
        *questions("d"),
        *questions("B."),
    ]
    assert families(rows) == [[0, 2, 3], [1, 5], [4]]


def test_rows_without_a_question_are_not_one_family():
    rows = [Conversation(messages=[Message("assistant", text)]) for text in "ab"]
    assert families(rows) == [[0], [1]]


# Splits


@given(GROUPED, st.floats(0.01, 0.99), st.integers(0, 5))
def test_the_laws_of_a_split(rows, test_size, seed):
    dataset = Dataset([attrs.evolve(row, id=str(i)) for i, row in enumerate(rows)])
    assume(len(families(dataset)) > 1)
    train, test = dataset.train_test_split(test_size, seed=seed)
    assert (train, test) == dataset.train_test_split(test_size, seed, "group")
    assert train
    assert test
    ids = [[int(row.id) for row in side] for side in (train, test)]
    assert sorted(ids[0] + ids[1]) == list(range(len(rows)))
    assert ids == [sorted(side) for side in ids]
    assert not set(train.groups) & set(test.groups)
    assert not {question_key(row) for row in train} & {question_key(row) for row in test}


@given(st.integers(2, 60), st.data())
def test_rows_of_their_own_are_split_exactly(count, data):
    size = data.draw(st.integers(1, count - 1))
    train, test = alone(count).train_test_split(size)
    assert (len(train), len(test)) == (count - size, size)


@pytest.mark.parametrize(("size", "rows"), [(0.2, 20), (0.001, 1), (0.999, 99), (0.005, 1), (1, 1), (99, 99)])
def test_shares_and_counts(size, rows):
    assert len(alone(100).train_test_split(size)[1]) == rows


def test_whole_groups_come_as_near_to_the_size_as_they_can():
    dataset = Dataset([row for g in range(10) for row in questions(*(f"{g}.{i}" for i in range(4)), group=f"g{g}")])
    train, test = dataset.train_test_split(0.25, seed=3)
    assert (len(train), len(test), len(test.groups)) == (32, 8, 2)


def test_large_families_are_passed_over_while_small_ones_fit():
    rows = [*questions(*(f"q{i}" for i in range(90)), group="big"), *questions(*(f"r{i}" for i in range(10)))]
    for seed in range(20):
        train, test = Dataset(rows).train_test_split(10, seed=seed)
        assert (len(train), len(test)) == (90, 10)


def test_the_smallest_family_is_taken_where_all_are_too_large():
    rows = [row for g, size in (("a", 9), ("b", 7)) for row in questions(*(f"{g}{i}" for i in range(size)), group=g)]
    for seed in range(5):
        assert Dataset(rows).train_test_split(1, seed=seed)[1].groups == ("b",)


def test_seeds_give_different_splits():
    assert len({alone(30).train_test_split(10, seed=seed)[1] for seed in range(5)}) == 5


def test_parts_that_the_rows_name_are_not_mixed():
    rows = [attrs.evolve(row, split="train" if at % 3 else "test") for at, row in enumerate(alone(9))]
    with pytest.raises(ConfigError) as caught:
        Dataset(rows).train_test_split(0.2)
    assert str(caught.value) == (
        "the column 'split' of the rows names parts already: 'test' (3), 'train' (6); use dataset.splits['test'] and "
        "dataset.splits['train'], or forget the column: dataset.map(lambda row: attrs.evolve(row, split=None))"
    )
    train, validation = Dataset(rows).splits["train"].train_test_split(2)
    assert (len(train), len(validation)) == (4, 2)


def test_by_row_splits_groups():
    dataset = Dataset(questions("a", "b", "a", group="g"))
    train, test = dataset.train_test_split(1, by="row")
    assert (len(train), len(test), train.groups, test.groups) == (2, 1, ("g",), ("g",))


@pytest.mark.parametrize(
    ("dataset", "by", "message"),
    [
        (
            Dataset(questions("a", "b", group="g")),
            "group",
            (
                "all 2 rows belong together (one group, or the same question), so one side of the split would be "
                "empty; give rows about different things different groups, or split with by='row'"
            ),
        ),
        (alone(1), "group", "1 row cannot be split into two sides that are not empty"),
        (alone(1), "row", "1 row cannot be split into two sides that are not empty"),
        (Dataset(), "group", "no rows cannot be split into two sides that are not empty"),
    ],
)
def test_a_side_is_never_empty(dataset, by, message):
    with pytest.raises(DatasetError) as caught:
        dataset.train_test_split(0.5, by=by)
    assert str(caught.value) == message


COUNT = "test_size must be at least 1 and below the number of rows, 10, got"
SHARE = "test_size must be a number of rows, or a share above 0 and below 1, got"


@pytest.mark.parametrize(
    ("size", "message"),
    [
        (0, f"{COUNT} 0 (int)"),
        (10, f"{COUNT} 10 (int)"),
        (-1, f"{COUNT} -1 (int)"),
        (0.0, f"{SHARE} 0.0 (float)"),
        (1.0, f"{SHARE} 1.0 (float)"),
        (float("nan"), f"{SHARE} nan (float)"),
        (True, f"{SHARE} True (bool)"),
        ("0.2", f"{SHARE} '0.2' (str)"),
    ],
)
def test_sizes_that_are_none(size, message):
    with pytest.raises(ConfigError) as caught:
        alone(10).train_test_split(size)
    assert str(caught.value) == message


def test_by_what():
    with pytest.raises(ConfigError) as caught:
        split_positions(alone(3), 1, seed=0, by="id")
    assert str(caught.value) == "by must be 'group', 'row' or 'label', got 'id'"


# By label


def labelled(**counts):
    rows = [
        Conversation.from_question(f"{label} text {i}", label, group=f"{label}{i // 2}" if label == "spam" else None)
        for label, count in counts.items()
        for i in range(count)
    ]
    return Dataset(rows)


def counts(dataset):
    return {label: sum(row.answer == label for row in dataset) for label in ("ham", "spam", "rare")}


@given(st.integers(0, 5))
def test_each_label_has_the_same_share_of_both_sides(seed):
    train, test = labelled(ham=40, spam=20, rare=2).train_test_split(0.3, seed=seed, by="label")
    assert counts(test) == {"ham": 12, "spam": 6, "rare": 1}
    assert counts(train) == {"ham": 28, "spam": 14, "rare": 1}
    assert not {row.group for row in train if row.group} & {row.group for row in test}


def test_shares_of_labels_add_up_to_the_rows_wanted():
    _, test = labelled(ham=7, spam=0, rare=7).train_test_split(5, by="label")
    assert sorted(counts(test).values()) == [0, 2, 3]


def test_a_label_that_stands_alone_cannot_be_on_both_sides():
    with pytest.raises(DatasetError) as caught:
        labelled(ham=4, spam=2, rare=1).train_test_split(0.5, by="label")
    assert str(caught.value) == (
        "2 of 3 answers have one row only, or rows that belong together ('spam', 'rare'), and by='label' puts each "
        "answer on both sides: give them more rows, leave them out with dataset.filter(…), or split with by='group', "
        "which asks for no closed set of answers"
    )
    with pytest.raises(DatasetError, match=r"^7 of 7 answers .* and 2 more\)"):
        Dataset([Conversation.from_question(f"Q{i}", f"A{i}") for i in range(7)]).train_test_split(0.5, by="label")


def test_there_are_as_many_rows_to_test_on_as_labels():
    with pytest.raises(ConfigError) as caught:
        labelled(ham=4, spam=0, rare=4).train_test_split(1, by="label")
    assert str(caught.value) == (
        "by='label' puts each of the 2 answers on both sides, and test_size asks for 1 rows to test on: at least 2"
    )
