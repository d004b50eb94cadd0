"""The plan of a run by hand-computed numbers, and by its laws."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.batching.order import epoch_order
from glowgenius.training.config import SCHEDULES, TrainingConfig
from glowgenius.training.schedule import make_plan, rate_factor


def factors(num_steps, schedule, warmup_steps=0):
    return [
        rate_factor(index, num_steps=num_steps, schedule=schedule, warmup_steps=warmup_steps)
        for index in range(num_steps)
    ]


def test_linear_falls_by_equal_parts_and_not_to_zero():
    assert factors(4, "linear") == [1.0, 0.75, 0.5, 0.25]


def test_cosine():
    half = math.sqrt(0.5)
    assert factors(4, "cosine") == pytest.approx([1.0, (1 + half) / 2, 0.5, (1 - half) / 2])


def test_constant():
    assert factors(3, "constant") == [1.0, 1.0, 1.0]


def test_warm_up_starts_above_zero_and_ends_at_the_peak():
    assert factors(6, "linear", 2) == pytest.approx([1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25])


@given(st.integers(1, 200), st.sampled_from(SCHEDULES), st.integers(0, 50))
def test_no_step_is_wasted_and_the_peak_is_reached_once_warm(num_steps, schedule, warmup_steps):
    warmup_steps = min(warmup_steps, num_steps - 1)
    found = factors(num_steps, schedule, warmup_steps)
    assert all(0 < factor <= 1 for factor in found)
    assert found[warmup_steps] == 1.0
    assert found[:warmup_steps] == sorted(found[:warmup_steps])
    assert found[warmup_steps:] == sorted(found[warmup_steps:], reverse=True)


def plan_of(num_rows, **settings):
    return make_plan(TrainingConfig(**settings), num_rows=num_rows, learning_rate=0.5)


def test_the_steps_of_a_run():
    plan = plan_of(10, batch_size=4, num_epochs=2, seed=7)
    assert (plan.steps_per_epoch, plan.total_steps, plan.cut_short) == (3, 6, False)
    steps = [plan.step(number) for number in range(1, 7)]
    assert [(step.epoch, step.batch, len(step.rows), step.ends_epoch) for step in steps] == [
        (1, 1, 4, False),
        (1, 2, 4, False),
        (1, 3, 2, True),
        (2, 1, 4, False),
        (2, 2, 4, False),
        (2, 3, 2, True),
    ]
    assert [step.learning_rate for step in steps] == pytest.approx([0.5, 5 / 12, 4 / 12, 3 / 12, 2 / 12, 1 / 12])
    for epoch in (0, 1):
        rows = [row for step in steps if step.epoch == epoch + 1 for row in step.rows]
        assert rows == epoch_order(10, seed=7, epoch=epoch)


def test_max_steps_cuts_but_does_not_lengthen():
    cut = plan_of(10, batch_size=4, num_epochs=2, max_steps=4)
    assert (cut.total_steps, cut.cut_short) == (4, True)
    assert [cut.step(number).learning_rate for number in range(1, 5)] == [0.5, 0.375, 0.25, 0.125]
    assert cut.step(4).ends_epoch is False
    long = plan_of(10, batch_size=4, num_epochs=2, max_steps=6)
    assert (long.total_steps, long.cut_short) == (6, False)


def test_a_step_is_the_same_whether_entered_from_the_start_or_in_the_middle():
    plan, fresh = plan_of(7, batch_size=3, num_epochs=3), plan_of(7, batch_size=3, num_epochs=3)
    in_order = [plan.step(number) for number in range(1, 10)]
    assert [fresh.step(number) for number in (9, 1, 5)] == [in_order[8], in_order[0], in_order[4]]


def test_when_something_is_due():
    plan = plan_of(10, batch_size=4, num_epochs=2)
    steps = [plan.step(number) for number in range(1, 7)]
    assert [step.step for step in steps if plan.is_due(None, step)] == []
    assert [step.step for step in steps if plan.is_due("epoch", step)] == [3, 6]
    assert [step.step for step in steps if plan.is_due(4, step)] == [4]


def test_fewer_rows_than_a_batch_are_one_short_batch():
    plan = plan_of(3, batch_size=16, num_epochs=2)
    assert (plan.steps_per_epoch, plan.total_steps) == (1, 2)
    assert sorted(plan.step(1).rows) == [0, 1, 2]
