"""Which names are ours, which are slips, which are other libraries', and which are the user's own."""

from __future__ import annotations

import pytest

from glowgenius.data.columns import COMMON, ELSEWHERE, OWN_NAMES, REFUSED, SHAPES, likeliest, near_miss, recognise


@pytest.mark.parametrize(
    ("column", "ours"),
    [
        ("anser", "answer"),
        ("Question", "question"),
        (" answer", "answer"),
        ("ANSWER ", "answer"),
        ("tag", "tags"),
        ("message", "messages"),
        ("spilt", "split"),
        ("weigth", "weight"),
        ("group_", "group"),
        ("question_id", None),
        ("promptId", None),
        ("idx", None),
        ("topic", None),
        ("source", None),
        ("language", None),
        ("", None),
    ],
)
def test_slips_and_names_of_their_own(column, ours):
    assert near_miss(column) == ours


@pytest.mark.parametrize(
    ("columns", "format"),
    [
        (["messages", "id"], "messages"),
        (["question", "answer", "topic"], "question/answer"),
        (["prompt", "completion"], "prompt/completion"),
        (["instruction", "output"], "alpaca"),
        (["instruction", "input", "output"], "alpaca"),
        (["input", "output"], "input/output"),
        (["conversations"], "sharegpt"),
    ],
)
def test_formats_are_recognised_by_their_columns(columns, format):  # noqa: A002 - the word of the interface
    assert recognise(columns) is SHAPES[format]


@pytest.mark.parametrize("columns", [[], ["question"], ["question", "answer", "messages"]])
def test_too_few_or_too_many_columns_make_no_format(columns):
    assert recognise(columns) is None


@pytest.mark.parametrize(
    ("columns", "format"),
    [
        (["question", "anser"], "question/answer"),
        (["query", "response"], "question/answer"),
        (["problem", "solution"], "question/answer"),
        (["instruction", "context", "response"], "alpaca"),
        (["prompt", "response"], "prompt/completion"),
        (["input", "target"], "input/output"),
        (["message"], "messages"),
        (["chat"], "messages"),
        (["question", "answer", "messages"], "messages"),
    ],
)
def test_the_likeliest_format_of_other_columns(columns, format):  # noqa: A002 - the word of the interface
    assert likeliest(tuple(columns)) is SHAPES[format]


def test_nothing_points_anywhere():
    assert likeliest(("a1", "b2")) is None


def test_the_tables_are_disjoint_and_lead_to_names_of_ours():
    assert not set(ELSEWHERE) & set(REFUSED)
    assert not (set(ELSEWHERE) | set(REFUSED)) & set(OWN_NAMES)
    assert {name for names in ELSEWHERE.values() for name in names} <= set(OWN_NAMES)
    assert all(text.count(" → ") == 1 for text in REFUSED.values())
    assert not any(set(shape.columns) & set(COMMON) for shape in SHAPES.values())
