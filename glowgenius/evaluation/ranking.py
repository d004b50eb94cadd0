"""Multiple choice by likelihood: the most probable of several candidate answers, without generation."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, final

from attrs import evolve, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.data.message import Message
from glowgenius.errors import EvaluationError
from glowgenius.evaluation.intervals import Interval, limits, percent, score_interval
from glowgenius.evaluation.normalize import normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.data.message import Conversation

Candidates: TypeAlias = "Sequence[str] | Callable[[Conversation], Sequence[str]]"
"""The possible answers: the same for every question, or those of one."""


class ScoresAnswers(Protocol):
    """The model interface that ranking needs; `glowgenius.Sampler` implements it."""

    @property
    def name(self) -> str:
        """Name of the model in tables."""
        ...

    def answer_logprobs(self, conversations: Sequence[Conversation]) -> Sequence[Any]:
        """Natural-log probabilities of the answer's tokens, stop token included, `N × [T]`."""
        ...


@final
@frozen(kw_only=True)
class RankedRow:
    """One question and the log-probability of each candidate answer."""

    question: str
    """What was asked."""

    candidates: tuple[str, ...]
    """The possible answers."""

    right: frozenset[int]
    """Which of them are right."""

    totals: tuple[float, ...]
    """Natural-log probability of each, its stop token included."""

    cluster: object
    """The group of the question."""

    @property
    def per_byte(self) -> tuple[float, ...]:
        """Total log-probabilities divided by the bytes of the candidates."""
        return tuple(
            total / max(1, len(text.encode())) for total, text in zip(self.totals, self.candidates, strict=True)
        )

    @property
    def is_right(self) -> bool:
        """Whether the most probable candidate is right."""
        return _first(self.totals) in self.right

    @property
    def is_right_per_byte(self) -> bool:
        """Whether the candidate that is most probable per byte is right."""
        return _first(self.per_byte) in self.right

    @property
    def rank(self) -> int:
        """Rank of the best right candidate by total probability; 1 is the most probable."""
        best = max(self.totals[index] for index in self.right)
        return 1 + sum(total > best for index, total in enumerate(self.totals) if index not in self.right)


@final
@frozen(kw_only=True)
class RankingResult:
    """Accuracy of choosing the most probable candidate, with chance and majority baselines."""

    name: str
    """What the model is called."""

    rows: tuple[RankedRow, ...]
    """One per question; at least one."""

    @property
    def accuracy(self) -> float:
        """Share of questions whose most probable candidate is right; totals favour short answers."""
        return sum(row.is_right for row in self.rows) / len(self.rows)

    @property
    def accuracy_per_byte(self) -> float:
        """Accuracy by probability per byte, which may favour long answers."""
        return sum(row.is_right_per_byte for row in self.rows) / len(self.rows)

    @property
    def chance(self) -> float:
        """Accuracy of guessing among the candidates."""
        return math.fsum(len(row.right) / len(row.candidates) for row in self.rows) / len(self.rows)

    @property
    def majority(self) -> float:
        """Accuracy of always choosing the candidate that is right most often."""
        counts = Counter(normalize(row.candidates[index]) for row in self.rows for index in row.right)
        return max(counts.values()) / len(self.rows)

    @property
    def mean_rank(self) -> float:
        """Mean rank of the best right candidate; 1 is best."""
        return sum(row.rank for row in self.rows) / len(self.rows)

    @property
    def interval(self) -> Interval:
        """The 95 % interval of `accuracy`, with groups as the sample."""
        return score_interval([float(row.is_right) for row in self.rows], [row.cluster for row in self.rows])

    def to_record(self) -> dict[str, Any]:
        """The result as JSON values, for `from_record`."""
        rows = [
            {
                "question": row.question,
                "candidates": list(row.candidates),
                "right": sorted(row.right),
                "totals": list(row.totals),
                "cluster": row.cluster,
            }
            for row in self.rows
        ]
        return {"name": self.name, "rows": rows}

    @classmethod
    def from_record(cls, values: Mapping[str, Any]) -> RankingResult:
        """The result that `to_record` wrote."""
        rows = tuple(
            RankedRow(
                question=row["question"],
                candidates=tuple(row["candidates"]),
                right=frozenset(row["right"]),
                totals=tuple(row["totals"]),
                cluster=tuple(row["cluster"]) if isinstance(row["cluster"], list) else row["cluster"],
            )
            for row in values["rows"]
        )
        return cls(name=values["name"], rows=rows)

    def to_dict(self) -> dict[str, Any]:
        """The summary numbers as JSON values."""
        return {
            "n": len(self.rows),
            "accuracy": self.accuracy,
            "accuracy_per_byte": self.accuracy_per_byte,
            "interval_95": [self.interval.low, self.interval.high],
            "chance": self.chance,
            "majority": self.majority,
            "mean_rank": self.mean_rank,
        }

    @override
    def __str__(self) -> str:
        interval = self.interval
        return showable(
            f"{self.name}: the most probable answer is right for {percent(self.accuracy)} of {len(self.rows)} "
            f"questions (95 % interval {limits(interval.low, interval.high)}), per byte for "
            f"{percent(self.accuracy_per_byte)}; chance {percent(self.chance)}, majority {percent(self.majority)}"
        )


def rank_answers(sampler: ScoresAnswers, dataset: Sequence[Conversation], candidates: Candidates) -> RankingResult:
    """Rank candidate answers by a model's likelihood; nothing is generated.

    It separates what a model knows from how it answers: after training, a model that says "Brooklyn" to every question
    may still find Paris the most probable capital of France. As `acc` and `acc_norm` of the Language Model Evaluation
    Harness (Gao et al.), except that the stop token counts: the whole answer is scored, not the beginning of a longer
    one.

    Args:
        sampler: The model.
        dataset: The questions with their accepted answers.
        candidates: The possible answers, of all questions or of one; a right one is among them.

    Raises:
        EvaluationError: There is no question, fewer than two candidates, or none of them is right.
    """
    if len(dataset) == 0:
        raise EvaluationError("there is nothing to rank: the data set has no rows")
    possible = [_candidates(row, index, candidates) for index, row in enumerate(dataset)]
    asked = [
        evolve(row, messages=(*row.prompt, Message("assistant", text)))
        for row, (texts, _) in zip(dataset, possible, strict=True)
        for text in texts
    ]
    totals = [math.fsum(float(value) for value in found) for found in sampler.answer_logprobs(asked)]
    if len(totals) != len(asked):
        raise EvaluationError(f"{sampler.name!r} scored {len(totals)} of {len(asked)} answers")
    rows: list[RankedRow] = []
    for index, (row, (texts, right)) in enumerate(zip(dataset, possible, strict=True)):
        own, totals = totals[: len(texts)], totals[len(texts) :]
        cluster = ("row", index) if row.group is None else ("group", row.group)
        rows.append(RankedRow(question=row.question, candidates=texts, right=right, totals=tuple(own), cluster=cluster))
    return RankingResult(name=sampler.name, rows=tuple(rows))


def _candidates(row: Conversation, index: int, given: Candidates) -> tuple[tuple[str, ...], frozenset[int]]:
    """Candidates of one question, and which of them are right."""
    texts = tuple(given(row) if callable(given) else given)
    accepted = {normalize(answer) for answer in row.accepted_answers}
    right = frozenset(place for place, text in enumerate(texts) if normalize(text) in accepted)
    if len(texts) < 2 or not right:  # noqa: PLR2004 - a choice is of two at least
        found = f"{len(texts)} candidates" if len(texts) < 2 else f"none of {texts!r} accepted"  # noqa: PLR2004
        raise EvaluationError(
            f"question {index} ({row.question!r}) needs at least two candidates with a right one among them, "
            f"got {found}"
        )
    return texts, right


def _first(values: Sequence[float]) -> int:
    """Position of the greatest value; NaN is never the greatest."""
    return max(range(len(values)), key=lambda index: -math.inf if math.isnan(values[index]) else values[index])
