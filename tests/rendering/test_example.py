"""Tokens and weights as one value."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.errors import RenderingError
from glowgenius.rendering import ExampleBuilder, RenderedExample


def test_arrays_have_the_documented_types_and_cannot_be_written():
    example = RenderedExample([1, 2, 3], [0, 1, 0.5])
    assert (example.tokens.dtype, example.weights.dtype) == (np.int64, np.float32)
    for array in (example.tokens, example.weights):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 7


def test_the_caller_keeps_its_own_arrays():
    tokens, weights = np.array([1, 2]), np.array([0.0, 1.0], dtype=np.float32)
    example = RenderedExample(tokens, weights)
    tokens[0], weights[1] = 9, 9
    assert example == RenderedExample([1, 2], [0, 1])
    tokens[0] = weights[1] = 1  # ours stay writable


def test_equality_and_hash_are_by_content():
    example = RenderedExample([1, 2], [0, 1])
    assert example == RenderedExample(np.array([1, 2], dtype=np.int32), [0.0, 1.0])
    assert hash(example) == hash(RenderedExample([1, 2], [0, 1]))
    assert example != RenderedExample([1, 3], [0, 1])
    assert example != RenderedExample([1, 2], [0, 0.5])
    assert example != "tokens"


def test_the_first_token_is_never_counted_as_trained():
    assert RenderedExample([5, 6, 7], [1, 1, 0]).num_trained == 1
    assert RenderedExample([5], [1]).num_trained == 0
    assert len(RenderedExample([], [])) == 0


@pytest.mark.parametrize(
    ("tokens", "weights", "message"),
    [
        ([1, 2], [1], "tokens and weights must have the same length, got 2 and 1"),
        ([1.5], [1], "tokens must be integers of shape [T], got float64 of shape [1]"),
        ([[1, 2]], [[1, 2]], "tokens must be integers of shape [T], got int64 of shape [1, 2]"),
        ([1], ["a"], "weights must be numbers of shape [T], got <U1 of shape [1]"),
        ([1, 2], [0, -1], "weights must be finite and ≥ 0, got -1 at position 1"),
        ([1, 2], [float("nan"), 0], "weights must be finite and ≥ 0, got nan at position 0"),
        ([1, 2], [0, float("inf")], "weights must be finite and ≥ 0, got inf at position 1"),
    ],
)
def test_what_is_no_example_is_refused(tokens, weights, message):
    with pytest.raises(RenderingError) as caught:
        RenderedExample(tokens, weights)
    assert str(caught.value) == message


@given(st.lists(st.tuples(st.lists(st.integers(0, 300), max_size=5), st.sampled_from([0.0, 0.5, 1.0]))))
def test_the_builder_gives_every_token_the_weight_it_was_added_with(pieces):
    builder = ExampleBuilder()
    for tokens, weight in pieces:
        builder.add(tokens, weight)
    expected = [(token, weight) for tokens, weight in pieces for token in tokens]
    expected[:1] = [(token, 0.0) for token, _ in expected[:1]]  # nothing predicts the first
    example = builder.build()
    assert list(zip(example.tokens.tolist(), example.weights.tolist(), strict=True)) == expected
    assert len(builder) == len(example) == len(expected)
