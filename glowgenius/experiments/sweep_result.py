"""`SweepResult`: every point of a sweep with its interval, and the best one."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final, final

from attrs import field, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.errors import ConfigError, EvaluationError, nearest
from glowgenius.experiments.cell import WHOLE, Standing, SweepCell, SweepPoint, is_loss, spread, standing_of
from glowgenius.experiments.cell import difference as point_difference
from glowgenius.experiments.cell import mean as point_mean
from glowgenius.experiments.cell import measured as point_measured
from glowgenius.experiments.findings import sentences as findings_sentences
from glowgenius.experiments.findings import sweep_table
from glowgenius.training.history import direction

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from glowgenius.evaluation.answers import EvaluationResult

FLAT_WITHIN: Final = 0.05
"""The margin of "flat" by default: 5 points of a score, 0.05 nats of a loss."""


@final
@frozen(kw_only=True, eq=False)
class SweepResult:
    """A grid of runs. `print` shows the table, a notebook the heat map.

    Every method that takes a *metric* takes None for `metric`, the one that the sweep was made for.
    """

    cells: tuple[SweepCell, ...]
    """Every run, by rank, learning rate and seed."""

    base: Mapping[str, EvaluationResult]
    """What the base model answered, by slice."""

    metric: str
    """What decides."""

    flat_within: float = FLAT_WITHIN
    """The margin within which a point counts as flat, in the unit of the metric."""

    output_dir: Path | None = None
    """The folder of the runs, if it was kept."""

    header: Mapping[str, object] = field(factory=dict[str, object])
    """The facts of the sweep for a report: model, data, settings, versions."""

    @property
    def ranks(self) -> tuple[int, ...]:
        """The ranks, from small to large."""
        return tuple(sorted({cell.cell.rank for cell in self.cells}))

    @property
    def learning_rates(self) -> tuple[float, ...]:
        """The learning rates, from small to large."""
        return tuple(sorted({cell.cell.learning_rate for cell in self.cells}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, from small to large."""
        return tuple(sorted({cell.cell.seed for cell in self.cells}))

    @property
    def metrics(self) -> tuple[str, ...]:
        """What was measured: the losses of the runs, and the metrics of the questions."""
        held = any(cell.eval_loss is not None for cell in self.cells)
        asked = [
            name if part == WHOLE else f"{part}/{name}"
            for part, result in self.base.items()
            for name in (*result.metrics, *(["nll"] if "nll" in result.means else []))
        ]
        return (*asked, *(["eval_loss"] if held else []), "train_loss")

    def points(self, metric: str | None = None) -> tuple[SweepPoint, ...]:
        """Every rank with every learning rate, over the seeds, each compared with the best.

        Raises:
            ConfigError: The metric was not measured.
        """
        return _points(self, self._known(metric))

    def point(self, rank: int, learning_rate: float, metric: str | None = None) -> SweepPoint:
        """One point of the grid.

        Raises:
            ConfigError: It is not in the grid, or the metric was not measured.
        """
        for found in self.points(metric):
            if found.rank == rank and found.learning_rate == learning_rate:
                return found
        ranks, rates = ", ".join(map(str, self.ranks)), ", ".join(f"{rate:g}" for rate in self.learning_rates)
        raise ConfigError(
            f"the sweep has no rank {rank!r} with learning rate {learning_rate!r}; ranks: {ranks}; rates: {rates}"
        )

    def best(self, metric: str | None = None) -> SweepPoint:
        """The point with the best mean; of equals that of the lowest rank, and then of the lowest rate.

        It was chosen because it came out best, so its own value is on the lucky side. A point with a run that diverged
        is never the best.

        Raises:
            ConfigError: The metric was not measured.
            EvaluationError: Every point has a run that diverged, or no answer of any run was right.
        """
        for found in self.points(metric):
            if found.standing == "best":
                return found
        raise EvaluationError(f"the sweep has no best point: {self.findings(metric)[0]}")

    def base_value(self, metric: str | None = None) -> float | None:
        """The value of the model before training; None where it is not known, as for `train_loss`."""
        name = self._known(metric)
        if name == "eval_loss":
            return next((cell.base_loss for cell in self.cells if cell.base_loss is not None), None)
        part, _, inner = name.rpartition("/")
        result = self.base.get(part or WHOLE)
        return None if result is None else result.means.get(inner)

    def findings(self, metric: str | None = None) -> tuple[str, ...]:
        """Conclusions of the sweep as a few sentences, with their numbers."""
        groups = len(set(self.groups_of(self._known(metric)))) or None
        return findings_sentences(
            self.points(metric), margin=self.flat_within, base=self.base_value(metric), groups=groups
        )

    def to_dict(self) -> dict[str, Any]:
        """The sweep as JSON values."""
        best = [found.to_dict() for found in self.points() if found.standing == "best"]
        return {
            "metric": self.metric,
            "flat_within": self.flat_within,
            "ranks": list(self.ranks),
            "learning_rates": list(self.learning_rates),
            "seeds": list(self.seeds),
            "base": {part: dict(result.to_dict()["means"]) for part, result in self.base.items()},
            "best": best[0] if best else None,
            "points": [found.to_dict() for found in self.points()],
            "cells": [cell.to_dict() for cell in self.cells],
            "findings": list(self.findings()),
        }

    @override
    def __str__(self) -> str:
        return showable(sweep_table(self.points(), asked=self.basis(), findings=self.findings()))

    def _repr_html_(self) -> str:
        """What notebooks show: the heat map, and the curves over the learning rate."""
        from glowgenius.experiments.findings import sweep_figures
        from glowgenius.markup.html import fragment, tag

        said = tag("ul", *(tag("li", text) for text in self.findings()), class_="verdicts")
        return fragment([*sweep_figures(self.points(), base=self.base_value(), basis=self.basis()), said])

    def basis(self, metric: str | None = None) -> str:
        """What a value is the mean of, in words."""
        seeds = f"{len(self.seeds)} seed{'s' * (len(self.seeds) != 1)}"
        groups = self.groups_of(self._known(metric))
        if not groups:
            return f"mean of {seeds}" + (", with its 95 % interval over seeds" if len(self.seeds) > 1 else "")
        questions = f"{len(groups)} question{'s' * (len(groups) != 1)}"
        number = len(set(groups))
        grouped = f" in {number} groups" if number < len(groups) else ""
        over = "questions and seeds" if len(self.seeds) > 1 else "the questions of this seed"
        return f"mean of {questions}{grouped} and {seeds}, with its 95 % interval over {over}"

    def _known(self, metric: str | None) -> str:
        name = self.metric if metric is None else metric
        if name not in self.metrics:
            known = ", ".join(map(repr, self.metrics))
            raise ConfigError(f"the sweep has not measured {name!r}{nearest(name, self.metrics)}; measured: {known}")
        return name

    def groups_of(self, metric: str) -> tuple[object, ...]:
        """The group of each question of *metric*; empty for a loss of the run."""
        if metric in ("train_loss", "eval_loss"):
            return ()
        return tuple(row.cluster for row in self.base[metric.rpartition("/")[0] or WHOLE].rows)


@functools.lru_cache(maxsize=32)
def _points(result: SweepResult, metric: str) -> tuple[SweepPoint, ...]:
    """The points of *result*; remembered, as every figure and table asks for them."""
    groups, low_is_good = result.groups_of(metric), direction(metric) == "min"
    is_score = not is_loss(metric)
    at: dict[tuple[int, float], list[SweepCell]] = {}
    for cell in sorted(result.cells, key=lambda found: found.cell):
        at.setdefault((cell.cell.rank, cell.cell.learning_rate), []).append(cell)
    rows = {key: point_measured(cells, metric) for key, cells in at.items()}
    known = {key: point_mean(values) for key, values in rows.items() if values is not None}
    whole = {key: value for key, value in known.items() if not any(cell.diverged for cell in at[key])}
    nothing = is_score and not any(known.values())
    best = min(whole, key=lambda key: (whole[key] if low_is_good else -whole[key], *key), default=None)
    best = None if nothing else best
    found: list[SweepPoint] = []
    for key, cells in at.items():
        values, top = rows[key], None if best is None else rows[best]
        interval = None if values is None else spread(values, groups, "scores" if is_score else "unbounded")
        apart = apart_interval = None
        standing: Standing = "diverged" if any(cell.diverged for cell in cells) else "unknown"
        if key in whole and values is not None and top is not None and len(top) == len(values):
            apart, apart_interval = point_difference(values, top, groups, "differences" if is_score else "unbounded")
            standing = standing_of(
                apart_interval,
                margin=result.flat_within,
                low_is_good=low_is_good,
                groups=len(set(groups)) if groups else None,
            )
        found.append(
            SweepPoint(
                rank=key[0],
                learning_rate=key[1],
                metric=metric,
                cells=tuple(cells),
                value=known.get(key),
                interval=interval,
                difference=apart,
                difference_interval=apart_interval,
                standing="best" if key == best else standing,
            )
        )
    return tuple(found)
