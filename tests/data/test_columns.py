"""Which names are ours, which are slips, which are other libraries', and which are the user's own."""

from __future__ import annotations

import pytest

from glowgenius.data.columns import (
    COLLECTED,
    COMMON,
    ELSEWHERE,
    OWN_NAMES,
    REFUSED,
    SHAPES,
    likeliest,
    near_miss,
    offered,
    recognise,
)


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
        (["text", "label", "idx"], "text/label"),
        (["sentence", "label"], "text/label"),
        (["review", "sentiment"], "text/label"),
        (["prompt", "completion", "text", "label"], "prompt/completion"),
    ],
)
def test_formats_are_recognised_by_their_columns(columns, format):  # noqa: A002 - the word of the interface
    assert recognise(columns) is SHAPES[format]


@pytest.mark.parametrize(
    "columns",
    [
        [],
        ["question"],
        ["question", "answer", "messages"],
        ["question", "sentence", "label"],
        ["sentence", "review", "label"],
        ["text", "category"],
    ],
)
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
        (["text", "category"], "text/label"),
        (["premise", "hypothesis", "label"], "text/label"),
    ],
)
def test_the_likeliest_format_of_other_columns(columns, format):  # noqa: A002 - the word of the interface
    assert likeliest(tuple(columns)) is SHAPES[format]


def test_nothing_points_anywhere():
    assert likeliest(("a1", "b2")) is None


def test_the_tables_are_disjoint_and_lead_to_names_of_ours():
    own = set(OWN_NAMES) - {"text", "label"}
    assert not set(ELSEWHERE) & set(REFUSED)
    assert not (set(ELSEWHERE) | set(REFUSED)) & own
    assert {name for names in ELSEWHERE.values() for name in names} <= set(OWN_NAMES)
    assert set(COLLECTED) <= set(OWN_NAMES)
    assert not any(set(shape.columns) & set(COMMON) for shape in SHAPES.values())


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        ("ABCD", set("ABCD")),
        (("a", "b", "question"), {"a", "b"}),
        (("A", "answer"), set()),
        (("option_a", "option 2", "opc", "choice1", "sol1", "ending0", "optional", "operand"), None),
    ],
)
def test_columns_that_hold_one_choice_each(columns, found):
    assert offered(columns) == (set(columns[:6]) if found is None else found)
