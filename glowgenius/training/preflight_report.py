"""`PreflightReport`: a run that can begin, on one page."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from attrs import asdict, evolve, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.rendering.train_on import TrainOn

if TYPE_CHECKING:
    from glowgenius.data.untrained import UntrainedColumn
    from glowgenius.training.cost import CostEstimate
    from glowgenius.training.rows import RowCounts
    from glowgenius.typing import JSON


@final
@frozen(kw_only=True)
class PreflightReport:
    """A run that can begin, on one page: what a run says of itself before its first step."""

    engine: str
    """Where the run would take place; `none` where there is no engine."""

    about: tuple[str, ...] = ()
    """The engine and why, the model and its adapter, the renderer: a line each, as far as they are known."""

    train: RowCounts
    """The training rows."""

    evaluation: RowCounts | None
    """The evaluation rows, where there are any."""

    steps_per_epoch: int
    """Updates of one epoch."""

    total_steps: int
    """Updates of the run."""

    num_epochs: int
    """Visits of each row, unless `max_steps` ends the run earlier."""

    batch_size: int
    """Rows of one update."""

    learning_rate: float
    """The peak rate."""

    learning_rate_source: str
    """Where the rate comes from."""

    lr_schedule: str
    """How the rate falls."""

    warmup_steps: int
    """Steps over which it rises."""

    cost: CostEstimate | None = None
    """What it is going to cost; on the page where there is a price, or on Tinker."""

    train_on: str = TrainOn.LAST_ASSISTANT_MESSAGE.value
    """Which messages are trained."""

    untrained: tuple[UntrainedColumn, ...] = ()
    """Columns of the training rows that are kept and not trained."""

    warnings: tuple[str, ...]
    """What a run should not have, but can."""

    def lines(self) -> tuple[str, ...]:
        """The report as lines of text."""
        held = self.evaluation
        return (
            *self.about,
            f"train rows: {_rows(self.train)} trained per epoch; longest {self.train.longest:,} tokens",
            *self._turns(),
            *(f"kept, not trained: {column}: {column.advice}" for column in self.untrained),
            *self._replay(),
            *([] if held is None else [f"eval rows: {_rows(held)} scored; longest {held.longest:,} tokens"]),
            f"steps: {self._steps()}",
            f"learning rate: {self.learning_rate:.3g}, {self.lr_schedule}{self._rise()} ({self.learning_rate_source})",
            "loss: mean over the trained tokens of a step, in nats per token",
            *self._cost(),
            *(f"warning: {text}" for text in self.warnings),
        )

    def to_json(self) -> dict[str, JSON]:
        """The report as a JSON object."""
        cost = None if self.cost is None else self.cost.to_json()
        return {**asdict(evolve(self, cost=None)), "cost": cost}

    def _cost(self) -> tuple[str, ...]:
        cost = self.cost
        return cost.lines() if cost is not None and (cost.price is not None or self.engine == "tinker") else ()

    def _turns(self) -> list[str]:
        counts = self.train
        if counts.turns <= counts.rows and counts.trained_turns == counts.turns:
            return []
        left = counts.turns - counts.trained_turns
        text = f"assistant turns: {counts.trained_turns:,} of {counts.turns:,} trained"
        every = TrainOn.ALL_ASSISTANT_MESSAGES
        more = "" if self.train_on == every else f", where {every.value} would train every one"
        return [f"{text}, {left:,} not (train_on is {self.train_on}{more})" if left else f"{text} ({self.train_on})"]

    def _replay(self) -> list[str]:
        counts = self.train
        if not counts.replay_rows:
            return []
        share = f"{counts.replay_rows / counts.rows:.0%} of the rows"
        tokens = f"{counts.replay_tokens / max(counts.trained_tokens, 1):.0%} of the trained tokens"
        return [f"replay: {times(counts.replay_rows, 'row')} to keep what the model knew, {share} and {tokens}"]

    def _steps(self) -> str:
        planned = self.num_epochs * self.steps_per_epoch
        places = self.train.used + self.train.left_out
        size = min(self.batch_size, places)
        noun = "row" if self.train.examples == self.train.rows else "example"
        text = (
            f"{planned:,} = {times(self.num_epochs, 'epoch')} × {times(self.steps_per_epoch, 'batch')} "
            f"of {times(size, noun)}"
        )
        if self.steps_per_epoch > 1 and places % self.batch_size:
            text += f", the last of them {times(places % self.batch_size, noun)}"
        elif size < self.batch_size:
            text += f", fewer than batch_size={self.batch_size}"
        return text if self.total_steps == planned else f"{text}; max_steps={self.total_steps} ends the run earlier"

    def _rise(self) -> str:
        return f" after {times(self.warmup_steps, 'step')} of warm-up" if self.warmup_steps else ""

    @override
    def __str__(self) -> str:
        return showable("\n".join(self.lines()))


def _rows(counts: RowCounts) -> str:
    left = (
        (counts.dropped, "dropped as too long"),
        (counts.truncated, "truncated"),
        (counts.cut_answers, "of these in an answer"),
    )
    notes = ", ".join(f"{number:,} {what}" for number, what in left if number)
    given = f"{counts.examples:,}"
    if counts.examples != counts.rows:
        given = f"{given} examples, into which {times(counts.rows, 'row')} are divided by turn,"
    return (
        f"{counts.used:,} of {given} used{f' ({notes})' if notes else ''}; "
        f"{counts.trained_tokens:,} of {counts.input_tokens:,} tokens"
    )


def times(number: int, noun: str) -> str:
    """A number and its noun, in the plural where that is due."""
    plural = "batches" if noun == "batch" else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"
