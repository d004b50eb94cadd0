"""Sweeps without training: cells whose scores and losses are given."""

from __future__ import annotations

from typing import TYPE_CHECKING

from attrs import evolve

from glowgenius.evaluation.answers import EvaluationResult, EvaluationRow
from glowgenius.experiments import Cell, SweepCell, SweepResult

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def answers(scores: Sequence[float], *, nll: float = 1.0, per_group: int = 1, name: str = "tuned") -> EvaluationResult:
    """A result with these scores in exact match."""
    rows = tuple(
        EvaluationRow(
            index=index,
            question=f"{index}?",
            accepted=("yes",),
            prediction="yes" if score else "no",
            stop_reason="stop",
            scores={"exact_match": score},
            nll=nll + index / 100,
            group=f"g{index // per_group}",
        )
        for index, score in enumerate(scores)
    )
    return EvaluationResult(name=name, rows=rows, metrics=("exact_match",), max_tokens=8, seed=0)


def cell(
    rank: int,
    learning_rate: float,
    scores: Sequence[float],
    *,
    seed: int = 0,
    eval_loss: float | None = 1.0,
    diverged: str | None = None,
    per_group: int = 1,
    nll: float = 1.0,
) -> SweepCell:
    """One finished run."""
    return SweepCell(
        cell=Cell(rank=rank, learning_rate=learning_rate, seed=seed),
        steps=10,
        train_loss=0.5,
        base_loss=3.0,
        eval_loss=eval_loss,
        diverged=diverged,
        seconds=2.0,
        trained_tokens=100,
        trained_parameters=1000 * rank,
        cost_usd=None,
        answers={"all": answers(scores, per_group=per_group, nll=nll)},
    )


def result(
    cells: Sequence[SweepCell], *, metric: str = "exact_match", base: Mapping[str, EvaluationResult] | None = None
) -> SweepResult:
    """A sweep of these runs."""
    if base is None:
        first = cells[0].answers["all"]
        rows = tuple(evolve(row, scores={"exact_match": 0.0}, nll=(row.nll or 0.0) + 3) for row in first.rows)
        base = {"all": evolve(first, name="base", rows=rows)}
    return SweepResult(cells=tuple(cells), base=base, metric=metric)
