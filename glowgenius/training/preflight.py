"""What can be known about a run before its first request, and everything that is wrong with it, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from glowgenius.data.dataset import Dataset
from glowgenius.errors import PreflightError, Problem
from glowgenius.training.dropped import empty_places
from glowgenius.training.preflight_report import PreflightReport, times
from glowgenius.training.prepared import PreparedRun
from glowgenius.training.row_warnings import row_warnings, weight_warnings
from glowgenius.training.rows import NONE_DROPPED, TRAINS_ANSWER, PreparedRows, over_context, prepare
from glowgenius.training.schedule import Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.data.message import Conversation
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.config import Cadence, TrainingConfig
    from glowgenius.training.surroundings import Surroundings

FEW_STEPS: Final = 20
"""Updates below which a run is said to be short: the usual advice is a hundred at least."""


def check_run(
    train: Sequence[Conversation],
    evaluation: Sequence[Conversation] | None,
    *,
    renderer: Renderer,
    config: TrainingConfig,
    learning_rate: tuple[float, str],
    about: tuple[str, ...],
    surroundings: Callable[[], Surroundings],
    dropped: Mapping[int, int | None] = NONE_DROPPED,
    total: int | None = None,
) -> tuple[PreparedRun, PreflightReport]:
    """Render every row and check the settings against them.

    Args:
        train: The training rows.
        evaluation: The evaluation rows, if any.
        renderer: Makes tokens and masks.
        config: The settings.
        learning_rate: The peak rate, and where it comes from.
        about: Lines about engine, model and renderer, for the page.
        surroundings: What is known of engine and model; asked for when the rows are rendered, as it may take a while.
        dropped: As for `prepare`, of the training rows.
        total: As for `prepare`.

    Returns:
        The run, and the page about it, without its price.

    Raises:
        PreflightError: Something is wrong; `problems` has all of it.
    """
    rows, found = prepare(train, renderer, config, name="train", dropped=dropped, total=total)
    held, more = (None, list[Problem]()) if evaluation is None else prepare(evaluation, renderer, config, name="eval")
    plan = _plan(config, rows, learning_rate[0])
    left = [row for number, row in enumerate(train) if number not in dropped] if dropped else train
    around = surroundings()
    wrong = [
        *around.problems,
        *_settings(config, plan, rows, held, broken=bool(found or more)),
        *over_context(rows, train, around.context, name="train"),
        *(() if held is None else over_context(held, evaluation or (), around.context, name="eval")),
        *found,
        *more,
    ]
    if wrong:
        raise refused(wrong)
    report = PreflightReport(
        engine=around.engine,
        about=about,
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
        train_on=config.train_on.value,
        untrained=train.untrained_columns if isinstance(train, Dataset) else (),
        warnings=(
            *around.warnings,
            *row_warnings(left, evaluation),
            *weight_warnings(left, rows.counts.used, config.batch_size),
            *_mask_warnings(config, rows, held),
            *_plan_warnings(config, plan, evaluates=held is not None),
        ),
    )
    return PreparedRun(train=rows, evaluation=held, plan=plan), report


def _plan(config: TrainingConfig, rows: PreparedRows, learning_rate: float) -> Plan:
    """The plan of *config* for *rows*, in which dropped rows keep their places."""
    return make_plan(
        config,
        num_rows=rows.counts.used + rows.counts.left_out,
        learning_rate=learning_rate,
        left_out=empty_places(rows.rows, rows.left_out),
    )


def refused(problems: Sequence[Problem]) -> PreflightError:
    """The error that says why a run cannot begin."""
    return PreflightError("the run cannot begin; no row has been sent yet", problems)


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
    if config.save_top_k is not None and evaluation is None:
        found, accepted = f"{config.save_top_k} without an eval_dataset", "one that tells which steps are best, or None"
        wrong.append(Problem(field="save_top_k", found=found, accepted=accepted))
    if config.replay_targets != "answers" and not any(train.replay) and not broken:
        found = f"{config.replay_targets!r}, but no row of the training data is tagged 'replay'"
        accepted = "Dataset.with_replay(rows), or replay_targets='answers'"
        wrong.append(Problem(field="config.replay_targets", found=found, accepted=accepted))
    if train.counts.used and not broken and config.warmup_steps >= plan.total_steps:
        wrong.append(
            Problem(
                field="config.warmup_steps",
                found=f"{config.warmup_steps}, but the run has {times(plan.total_steps, 'step')}, "
                "so the learning rate would never reach its peak",
                accepted=f"at most {plan.total_steps - 1}",
            )
        )
    return wrong


def _mask_warnings(config: TrainingConfig, train: PreparedRows, evaluation: PreparedRows | None) -> list[str]:
    if config.train_on not in TRAINS_ANSWER:
        return []
    return [
        f"in {rows.num_without_stop} of {times(rows.counts.used, f'{name} row')} the token that ends the answer is "
        "not trained, so the model will not learn to stop"
        for name, rows in (("train", train), ("eval", evaluation))
        if rows is not None and rows.num_without_stop
    ]


def _plan_warnings(config: TrainingConfig, plan: Plan, *, evaluates: bool) -> list[str]:
    """What the number of steps makes of the settings."""
    warnings = [
        f"{name}={every!r} {_never(every, plan)}, so only {what}"
        for name, every, what in _cadences(config, evaluates=evaluates)
        if every is not None and not plan.ever_due(every)
    ]
    if plan.total_steps < FEW_STEPS and not plan.cut_short:
        warnings.append(
            f"the run makes {times(plan.total_steps, 'update')}, which is hardly enough to learn anything: an adapter "
            f"begins at zero, and its rate falls to the end; more rows, num_epochs above {config.num_epochs} or "
            f"batch_size below {config.batch_size} make more"
        )
    return warnings


def _cadences(config: TrainingConfig, *, evaluates: bool) -> tuple[tuple[str, Cadence, str], ...]:
    # A state once an epoch is the default: not worth a word where there is less than one.
    save_every = None if config.save_every == "epoch" else config.save_every
    return (
        ("eval_every", config.eval_every if evaluates else None, "the first and the last step are evaluated"),
        ("save_every", save_every, "the last step is saved"),
    )


def _never(every: Cadence, plan: Plan) -> str:
    steps = times(plan.total_steps, "step")
    if every == "epoch":
        return f"never comes, as max_steps={plan.max_steps} ends the run within the first epoch"
    return f"is more than the {steps} of the run"
