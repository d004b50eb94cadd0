"""Base and tuned model on one slice of questions: scores, uncertainty, and a verdict by rule."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

from attrs import evolve, frozen

from glowgenius.evaluation.answers import RIGHT, EvaluationResult, EvaluationRow, finite
from glowgenius.evaluation.evaluate import AnswerLosses, MajorityBaseline
from glowgenius.evaluation.intervals import (
    FEWEST_GROUPS,
    Finding,
    Interval,
    at_most,
    found,
    paired_interval,
    paired_p,
    percent,
    points,
    score_interval,
)
from glowgenius.evaluation.ranking import RankingResult

if TYPE_CHECKING:
    from collections.abc import Mapping

ABSTAINS: Final = "abstains"
"""The metric of slices about things that do not exist; one minus it is the share of confident nonsense."""


@final
@frozen(kw_only=True)
class Pair:
    """One question with the answers of both models."""

    base: EvaluationRow
    """The answer before training."""

    tuned: EvaluationRow
    """The answer after training."""

    @property
    def question(self) -> str:
        """The question's text."""
        return self.base.question

    @property
    def accepted(self) -> tuple[str, ...]:
        """Accepted answers."""
        return self.base.accepted

    def to_dict(self) -> dict[str, Any]:
        """The pair as JSON values."""
        return {
            "index": self.base.index,
            "id": self.base.id,
            "question": self.question,
            "accepted": list(self.accepted),
            "base": self.base.prediction,
            "tuned": self.tuned.prediction,
        }


@final
@frozen(kw_only=True)
class SliceComparison:
    """Base and tuned model compared on one slice of questions.

    A question is right from a score of `RIGHT` (0.5) on; for exact match and contains that is a score of 1.
    """

    name: str
    """The slice."""

    metric: str
    """The metric that decides what is right, and whose difference is reported."""

    base: EvaluationResult
    """The answers before training."""

    tuned: EvaluationResult
    """The answers after training."""

    fixed: tuple[Pair, ...]
    """Wrong before, right after."""

    broken: tuple[Pair, ...]
    """Right before, wrong after."""

    both_right: tuple[Pair, ...]
    """Right before and after."""

    both_wrong: tuple[Pair, ...]
    """Wrong before and after."""

    difference: float
    """Mean score of tuned minus mean score of base, from -1 to 1."""

    interval: Interval
    """The 95 % interval of the difference, from `paired_interval`, over groups of questions; of this one run."""

    mcnemar_p: float
    """Exact two-sided p of fixed against broken, from `paired_p`: counted in groups where questions have them."""

    baseline: MajorityBaseline
    """What one fixed answer to every question scores."""

    name_baseline: float | None = None
    """What `evaluation.name_baseline` scores; None without a training set."""

    few_shot: EvaluationResult | None = None
    """The base model's answers behind worked examples; None if it was not asked so."""

    ranking: tuple[RankingResult, RankingResult] | None = None
    """How base and tuned rank the possible answers; None if no candidates were given."""

    tokens: tuple[AnswerLosses, ...] = ()
    """Some reference answers token by token, under both models."""

    parts: tuple[SliceComparison, ...] = ()
    """The questions that were trained, and those that were not, each by itself; empty unless there are both."""

    @classmethod
    def of(
        cls,
        name: str,
        base: EvaluationResult,
        tuned: EvaluationResult,
        *,
        metric: str,
        baseline: MajorityBaseline,
    ) -> SliceComparison:
        """Compare two results whose rows are already checked to match.

        Args:
            name: Of the slice.
            base: The answers before training.
            tuned: The answers to the same questions after training.
            metric: The metric that decides, measured in both.
            baseline: Of the slice, by the same metric.
        """
        pairs = [Pair(base=before, tuned=after) for before, after in zip(base.rows, tuned.rows, strict=True)]
        sorted_by: dict[tuple[bool, bool], list[Pair]] = {
            (before, after): [] for before in (False, True) for after in (False, True)
        }
        for pair in pairs:
            sorted_by[pair.base.scores[metric] >= RIGHT, pair.tuned.scores[metric] >= RIGHT].append(pair)
        old = [pair.base.scores[metric] for pair in pairs]
        new = [pair.tuned.scores[metric] for pair in pairs]
        groups = [pair.base.cluster for pair in pairs]
        fixed, broken = tuple(sorted_by[False, True]), tuple(sorted_by[True, False])
        return cls(
            name=name,
            metric=metric,
            base=base,
            tuned=tuned,
            fixed=fixed,
            broken=broken,
            both_right=tuple(sorted_by[True, True]),
            both_wrong=tuple(sorted_by[False, False]),
            difference=math.fsum([*new, *(-score for score in old)]) / len(pairs),
            interval=paired_interval(old, new, groups),
            mcnemar_p=paired_p(old, new, groups),
            baseline=baseline,
        )

    def renamed(self, name: str) -> SliceComparison:
        """The slice under another name, and its parts likewise."""
        parts = tuple(part.renamed(f"{name}: {part.name.rpartition(': ')[2]}") for part in self.parts)
        return evolve(self, name=name, parts=parts)

    @property
    def n(self) -> int:
        """Number of questions."""
        return len(self.base.rows)

    @property
    def num_groups(self) -> int:
        """Number of independent groups of questions."""
        return self.base.num_clusters

    @property
    def retention(self) -> float | None:
        """Share of the base model's right answers that the tuned model keeps; None if there are none."""
        known = len(self.both_right) + len(self.broken)
        return len(self.both_right) / known if known else None

    @property
    def retention_interval(self) -> Interval | None:
        """95 % interval of `retention`, over groups of the questions that the base answered right."""
        known = [*self.both_right, *self.broken]
        if not known:
            return None
        kept = [1.0] * len(self.both_right) + [0.0] * len(self.broken)
        return score_interval(kept, [pair.base.cluster for pair in known])

    @property
    def finding(self) -> Finding:
        """Verdict on the interval by the rule of `evaluation.verdicts`."""
        return found(self.interval, groups=self.num_groups)

    @property
    def is_clear(self) -> bool:
        """Whether it is better or worse by the rule: at least `FEWEST_GROUPS` groups, and 0 outside the interval."""
        return self.finding in ("higher", "lower")

    @property
    def beats_baseline(self) -> bool:
        """Whether the interval of the tuned score lies above the majority baseline."""
        return self.tuned.interval(self.metric).low > self.baseline.score

    @property
    def verdict(self) -> str:
        """The verdict as one sentence, by the rule in `evaluation.verdicts.RULE`.

        "better", "worse", "at most x points either way", or "too few questions to tell"; and "not above its majority
        baseline" unless `beats_baseline`.
        """
        limits = f"(95 % interval {points(self.interval.low)} to {points(self.interval.high)})"
        counts = f"{len(self.fixed)} fixed, {len(self.broken)} broken"
        counts = f"{counts}, {len(self.both_right) + len(self.both_wrong)} same"
        finding = f"{counts}: {self._said} {limits}"
        if self.beats_baseline:
            return finding
        always = f"always {self.baseline.answer!r}: {percent(self.baseline.score)}"
        return f"{finding}; not above its majority baseline ({always})"

    @property
    def _said(self) -> str:
        """The verdict's word with its amount."""
        amount = points(self.difference)
        if self.is_clear:
            return f"{'better' if self.difference > 0 else 'worse'} by {amount.lstrip('+-')} points"
        if self.finding == "same":
            return f"at most {at_most(self.interval.low, self.interval.high)} points either way"
        unit = "groups" if self.num_groups < self.n else "questions"
        counted = f"1 {unit[:-1]} is" if self.num_groups == 1 else f"{self.num_groups} {unit} are"
        few = f", as {counted} fewer than {FEWEST_GROUPS}" if self.num_groups < FEWEST_GROUPS else ""
        return f"too few questions to tell{few}: {amount} points"

    def to_dict(self) -> dict[str, Any]:
        """The slice as in `results.json`: counts, means and other measurements; `details` has the rest."""
        more: dict[str, Any] = {}
        if self.name_baseline is not None:
            more["name_baseline"] = self.name_baseline
        if self.few_shot is not None:
            more["base_few_shot"] = {name: finite(value) for name, value in self.few_shot.means.items()}
        if self.ranking is not None:
            more["ranking"] = {"base": self.ranking[0].to_dict(), "tuned": self.ranking[1].to_dict()}
        if ABSTAINS in self.base.metrics and ABSTAINS in self.tuned.metrics:
            sides = (("base", self.base), ("tuned", self.tuned))
            more["confident_nonsense"] = {side: 1 - result.means[ABSTAINS] for side, result in sides}
        return {
            "n": self.n,
            "base": {name: finite(value) for name, value in self.base.means.items()},
            "tuned": {name: finite(value) for name, value in self.tuned.means.items()},
            "fixed": len(self.fixed),
            "broken": len(self.broken),
            "difference": self.difference,
            "interval_95": [self.interval.low, self.interval.high],
            "mcnemar_p": self.mcnemar_p,
            "baseline": self.baseline.score,
            **more,
            **self._trained_to_dict(),
        }

    def _trained_to_dict(self) -> dict[str, Any]:
        counts = self.tuned.trained_counts
        if counts is None:
            return {}
        parts = {part.name.rpartition(": ")[2].replace(" ", "_"): part.to_dict() for part in self.parts}
        return {"trained": {**{how.replace(" ", "_"): count for how, count in counts.items()}, "parts": parts}}

    def to_record(self) -> dict[str, Any]:
        """The whole slice as JSON values, for `from_record`."""
        return {
            "name": self.name,
            "metric": self.metric,
            "base": self.base.to_dict(),
            "tuned": self.tuned.to_dict(),
            "baseline": {"answer": self.baseline.answer, "score": self.baseline.score},
            "interval": [self.interval.low, self.interval.high],
            "name_baseline": self.name_baseline,
            "few_shot": None if self.few_shot is None else self.few_shot.to_dict(),
            "ranking": None if self.ranking is None else [ranking.to_record() for ranking in self.ranking],
            "tokens": [answer.to_dict() for answer in self.tokens],
            "parts": [part.to_record() for part in self.parts],
        }

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> SliceComparison:
        """The slice that `to_record` wrote."""
        base, tuned = EvaluationResult.from_dict(values["base"]), EvaluationResult.from_dict(values["tuned"])
        baseline = MajorityBaseline(**values["baseline"])
        part = cls.of(values["name"], base, tuned, metric=values["metric"], baseline=baseline)
        few_shot, ranking = values["few_shot"], values["ranking"]
        ranked = None if ranking is None else tuple(map(RankingResult.from_record, ranking))
        return evolve(
            part,
            interval=evolve(part.interval, low=values["interval"][0], high=values["interval"][1]),
            name_baseline=values["name_baseline"],
            few_shot=None if few_shot is None else EvaluationResult.from_dict(few_shot),
            ranking=None if ranked is None else (ranked[0], ranked[1]),
            tokens=tuple(map(AnswerLosses.from_dict, values["tokens"])),
            parts=tuple(map(SliceComparison.from_record, values["parts"])),
        )

    def details(self) -> dict[str, Any]:
        """`to_dict` with metric, groups, retention, verdict and every changed answer."""
        return {
            **self.to_dict(),
            "metric": self.metric,
            "groups": self.num_groups,
            "both_right": len(self.both_right),
            "both_wrong": len(self.both_wrong),
            "retention": self.retention,
            "baseline_answer": self.baseline.answer,
            "verdict": self.verdict,
            "tokens": [answer.to_dict() for answer in self.tokens],
            "fixed_answers": [pair.to_dict() for pair in self.fixed],
            "broken_answers": [pair.to_dict() for pair in self.broken],
        }
