"""Evaluation: metrics, paired comparison of two models, and confidence intervals."""

from __future__ import annotations

from glowgenius.evaluation.answers import EvaluationResult, EvaluationRow
from glowgenius.evaluation.callback import AnswerEvaluation
from glowgenius.evaluation.compare import Comparison, compare
from glowgenius.evaluation.evaluate import (
    AnswerLosses,
    AnswersQuestions,
    MajorityBaseline,
    evaluate,
    majority_baseline,
    name_baseline,
    token_losses,
    with_examples,
)
from glowgenius.evaluation.metrics import (
    METRICS,
    abstains,
    contains,
    exact_match,
    json_match,
    json_valid,
    label_match,
    number_match,
    strict_match,
    token_f1,
)
from glowgenius.evaluation.normalize import normalize
from glowgenius.evaluation.ranking import RankingResult, rank_answers
from glowgenius.evaluation.slices import Pair, SliceComparison

__all__ = [
    "METRICS",
    "AnswerEvaluation",
    "AnswerLosses",
    "AnswersQuestions",
    "Comparison",
    "EvaluationResult",
    "EvaluationRow",
    "MajorityBaseline",
    "Pair",
    "RankingResult",
    "SliceComparison",
    "abstains",
    "compare",
    "contains",
    "evaluate",
    "exact_match",
    "json_match",
    "json_valid",
    "label_match",
    "majority_baseline",
    "name_baseline",
    "normalize",
    "number_match",
    "rank_answers",
    "strict_match",
    "token_f1",
    "token_losses",
    "with_examples",
]
