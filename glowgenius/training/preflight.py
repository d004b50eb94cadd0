"""What can be known about a run before its first request, and everything that is wrong with it, at once."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final, final

from attrs import frozen
from typing_extensions import override

from glowgenius.errors import PreflightError, Problem
from glowgenius.rendering.train_on import TrainOn
from glowgenius.training.rows import PreparedRows, RowCounts, prepare
from glowgenius.training.schedule import Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Conversation
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.config import TrainingConfig

_ANSWERS: Final = frozenset(
    {TrainOn.LAST_ASSISTANT_MESSAGE, TrainOn.LAST_ASSISTANT_TURN, TrainOn.ALL_ASSISTANT_MESSAGES}
)
"""What trains the assistant's last message to its end."""


@final
@frozen(kw_only=True)
class PreflightReport:
    """A run that can begin, in numbers. Printed, it is the part of the header about data and steps."""

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

    warnings: tuple[str, ...]
    """What a run should not have, but can."""

    def lines(self) -> tuple[str, ...]:
        """The report as lines of text."""
        held = self.evaluation
        return (
            f"train rows: {_rows(self.train)} trained per epoch; longest {self.train.longest:,} tokens",
            *self._replay(),
            *([] if held is None else [f"eval rows: {_rows(held)} scored; longest {held.longest:,} tokens"]),
            f"steps: {self._steps()}",
            f"learning rate: {self.learning_rate:.3g}, {self.lr_schedule}{self._rise()} ({self.learning_rate_source})",
            "loss: mean over the trained tokens of a step, in nats per token",
            *(f"warning: {text}" for text in self.warnings),
        )

    def _replay(self) -> list[str]:
        counts = self.train
        if not counts.replay_rows:
            return []
        share = f"{counts.replay_rows / counts.rows:.0%} of the rows"
        tokens = f"{counts.replay_tokens / max(counts.trained_tokens, 1):.0%} of the trained tokens"
        return [f"replay: {_times(counts.replay_rows, 'row')} to keep what the model knew, {share} and {tokens}"]

    def _steps(self) -> str:
        planned = self.num_epochs * self.steps_per_epoch
        size = min(self.batch_size, self.train.used)
        noun = "row" if self.train.examples == self.train.rows else "example"
        text = (
            f"{planned:,} = {_times(self.num_epochs, 'epoch')} × {_times(self.steps_per_epoch, 'batch')} "
            f"of {_times(size, noun)}"
        )
        if self.steps_per_epoch > 1 and self.train.used % self.batch_size:
            text += f", the last of them {_times(self.train.used % self.batch_size, noun)}"
        elif size < self.batch_size:
            text += f", fewer than batch_size={self.batch_size}"
        return text if self.total_steps == planned else f"{text}; max_steps={self.total_steps} ends the run earlier"

    def _rise(self) -> str:
        return f" after {_times(self.warmup_steps, 'step')} of warm-up" if self.warmup_steps else ""

    @override
    def __str__(self) -> str:
        return "\n".join(self.lines())


@final
@frozen(kw_only=True, eq=False)
class Preflight:
    """A checked run: the report, and what was made on the way."""

    report: PreflightReport
    """The numbers."""

    train: PreparedRows
    """The training rows, rendered."""

    evaluation: PreparedRows | None
    """The evaluation rows, rendered."""

    plan: Plan
    """Every step of the run."""


def check_run(
    train: Sequence[Conversation],
    evaluation: Sequence[Conversation] | None,
    *,
    renderer: Renderer,
    config: TrainingConfig,
    learning_rate: tuple[float, str],
    problems: Sequence[Problem] = (),
) -> Preflight:
    """Render every row and check the settings against them.

    Args:
        train: The training rows.
        evaluation: The evaluation rows, if any.
        renderer: Makes tokens and masks.
        config: The settings.
        learning_rate: The peak rate, and where it comes from.
        problems: What is known to be wrong already.

    Raises:
        PreflightError: Something is wrong; `problems` has all of it.
    """
    rows, found = prepare(train, renderer, config, name="train")
    held, more = (None, list[Problem]()) if evaluation is None else prepare(evaluation, renderer, config, name="eval")
    plan = make_plan(config, num_rows=rows.counts.used, learning_rate=learning_rate[0])
    wrong = [*problems, *_settings(config, plan, rows, held, broken=bool(found or more)), *found, *more]
    if wrong:
        raise PreflightError("the run cannot begin; nothing has been sent yet", wrong)
    report = PreflightReport(
        train=rows.counts,
        evaluation=None if held is None else held.counts,
        steps_per_epoch=plan.steps_per_epoch,
        total_steps=plan.total_steps,
        num_epochs=config.num_epochs,
        batch_size=config.batch_size,
        learning_rate=learning_rate[0],
        learning_rate_source=learning_rate[1],
        lr_schedule=config.lr_schedule,
        warmup_steps=config.warmup_steps,
        warnings=(
            *_row_warnings(train, evaluation),
            *_mask_warnings(config, rows, held),
            *_cadence_warnings(config, plan),
        ),
    )
    return Preflight(report=report, train=rows, evaluation=held, plan=plan)


def _settings(
    config: TrainingConfig, plan: Plan, train: PreparedRows, evaluation: PreparedRows | None, *, broken: bool
) -> list[Problem]:
    """What is wrong with the settings for so many rows; without a look at counts that broken rows have falsified."""
    wrong: list[Problem] = []
    for name, rows in (("train", train), ("eval", evaluation)):
        if rows is None or rows.counts.used or (rows.counts.rows and broken):
            continue
        found = (
            "no rows"
            if not rows.counts.rows
            else f"all {rows.counts.rows} rows are over max_length={config.max_length}"
        )
        wrong.append(Problem(field=name, found=found, accepted="at least one row that can be used"))
    if config.eval_every is not None and evaluation is None:
        wrong.append(
            Problem(
                field="config.eval_every",
                found=f"{config.eval_every!r}, but there is no eval_dataset, so no evaluation would ever happen",
                accepted="train(..., eval_dataset=...), or eval_every=None",
            )
        )
    if train.counts.used and not broken and config.warmup_steps >= plan.total_steps:
        wrong.append(
            Problem(
                field="config.warmup_steps",
                found=f"{config.warmup_steps}, but the run has {_times(plan.total_steps, 'step')}, "
                "so the learning rate would never reach its peak",
                accepted=f"at most {plan.total_steps - 1}",
            )
        )
    return wrong


def _normalised(messages: Sequence[object]) -> str:
    return re.sub(r"\s+", " ", "\n".join(str(message) for message in messages)).strip().casefold()


def _row_warnings(train: Sequence[Conversation], evaluation: Sequence[Conversation] | None) -> list[str]:
    """Questions that both data sets have, and questions that are answered in two ways."""
    answers: dict[str, set[str]] = {}
    for row in train:
        prompt = _normalised([f"{message.role} {message.content}" for message in row.prompt])
        answers.setdefault(prompt, set()).add(_normalised([row.answer]))
    warnings: list[str] = []
    parts = Counter(row.split for row in train if row.split is not None)
    if len(parts) > 1:
        named = ", ".join(f"{name!r} ({count:,})" for name, count in parts.items())
        warnings.append(
            f"the column 'split' of the training rows names {len(parts)} parts, {named}, and all of them are trained; "
            "dataset.splits has each part by itself"
        )
    contradicting = sum(len(given) > 1 for given in answers.values())
    if contradicting:
        warnings.append(
            f"{_times(contradicting, 'question')} of the training data {_have(contradicting)} more than one answer; "
            "the model learns to guess among them"
        )
    leaked = [
        row
        for row in evaluation or ()
        if _normalised([f"{message.role} {message.content}" for message in row.prompt]) in answers
    ]
    if leaked and evaluation is not None:
        warnings.append(
            f"the questions of {len(leaked)} of {_times(len(evaluation), 'eval row')} are also trained (the first: "
            f"{leaked[0].question!r}), so the eval loss will flatter; remove them from one of the two data sets"
        )
    return warnings


def _mask_warnings(config: TrainingConfig, train: PreparedRows, evaluation: PreparedRows | None) -> list[str]:
    if config.train_on not in _ANSWERS:
        return []
    return [
        f"in {rows.num_without_stop} of {_times(rows.counts.used, f'{name} row')} the token that ends the answer is "
        "not trained, so the model will not learn to stop"
        for name, rows in (("train", train), ("eval", evaluation))
        if rows is not None and rows.num_without_stop
    ]


def _cadence_warnings(config: TrainingConfig, plan: Plan) -> list[str]:
    return [
        f"{name}={every} is more than the {_times(plan.total_steps, 'step')} of the run, so only {what}"
        for name, every, what in (
            ("eval_every", config.eval_every, "the first and the last step are evaluated"),
            ("save_every", config.save_every, "the last step is saved"),
        )
        if isinstance(every, int) and every > plan.total_steps
    ]


def _rows(counts: RowCounts) -> str:
    left = (
        (counts.dropped, "dropped as too long"),
        (counts.truncated, "truncated"),
        (counts.cut_answers, "of these in an answer"),
    )
    notes = ", ".join(f"{number:,} {what}" for number, what in left if number)
    given = f"{counts.examples:,}"
    if counts.examples != counts.rows:
        given = f"{given} examples, into which {_times(counts.rows, 'row')} are divided by turn,"
    return (
        f"{counts.used:,} of {given} used{f' ({notes})' if notes else ''}; "
        f"{counts.trained_tokens:,} of {counts.input_tokens:,} tokens"
    )


def _times(number: int, noun: str) -> str:
    plural = "batches" if noun == "batch" else f"{noun}s"
    return f"{number:,} {noun if number == 1 else plural}"


def _have(number: int) -> str:
    return "has" if number == 1 else "have"
