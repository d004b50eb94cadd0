"""How good a model is, and whether it got better: metrics, paired comparison, intervals."""

from __future__ import annotations

from glowgenius.evaluation.abstention import abstains
from glowgenius.evaluation.baselines import name_baseline
from glowgenius.evaluation.callback import AnswerEvaluation
from glowgenius.evaluation.compare import compare
from glowgenius.evaluation.comparison import Comparison
from glowgenius.evaluation.evaluate import AnswersQuestions, MajorityBaseline, evaluate, majority_baseline
from glowgenius.evaluation.few_shot import with_examples
from glowgenius.evaluation.json_values import json_match, json_valid
from glowgenius.evaluation.metrics import (
    METRICS,
    contains,
    exact_match,
    label_match,
    number_match,
    strict_match,
    token_f1,
)
from glowgenius.evaluation.normalize import normalize
from glowgenius.evaluation.ranking import RankingResult, rank_answers
from glowgenius.evaluation.result import EvaluationResult, EvaluationRow
from glowgenius.evaluation.slices import Pair, SliceComparison
from glowgenius.evaluation.token_losses import AnswerLosses, token_losses

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
