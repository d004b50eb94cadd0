"""One run of a sweep: which it is, and what came out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, final

from attrs import field, frozen
from typing_extensions import override

from glowgenius._validators import integer, number
from glowgenius.evaluation.result import EvaluationResult, finite

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.training.history import History

WHOLE: Final = "all"
"""The name of the questions where one data set is asked; its metrics then go by their bare names."""

TAIL: Final = 0.1
"""The share of the last steps over which `train_loss` is the mean: one batch alone is too noisy."""


RISE: Final = 0.5
"""A loss that ended so many nats per token above where it began has diverged; less is noise, or overfitting."""


@final
@frozen(kw_only=True, order=True)
class Cell:
    """One run of a sweep, by what makes it differ from the others."""

    rank: int = field(validator=integer(at_least=1))
    """The rank of the adapter."""

    learning_rate: float = field(validator=number(above=0))
    """The peak rate."""

    seed: int = field(validator=integer(at_least=0))
    """Of the order of rows and of the adapter."""

    @property
    def name(self) -> str:
        """The name of the run folder."""
        return f"rank-{self.rank}_rate-{self.learning_rate!r}_seed-{self.seed}"

    @override
    def __str__(self) -> str:
        return f"rank {self.rank}, learning rate {self.learning_rate:g}, seed {self.seed}"


@final
@frozen(kw_only=True)
class SweepCell:
    """What one run of a sweep gave."""

    cell: Cell
    """Which run it was."""

    steps: int
    """Updates made."""

    train_loss: float
    """Mean training loss of the last tenth of the steps, in nats per trained token."""

    base_loss: float | None
    """Held-out loss before the first step, in nats per trained token; None without an evaluation set."""

    eval_loss: float | None
    """Held-out loss after the last step; None without an evaluation set."""

    diverged: str | None
    """Why the run counts as diverged; None if it does not."""

    seconds: float
    """Wall time of training."""

    trained_tokens: int
    """Tokens that carried loss, all steps together."""

    trained_parameters: int | None
    """The size of the adapter; None where the model's config cannot be had."""

    cost_usd: float | None
    """What it cost; None where that is not known, or where nothing is charged."""

    answers: Mapping[str, EvaluationResult] = field(hash=False)
    """What the trained model answered, by slice; empty if nothing was asked, or if its weights are no numbers."""

    def values(self, metric: str) -> tuple[float, ...] | None:
        """*metric* of every question, or the one value of a loss of the run; None where it was not measured.

        Args:
            metric: `train_loss`, `eval_loss`, or a metric of the questions: `nll`, `exact_match`, …; of one slice
                `slice/exact_match`.
        """
        if metric in ("train_loss", "eval_loss"):
            value = self.train_loss if metric == "train_loss" else self.eval_loss
            return None if value is None else (value,)
        part, _, name = metric.rpartition("/")
        result = self.answers.get(part or WHOLE)
        if result is None or (name != "nll" and name not in result.metrics):
            return None
        found = [row.nll if name == "nll" else row.scores[name] for row in result.rows]
        return None if None in found else tuple(float(value or 0.0) for value in found)

    def to_dict(self) -> dict[str, Any]:
        """What `cell.json` holds: everything but the single answers, which stand in `answers.json`."""
        losses = {"train_loss": self.train_loss, "base_loss": self.base_loss, "eval_loss": self.eval_loss}
        return {
            "rank": self.cell.rank,
            "learning_rate": self.cell.learning_rate,
            "seed": self.cell.seed,
            "steps": self.steps,
            **{name: finite(value) for name, value in losses.items()},
            "diverged": self.diverged,
            "seconds": self.seconds,
            "trained_tokens": self.trained_tokens,
            "trained_parameters": self.trained_parameters,
            "cost_usd": self.cost_usd,
            "means": {
                part: {name: finite(value) for name, value in result.means.items()}
                for part, result in self.answers.items()
            },
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], answers: Mapping[str, EvaluationResult]) -> SweepCell:
        """The cell that `to_dict` wrote, with its answers."""
        cell = Cell(rank=values["rank"], learning_rate=values["learning_rate"], seed=values["seed"])
        losses = {name: values[name] for name in ("train_loss", "base_loss", "eval_loss")}
        if values["diverged"] is not None:
            # JSON has no NaN; only a diverged run has one.
            losses = {name: math.nan if value is None else value for name, value in losses.items()}
        rest = ("steps", "diverged", "seconds", "trained_tokens", "trained_parameters", "cost_usd")
        return cls(cell=cell, answers=answers, **losses, **{name: values[name] for name in rest})


def losses(history: History) -> tuple[float, float | None, float | None]:
    """Training loss at the end, held-out loss before the first step, and at the end."""
    train = history.train_loss
    last = train[-max(1, round(TAIL * len(train))) :]
    held = history.eval_loss
    mean = sum(last) / len(last) if last else math.nan
    return mean, (held[0] if held else None), (held[-1] if held else None)


def divergence(history: History) -> str | None:
    """Why a run counts as diverged: a loss that is no number, or one that ended `RISE` above where it began."""
    for metric, name in (("train_loss", "training"), ("eval_loss", "held-out")):
        for step, value in history.series(metric):
            if not math.isfinite(value):
                return f"the {name} loss is {value:g} at step {step}"
    train, base, held = losses(history)
    if base is not None and held is not None and held > base + RISE:
        return f"the held-out loss ended at {held:.3g}, over {RISE:g} nats above the {base:.3g} that it began with"
    if base is None and train > history.train_loss[0] + RISE:
        first = history.train_loss[0]
        return f"the training loss ended at {train:.3g}, over {RISE:g} nats above the {first:.3g} that it began with"
    return None
