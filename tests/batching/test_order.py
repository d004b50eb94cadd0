"""The order of rows."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.batching import batches, epoch_order
from glowgenius.errors import ConfigError

seeds = st.integers(-(2**63), 2**63)
epochs = st.integers(0, 1000)


@given(st.integers(0, 200), seeds, epochs)
def test_every_row_comes_once_in_an_order_that_depends_on_nothing_else(num_rows, seed, epoch):
    order = epoch_order(num_rows, seed=seed, epoch=epoch)
    assert sorted(order) == list(range(num_rows))
    assert order == epoch_order(num_rows, seed=seed, epoch=epoch)


def test_the_order_is_the_same_on_every_machine():
    """Written out: a change of this list breaks the resume of every run that was begun before it."""
    assert epoch_order(10, seed=0, epoch=0) == ORDER_OF_SEED_0_EPOCH_0
    assert epoch_order(10, seed=0, epoch=1) == ORDER_OF_SEED_0_EPOCH_1
    assert epoch_order(10, seed=1, epoch=0) == ORDER_OF_SEED_1_EPOCH_0


ORDER_OF_SEED_0_EPOCH_0 = [7, 4, 1, 3, 8, 0, 9, 2, 5, 6]
ORDER_OF_SEED_0_EPOCH_1 = [0, 1, 5, 3, 4, 7, 8, 6, 2, 9]
ORDER_OF_SEED_1_EPOCH_0 = [4, 2, 0, 1, 3, 9, 6, 5, 7, 8]


def test_epochs_and_seeds_differ():
    orders = [tuple(epoch_order(50, seed=seed, epoch=epoch)) for seed in range(20) for epoch in range(20)]
    assert len(set(orders)) == 400


def test_no_row_prefers_a_place():
    """Over 1,000 epochs, each of 5 rows stands at each place about 200 times; 5 standard deviations are 63."""
    counts = dict.fromkeys(itertools.product(range(5), repeat=2), 0)
    for epoch in range(1000):
        for place, row in enumerate(epoch_order(5, seed=7, epoch=epoch)):
            counts[row, place] += 1
    assert all(137 <= count <= 263 for count in counts.values())


@given(st.integers(0, 100), st.integers(1, 40), seeds, epochs)
def test_batches_are_the_order_cut_and_lose_no_row(num_rows, batch_size, seed, epoch):
    cut = batches(num_rows, batch_size, seed=seed, epoch=epoch)
    assert list(itertools.chain(*cut)) == epoch_order(num_rows, seed=seed, epoch=epoch)
    assert [len(batch) for batch in cut[:-1]] == [batch_size] * (len(cut) - 1) if cut else num_rows == 0
    assert not cut or 1 <= len(cut[-1]) <= batch_size


def test_the_last_short_batch_is_kept():
    assert [len(batch) for batch in batches(10, 4, seed=0, epoch=0)] == [4, 4, 2]
    assert [len(batch) for batch in batches(3, 16, seed=0, epoch=0)] == [3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_rows": -1}, "num_rows must be an integer ≥ 0, got -1 (int)"),
        ({"num_rows": 2.0}, "num_rows must be an integer ≥ 0, got 2.0 (float)"),
        ({"seed": None}, "seed must be an integer, got None (NoneType)"),
        ({"epoch": True}, "epoch must be an integer ≥ 0, got True (bool)"),
        ({"batch_size": 0}, "batch_size must be an integer ≥ 1, got 0 (int)"),
    ],
)
def test_arguments_are_checked(arguments, message):
    with pytest.raises(ConfigError) as caught:
        batches(**{"num_rows": 4, "batch_size": 2, "seed": 0, "epoch": 0} | arguments)
    assert str(caught.value) == message
