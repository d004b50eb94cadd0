"""What can be scored without knowing anything: the rule that names give away."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

from glowgenius.errors import EvaluationError
from glowgenius.evaluation.metrics import Metric, resolve_metrics
from glowgenius.evaluation.words import words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Conversation


def name_baseline(
    dataset: Sequence[Conversation], reference: Sequence[Conversation], metric: str | Metric = "exact_match"
) -> float:
    """The score of answering each question as the most similar question of *reference* is answered.

    Names give much away: a station called Astoria Boulevard is where Astoria is. Similar is what shares the rarest
    words: each shared word counts log(N / n) for the n of N reference questions that have it (Spärck Jones 1972).
    Questions of the same group are left out, so that a trained fact does not answer itself.

    Args:
        dataset: The questions to score on.
        reference: Where answers are taken from, such as the training set.
        metric: The name of a metric, or a function.

    Raises:
        ConfigError: The metric is unknown.
        EvaluationError: *dataset* or *reference* is empty.
    """
    if not len(dataset) or not len(reference):
        raise EvaluationError(f"name_baseline needs questions on both sides, got {len(dataset)} and {len(reference)}")
    function = next(iter(resolve_metrics([metric] if isinstance(metric, str) else {"metric": metric}).values()))
    known = [frozenset(words(row.question)) for row in reference]
    counts = Counter(word for question in known for word in question)
    weights = {word: math.log(len(known) / count) for word, count in counts.items()}
    places: dict[str, list[int]] = {}
    for index, question in enumerate(known):
        for word in question:
            places.setdefault(word, []).append(index)
    return math.fsum(function(_guess(row, reference, places, weights), row.accepted_answers) for row in dataset) / len(
        dataset
    )


def _guess(
    row: Conversation, reference: Sequence[Conversation], places: dict[str, list[int]], weights: dict[str, float]
) -> str:
    """The answer of the reference question that shares the rarest words; the first of several, nothing if none does."""
    scores: dict[int, float] = {}
    for word in sorted(set(words(row.question))):
        for index in places.get(word, ()):
            other = reference[index]
            if other.question != row.question and (row.group is None or other.group != row.group):
                scores[index] = scores.get(index, 0.0) + weights[word]
    if not scores:
        return ""
    return reference[min(scores, key=lambda index: (-scores[index], index))].answer
