"""Examples that are longer than the limit: refused, dropped or cut, and never silently."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.batching import Fitted, Overflow, fit, fit_all
from glowgenius.data.message import Conversation, Message, Source
from glowgenius.errors import ConfigError, SequenceTooLongError
from glowgenius.rendering import RenderedExample

BOS = 99
EXAMPLE = RenderedExample([BOS, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 1, 0.5, 0])


@pytest.mark.parametrize("policy", Overflow)
@pytest.mark.parametrize("max_length", [None, 7, 8])
def test_what_fits_is_left_as_it_is(policy, max_length):
    assert fit(EXAMPLE, max_length, policy) is EXAMPLE


def test_error_says_how_long_it_is():
    with pytest.raises(SequenceTooLongError) as caught:
        fit(EXAMPLE, 5)
    assert str(caught.value) == (
        "the example is longer than max_length=5\n"
        "  7 tokens, 2 too many → raise max_length, shorten the row, or on_overflow='drop' or 'truncate'"
    )


UNTRAINED = RenderedExample([1, 2, 3, 4, 5, 6, 7], [0] * 7)


@pytest.mark.parametrize(
    ("example", "max_length"),
    [(EXAMPLE, 6), (EXAMPLE, 3), (EXAMPLE, 2), (RenderedExample([1, 2, 3, 4, 5], [0, 1, 1, 1, 1]), 4), (UNTRAINED, 4)],
)
@pytest.mark.parametrize("bos", [None, BOS])
def test_every_policy_that_is_advised_takes_the_example(example, max_length, bos):
    with pytest.raises(SequenceTooLongError) as caught:
        fit(example, max_length, bos_token_id=bos)
    advised = re.findall(r"'(\w+)'", caught.value.problems[0].accepted)
    assert advised[0] == "drop"
    for policy in advised:
        fit(example, max_length, policy, bos_token_id=bos)


def test_drop_drops():
    assert fit(EXAMPLE, 6, "drop") is None


@pytest.mark.parametrize(
    ("max_length", "bos", "tokens", "weights"),
    [
        (6, None, [BOS, 1, 2, 3, 4, 5], [0, 0, 0, 0, 1, 0.5]),
        (5, None, [1, 2, 3, 4, 5], [0, 0, 0, 1, 0.5]),
        (5, BOS, [BOS, 2, 3, 4, 5], [0, 0, 0, 1, 0.5]),
        (4, None, [2, 3, 4, 5], [0, 0, 1, 0.5]),
        (3, None, [3, 4, 5], [0, 1, 0.5]),
        (3, BOS, [BOS, 4, 5], [0, 1, 0.5]),
        (3, 1, [3, 4, 5], [0, 1, 0.5]),
    ],
)
def test_truncate_cuts_the_tail_nobody_sees_and_then_the_prompt_from_the_left(max_length, bos, tokens, weights):
    assert fit(EXAMPLE, max_length, "truncate", bos_token_id=bos) == RenderedExample(tokens, weights)


def test_a_weight_on_a_token_that_becomes_the_first_is_taken_off():
    trained_twice = RenderedExample([1, 2, 3, 4], [1, 0, 0, 1])
    assert fit(trained_twice, 2, "truncate") == RenderedExample([3, 4], [0, 1])


@pytest.mark.parametrize("bos", [None, BOS])
def test_truncate_refuses_to_cut_trained_tokens(bos):
    with pytest.raises(SequenceTooLongError) as caught:
        fit(EXAMPLE, 2, "truncate", bos_token_id=bos)
    assert str(caught.value) == (
        "the example is longer than max_length=2\n"
        "  7 tokens, and truncation would have to cut trained ones: they span 2 "
        "→ max_length ≥ 3, a shorter answer, or on_overflow='drop' or 'truncate_answers'"
    )


@pytest.mark.parametrize(
    ("max_length", "bos", "tokens", "weights"),
    [
        (4, None, [2, 3, 4, 5], [0, 0, 1, 0.5]),
        (2, None, [3, 4], [0, 1]),
        (2, BOS, [BOS, 4], [0, 1]),
    ],
)
def test_answers_are_cut_only_when_asked_and_only_after_the_prompt(max_length, bos, tokens, weights):
    assert fit(EXAMPLE, max_length, "truncate_answers", bos_token_id=bos) == RenderedExample(tokens, weights)


def test_cut_answers_are_counted_apart():
    fitted = fit_all([SHORT, EXAMPLE, HOPELESS], 4, "truncate_answers")
    assert (fitted.rows, fitted.truncated, fitted.cut_answers) == ((0, 1, 2), (1, 2), (2,))
    assert fitted.examples[2] == RenderedExample([1, 2, 3, 4], [0, 1, 1, 1])


def test_truncate_refuses_an_example_with_nothing_trained():
    with pytest.raises(SequenceTooLongError) as caught:
        fit(RenderedExample([1, 2, 3], [1, 0, 0]), 2, "truncate")
    assert caught.value.problems[0].found == "3 tokens, none of them trained"


pairs = st.lists(st.tuples(st.integers(0, 9), st.sampled_from([0.0, 1.0])), min_size=2, max_size=20)


@given(pairs, st.integers(2, 20), st.sampled_from([None, 0, 5]))
def test_truncation_keeps_every_trained_token_with_its_weight(rows, max_length, bos):
    example = RenderedExample([token for token, _ in rows], [weight for _, weight in rows])
    try:
        cut = fit(example, max_length, "truncate", bos_token_id=bos)
    except SequenceTooLongError:
        trained = [at for at, weight in enumerate(example.weights) if weight and at]
        assert len(example) > max_length
        assert not trained or trained[-1] - trained[0] + 2 > max_length
        return
    assert len(cut) == min(len(example), max_length)
    assert cut.num_trained == example.num_trained
    trained = [(token, weight) for token, weight in zip(cut.tokens[1:], cut.weights[1:], strict=True) if weight]
    assert trained == [pair for pair in zip(example.tokens[1:], example.weights[1:], strict=True) if pair[1]]
    if bos is not None and example.tokens[0] == bos:
        assert cut.tokens[0] == bos


SHORT = RenderedExample([1, 2], [0, 1])
HOPELESS = RenderedExample([1, 2, 3, 4, 5], [0, 1, 1, 1, 1])


def test_a_whole_data_set_is_counted():
    assert fit_all([SHORT, EXAMPLE, SHORT], 4, "drop") == Fitted(
        examples=(SHORT, SHORT), rows=(0, 2), dropped=(1,), truncated=(), cut_answers=()
    )
    cut = RenderedExample([2, 3, 4, 5], [0, 0, 1, 0.5])
    assert fit_all([SHORT, EXAMPLE], 4, "truncate") == Fitted(
        examples=(SHORT, cut), rows=(0, 1), dropped=(), truncated=(1,), cut_answers=()
    )


def test_all_rows_that_are_too_long_are_in_one_error():
    messages = [Message("user", "q"), Message("assistant", "a")]
    here = Conversation(messages=messages, id="x", source=Source("nyc.jsonl", 12, 11))
    memory = Conversation(messages=messages)
    with pytest.raises(SequenceTooLongError) as caught:
        fit_all([SHORT, EXAMPLE, EXAMPLE], 3, conversations=[memory, here, memory])
    assert str(caught.value) == (
        "2 of 3 rows exceed max_length=3\n"
        "  nyc.jsonl:12 (id 'x'): 7 tokens, 4 too many → raise max_length, shorten the row, "
        "or on_overflow='drop' or 'truncate'\n"
        "  row 2: 7 tokens, 4 too many → raise max_length, shorten the row, or on_overflow='drop' or 'truncate'"
    )
    with pytest.raises(SequenceTooLongError) as caught:
        fit_all([SHORT, HOPELESS], 4, "truncate")
    assert [problem.row for problem in caught.value.problems] == [1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((1, "error"), "max_length must be None or an integer ≥ 2, got 1 (int)"),
        ((True, "error"), "max_length must be None or an integer ≥ 2, got True (bool)"),
        (
            (5, "truncat"),
            (
                "on_overflow must be one of 'error', 'drop', 'truncate', 'truncate_answers', got 'truncat' "
                "(did you mean 'truncate'?)"
            ),
        ),
        ((5, None), "on_overflow must be one of 'error', 'drop', 'truncate', 'truncate_answers', got None"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ConfigError) as caught:
        fit(SHORT, *arguments)
    assert str(caught.value) == message


def test_one_conversation_for_each_example():
    with pytest.raises(ConfigError) as caught:
        fit_all([SHORT], 4, conversations=[])
    assert str(caught.value) == "one conversation per example, got 0 for 1"
