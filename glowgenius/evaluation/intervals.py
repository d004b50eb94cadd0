"""How sure a number is: Wilson's interval, a paired interval that respects groups, McNemar's exact test.

Each function names its method and the source. numpy is loaded when the bootstrap runs.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, final

from attrs import frozen

from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy as np
    import numpy.typing as npt

NUM_RESAMPLES: Final = 10_000
"""Bootstrap resamples by default."""

_CHUNK: Final = 2_000_000
"""Cluster draws held in memory at once (8 bytes each)."""


@final
@frozen(kw_only=True)
class Interval:
    """A confidence interval."""

    low: float
    """The lower limit."""

    high: float
    """The upper limit."""

    level: float = 0.95
    """The share of such intervals that hold the true value."""

    def __contains__(self, value: float) -> bool:
        """Whether *value* lies within the limits, which belong to the interval."""
        return self.low <= value <= self.high


def wilson(successes: float, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927; recommended by Brown, Cai and DasGupta 2001 for any n).

    Args:
        successes: How many of the trials succeeded, from 0 to *trials*. A sum of scores in [0, 1] may be given: its
            variance is at most that of successes, so the interval is then too wide rather than too narrow.
        trials: How many there were, at least 1.
        level: Between 0 and 1.

    Raises:
        ConfigError: An argument is out of range.
    """
    if trials < 1 or not 0 <= successes <= trials:
        raise ConfigError(f"wilson() needs 0 ≤ successes ≤ trials and trials ≥ 1, got {successes!r} of {trials!r}")
    z = _quantile(level)
    share = successes / trials
    centre = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    spread = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    # At the ends the limits are 0 and 1 exactly; rounding must not move them.
    low = 0.0 if successes == 0 else max(0.0, centre - spread)
    high = 1.0 if successes == trials else min(1.0, centre + spread)
    return Interval(low=low, high=high, level=level)


def mcnemar_exact(fixed: int, broken: int) -> float:
    """The two-sided p of McNemar's test in its exact (binomial) form.

    Under the null a changed question is as likely fixed as broken, so the smaller count is Binomial(fixed + broken, ½);
    p is twice its lower tail, at most 1. Computed in whole numbers, so it is exact up to one rounding.

    Args:
        fixed: Questions that turned from wrong to right, at least 0.
        broken: Questions that turned from right to wrong, at least 0.

    Raises:
        ConfigError: A count is negative.
    """
    if fixed < 0 or broken < 0:
        raise ConfigError(f"mcnemar_exact() needs counts ≥ 0, got fixed={fixed!r} and broken={broken!r}")
    changed = fixed + broken
    tail = sum(math.comb(changed, count) for count in range(min(fixed, broken) + 1))
    return min(1.0, 2 * tail / (1 << changed))


def clustered_bootstrap(
    differences: Sequence[float],
    groups: Sequence[Hashable],
    *,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap interval of a mean of paired differences, resampling whole groups.

    Questions about one entity stand or fall together, so groups are drawn with replacement, as many as there are, and
    each draw's value is the mean over all its questions. Percentile limits as in Efron and Tibshirani, *An Introduction
    to the Bootstrap* (1993), chapter 13; numpy's `Generator(PCG64(seed))` draws, so one seed gives one interval.
    BCa is not used: on 0/1 scores its correction is unstable, and undefined where all groups agree.

    Args:
        differences: One difference per question, tuned minus base, N of them.
        groups: The group of each question, N of them.
        level: Between 0 and 1.
        num_resamples: How many data sets to draw.
        seed: Of the generator, at least 0.

    Raises:
        ConfigError: The lengths differ, there is nothing to resample, or an argument is out of range.
    """
    import numpy as np

    if len(differences) != len(groups) or not differences:
        found = f"{len(differences)} differences and {len(groups)} groups"
        raise ConfigError(f"clustered_bootstrap() needs one group per difference and at least one, got {found}")
    _quantile(level)
    sums, sizes = _cluster_sums(differences, groups)
    generator = np.random.Generator(np.random.PCG64(seed))
    means: list[npt.NDArray[np.float64]] = []
    chunk = max(1, _CHUNK // len(sums))
    for start in range(0, num_resamples, chunk):
        drawn = generator.integers(0, len(sums), size=(min(chunk, num_resamples - start), len(sums)))
        means.append(sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def crossed_bootstrap(
    values: Sequence[Sequence[float]],
    groups: Sequence[Hashable],
    *,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The percentile bootstrap interval of a mean over questions and training seeds, both of which are samples.

    Groups of questions and seeds are drawn independently, with replacement, and a draw's value is the mean over all
    pairs of them: the pigeonhole bootstrap of Owen, "The pigeonhole bootstrap", *Annals of Applied Statistics* 1
    (2007), which is rather too wide than too narrow. With one seed it is `clustered_bootstrap`, and says nothing about
    what another seed would give.

    Args:
        values: One row per seed, one value per question, S × N of them.
        groups: The group of each question, N of them.
        level: Between 0 and 1.
        num_resamples: How many data sets to draw.
        seed: Of the generator, at least 0.

    Raises:
        ConfigError: The lengths differ, there is nothing to resample, or *level* is out of range.
    """
    import numpy as np

    if not values or not groups or any(len(row) != len(groups) for row in values):
        lengths = sorted({len(row) for row in values})
        found = f"{len(groups)} groups and rows of {lengths} values"
        raise ConfigError(f"crossed_bootstrap() needs one value per group in every row, got {found}")
    _quantile(level)
    parts = [_cluster_sums(row, groups) for row in values]
    sums, sizes = np.stack([part for part, _ in parts]), parts[0][1]
    runs, clusters = sums.shape
    means: list[npt.NDArray[np.float64]] = []
    generator = np.random.Generator(np.random.PCG64(seed))
    chunk = max(1, _CHUNK // clusters)
    for start in range(0, num_resamples, chunk):
        size = min(chunk, num_resamples - start)
        drawn = generator.multinomial(clusters, np.full(clusters, 1 / clusters), size=size)
        chosen = generator.multinomial(runs, np.full(runs, 1 / runs), size=size)
        means.append(((drawn @ sums.T) * chosen).sum(axis=1) / (runs * (drawn @ sizes)))
    low, high = np.quantile(np.concatenate(means), [(1 - level) / 2, (1 + level) / 2])
    return Interval(low=float(low), high=float(high), level=level)


def student(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Student's interval of the mean of a few independent numbers, such as one loss per training seed.

    Args:
        values: At least two.
        level: Between 0 and 1.

    Raises:
        ConfigError: There are fewer than two values, or *level* is out of range.
    """
    if len(values) < 2:  # noqa: PLR2004 - one value has no spread
        raise ConfigError(f"student() needs at least two values, got {len(values)}")
    _quantile(level)
    mean, number = math.fsum(values) / len(values), len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (number - 1))
    around = _student_quantile(level, number - 1) * deviation / math.sqrt(number)
    return Interval(low=mean - around, high=mean + around, level=level)


def _student_quantile(level: float, freedom: int) -> float:
    """The t that |T| stays below with probability *level*; found by bisection."""
    low, high = 0.0, 1.0
    while _student_within(high, freedom) < level:
        high *= 2
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if _student_within(middle, freedom) < level else (low, middle)
    return (low + high) / 2


def _student_within(t: float, freedom: int) -> float:
    """P(|T| < t) for a whole number of degrees of freedom (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    angle = math.atan(t / math.sqrt(freedom))
    odd = freedom % 2
    term, total = math.cos(angle) if odd else 1.0, 0.0
    for index in range(freedom // 2):
        total += term
        term *= math.cos(angle) ** 2 * (2 * index + 1 + odd) / (2 * index + 2 + odd)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total


def newcombe(base: Sequence[float], tuned: Sequence[float], *, num_clusters: int, level: float = 0.95) -> Interval:
    """Newcombe's score interval for the difference of two paired proportions.

    Method 10 of Newcombe, "Improved confidence intervals for the difference between binomial proportions based on
    paired data", *Statistics in Medicine* 17 (1998): Wilson's intervals of the two shares, joined with the correlation
    of the pairs (with his continuity correction).

    Args:
        base: One score in [0, 1] per question, N of them.
        tuned: The scores of the same questions after the change, N of them.
        num_clusters: How many independent groups the questions form; it takes the place of the sample size.
        level: Between 0 and 1.
    """
    number, k = len(base), num_clusters
    before, after = math.fsum(base) / number, math.fsum(tuned) / number
    old, new = wilson(k * before, k, level=level), wilson(k * after, k, level=level)
    together = math.fsum(x * y for x, y in zip(base, tuned, strict=True)) / number
    excess = k * k * (together - before * after)
    if excess > 0:
        excess = max(0.0, excess - k / 2)
    scale = k * k * math.sqrt(before * (1 - before) * after * (1 - after))
    correlation = excess / scale if scale > 0 else 0.0
    down = _joined(after - new.low, old.high - before, correlation)
    up = _joined(new.high - after, before - old.low, correlation)
    difference = after - before
    return Interval(low=max(-1.0, difference - down), high=min(1.0, difference + up), level=level)


def paired_interval(
    base: Sequence[float],
    tuned: Sequence[float],
    groups: Sequence[Hashable],
    *,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """The interval of the mean difference between two sets of scores of the same questions.

    It is the clustered bootstrap, widened where needed to cover Newcombe's interval with the groups as sample.
    A bootstrap cannot draw what did not happen: 5 questions of 5 fixed give it +100 to +100 points, as if a sixth
    could not fail.

    Args:
        base: One score in [0, 1] per question, N of them.
        tuned: The scores of the same questions after the change, N of them.
        groups: The group of each question, N of them.
        level: Between 0 and 1.
        num_resamples: How many data sets the bootstrap draws.
        seed: Of the bootstrap.

    Raises:
        ConfigError: The lengths differ, there is no question, or an argument is out of range.
    """
    if len(base) != len(tuned):
        raise ConfigError(f"paired_interval() needs two scores per question, got {len(base)} and {len(tuned)}")
    differences = [after - before for before, after in zip(base, tuned, strict=True)]
    drawn = clustered_bootstrap(differences, groups, level=level, num_resamples=num_resamples, seed=seed)
    score = newcombe(base, tuned, num_clusters=len(set(groups)), level=level)
    return Interval(low=min(drawn.low, score.low), high=max(drawn.high, score.high), level=level)


def _quantile(level: float) -> float:
    """The normal quantile of a two-sided interval."""
    if not 0 < level < 1:
        raise ConfigError(f"level must be between 0 and 1, got {level!r}")
    return NormalDist().inv_cdf((1 + level) / 2)


def _cluster_sums(
    differences: Sequence[float], groups: Sequence[Hashable]
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """The sum of the differences and the number of questions of each group, in order of first appearance."""
    import numpy as np

    index: dict[Hashable, int] = {}
    members = np.array([index.setdefault(group, len(index)) for group in groups], dtype=np.int64)
    sums = np.bincount(members, weights=np.array(differences, dtype=np.float64)).astype(np.float64)
    return sums, np.bincount(members).astype(np.float64)


def _joined(one: float, other: float, correlation: float) -> float:
    """The length of two margins put together at an angle given by their correlation."""
    return math.sqrt(max(0.0, one * one - 2 * correlation * one * other + other * other))
