"""Confidence intervals, the verdict rule, and rounding of reported numbers."""

from __future__ import annotations

import functools
import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, final

from attrs import frozen

from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy as np
    import numpy.typing as npt

    Array: TypeAlias = npt.NDArray[np.float64]

NUM_RESAMPLES: Final = 2_000
"""Draws of the bootstrap by default."""

_CHUNK: Final = 1_000_000
"""Group draws held in memory at once (8 bytes each)."""

_LEAST_DRAWN: Final = 8
"""With fewer groups most draws repeat themselves, and Student's interval of a higher level stands alone."""

Kind: TypeAlias = Literal["scores", "differences", "unbounded"]
"""What values are: scores from 0 to 1, differences of two scores, or numbers without bounds such as a loss."""


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
        """Whether *value* is within the limits, both included."""
        return self.low <= value <= self.high


def wilson(successes: float, trials: int, *, level: float = 0.95) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927).

    It holds the true share in 95 % of cases on average over shares; close to 0 and 1 it may hold it in 84 %, which is
    why what is printed comes from `clopper_pearson`.

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


def clopper_pearson(successes: float, trials: float, *, level: float = 0.95) -> Interval:
    """Exact interval of a proportion (Clopper and Pearson 1934): coverage is at least *level*.

    Args:
        successes: How many of the trials succeeded, from 0 to *trials*; whole or not, as for `wilson`.
        trials: How many there were, above 0. An effective number of trials need not be whole.
        level: Between 0 and 1.

    Raises:
        ConfigError: An argument is out of range.
    """
    if trials <= 0 or not 0 <= successes <= trials:
        found = f"{successes!r} of {trials!r}"
        raise ConfigError(f"clopper_pearson() needs 0 ≤ successes ≤ trials and trials > 0, got {found}")
    _quantile(level)
    low, high = _exact_limits(float(successes), float(trials), level)
    return Interval(low=low, high=high, level=level)


@functools.lru_cache(maxsize=4096)
def _exact_limits(successes: float, trials: float, level: float) -> tuple[float, float]:
    """The limits of `clopper_pearson`: quantiles of two beta distributions."""
    tail, failures = (1 - level) / 2, trials - successes
    low = 0.0 if successes <= 0 else _beta_quantile(successes, failures + 1, tail)
    high = 1.0 if failures <= 0 else _beta_quantile(successes + 1, failures, 1 - tail)
    return low, high


def mcnemar_exact(fixed: float, broken: float) -> float:
    """Two-sided p-value of McNemar's exact (binomial) test.

    Under the null a changed question is as likely fixed as broken, so the smaller count is Binomial(fixed + broken, ½);
    p is twice its lower tail, at most 1. Whole counts are computed in whole numbers, exact up to one rounding.

    Args:
        fixed: Questions that turned from wrong to right, at least 0. Counts that are not whole, as of groups that
            changed in part, take the binomial tail's continuation by the beta function.
        broken: Questions that turned from right to wrong, at least 0.

    Raises:
        ConfigError: A count is negative.
    """
    if fixed < 0 or broken < 0:
        raise ConfigError(f"mcnemar_exact() needs counts ≥ 0, got fixed={fixed!r} and broken={broken!r}")
    less, more = min(fixed, broken), max(fixed, broken)
    if less == more:
        return 1.0
    if not float(less).is_integer() or not float(more).is_integer():
        return min(1.0, 2 * _beta_below(more, less + 1, 0.5))
    changed = int(less + more)
    tail = sum(math.comb(changed, count) for count in range(int(less) + 1))
    return min(1.0, 2 * tail / (1 << changed))


def student(values: Sequence[float], *, level: float = 0.95) -> Interval:
    """Student's t interval of the mean of a few independent values, such as one loss per training seed.

    Args:
        values: At least two.
        level: Between 0 and 1.

    Raises:
        ConfigError: There are fewer than two values, or *level* is out of range.
    """
    if len(values) < 2:  # noqa: PLR2004 - one value has no spread
        raise ConfigError(f"student() needs at least two values, got {len(values)}")
    if not all(map(math.isfinite, values)):
        return Interval(low=-math.inf, high=math.inf, level=level)
    mean, number = math.fsum(values) / len(values), len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (number - 1))
    around = student_quantile(level, number - 1) * deviation / math.sqrt(number)
    return Interval(low=mean - around, high=mean + around, level=level)


@functools.lru_cache(maxsize=1024)
def student_quantile(level: float, freedom: int) -> float:
    """Two-sided Student's t quantile: |T| stays below it with probability *level*."""
    _quantile(level)
    # P(|T| > t) = I_x(freedom / 2, 1/2) at x = freedom / (freedom + t²) (Abramowitz and Stegun 1964, 26.5.27).
    x = _beta_quantile(freedom / 2, 0.5, 1 - level)
    return math.sqrt(freedom * (1 - x) / x)


def crossed_interval(
    values: Sequence[Sequence[float]],
    groups: Sequence[Hashable],
    *,
    kind: Kind | None = None,
    level: float = 0.95,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = 0,
) -> Interval:
    """Interval of a mean over questions and training seeds, both treated as samples.

    Two intervals are made: Student's over the means of the seeds, and one over questions whose values are means over
    the seeds. Their margins are joined as the sides of a right angle, m ± √(a² + b²), each with its own degrees of
    freedom; such an interval covers at least as often as it says (Banerjee, "On confidence interval for two-means
    problem", *Sankhyā* A 23 (1961)), and it is never narrower than Student's over the seeds. With one seed there is
    only the interval over questions, which says nothing about what another seed would give.

    Over questions, whole groups are the sample, as questions about one entity stand or fall together; groups of
    different sizes count as N² / Σ n² equal ones (Kish 1965).

    - Scores have the interval of `clopper_pearson`.
    - Differences of scores have the exact limits of what was gained and of what was lost, joined in the same way with
      their correlation (Newcombe 1998; Zou and Donner 2008); 0 belongs to them unless McNemar's exact test excludes it.
    - Numbers without bounds have Student's interval of the group means, widened to cover the bootstrap-t (Efron and
      Tibshirani 1993, chapter 12), as losses are skewed. Where groups differ in size, scores are widened by Student's.

    Args:
        values: One row per seed, one value per question, S × N of them.
        groups: The group of each question, N of them.
        kind: What the values are. None goes by them: where all lie from -1 to 1 and one is whole, they are taken for
            differences of scores, which is the wider reading.
        level: Between 0 and 1.
        num_resamples: Draws of the bootstrap-t.
        seed: Of the bootstrap-t.

    Returns:
        The limits; infinite where a single group says nothing about numbers without bounds, and as wide as can be where
        a value is no finite number.

    Raises:
        ConfigError: The lengths differ, there is no value, or *level* is out of range.
    """
    import numpy as np

    if not values or not len(groups) or any(len(row) != len(groups) for row in values):
        lengths = sorted({len(row) for row in values})
        found = f"{len(groups)} groups and rows of {lengths} values"
        raise ConfigError(f"crossed_interval() needs one value per group in every row, got {found}")
    _quantile(level)
    rows = np.array(values, dtype=np.float64)
    sample = _Groups.of(rows, groups)
    chosen = kind or ("differences" if (np.abs(rows) <= 1).all() and (rows == np.round(rows)).any() else "unbounded")
    finite = bool(np.isfinite(rows).all())
    low, high = _over_questions(rows, sample, chosen, level, num_resamples, seed) if finite else (-math.inf, math.inf)
    if len(rows) > 1 and finite:
        over_seeds = student([math.fsum(row) / len(row) for row in rows.tolist()], level=level)
        low = sample.mean - math.hypot(sample.mean - low, sample.mean - over_seeds.low)
        high = sample.mean + math.hypot(high - sample.mean, over_seeds.high - sample.mean)
    least, most = {"scores": (0.0, 1.0), "differences": (-1.0, 1.0), "unbounded": (-math.inf, math.inf)}[chosen]
    return Interval(low=max(least, low), high=min(most, high), level=level)


crossed_bootstrap = crossed_interval
"""The former name, from when the interval was a bootstrap alone, which covered too little with few seeds."""


def score_interval(scores: Sequence[float], groups: Sequence[Hashable], *, level: float = 0.95) -> Interval:
    """Interval of one model's mean score: `crossed_interval` with one seed, so over questions only.

    Args:
        scores: One per question, from 0 to 1.
        groups: The group of each question, as many.
        level: Between 0 and 1.

    Raises:
        ConfigError: The lengths differ, there is no score, or *level* is out of range.
    """
    return crossed_interval([scores], groups, kind="scores", level=level)


def paired_interval(
    base: Sequence[float], tuned: Sequence[float], groups: Sequence[Hashable], *, level: float = 0.95
) -> Interval:
    """Interval of the mean difference between two score lists of the same questions, over questions only.

    It is `crossed_interval` of the differences, which holds 0 unless `paired_p` is below 1 - *level*.

    Args:
        base: One score in [0, 1] per question, N of them.
        tuned: The scores of the same questions after the change, N of them.
        groups: The group of each question, N of them.
        level: Between 0 and 1.

    Raises:
        ConfigError: The lengths differ, there is no question, or an argument is out of range.
    """
    return crossed_interval([_differences(base, tuned)], groups, kind="differences", level=level)


def paired_p(base: Sequence[float], tuned: Sequence[float], groups: Sequence[Hashable]) -> float:
    """Two-sided p-value of McNemar's exact test, with groups as the sample.

    What was gained and what was lost is counted in groups: the mean gain times the effective number of groups, and the
    same for losses. Where every question is its own group and scores are 0 or 1, these are the numbers of questions
    fixed and broken; where the questions of a group change together, the numbers of groups.

    Args:
        base: One score in [0, 1] per question, N of them.
        tuned: The scores of the same questions after the change, N of them.
        groups: The group of each question, N of them.

    Raises:
        ConfigError: The numbers of scores differ.
    """
    changes = _differences(base, tuned)
    number = effective_groups(groups)
    gained, lost = (
        math.fsum(max(0.0, sign * change) for change in changes) * number / len(changes) for sign in (1, -1)
    )
    return mcnemar_exact(_whole(gained), _whole(lost))


def effective_groups(groups: Sequence[Hashable]) -> float:
    """Effective number of equally large groups: N² / Σ n² (Kish 1965)."""
    sizes: dict[Hashable, int] = {}
    for group in groups:
        sizes[group] = sizes.get(group, 0) + 1
    return len(groups) ** 2 / sum(size * size for size in sizes.values())


@final
@frozen(kw_only=True, eq=False)
class _Groups:
    """Values averaged over seeds, by group."""

    sums: Array
    """The sum of the values of each group."""

    sizes: Array
    """The number of questions of each."""

    mean: float
    """Of all values."""

    effective: float
    """`effective_groups`."""

    @classmethod
    def of(cls, rows: Array, groups: Sequence[Hashable]) -> _Groups:
        import numpy as np

        index: dict[Hashable, int] = {}
        members = np.array([index.setdefault(group, len(index)) for group in groups], dtype=np.int64)
        averages = rows.mean(axis=0)
        sizes = np.bincount(members).astype(np.float64)
        return cls(
            sums=np.bincount(members, weights=averages).astype(np.float64),
            sizes=sizes,
            mean=math.fsum(averages.tolist()) / len(averages),
            effective=len(groups) ** 2 / float((sizes**2).sum()),
        )

    @property
    def error(self) -> float:
        """Standard error of the mean, with groups as the sample; needs at least two."""
        apart = self.sums - self.mean * self.sizes
        number = len(self.sizes)
        return math.sqrt(number / (number - 1) * float(apart @ apart)) / float(self.sizes.sum())


def _over_questions(
    rows: Array, sample: _Groups, kind: Kind, level: float, num_resamples: int, seed: int
) -> tuple[float, float]:
    """Confidence limits over questions, whose values are means over seeds."""
    number, mean = len(sample.sizes), sample.mean
    around = student_quantile(level, number - 1) * sample.error if number > 1 else math.inf
    if kind == "unbounded":
        if 1 < number < _LEAST_DRAWN:
            # Skewed losses of so few groups need wider limits than Student's, and there are too few groups to resample.
            around = student_quantile(1 - (1 - level) / 5, number - 1) * sample.error
        # Values that differ only by rounding errors count as equal.
        spread = number >= _LEAST_DRAWN and sample.error > 1e-12 * float(abs(sample.sums).sum())
        wide = _bootstrap_t(sample, level, num_resamples, seed) if spread else (0.0, 0.0)
        return min(mean - around, mean - wide[0]), max(mean + around, mean + wide[1])
    exact = _exact_of_scores(sample, level) if kind == "scores" else _exact_of_differences(rows, sample, level)
    if number == 1 or math.isclose(sample.effective, number):
        return exact
    # Large groups may differ from small ones, which the effective number of groups does not reflect.
    return min(exact[0], mean - around), max(exact[1], mean + around)


def _exact_of_scores(sample: _Groups, level: float) -> tuple[float, float]:
    share = min(1.0, max(0.0, sample.mean))
    exact = clopper_pearson(_whole(share * sample.effective), sample.effective, level=level)
    return exact.low, exact.high


def _exact_of_differences(rows: Array, sample: _Groups, level: float) -> tuple[float, float]:
    """Gains and losses with their exact intervals, and the interval of their difference."""
    import numpy as np

    number = sample.effective
    gain, loss = (min(1.0, float(np.maximum(sign * rows, 0.0).mean())) for sign in (1, -1))
    gains, losses = (min(number, _whole(share * number)) for share in (gain, loss))
    gained, lost = (clopper_pearson(count, number, level=level) for count in (gains, losses))
    # No question is both gained and lost, so the two shares are negatively correlated.
    scale = (1 - gain) * (1 - loss)
    together = min(1.0, math.sqrt(gain * loss / scale)) if scale > 0 else 1.0 * (gain * loss > 0)
    down = _joined(gain - gained.low, lost.high - loss, together)
    up = _joined(gained.high - gain, loss - lost.low, together)
    low, high = sample.mean - down, sample.mean + up
    told = mcnemar_exact(gains, losses) < 1 - level
    return (low, high) if told else (min(0.0, low), max(0.0, high))


def _bootstrap_t(sample: _Groups, level: float, num_resamples: int, seed: int) -> tuple[float, float]:
    """Distances of the bootstrap-t limits below and above the mean; groups are drawn with replacement."""
    import numpy as np

    generator = np.random.Generator(np.random.PCG64(seed))
    number = len(sample.sizes)
    studentised: list[Array] = []
    powers = np.stack([sample.sums, sample.sizes, sample.sums**2, sample.sums * sample.sizes, sample.sizes**2])
    chunk = max(1, _CHUNK // number)
    for start in range(0, num_resamples, chunk):
        drawn = generator.integers(0, number, size=(min(chunk, num_resamples - start), number))
        total, size, squares, products, sizes = (power[drawn].sum(axis=1) for power in powers)
        mean = total / size
        spread = squares - 2 * mean * products + mean * mean * sizes
        error = np.sqrt(number / (number - 1) * np.maximum(spread, 0.0)) / size
        # A resample with one distinct group has no spread, so it is left out.
        told = error > 1e-9 * sample.error
        studentised.append((mean - sample.mean)[told] / error[told])
    # A sample of few groups is less skewed than its population, so uncorrected limits would be too narrow.
    tail = (1 - level) / 2 * max(0.4, 1 - 15 / number)
    low, high = np.quantile(np.concatenate(studentised), [tail, 1 - tail])
    return float(high) * sample.error, -float(low) * sample.error


def _differences(base: Sequence[float], tuned: Sequence[float]) -> list[float]:
    if len(base) != len(tuned) or not base:
        raise ConfigError(f"paired scores need two per question, got {len(base)} and {len(tuned)}")
    return [after - before for before, after in zip(base, tuned, strict=True)]


def _whole(value: float) -> float:
    """*value* without the rounding error of a product that is an integer."""
    return float(round(value)) if math.isclose(value, round(value), rel_tol=1e-9, abs_tol=1e-9) else value


def _quantile(level: float) -> float:
    """Normal quantile of a two-sided interval."""
    if not 0 < level < 1:
        raise ConfigError(f"level must be between 0 and 1, got {level!r}")
    return NormalDist().inv_cdf((1 + level) / 2)


def _joined(one: float, other: float, together: float) -> float:
    """Combined length of two margins with a given correlation."""
    return math.sqrt(max(0.0, one * one + 2 * together * one * other + other * other))


def _beta_quantile(a: float, b: float, share: float) -> float:
    """Quantile of Beta(a, b): the x with P(X ≤ x) = *share*, by Newton's method within a shrinking bracket."""
    scale = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    low, high, x = 0.0, 1.0, a / (a + b)
    for _ in range(200):
        over = _beta_below(a, b, x) - share
        low, high = (low, x) if over > 0 else (x, high)
        slope = math.exp(min(700.0, scale + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)))
        following = x - over / slope if slope > 0 else low
        if not low < following < high:
            following = (low + high) / 2
        if abs(following - x) <= 1e-14 * x or following in (low, high):
            return following
        x = following
    return x


def _beta_below(a: float, b: float, x: float) -> float:
    """P(X ≤ x) for X ~ Beta(a, b): the regularised incomplete beta function.

    By its continued fraction (*DLMF* 8.17.22), evaluated by Lentz's method on the side where it converges fast.
    """
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):
        return 1 - _beta_below(b, a, 1 - x)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)) / a
    value, c, d = 1.0, 1.0, 0.0
    for step in range(1, 10_000):
        half = step // 2
        if step % 2:
            term = -(a + half) * (a + b + half) * x / ((a + 2 * half) * (a + 2 * half + 1))
        else:
            term = half * (b - half) * x / ((a + 2 * half - 1) * (a + 2 * half))
        d = 1 / (1 + term * d or 1e-300)
        c = 1 + term / c or 1e-300
        value *= c * d
        if abs(c * d - 1) < 1e-15:  # noqa: PLR2004 - the last digit of a double
            break
    return min(1.0, front / value)


def percent(share: float) -> str:
    """A share as a percentage, in whole numbers unless that would round to 0 or 100."""
    return f"{_short_of_the_ends(100 * share)} %"


def limits(low: float, high: float) -> str:
    """Two limits of a share as percentages, without the sign."""
    return f"{percent(low).removesuffix(' %')} to {percent(high).removesuffix(' %')}"


def points(difference: float) -> str:
    """A difference of shares in signed percentage points; shown as 0 only if it is 0."""
    text = _short_of_the_ends(abs(100 * difference))
    if text == "0":
        return text
    return f"{'-' if difference < 0 else '+'}{text}"


def at_most(low: float, high: float) -> str:
    """The limit further from 0, as an amount in percentage points with one decimal if it has any."""
    return f"{100 * max(abs(low), abs(high)):.1f}".removesuffix(".0")


def p_value(p: float) -> str:
    """A p-value with three decimals, or `<0.001`."""
    return f"{p:.3f}" if p >= 0.001 else "<0.001"  # noqa: PLR2004 - the last decimal shown


def _short_of_the_ends(value: float) -> str:
    """*value* from 0 to 100 with as few decimals as possible without rounding to 0 or 100."""
    for decimals in range(6):
        text = f"{value:.{decimals}f}"
        if float(text) not in {0.0, 100.0}:
            return text
    return f"{value:.0f}"


FEWEST_GROUPS: Final = 10
"""With fewer independent groups of questions there is no verdict."""

MARGIN: Final = 0.05
"""A difference that surely lies within it is called "at most x either way": 5 points of a score."""

Finding: TypeAlias = Literal["higher", "lower", "same", "unknown"]
"""What an interval of a difference says: surely above 0, surely below, surely close to it, or none of these."""

RULE: Final = (
    "Better or worse: the 95 % interval leaves out 0. At most x points either way: it holds 0 and ends within 5 points "
    "of it. Too few questions to tell: all else, and whatever rests on fewer than 10 questions (or groups of them). "
    "Intervals are over questions alone: another training seed gives another model."
)
"""The rule in words, as it is printed beside the verdicts of a comparison."""


def found(interval: Interval, *, groups: int | None, margin: float = MARGIN) -> Finding:
    """Verdict on the interval of a difference.

    Args:
        interval: Of the difference.
        groups: How many independent groups of questions it rests on; None where it rests on seeds alone.
        margin: Within which a difference counts as none.
    """
    if groups is not None and groups < FEWEST_GROUPS:
        return "unknown"
    if interval.low > 0:
        return "higher"
    if interval.high < 0:
        return "lower"
    return "same" if -margin <= interval.low and interval.high <= margin else "unknown"
