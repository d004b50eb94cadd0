"""Every weighted position is scored once, at its place; and what a token may look at."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.local.loss import attention_mask, score
from glowgenius.local.model import base_model
from glowgenius.local.packing import Row, plan
from tests.support.local_engine import plain_logprobs, plain_model, tiny_rows
from tests.support.tiny_models import ARCHITECTURES


def row(inputs, targets, weights):
    return Row(
        inputs=np.array(inputs, np.int64), targets=np.array(targets, np.int64), weights=np.array(weights, np.float32)
    )


@st.composite
def row_lists(draw):
    """Rows over two tokens, so that many share a beginning; weights of 0, small and large."""
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        inputs = draw(st.lists(st.integers(0, 1), min_size=1, max_size=9))
        size = len(inputs)
        targets = draw(st.lists(st.integers(0, 5), min_size=size, max_size=size))
        weights = draw(st.lists(st.sampled_from([0.0, 0.5, 3.0]), min_size=size, max_size=size))
        rows.append(row(inputs, targets, weights))
    return rows


@given(rows=row_lists(), limit=st.integers(1, 40), parts=st.integers(1, 3))
def test_every_weighted_position_is_scored_once_at_its_place(rows, limit, parts):
    passes = plan(rows, limit, parts=parts)
    live = [index for index, one in enumerate(rows) if one.weights.any()]
    assert sorted(member for packed in passes for member in packed.members) == live
    for packed in passes:
        size = len(packed.tokens)
        assert size == len(packed.positions) == len(packed.owners) == len(packed.kin)
        assert size <= limit or len(packed.members) == 1
        assert packed.scored.tolist() == sorted(set(packed.scored.tolist()))
        used = set()
        for k, (member, lookup, places) in enumerate(zip(packed.members, packed.lookup, packed.places, strict=True)):
            one = rows[member]
            end = np.flatnonzero(one.weights)[-1] + 1
            family = packed.kin[packed.owners == k][0]
            visible = (packed.owners == k) | ((packed.owners < 0) & (packed.kin == family))
            assert packed.tokens[visible].tolist() == one.inputs[:end].tolist()
            assert packed.positions[visible].tolist() == list(range(end))
            assert places.tolist() == np.flatnonzero(one.weights).tolist()
            at = packed.scored[lookup]
            assert visible[at].all()
            assert packed.positions[at].tolist() == places.tolist()
            used |= set(lookup.tolist())
        assert used == set(range(len(packed.scored)))


@given(rows=row_lists(), limit=st.integers(1, 40))
def test_families_name_the_places_of_their_tokens(rows, limit):
    for packed in plan(rows, limit):
        owners = [-2] * len(packed.tokens)
        member = 0
        for family in packed.families:
            owners[family.start : family.start + family.prefix] = [-1] * family.prefix
            assert list(family.lengths) == sorted(family.lengths, reverse=True)
            assert family.starts[0] == family.start + family.prefix
            for start, length in zip(family.starts, family.lengths, strict=True):
                owners[start : start + length] = [member] * length
                member += 1
        assert owners == packed.owners.tolist()


def test_rows_with_one_beginning_hold_it_once():
    rows = [
        row([7, 8, 9, 9, 9, 1, 2], [0] * 7, [0, 1, 0, 0, 0, 0, 1]),
        row([7, 8, 9, 9, 9, 3], [0] * 6, [0] * 5 + [1]),
        row([7, 8, 9, 9, 9], [0] * 5, [0] * 4 + [1]),
    ]
    [packed] = plan(rows, 100)
    # The shortest row keeps one token of its own, so the common beginning is four tokens long.
    assert packed.members == (0, 1, 2)
    assert packed.tokens.tolist() == [7, 8, 9, 9, 9, 1, 2, 9, 3, 9]
    assert packed.positions.tolist() == [0, 1, 2, 3, 4, 5, 6, 4, 5, 4]
    assert packed.owners.tolist() == [-1] * 4 + [0] * 3 + [1] * 2 + [2]
    assert packed.scored.tolist() == [1, 6, 8, 9]
    assert packed.families == (packed.families[0],)
    assert (packed.families[0].prefix, packed.families[0].lengths) == (4, (3, 2, 1))


def test_rows_that_begin_in_two_ways_are_two_families():
    rows = [row([first] * 9 + [last], [0] * 10, [0] * 9 + [1]) for first in (5, 6) for last in (1, 2, 3)]
    [packed] = plan(rows, 100)
    assert [(family.prefix, family.lengths) for family in packed.families] == [(9, (1, 1, 1))] * 2
    assert len(packed.tokens) == 2 * (9 + 3)


def test_what_follows_the_last_weighted_position_is_left_out():
    [packed] = plan([row([1, 2, 3, 4], [0] * 4, [0, 1, 0, 0])], 100)
    assert packed.tokens.tolist() == [1, 2]


def test_a_pass_ends_where_the_next_row_would_exceed_the_limit():
    rows = [row([1, 1, 1], [0] * 3, [1] * 3), row([2, 2, 2], [0] * 3, [1] * 3), row([3] * 9, [0] * 9, [1] * 9)]
    assert [packed.members for packed in plan(rows, 6)] == [(0, 1), (2,)]
    assert [packed.members for packed in plan(rows, 5)] == [(0,), (1,), (2,)]
    assert [packed.members for packed in plan(rows, 15)] == [(2, 0, 1)]
    assert plan([], 5) == []


def test_work_is_divided_into_equal_parts_where_there_is_enough_of_it():
    generator = np.random.default_rng(0)
    rows = [row([1] * 30 + generator.integers(2, 99, 20).tolist(), [0] * 50, [1] * 50) for _ in range(40)]
    sizes = [len(packed.tokens) for packed in plan(rows, 10_000, parts=3)]
    assert len(sizes) == 3
    assert max(sizes) - min(sizes) <= 2 * 20
    assert len(plan(rows[:4], 10_000, parts=3)) == 1


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (None, ["x....", "xx...", "xxx..", "x..x.", "x..xx"]),
        (2, ["x....", "xx...", ".xx..", "x..x.", "...xx"]),
    ],
)
def test_a_token_looks_at_the_beginning_and_at_its_own_row(window, expected):
    [packed] = plan([row([5, 1, 2], [0] * 3, [1] * 3), row([5, 3, 4], [0] * 3, [1] * 3)], 100)
    mask = attention_mask(packed, window)
    assert mask.shape == (1, 1, 5, 5)
    assert set(mask.flatten().tolist()) == {0.0, torch.finfo(torch.float32).min}
    assert ["".join("x" if value == 0 else "." for value in line) for line in mask[0, 0]] == expected


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_packed_rows_are_seen_as_transformers_sees_each_alone(tiny, architecture):
    # Rows are longer than the window of the tiny Gemma, whose layers mix both kinds of attention.
    rows = tiny_rows(8, lengths=(20, 3, 33, 14), prefix=10, all_tokens=True)
    model = base_model(str(tiny(architecture)), "cpu", torch.float32)
    assert (model.sliding_window, model.mixes_attention) == ((8, True) if architecture == "gemma3" else (None, False))
    _, logprobs = score(model, None, [row(*one) for one in rows], max_tokens=4096, backward=False)
    plain = plain_model(tiny(architecture))
    for values, (inputs, targets, _) in zip(logprobs, rows, strict=True):
        with torch.no_grad():
            expected = plain_logprobs(plain, inputs)[torch.arange(len(targets)), torch.tensor(targets)]
        assert values == pytest.approx(expected.numpy(), rel=1e-4, abs=1e-4)


def test_a_row_without_weights_costs_nothing_and_scores_zero(tiny):
    model = base_model(str(tiny()), "cpu", torch.float32)
    silent, loud = row([3, 4, 5], [4, 5, 6], [0, 0, 0]), row([3, 4], [4, 5], [0, 1])
    total, logprobs = score(model, None, [silent, loud, silent], max_tokens=100, backward=False)
    alone, _ = score(model, None, [loud], max_tokens=100, backward=False)
    assert total == alone > 0
    assert [values.tolist() for values in (logprobs[0], logprobs[2])] == [[0, 0, 0]] * 2
    total, [values] = score(model, None, [silent], max_tokens=100, backward=False)
    assert (total, values.tolist()) == (0.0, [0, 0, 0])
