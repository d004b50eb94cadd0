"""Preflight: every check of a run that can be made before its first request, reported at once."""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING, Final, final

from attrs import asdict, evolve, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius._spelling import times
from glowgenius.data.check import contradictions, duplicates, look_alikes, same_questions, shared
from glowgenius.data.check_report import place
from glowgenius.data.dataset import Dataset
from glowgenius.data.json_values import shortened
from glowgenius.engines.offered import Offer, OfferQuestion
from glowgenius.engines.protocol import SupportsContext
from glowgenius.errors import GlowGeniusError, PreflightError, Problem
from glowgenius.models.catalog import missing
from glowgenius.models.hub import context_length as model_context_length
from glowgenius.rendering.renderer import TrainOn
from glowgenius.training.connection import engine_name
from glowgenius.training.rows import (
    NONE_DROPPED,
    TRAINS_ANSWER,
    PreparedRows,
    PreparedRun,
    empty_places,
    over_context,
    prepare,
)
from glowgenius.training.schedule import Plan, make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.data.check_report import UntrainedColumn
    from glowgenius.data.message import Conversation
    from glowgenius.rendering.renderer import Renderer
    from glowgenius.training.config import Cadence, TrainingConfig
    from glowgenius.training.cost import CostEstimate
    from glowgenius.training.rows import RowCounts
    from glowgenius.typing import JSON


@final
@frozen(kw_only=True)
class PreflightReport:
    """Result of a passed preflight: everything that a run's header shows before the first step."""

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

    serving: tuple[str, ...] = ()
    """What servers refuse of the adapter, while it can still be made another one."""

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
            *(f"serving: {text}" for text in self.serving),
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


_TEXT = 60


def row_warnings(train: Sequence[Conversation], evaluation: Sequence[Conversation] | None) -> list[str]:
    """Warnings about rows that both data sets share, and training rows that repeat or contradict each other.

    `Dataset.check` and `find_leaks` look for more, and list every place.
    """
    same = same_questions(train)
    return [
        *_parts(train),
        *_repeated(train, same),
        *([] if evaluation is None else _leaks(train, evaluation)),
    ]


def weight_warnings(rows: Sequence[Conversation], examples: int, batch_size: int) -> list[str]:
    """Warnings about row weights without effect: the loss is a mean over a step, so only relative weights count.

    Args:
        rows: The training rows.
        examples: Of one epoch.
        batch_size: Of one step.
    """
    weights = {row.weight for row in rows}
    if weights == {1.0}:
        return []
    if len(weights) == 1 and len(rows) > 1:
        return [f"every training row has the weight {weights.pop():g}, so no row counts more than another"]
    why = "the loss is a mean over the rows of a step, so a weight counts beside other rows only"
    weighted = sum(row.weight != 1.0 for row in rows)
    if batch_size == 1 or examples == 1:
        has = "has a weight" if weighted == 1 else "have weights"
        found = f"{times(weighted, 'training row')} {has} without effect, as every step has one row: {why}"
        return [f"{found}; batch_size=2 or more makes them count"]
    if examples % batch_size == 1:
        found = f"the last step of every epoch has one row, whose weight has no effect: {why}"
        return [f"{found}; another batch_size than {batch_size} gives it company"]
    return []


def _parts(rows: Sequence[Conversation]) -> list[str]:
    parts = Counter(row.split for row in rows if row.split is not None)
    if len(parts) < 2:  # noqa: PLR2004 - one part is the one that is meant
        return []
    named = ", ".join(f"{name!r} ({count:,})" for name, count in parts.items())
    return [
        (
            f"the column 'split' of the training rows names {len(parts)} parts, {named}, and all of them are trained; "
            "dataset.splits has each part by itself"
        )
    ]


def _repeated(rows: Sequence[Conversation], same: Sequence[Sequence[int]]) -> list[str]:
    warnings: list[str] = []
    if found := contradictions(rows, same):
        warnings.append(
            f"{times(len(found), 'question')} of the training data {_have(len(found))} different answers "
            f"(the first: {_places(rows, found[0])}), so the model learns to guess among them; keep one, or give each "
            "row all accepted answers as 'references'"
        )
    if found := duplicates(rows):
        extra = sum(map(len, found)) - len(found)
        warnings.append(
            f"{times(extra, 'training row')} {_are(extra)} the same to the letter as an earlier one (the first: "
            f"{_places(rows, found[0])}); keep one of them, a row that should count more has the column 'weight'"
        )
    if found := look_alikes(rows, same):
        warnings.append(
            f"{times(len(found), 'question')} of the training data {_are(len(found))} there again in other characters, "
            f"with the same answer (the first: {_places(rows, found[0])}); keep one of them, unless both are meant"
        )
    return warnings


def _leaks(train: Sequence[Conversation], evaluation: Sequence[Conversation]) -> list[str]:
    warnings: list[str] = []
    asked = shared(train, evaluation)
    if asked:
        first = evaluation[asked[0][1]]
        warnings.append(
            f"the questions of {len(asked)} of {times(len(evaluation), 'eval row')} are also trained (the first: "
            f"{place(evaluation, asked[0][1])}: {_quoted(first)}), so the eval loss will be "
            "optimistic; remove them from one of the two data sets"
        )
    known = {tested for _, tested in asked}
    grouped = [pair for pair in shared(train, evaluation, operator.attrgetter("group")) if pair[1] not in known]
    if grouped:
        trained, tested = grouped[0]
        warnings.append(
            f"{len(grouped)} of {times(len(evaluation), 'eval row')} {_are(len(grouped))} of a group that is also "
            f"trained (the first: {place(evaluation, tested)}, group {evaluation[tested].group!r}, as "
            f"{place(train, trained)}), so the eval loss will be optimistic; "
            "Dataset.train_test_split keeps groups whole"
        )
    return warnings


def _places(rows: Sequence[Conversation], group: Sequence[int]) -> str:
    """Where the first two rows of *group* are, and the question they ask."""
    return f"{place(rows, group[0])} and {place(rows, group[1])}: {_quoted(rows[group[0]])}"


def _quoted(row: Conversation) -> str:
    return repr(shortened(row.question, _TEXT))


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"


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
    """Render every row, and check the settings against the rows.

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
    return PreparedRun(train=rows, evaluation=held, plan=plan, context=around.context), report


def _plan(config: TrainingConfig, rows: PreparedRows, learning_rate: float) -> Plan:
    """The plan of *config* for *rows*, in which dropped rows keep their places."""
    return make_plan(
        config,
        num_rows=rows.counts.used + rows.counts.left_out,
        learning_rate=learning_rate,
        left_out=empty_places(rows.rows, rows.left_out),
    )


def refused(problems: Sequence[Problem]) -> PreflightError:
    """The error that lists why a run cannot begin."""
    return PreflightError("the run cannot begin; no row has been sent yet", problems)


def _settings(
    config: TrainingConfig, plan: Plan, train: PreparedRows, evaluation: PreparedRows | None, *, broken: bool
) -> list[Problem]:
    """Problems of the settings for this number of rows; counts that broken rows falsify are not checked."""
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
    """Warnings about settings that do not suit the number of steps."""
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
    # Saving once an epoch is the default: no warning for a run shorter than one epoch.
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


_BYTES_PER_PARAMETER = 16
"""A trained parameter, its gradient and two moments, in float32."""

if TYPE_CHECKING:
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.training.connection import Engine


@final
@frozen(kw_only=True)
class Surroundings:
    """Engine checks of a run: what is known beside its rows and settings."""

    engine: str
    """Where it would take place; `none` where there is no engine."""

    problems: tuple[Problem, ...] = ()
    """What is wrong with them."""

    warnings: tuple[str, ...] = ()
    """What could not be found out about them."""

    context: int | None = None
    """The most tokens that the model takes there, where the service says so."""


@final
class Outlook:
    """Starts the engine checks when it is created, and returns their answers when they are needed.

    Args:
        engine: Where the run would take place; a service that is in it is asked which models it has.
        base_model: The model that is adapted.
        lora: The adapter; None where a client was given, whose model is there already.
    """

    def __init__(self, engine: Engine, base_model: str, lora: LoRAConfig | None) -> None:
        self._engine = engine
        self._base_model = base_model
        self._lora = lora
        asks = engine.service is not None and lora is not None
        # The local engine takes any folder and any hub name, not only the models it lists.
        self._is_local = asks and engine_name(engine.service) == "local"
        self._question = OfferQuestion(engine.service) if asks and not self._is_local else None

    def see(self) -> Surroundings:
        """The answers of the engine checks that have arrived.

        Raises:
            AuthenticationError: The service refuses the key.
            BillingError: The account cannot pay.
        """
        offer = Offer() if self._question is None else self._question.answer()
        problems = (self._rank(), self._missing(), self._memory(), offer.problem(self._base_model))
        context, unlimited = self._context(offer)
        silence = (
            "the service did not say which models it has, so whether "
            f"{self._base_model!r} is one of them is not known: {offer.silence}"
        )
        return Surroundings(
            engine=self._engine.name,
            problems=tuple(problem for problem in problems if problem is not None),
            warnings=(*(() if offer.silence is None else (silence,)), *unlimited),
            context=context,
        )

    def _context(self, offer: Offer) -> tuple[int | None, tuple[str, ...]]:
        """The context length in tokens, and a warning if it is unknown."""
        service = self._engine.service
        try:
            if self._engine.name != "local":
                if isinstance(service, SupportsContext):
                    return service.context_length(self._base_model), ()
                return offer.context(self._base_model), ()
            context = model_context_length(self._base_model)
        except GlowGeniusError:
            return None, ()  # a missing model is reported elsewhere
        unlimited = f"the config of {self._base_model!r} names no longest sequence, so rows of any length are sent"
        return context, () if context is not None else (unlimited,)

    def _memory(self) -> Problem | None:
        """A warning about an adapter that does not fit in the free memory."""
        free: int | None = getattr(self._engine.service, "free_memory", None) if self._is_local else None
        if free is None or self._lora is None:
            return None
        try:
            needed = _BYTES_PER_PARAMETER * self._lora.parameter_count(self._base_model)
        except GlowGeniusError:
            return None
        if needed <= free:
            return None
        rank = self._lora.rank
        found = f"{rank}: the adapter, its gradient and its optimizer take {needed / 1e9:,.1f} GB"
        return Problem(
            field="lora.rank", found=found, accepted=f"at most {rank * free // needed}: {free / 1e9:,.1f} GB are free"
        )

    def _rank(self) -> Problem | None:
        if self._engine.name != "tinker" or self._lora is None or not self._lora.rank & (self._lora.rank - 1):
            return None
        return Problem(field="lora.rank", found=str(self._lora.rank), accepted="a power of two, as Tinker asks for")

    def _missing(self) -> Problem | None:
        found = missing(self._base_model) if self._is_local else None
        return None if found is None else Problem(field="base_model", found=found.found, accepted=found.accepted)
