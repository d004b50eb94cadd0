"""Equal keys and near duplicates, against the slow and obvious way to find them."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowgenius import errors
from glowgenius.data import Conversation
from glowgenius.data.grouping import NEAR, near_duplicates, rows_by_key, runs

QUESTION = "How many kilometres long is the great Verrazzano-Narrows Bridge between Brooklyn and Staten Island{}"


def rows(*pairs):
    return [Conversation.from_question(question, answer) for question, answer in pairs]


@given(st.lists(st.integers(0, 5), max_size=12))
def test_runs_are_the_positions_of_equal_values(values):
    expected = [[i for i, v in enumerate(values) if v == value] for value in dict.fromkeys(values)]
    assert runs(np.array(values, dtype=np.int64)) == [places for places in expected if len(places) > 1]


@given(st.lists(st.sampled_from("abcd"), max_size=12))
def test_rows_by_key_compares_keys_and_not_only_their_hashes(letters):
    class Collides(str):
        __slots__ = ()

        def __hash__(self):
            return 7

        def __eq__(self, other):
            return str.__eq__(self, other)

    expected = [[i for i, v in enumerate(letters) if v == letter] for letter in dict.fromkeys(letters)]
    assert rows_by_key(letters, Collides) == [places for places in expected if len(places) > 1]


def test_one_letter_in_a_long_question_is_nearly_the_same():
    alike = rows(
        (QUESTION.format("?"), "4.2"),
        ("Something else?", "4.2"),
        (QUESTION.format("?").replace("zz", "z"), "4.2"),
        (QUESTION.format(", please?"), "4.2"),
    )
    assert near_duplicates(alike) == [[0, 2, 3]]
    assert near_duplicates(alike, skip=[2]) == [[0, 3]]
    assert near_duplicates(alike[:2]) == []
    assert near_duplicates([]) == []


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((QUESTION.format(" in 1964?"), "yes"), (QUESTION.format(" in 1965?"), "yes")),
        ((QUESTION.format("?"), "4.2 km"), (QUESTION.format("?!"), "4.3 km")),
        ((QUESTION.format("?"), "yes"), (QUESTION.format("? "), "yea")),
        (
            (QUESTION.format("?"), "yes, in all weathers " * 3),
            (QUESTION.format("?!"), "no, not at any time of day " * 3),
        ),
        (("Which borough is the Met in?", "M"), ("Which borough is the Zoo in?", "M")),
    ],
)
def test_other_numbers_other_short_answers_and_short_texts_are_different(one, other):
    assert near_duplicates(rows(one, other)) == []


def shingles(text):
    return {text[i : i + 5] for i in range(len(text) - 4)}


@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_pairs_are_those_that_the_exact_similarity_gives(seed):
    """Texts of random words with some words changed: every pair found is above the limit, and 0.9 is never missed."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefghij"), size=6)) for _ in range(60)]
    base = [words[i] for i in rng.integers(0, 60, size=40)]
    texts = []
    for changed in (0, 1, 2, 3, 5, 8, 20):
        text = list(base)
        for place in rng.integers(0, 40, size=changed):
            text[place] = words[int(rng.integers(0, 60))]
        texts.append(" ".join(text))
    made = [Conversation.from_question(text, "A") for text in texts]
    found = near_duplicates(made)
    together = {frozenset(pair) for group in found for pair in itertools.combinations(group, 2)}
    for one, other in itertools.combinations(range(len(texts)), 2):
        a, b = shingles(texts[one]), shingles(texts[other])
        if len(a & b) / len(a | b) >= 0.9:
            assert frozenset((one, other)) in together
    for group in found:
        # Groups are joined by pairs: each member has a near one in its group.
        for one in group:
            a = shingles(texts[one])
            assert any(
                len(a & shingles(texts[other])) / len(a | shingles(texts[other])) >= NEAR
                for other in group
                if other != one
            )


def test_a_crowd_of_look_alikes_costs_linear_time_and_is_one_group():
    crowd = rows(*((QUESTION.format("?" * (1 + i % 7) + " " * i), "4.2") for i in range(300)))
    assert near_duplicates(crowd) == [list(range(300))]


def test_without_the_package_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "rensa", None)
    with pytest.raises(errors.MissingDependencyError) as caught:
        near_duplicates(rows(("Q?", "A"), ("Q!", "A")))
    assert str(caught.value) == (
        "looking for near duplicates needs the package 'rensa', which is not installed. "
        "Install it with: pip install 'glowgenius[check]'"
    )
