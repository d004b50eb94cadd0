from __future__ import annotations

import itertools
import math
import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from glowgenius.errors import ConfigError
from glowgenius.evaluation.intervals import (
    Interval,
    clustered_bootstrap,
    crossed_bootstrap,
    mcnemar_exact,
    newcombe,
    paired_interval,
    student,
    wilson,
)

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


# Newcombe, paired


@pytest.mark.parametrize(
    ("cells", "limits"),
    [
        # Newcombe, Statistics in Medicine 17 (1998) 2635-2650, table II, method 10.
        ({"both_right": 36, "fixed": 12, "broken": 2, "both_wrong": 0}, (0.0569, 0.3404)),
        # Bentur et al. 2009, in Fagerland, Lydersen and Laake, section 8: -0.507 to -0.026 for base minus tuned.
        ({"both_right": 1, "fixed": 7, "broken": 1, "both_wrong": 12}, (0.026, 0.507)),
    ],
)
def test_newcombe_as_published(cells, limits):
    base, tuned = paired(**cells)
    found = newcombe(base, tuned, num_clusters=len(base))
    assert (found.low, found.high) == pytest.approx(limits, abs=5e-4)


@given(SCORES)
def test_newcombe_is_antisymmetric_and_holds_the_difference(pairs):
    base, tuned = zip(*pairs, strict=True)
    forward, back = (newcombe(*two, num_clusters=len(base)) for two in ((base, tuned), (tuned, base)))
    assert (forward.low, forward.high) == pytest.approx((-back.high, -back.low))
    assert -1 <= forward.low <= np.mean(tuned) - np.mean(base) + 1e-12
    assert np.mean(tuned) - np.mean(base) - 1e-12 <= forward.high <= 1


def test_newcombe_with_every_question_fixed_is_not_certain():
    base, tuned = paired(fixed=20)
    found = newcombe(base, tuned, num_clusters=20)
    # Two Wilson intervals of width 0.1611, at right angles.
    assert (found.low, found.high) == (pytest.approx(1 - 0.1611 * math.sqrt(2), abs=1e-4), 1.0)


# Bootstrap


def brute_force(clusters, level):
    """Every equally likely draw of clusters, and the quantiles of their means."""
    means = sorted(
        sum(map(sum, draw)) / sum(map(len, draw)) for draw in itertools.product(clusters, repeat=len(clusters))
    )
    return np.quantile(means, [(1 - level) / 2, (1 + level) / 2])


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_bootstrap_equals_all_possible_draws(level):
    clusters = [(1.0, 0.0), (-1.0,), (1.0, 1.0, 0.5), (0.25,)]
    differences = list(itertools.chain(*clusters))
    groups = ["a", "a", "b", "c", "c", "c", "d"]
    found = clustered_bootstrap(differences, groups, level=level, num_resamples=200_000, seed=1)
    assert (found.low, found.high) == pytest.approx(tuple(brute_force(clusters, level)), abs=0.02)
    assert found.level == level


def test_bootstrap_depends_on_its_seed_only():
    differences, groups = [1.0, 0.0, -1.0, 0.5] * 10, list(range(40))
    assert clustered_bootstrap(differences, groups, seed=7) == clustered_bootstrap(differences, groups, seed=7)
    first, second = (clustered_bootstrap(differences, groups, seed=seed, num_resamples=101) for seed in (1, 2))
    assert first != second


def test_bootstrap_draws_groups_not_questions():
    differences = [1.0] * 8 + [0.0] * 8
    together = clustered_bootstrap(differences, [index // 8 for index in range(16)])
    apart = clustered_bootstrap(differences, list(range(16)))
    assert (together.low, together.high) == (0.0, 1.0)
    assert 0.2 < apart.low < apart.high < 0.8


def test_bootstrap_of_many_groups_works_in_pieces(monkeypatch):
    differences, groups = [1.0, 0.0, -1.0, 0.5] * 10, list(range(40))
    whole = clustered_bootstrap(differences, groups)
    monkeypatch.setattr("glowgenius.evaluation.intervals._CHUNK", 400)
    assert clustered_bootstrap(differences, groups) == whole


@pytest.mark.parametrize(("differences", "groups"), [([], []), ([1.0], [1, 2])])
def test_bootstrap_refuses_what_does_not_pair(differences, groups):
    with pytest.raises(ConfigError) as error:
        clustered_bootstrap(differences, groups)
    found = f"{len(differences)} differences and {len(groups)} groups"
    assert str(error.value) == f"clustered_bootstrap() needs one group per difference and at least one, got {found}"


# Both together


def test_the_interval_covers_both_methods():
    base, tuned = paired(both_right=50, broken=2, fixed=12, both_wrong=36)
    groups = list(range(100))
    differences = [after - before for before, after in zip(base, tuned, strict=True)]
    drawn, score = clustered_bootstrap(differences, groups, seed=3), newcombe(base, tuned, num_clusters=100)
    assert paired_interval(base, tuned, groups, seed=3) == Interval(
        low=min(drawn.low, score.low), high=max(drawn.high, score.high)
    )


def test_fewer_groups_make_a_wider_interval():
    base, tuned = paired(fixed=20)
    alone, grouped = (
        paired_interval(base, tuned, [index // size for index in range(20)], num_resamples=100) for size in (1, 4)
    )
    assert grouped.low < alone.low < alone.high == grouped.high == 1.0


def test_the_interval_reaches_its_level():
    # 30 pairs, each fixed with probability 0.15 and broken with 0.05: the true difference is 0.1.
    generator = np.random.default_rng(0)
    hits = 0
    for _ in range(300):
        draw = generator.random(30)
        base = [float(0.15 <= value < 0.6) for value in draw]
        tuned = [float(value < 0.15 or 0.2 <= value < 0.6) for value in draw]
        hits += 0.1 in paired_interval(base, tuned, range(30), num_resamples=400)
    assert 0.93 <= hits / 300 <= 1.0


def test_the_interval_needs_two_scores_per_question():
    with pytest.raises(ConfigError) as error:
        paired_interval([1.0], [1.0, 0.0], [1])
    assert str(error.value) == "paired_interval() needs two scores per question, got 1 and 2"


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


def test_crossed_bootstrap_of_one_seed_is_the_clustered_one():
    values = [math.sin(index) for index in range(60)]
    groups = [index // 3 for index in range(60)]
    crossed = crossed_bootstrap([values], groups, num_resamples=40_000)
    clustered = clustered_bootstrap(values, groups, num_resamples=40_000)
    assert (crossed.low, crossed.high) == pytest.approx((clustered.low, clustered.high), abs=0.005)


def test_crossed_bootstrap_has_the_spread_of_both():
    # Value = question effect + seed effect, both with known variance, so the variance of the mean is their sum.
    questions, seeds = [math.sin(7 * index) for index in range(50)], [0.1 * index for index in range(6)]
    values = [[question + seed for question in questions] for seed in seeds]
    found = crossed_bootstrap(values, range(50), num_resamples=20_000)
    variance = statistics.pvariance(questions) / 50 + statistics.pvariance(seeds) / 6
    assert (found.high - found.low) / (2 * 1.96) == pytest.approx(math.sqrt(variance), rel=0.03)


@pytest.mark.parametrize(
    ("values", "groups", "found"),
    [([], ["a"], "1 groups and rows of [] values"), ([[1.0], [1.0, 2.0]], ["a"], "1 groups and rows of [1, 2] values")],
)
def test_crossed_bootstrap_refuses_what_does_not_fit(values, groups, found):
    with pytest.raises(ConfigError) as error:
        crossed_bootstrap(values, groups)
    assert str(error.value) == f"crossed_bootstrap() needs one value per group in every row, got {found}"
