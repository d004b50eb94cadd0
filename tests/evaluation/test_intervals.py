from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from glowgenius.errors import ConfigError
from glowgenius.evaluation.intervals import (
    Interval,
    clopper_pearson,
    crossed_bootstrap,
    crossed_interval,
    effective_groups,
    found,
    mcnemar_exact,
    paired_interval,
    paired_p,
    score_interval,
    student,
    wilson,
)
from tests.benchmarks.coverage import CASES, World, coverage

SCORES = st.lists(st.tuples(st.sampled_from([0.0, 1.0]), st.sampled_from([0.0, 1.0])), min_size=1, max_size=25)


def paired(both_right=0, broken=0, fixed=0, both_wrong=0):
    """Scores of base and tuned with these counts."""
    base = [1.0] * (both_right + broken) + [0.0] * (fixed + both_wrong)
    tuned = [1.0] * both_right + [0.0] * broken + [1.0] * fixed + [0.0] * both_wrong
    return base, tuned


# Wilson


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.9, 0.95]))
def test_wilson_equals_scipy(counts, level):
    expected = stats.binomtest(*counts).proportion_ci(level, method="wilson")
    found = wilson(*counts, level=level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert found.level == level


def test_wilson_by_newcombe_1998():
    # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I: 81 of 263, and 0 of 20.
    assert (wilson(81, 263).low, wilson(81, 263).high) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert (wilson(0, 20).low, wilson(0, 20).high) == (0.0, pytest.approx(0.1611, abs=5e-5))
    assert wilson(20, 20).high == 1.0


@pytest.mark.parametrize("counts", [(1, 0), (-1, 5), (6, 5), (math.nan, 5)])
def test_wilson_refuses_impossible_counts(counts):
    with pytest.raises(ConfigError) as error:
        wilson(*counts)
    found = f"{counts[0]!r} of {counts[1]!r}"
    assert str(error.value) == f"wilson() needs 0 ≤ successes ≤ trials and trials ≥ 1, got {found}"


@pytest.mark.parametrize("level", [0, 1, 95, math.nan])
def test_a_level_is_a_share(level):
    with pytest.raises(ConfigError) as error:
        wilson(1, 2, level=level)
    assert str(error.value) == f"level must be between 0 and 1, got {level!r}"


def test_an_interval_holds_its_limits():
    interval = Interval(low=-0.1, high=0.2)
    assert [value in interval for value in (-0.2, -0.1, 0.0, 0.2, 0.3)] == [False, True, True, True, False]


# McNemar


@given(st.integers(0, 60), st.integers(0, 60))
def test_mcnemar_equals_scipys_binomial_test(fixed, broken):
    expected = stats.binomtest(fixed, fixed + broken).pvalue if fixed + broken else 1.0
    assert mcnemar_exact(fixed, broken) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_exact(fixed, broken) == mcnemar_exact(broken, fixed)


def test_mcnemar_by_hand():
    assert mcnemar_exact(0, 0) == 1.0
    assert mcnemar_exact(1, 0) == 1.0  # 2 · ½
    assert mcnemar_exact(5, 0) == 2 / 32
    assert mcnemar_exact(6, 1) == 2 * (1 + 7) / 128
    assert mcnemar_exact(4000, 0) == 0.0  # below the smallest double, without an overflow on the way
    assert mcnemar_exact(3000, 3000) == 1.0


def test_mcnemar_refuses_negative_counts():
    with pytest.raises(ConfigError) as error:
        mcnemar_exact(3, -1)
    assert str(error.value) == "mcnemar_exact() needs counts ≥ 0, got fixed=3 and broken=-1"


# Exact limits


@pytest.mark.parametrize("level", [0.5, 0.95, 0.99])
@pytest.mark.parametrize("counts", [(0, 10), (1, 10), (10, 10), (3, 7), (50, 10_000), (999, 1000)])
def test_the_exact_interval_equals_scipys(counts, level):
    expected = stats.binomtest(*counts).proportion_ci(level, method="exact")
    found = clopper_pearson(*counts, level=level)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), rel=1e-9, abs=1e-15)


@given(st.floats(0.0, 1.0), st.floats(0.5, 1000))
def test_the_exact_interval_of_parts_is_that_of_the_beta_distribution(share, trials):
    found = clopper_pearson(share * trials, trials)
    failures = trials - share * trials
    low = stats.beta.ppf(0.025, share * trials, failures + 1) if share * trials > 1e-9 else 0.0
    high = stats.beta.ppf(0.975, share * trials + 1, failures) if failures > 1e-9 else 1.0
    assert (found.low, found.high) == pytest.approx((low, high), rel=1e-6, abs=1e-9)


def test_the_exact_interval_refuses_impossible_counts():
    with pytest.raises(ConfigError) as error:
        clopper_pearson(3, 2)
    assert str(error.value) == "clopper_pearson() needs 0 ≤ successes ≤ trials and trials > 0, got 3 of 2"


@pytest.mark.parametrize("share", [0.001, 0.0178, 0.05, 0.5, 0.97, 0.999])
@pytest.mark.parametrize("number", [10, 30, 100])
def test_a_score_is_covered_at_the_ends_too(share, number):
    # Summed over every possible count, so that nothing is drawn.
    held = [
        share in score_interval([1.0] * count + [0.0] * (number - count), range(number)) for count in range(number + 1)
    ]
    assert stats.binom.pmf(range(number + 1), number, share) @ held >= 0.95


# Pairs


@given(SCORES)
def test_paired_limits_are_antisymmetric_and_hold_the_difference(pairs):
    base, tuned = zip(*pairs, strict=True)
    forward, back = (paired_interval(*two, range(len(base))) for two in ((base, tuned), (tuned, base)))
    assert (forward.low, forward.high) == pytest.approx((-back.high, -back.low))
    assert -1 <= forward.low <= np.mean(tuned) - np.mean(base) + 1e-12
    assert np.mean(tuned) - np.mean(base) - 1e-12 <= forward.high <= 1


def test_with_every_question_fixed_nothing_is_certain():
    found = paired_interval(*paired(fixed=20), range(20))
    # Two exact intervals of width 0.1684, at right angles.
    assert (found.low, found.high) == (pytest.approx(1 - 0.1684 * math.sqrt(2), abs=1e-4), 1.0)


@pytest.mark.parametrize("number", [6, 10, 17, 40, 300])
@pytest.mark.parametrize("size", [1, 3])
def test_p_and_the_interval_never_contradict_each_other(number, size):
    for fixed in range(min(number, 25) + 1):
        for broken in range(min(fixed, number - fixed) + 1):
            base, tuned = paired(fixed=fixed * size, broken=broken * size, both_wrong=(number - fixed - broken) * size)
            groups = [index // size for index in range(number * size)]
            told = paired_p(base, tuned, groups) < 0.05
            assert told == (0.0 not in paired_interval(base, tuned, groups))


def test_p_counts_groups():
    base, tuned = paired(fixed=12, broken=4, both_wrong=20)
    assert paired_p(base, tuned, range(36)) == mcnemar_exact(12, 4)
    assert paired_p(base, tuned, [index // 4 for index in range(36)]) == mcnemar_exact(3, 1)


@pytest.mark.parametrize(("fixed", "broken"), [(2.5, 0.5), (0.0, 0.3), (3.0, 1.25)])
def test_mcnemar_of_parts_is_the_beta_functions(fixed, broken):
    more, less = max(fixed, broken), min(fixed, broken)
    assert mcnemar_exact(fixed, broken) == pytest.approx(min(1.0, 2 * stats.beta.cdf(0.5, more, less + 1)))


def test_fewer_groups_make_a_wider_interval():
    base, tuned = paired(fixed=20)
    alone, grouped = (paired_interval(base, tuned, [index // size for index in range(20)]) for size in (1, 4))
    assert grouped.low < alone.low < alone.high == grouped.high == 1.0


def test_groups_of_different_sizes_count_as_fewer():
    assert effective_groups("aabbcc") == 3
    assert effective_groups("aaaabc") == 36 / 18


def test_the_interval_needs_two_scores_per_question():
    with pytest.raises(ConfigError) as error:
        paired_interval([1.0], [1.0, 0.0], [1])
    assert str(error.value) == "paired scores need two per question, got 1 and 2"


# Questions and seeds


@pytest.mark.parametrize("count", [2, 3, 5, 30])
def test_student_against_scipy(count):
    values = [math.sin(index) for index in range(count)]
    found = student(values)
    mean, error = sum(values) / count, stats.sem(values)
    expected = stats.t.interval(0.95, count - 1, loc=mean, scale=error)
    assert (found.low, found.high) == pytest.approx(expected, rel=1e-9)


def test_student_needs_two_values():
    with pytest.raises(ConfigError) as error:
        student([1.0])
    assert str(error.value) == "student() needs at least two values, got 1"


def test_with_several_seeds_it_is_never_narrower_than_students():
    generator = np.random.default_rng(0)
    for seeds in (2, 3, 5, 10):
        values = generator.normal(size=(seeds, 40)) + generator.normal(size=(seeds, 1))
        both, over_seeds = crossed_interval(values.tolist(), range(40)), student(values.mean(axis=1).tolist())
        assert both.low <= over_seeds.low < over_seeds.high <= both.high


def test_the_experiment_that_said_surely_where_nothing_was_sure():
    # Means of -6.8, -22.7 and -18.2 points by seed: Student's interval over them reaches from -36 to +4.
    values = [[-1.0] * lost + [0.0] * (44 - lost) for lost in (3, 10, 8)]
    found = crossed_interval(values, range(44))
    assert found.low < -0.36
    assert found.high > 0.04


def test_without_a_seed_effect_it_is_the_interval_over_questions_with_students_beside_it():
    values = [math.sin(7 * index) for index in range(50)]
    alone = crossed_interval([values], range(50), kind="unbounded")
    same = crossed_interval([values] * 3, range(50), kind="unbounded")
    assert (same.low, same.high) == pytest.approx((alone.low, alone.high))
    shifted = [[value + shift for value in values] for shift in (-0.1, 0.0, 0.1)]
    over_seeds = student([-0.1, 0.0, 0.1])
    found = crossed_interval(shifted, range(50), kind="unbounded")
    assert found.high - np.mean(values) == pytest.approx(math.hypot(alone.high - np.mean(values), over_seeds.high))


def test_a_loss_is_held_by_the_bootstrap_t_where_it_is_skewed():
    values = np.random.default_rng(3).exponential(size=12).tolist()
    found, students = crossed_interval([values], range(12)), student(values)
    assert found.low == pytest.approx(students.low)
    assert found.high > students.high + 0.1 * (students.high - students.low)
    assert found == crossed_interval([values], range(12))
    assert found != crossed_interval([values], range(12), seed=1)


def test_one_group_says_nothing_about_numbers_without_bounds():
    found = crossed_interval([[1.5, 2.5, 3.5]], "aaa")
    assert (found.low, found.high) == (-math.inf, math.inf)
    assert crossed_interval([[1.0, 1.0, 1.0]], "aaa", kind="scores").low == pytest.approx(0.025)


def test_the_former_name_is_kept():
    assert crossed_bootstrap([[1.0, 0.5], [0.5, 0.0]], [0, 1], num_resamples=500, seed=3) == crossed_interval(
        [[1.0, 0.5], [0.5, 0.0]], [0, 1]
    )


@pytest.mark.parametrize(
    ("values", "groups", "found"),
    [([], ["a"], "1 groups and rows of [] values"), ([[1.0], [1.0, 2.0]], ["a"], "1 groups and rows of [1, 2] values")],
)
def test_what_does_not_fit_is_refused(values, groups, found):
    with pytest.raises(ConfigError) as error:
        crossed_interval(values, groups)
    assert str(error.value) == f"crossed_interval() needs one value per group in every row, got {found}"


# What they promise


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name.partition(":")[0])
@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_the_interval_holds_the_true_value_as_often_as_it_says(case, seeds):
    """A small part of `python -m tests.benchmarks.coverage`, whose table is in docs/evaluation.md."""
    if seeds < case.least_seeds:
        pytest.skip("one run has no spread")
    for questions, grouped, share in [(10, False, 0.98), (30, True, 0.7)]:
        world = World(seeds=seeds, questions=questions, grouped=grouped, share=share)
        # 0.95 less twice the standard error of 250 draws.
        assert coverage(case, world, 250) >= 0.92


@pytest.mark.parametrize("size", [1, 4])
def test_an_even_coin_is_called_better_or_worse_in_at_most_5_of_100(size):
    generator = np.random.default_rng(0)
    called = 0
    for number in [10, 20, 40, 100] * 250:
        change = np.repeat(generator.choice([-1.0, 0.0, 1.0], p=[0.2, 0.6, 0.2], size=number), size)
        groups = [index // size for index in range(number * size)]
        interval = paired_interval(np.maximum(-change, 0).tolist(), np.maximum(change, 0).tolist(), groups)
        called += found(interval, groups=number) in ("higher", "lower")
    assert called <= 50


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_an_even_coin_with_several_seeds_is_called_better_or_worse_in_at_most_5_of_100(seeds):
    generator = np.random.default_rng(0)
    called = 0
    for _ in range(500):
        drift = generator.normal(scale=0.1, size=(seeds, 1))
        drawn = generator.random((seeds, 30))
        values = np.where(drawn < 0.2 + drift, 1.0, np.where(drawn > 0.8 + drift, -1.0, 0.0)).tolist()
        called += found(crossed_interval(values, range(30), kind="differences"), groups=30) != "unknown"
    assert called <= 25


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_no_finite_number_makes_nothing_certain(wrong):
    """NaN compares as false with everything, and was an interval of no width."""
    for values in ([[wrong, 1.0]], [[0.5, 0.25], [wrong, 0.0]], [[wrong]]):
        groups = range(len(values[0]))
        for kind, limits in (("scores", (0, 1)), ("differences", (-1, 1)), ("unbounded", (-math.inf, math.inf))):
            found = crossed_interval(values, groups, kind=kind)
            assert (found.low, found.high) == limits
    found = student([wrong, 0.5])
    assert (found.low, found.high) == (-math.inf, math.inf)
