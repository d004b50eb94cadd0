"""Between shifted examples and the SDK's data."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.batching.shift import ShiftedExample
from glowgenius.engines.datum import read_data, to_datum
from glowgenius.engines.tinker_types import Datum, EncodedTextChunk, ModelInput, TensorData
from glowgenius.errors import ConfigError, RequestRejectedError

TOKENS = st.integers(0, 2**31 - 1)
WEIGHTS = st.floats(0, 1e6, width=32)
ROWS = st.lists(st.tuples(TOKENS, TOKENS, WEIGHTS), min_size=1, max_size=20)


def datum(inputs, **fields):
    return Datum(model_input=ModelInput.from_ints(inputs), loss_fn_inputs=fields)


def rejection(data, loss_fn="cross_entropy", **options):
    with pytest.raises(RequestRejectedError) as info:
        read_data(data, loss_fn, **options)
    return str(info.value)


@given(ROWS)
def test_a_datum_says_what_the_example_said(rows):
    inputs, targets, weights = zip(*rows, strict=True)
    [arrays] = read_data([to_datum(ShiftedExample(inputs, targets, weights))], "cross_entropy")
    assert (arrays.inputs.tolist(), arrays.targets.tolist()) == (list(inputs), list(targets))
    assert arrays.weights.tolist() == [float(np.float32(weight)) for weight in weights]
    assert [array.dtype for array in (arrays.inputs, arrays.targets, arrays.weights)] == [
        np.int64,
        np.int64,
        np.float32,
    ]


def test_weights_are_scaled_with_one_rounding():
    shifted = ShiftedExample([1, 2], [2, 3], [0.0, 0.1])
    [arrays] = read_data([to_datum(shifted, 1 / 3)], "cross_entropy")
    assert arrays.weights.tolist() == [0.0, float(np.float32(float(np.float32(0.1)) / 3))]


def test_two_data_of_one_example_share_nothing():
    shifted = ShiftedExample([1, 2], [2, 3], [0.0, 1.0])
    first, second = to_datum(shifted), to_datum(shifted)
    for name in ("target_tokens", "weights"):
        one, other = (each.loss_fn_inputs[name].to_numpy() for each in (first, second))
        assert not np.shares_memory(one, other)
        assert not np.shares_memory(one, shifted.targets)
        assert not np.shares_memory(one, shifted.weights)


@pytest.mark.parametrize("scale", [-1.0, float("nan"), float("inf")])
def test_a_scale_that_is_no_scale_is_refused(scale):
    with pytest.raises(ConfigError) as info:
        to_datum(ShiftedExample([1], [2], [1.0]), scale)
    assert str(info.value) == f"to_datum: scale must be a finite number ≥ 0, got {scale!r}"


def test_no_data_are_refused():
    assert rejection([]) == "No data provided: forward and forward_backward need at least one datum"


def test_another_loss_is_refused():
    expected = (
        "loss_fn 'ppo' is not available here: this engine computes 'cross_entropy', the loss of supervised training"
    )
    assert rejection([datum([1], target_tokens=[2], weights=[1.0])], "ppo") == expected


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (
            datum([1, 2], target_tokens=[2], weights=[1.0, 1.0]),
            "model_input, target_tokens and weights must have one length, got 2, 1 and 2",
        ),
        (datum([1], target_tokens=[2]), "loss_fn_inputs must be 'target_tokens' and 'weights', got 'target_tokens'"),
        (datum([1]), "loss_fn_inputs must be 'target_tokens' and 'weights', got none"),
        (
            datum([1], target_tokens=[2], weights=[1.0], advantages=[1.0]),
            "loss_fn_inputs must be 'target_tokens' and 'weights', got 'advantages', 'target_tokens', 'weights'",
        ),
        (datum([], target_tokens=[], weights=[]), "must hold at least one token, got none"),
        (
            datum([1], target_tokens=[[2]], weights=[1.0]),
            "target_tokens and weights must have one shape, got (1, 1) and (1,)",
        ),
        (
            datum([1], target_tokens=[[[2]]], weights=[1.0]),
            "target_tokens must have one axis, or a second for several targets, got the shape (1, 1, 1)",
        ),
        (
            datum([1, 2], target_tokens=[[2, 3], [2, -4]], weights=[[1.0, 1.0], [1.0, 1.0]]),
            "target_tokens must be token ids ≥ 0, got -4 at position 1",
        ),
        (
            datum([1], target_tokens=TensorData([2.0], "float32"), weights=[1.0]),
            "target_tokens must be integers, got float32",
        ),
        (datum([1, 2], target_tokens=[2, 3], weights=[1.0, float("nan")]), "weights must be finite, got nan"),
        (
            datum([1, -2], target_tokens=[2, 3], weights=[1.0, 1.0]),
            "model_input must be token ids ≥ 0, got -2 at position 1",
        ),
        (datum([1], target_tokens=[-1], weights=[1.0]), "target_tokens must be token ids ≥ 0, got -1 at position 0"),
    ],
)
def test_a_datum_that_does_not_fit_together_is_refused_by_its_place(bad, found):
    good = datum([1], target_tokens=[2], weights=[1.0])
    assert rejection([good, bad]) == f"datum 1: {found}"


def test_tokens_beyond_the_vocabulary_are_refused():
    found = rejection([datum([1, 9], target_tokens=[9, 1], weights=[1.0, 1.0])], vocabulary_size=9)
    assert found == "datum 0: model_input must be token ids in 0 … 8, got 9 at position 1"
    found = rejection([datum([1, 8], target_tokens=[9, 1], weights=[1.0, 1.0])], vocabulary_size=9)
    assert found == "datum 0: target_tokens must be token ids in 0 … 8, got 9 at position 0"


def test_other_chunks_than_text_are_refused():
    from tinker.types import ImageAssetPointerChunk

    image = ImageAssetPointerChunk(format="png", location="x", expected_tokens=1)
    mixed = ModelInput(chunks=[EncodedTextChunk(tokens=[1]), image])
    found = rejection([Datum(model_input=mixed, loss_fn_inputs={"target_tokens": [2], "weights": [1.0]})])
    assert found == "datum 0: model_input must hold text tokens only, got other chunks"


def test_weights_given_as_integers_are_weights():
    fields = {"target_tokens": np.array([2, 3]), "weights": np.array([0, 1])}
    [arrays] = read_data([datum([1, 2], **fields)], "cross_entropy")
    assert (arrays.weights.dtype, arrays.weights.tolist()) == (np.float32, [0.0, 1.0])
