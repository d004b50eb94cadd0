"""Evaluation results: one row per question, and the means over rows."""

from __future__ import annotations

import math
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, final

from attrs import evolve, field, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.errors import EvaluationError, nearest
from glowgenius.evaluation.intervals import Interval, score_interval
from glowgenius.evaluation.metrics import json_value

if TYPE_CHECKING:
    from collections.abc import Mapping

JSON_METRICS: Final = frozenset({"json", "json_valid"})
"""Metrics with which the share of answers that are not JSON is reported."""

HOW_TRAINED: Final = ("exactly", "nearly", "by group", "not")
"""What `EvaluationRow.trained` says."""

RIGHT: Final = 0.5
"""A question counts as right from this score on; for scores that are 0 or 1 that is the 1."""


@final
@frozen(kw_only=True)
class EvaluationRow:
    """One question with its accepted answers, the model's answer and its scores."""

    index: int
    """0-based position in the data set."""

    question: str
    """The last user message."""

    accepted: tuple[str, ...]
    """The answers that count as right."""

    prediction: str
    """The generated text, unchanged."""

    stop_reason: str
    """`stop` if the model ended its answer, `length` if *max_tokens* cut it off."""

    scores: Mapping[str, float] = field(hash=False)
    """Score by metric, each in [0, 1]."""

    nll: float | None = None
    """Mean negative log-likelihood of the reference answer, in nats per trained token; None if not measured."""

    group: str | None = None
    """The group of the row; rows of one group are one unit of the intervals."""

    id: str | None = None
    """The row's own name."""

    tags: tuple[str, ...] = ()
    """The row's labels."""

    trained: str | None = None
    """How the model was trained on the question: `exactly`, `nearly`, `by group`, or `not`; None if that is unknown."""

    @property
    def was_trained(self) -> bool:
        """Whether the question was in the training data, exactly or nearly."""
        return self.trained in ("exactly", "nearly")

    @property
    def cluster(self) -> tuple[str, str | int]:
        """Resampling unit of the row: its group, or the row itself."""
        return ("row", self.index) if self.group is None else ("group", self.group)

    def to_dict(self) -> dict[str, Any]:
        """The row as JSON values; a non-finite likelihood becomes None."""
        return {
            "index": self.index,
            "id": self.id,
            "group": self.group,
            "tags": list(self.tags),
            "question": self.question,
            "accepted": list(self.accepted),
            "prediction": self.prediction,
            "stop_reason": self.stop_reason,
            "scores": dict(self.scores),
            "nll": finite(self.nll),
            **({} if self.trained is None else {"trained": self.trained}),
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationRow:
        """The row that `to_dict` wrote; non-finite likelihoods are None."""
        fields = {
            name: values[name] for name in ("index", "question", "prediction", "stop_reason", "nll", "group", "id")
        }
        return cls(
            **fields,
            accepted=tuple(values["accepted"]),
            scores=dict(values["scores"]),
            tags=tuple(values["tags"]),
            trained=values.get("trained"),
        )


@final
@frozen(kw_only=True)
class EvaluationResult:
    """Answers of one model to one data set; `print` shows the means with their intervals."""

    name: str
    """What the model is called."""

    rows: tuple[EvaluationRow, ...]
    """One per question, in the order of the data set; at least one."""

    metrics: tuple[str, ...]
    """The names of the metrics, each of them in the scores of every row."""

    max_tokens: int
    """The longest answer that was allowed, in tokens."""

    seed: int | None
    """The seed of the sampler."""

    warnings: tuple[str, ...] = ()
    """What the metrics cannot judge in this data set."""

    def __attrs_post_init__(self) -> None:
        if not self.rows:
            raise EvaluationError("an EvaluationResult needs at least one row, got none")

    @property
    def means(self) -> Mapping[str, float]:
        """Mean over rows of each metric, and of `nll` if every row has one."""
        means = {name: math.fsum(row.scores[name] for row in self.rows) / len(self.rows) for name in self.metrics}
        likelihoods = [row.nll for row in self.rows if row.nll is not None]
        if len(likelihoods) == len(self.rows):
            # fsum raises on an infinity beside a NaN, and a diverged model may give both.
            add = math.fsum if all(map(math.isfinite, likelihoods)) else sum
            means["nll"] = add(likelihoods) / len(likelihoods)
        return MappingProxyType(means)

    @property
    def num_truncated(self) -> int:
        """Number of answers that were cut off at *max_tokens*."""
        return sum(row.stop_reason == "length" for row in self.rows)

    @property
    def truncated_share(self) -> float:
        """Share of answers that were cut off at *max_tokens*, from 0 to 1."""
        return self.num_truncated / len(self.rows)

    @property
    def num_invalid(self) -> int | None:
        """Number of answers that are not valid JSON; None if neither `json` nor `json_valid` is measured."""
        if JSON_METRICS.isdisjoint(self.metrics):
            return None
        return sum(json_value(row.prediction) is None for row in self.rows)

    @property
    def trained_counts(self) -> Mapping[str, int] | None:
        """Number of questions trained `exactly`, `nearly`, `by group` and `not`; None if unknown."""
        if any(row.trained is None for row in self.rows):
            return None
        return MappingProxyType({how: sum(row.trained == how for row in self.rows) for how in HOW_TRAINED})

    def part(self, *, trained: bool) -> EvaluationResult | None:
        """The questions that were trained, exactly or nearly, or those that were not; None if there are none."""
        rows = tuple(row for row in self.rows if row.was_trained is trained)
        return evolve(self, rows=rows) if rows else None

    @property
    def num_clusters(self) -> int:
        """Number of independent groups of questions."""
        return len({row.cluster for row in self.rows})

    def interval(self, metric: str, *, level: float = 0.95) -> Interval:
        """Confidence interval of a metric's mean over questions, with groups as the sample (see `score_interval`).

        Args:
            metric: One of `metrics`.
            level: Between 0 and 1.

        Raises:
            EvaluationError: The metric was not measured.
        """
        self.require(metric)
        scores = [row.scores[metric] for row in self.rows]
        return score_interval(scores, [row.cluster for row in self.rows], level=level)

    def require(self, metric: str) -> None:
        """Refuse a metric that was not measured.

        Raises:
            EvaluationError: *metric* is not one of `metrics`.
        """
        if metric not in self.metrics:
            hint = nearest(metric, self.metrics)
            measured = ", ".join(repr(name) for name in self.metrics)
            raise EvaluationError(f"{self.name!r} was not judged by the metric {metric!r}{hint}; measured: {measured}")

    def to_dict(self) -> dict[str, Any]:
        """The result as JSON values."""
        return {
            "name": self.name,
            "n": len(self.rows),
            "max_tokens": self.max_tokens,
            "seed": self.seed,
            "means": {name: finite(value) for name, value in self.means.items()},
            "truncated": self.num_truncated,
            **self._trained_to_dict(),
            "rows": [row.to_dict() for row in self.rows],
            **({} if self.num_invalid is None else {"invalid_json": self.num_invalid}),
            **({"warnings": list(self.warnings)} if self.warnings else {}),
        }

    def _trained_to_dict(self) -> dict[str, Any]:
        counts = self.trained_counts
        if counts is None:
            return {}
        parts = {"trained": self.part(trained=True), "not_trained": self.part(trained=False)}
        means = {
            name: None if part is None else {key: finite(value) for key, value in part.means.items()}
            for name, part in parts.items()
        }
        return {"trained": {**{how.replace(" ", "_"): count for how, count in counts.items()}, "means": means}}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> EvaluationResult:
        """The result that `to_dict` wrote.

        Raises:
            EvaluationError: Something is missing in *values*.
        """
        try:
            rows = tuple(EvaluationRow.from_dict(row) for row in values["rows"])
            metrics = tuple(values["metrics"] if "metrics" in values else rows[0].scores)
            settings = {name: values[name] for name in ("name", "max_tokens", "seed")}
            return cls(**settings, rows=rows, metrics=metrics, warnings=tuple(values.get("warnings", ())))
        except (KeyError, TypeError, IndexError) as error:
            raise EvaluationError(f"these values are no EvaluationResult.to_dict(): {error!r}") from error

    @override
    def __str__(self) -> str:
        number = len(self.rows)
        lines = [f"{self.name}: {number} question{'s' * (number != 1)}"]
        width = max(map(len, [*self.metrics, "nll"]))
        for metric in self.metrics:
            limits = self.interval(metric)
            span = f"95 % interval {100 * limits.low:.1f} to {100 * limits.high:.1f}"
            lines.append(f"  {metric:<{width}}  {100 * self.means[metric]:5.1f} %   {span}")
        if "nll" in self.means:
            lines.append(f"  {'nll':<{width}}  {self.means['nll']:5.3f} nats per token of the reference answer")
        lines += [f"  {line}" for line in trained_lines(self)]
        if self.num_truncated:
            lines.append(f"  {self.num_truncated} of {number} answers were cut off at max_tokens={self.max_tokens}")
        if self.num_invalid is not None:
            lines.append(f"  {self.num_invalid} of {number} answers are not valid JSON")
        lines += [f"  warning: {warning}" for warning in self.warnings]
        return showable("\n".join(lines))


def trained_lines(result: EvaluationResult) -> list[str]:
    """Number of trained questions, and the scores on trained and other questions; empty if unknown."""
    counts = result.trained_counts
    if counts is None:
        return []
    number = len(result.rows)
    seen = counts["exactly"] + counts["nearly"]
    if not seen:
        text = "the one question was not trained" if number == 1 else f"none of the {number} questions was trained"
    else:
        nearly = f", {counts['nearly']} of them nearly" if counts["nearly"] else ""
        text = f"{seen} of the {number} questions {'was' if seen == 1 else 'were'} trained{nearly}"
    if counts["by group"]:
        text += f"; {counts['by group']} more are of a group that was trained"
    lines = [text]
    metric = result.metrics[0]
    parts = ((True, "trained"), (False, "not trained"))
    if 0 < seen < number:
        lines += [
            f"  {name}: {metric} {100 * part.means[metric]:.1f} % of {len(part.rows)}"
            for trained, name in parts
            if (part := result.part(trained=trained)) is not None
        ]
    return lines


def finite(value: float | None) -> float | None:
    """*value*, or None if it is NaN or infinite, which JSON cannot write."""
    return value if value is not None and math.isfinite(value) else None
