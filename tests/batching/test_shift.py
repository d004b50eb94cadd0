"""The shift by one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.batching import ShiftedExample, shift
from glowgenius.errors import RenderingError
from glowgenius.rendering import RenderedExample


def examples(min_size: int, max_size: int = 30):
    pairs = st.tuples(st.integers(0, 2**31), st.sampled_from([0.0, 0.5, 1.0]))
    return st.lists(pairs, min_size=min_size, max_size=max_size).map(
        lambda rows: RenderedExample([token for token, _ in rows], [weight for _, weight in rows])
    )


def test_each_token_is_the_target_of_the_one_before_it():
    shifted = shift(RenderedExample([10, 11, 12, 13], [0, 0, 1, 0.5]))
    assert shifted.inputs.tolist() == [10, 11, 12]
    assert shifted.targets.tolist() == [11, 12, 13]
    assert shifted.weights.tolist() == [0, 1, 0.5]
    assert (shifted.inputs.dtype, shifted.targets.dtype, shifted.weights.dtype) == (np.int64, np.int64, np.float32)


@given(examples(min_size=2))
def test_shifting_loses_no_token_and_no_weight(example):
    shifted = shift(example)
    assert len(shifted) == len(shifted.targets) == len(shifted.weights) == len(example) - 1
    assert [int(shifted.inputs[0]), *shifted.targets.tolist()] == example.tokens.tolist()
    assert [*shifted.inputs.tolist(), int(shifted.targets[-1])] == example.tokens.tolist()
    assert shifted.weights.tolist() == example.weights[1:].tolist()
    assert shifted.num_trained == example.num_trained


@given(examples(min_size=0, max_size=1))
def test_fewer_than_two_tokens_are_refused(example):
    with pytest.raises(RenderingError) as caught:
        shift(example)
    assert str(caught.value) == (
        f"an example needs at least 2 tokens, one to read and one to predict, got {len(example)}"
    )


def test_shifted_examples_are_values():
    one = ShiftedExample([1], [2], [1])
    assert one == shift(RenderedExample([1, 2], [0, 1]))
    assert hash(one) == hash(ShiftedExample([1], [2], [1]))
    assert one != ShiftedExample([1], [2], [0])
    assert one != ShiftedExample([1], [3], [1])
    assert one != ShiftedExample([2], [2], [1])
    assert one != [1]
    with pytest.raises(ValueError, match="read-only"):
        one.targets[0] = 5


def test_unequal_lengths_are_refused():
    with pytest.raises(RenderingError) as caught:
        ShiftedExample([1, 2], [2], [1])
    assert str(caught.value) == "inputs, targets and weights must have the same length, got [2, 1, 1]"
