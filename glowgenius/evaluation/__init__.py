"""How good a model is, and whether it got better: metrics, paired comparison, intervals."""

from __future__ import annotations

from glowgenius.evaluation.compare import compare
from glowgenius.evaluation.comparison import Comparison
from glowgenius.evaluation.evaluate import AnswersQuestions, MajorityBaseline, evaluate, majority_baseline
from glowgenius.evaluation.metrics import METRICS, contains, exact_match, token_f1
from glowgenius.evaluation.normalize import normalize
from glowgenius.evaluation.result import EvaluationResult, EvaluationRow
from glowgenius.evaluation.slices import Pair, SliceComparison

__all__ = [
    "METRICS",
    "AnswersQuestions",
    "Comparison",
    "EvaluationResult",
    "EvaluationRow",
    "MajorityBaseline",
    "Pair",
    "SliceComparison",
    "compare",
    "contains",
    "evaluate",
    "exact_match",
    "majority_baseline",
    "normalize",
    "token_f1",
]
