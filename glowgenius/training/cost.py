"""Estimated and actual cost of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from attrs import frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.training.prices import Price, PriceTable, TokenUsage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.batching.shift import ShiftedExample, SoftExample
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.rows import PreparedRun
    from glowgenius.training.schedule import Plan
    from glowgenius.typing import JSON

COST = "cost/cumulative_usd"
"""The column of the rows that says what the run has cost so far."""


@final
@frozen(kw_only=True)
class CostEstimate:
    """Estimated tokens and USD of a whole run, before its first request; prints as a summary."""

    base_model: str
    """The model that is adapted."""

    training: TokenUsage
    """Every step."""

    evaluations: int
    """Evaluations: before step 1, when the settings ask for one, and after the last step."""

    evaluation: TokenUsage
    """All evaluations of the loss together."""

    sampling: TokenUsage
    """What callbacks sample at all evaluations, at most, where they say so."""

    uncounted: tuple[str, ...]
    """Callbacks that sample and do not say how much."""

    teacher: TokenUsage
    """What is read before the first step to learn what the base model finds likely in replay rows."""

    price: Price | None
    """The price of the model; None where there is none, or nothing is charged."""

    reason: str
    """Why there is no price: `no charge: …` or `unknown, …`; else what to know about it."""

    free: bool
    """Whether nothing is charged."""

    @property
    def usage(self) -> TokenUsage:
        """Token usage of training, evaluation and callbacks together."""
        return self.training + self.evaluation + self.sampling + self.teacher

    @property
    def tokens_trained(self) -> int:
        """Tokens of all rows over all steps."""
        return self.usage.trained

    @property
    def tokens_prefilled(self) -> int:
        """Tokens prefilled at evaluations, and by the base model before the first step."""
        return self.usage.prefilled

    @property
    def tokens_sampled(self) -> int:
        """The most tokens that callbacks generate."""
        return self.usage.sampled

    @property
    def usd(self) -> float | None:
        """Total price in USD: 0 on an engine that charges nothing, None if the price is unknown."""
        if self.price is None:
            return 0.0 if self.free else None
        return self.price.usd(self.usage)

    @property
    def priced_at(self) -> str | None:
        """The date of the price."""
        return None if self.price is None else self.price.date

    def lines(self) -> tuple[str, ...]:
        """The estimate as lines of text."""
        parts = [
            f"{self.training.trained:,} tokens trained{self._usd(self.training)}",
            f"{self.evaluation.prefilled:,} read in {self.evaluations} evaluations{self._usd(self.evaluation)}",
        ]
        if self.sampling != TokenUsage():
            parts.append(f"up to {self.sampling.sampled:,} sampled by callbacks{self._usd(self.sampling)}")
        if self.teacher != TokenUsage():
            parts.append(f"{self.teacher.prefilled:,} read for the targets of replay rows{self._usd(self.teacher)}")
        total = self.reason if self.price is None else f"about {dollars(self.price.usd(self.usage))}"
        dated = "" if self.price is None else f"; prices of {self.price.date}"
        note = () if self.price is None or not self.reason else (f"cost: {self.reason}",)
        names = ", ".join(self.uncounted)
        more = (f"cost: what {names} samples is not in it",) if self.uncounted and not self.free else ()
        return (f"cost: {total} ({', '.join(parts)}{dated})", *note, *more)

    def _usd(self, usage: TokenUsage) -> str:
        return "" if self.price is None else f" {dollars(self.price.usd(usage))}"

    def to_json(self) -> dict[str, JSON]:
        """The estimate as a JSON object."""
        return {
            "tokens_trained": self.tokens_trained,
            "tokens_prefilled": self.tokens_prefilled,
            "tokens_sampled": self.tokens_sampled,
            "evaluations": self.evaluations,
            "usd": self.usd,
            "priced_at": self.priced_at,
            "reason": self.reason,
        }

    @override
    def __str__(self) -> str:
        return showable("\n".join(self.lines()))


@final
@frozen(kw_only=True)
class RunCost:
    """Actual cost of a run beside its estimate."""

    estimate: CostEstimate
    """What was to be expected of the whole run."""

    usage: TokenUsage
    """What was sent and reported; steps that a restart or a resume made again are in it twice."""

    @property
    def usd(self) -> float | None:
        """Price of `usage` in USD: 0 on an engine that charges nothing, None if the price is unknown."""
        price = self.estimate.price
        return price.usd(self.usage) if price is not None else self.estimate.usd

    def to_json(self) -> dict[str, JSON]:
        """The cost as a JSON object."""
        return {
            "usd": self.usd,
            "tokens_trained": self.usage.trained,
            "tokens_prefilled": self.usage.prefilled,
            "tokens_sampled": self.usage.sampled,
            "estimate": self.estimate.to_json(),
        }

    @override
    def __str__(self) -> str:
        if self.usd is None or self.estimate.free:
            return f"cost: {self.estimate.reason}"
        return f"cost: {dollars(self.usd)}, estimated {dollars(self.estimate.usd or 0.0)}"


@final
@frozen(kw_only=True)
class CostSoFar:
    """Cost of a run when a step is reported, and the estimate of its total, in USD."""

    usd: float
    """Everything up to this step."""

    usd_if_stopped_now: float
    """In the end, if `StopTraining` is returned here: with the steps under way, and the last evaluation."""

    usd_if_stopped_next: float
    """In the end, if it is returned one step later."""


@final
class Meter:
    """Counts the tokens of a run while it trains.

    Args:
        run: The checked rows and the plan.
        config: The settings.
        estimate: Has the price, and what callbacks sample.
        spent: What had been spent before, where a run is resumed.
    """

    def __init__(self, *, run: PreparedRun, config: TrainingConfig, estimate: CostEstimate, spent: TokenUsage) -> None:
        self._plan = run.plan
        self._config = config
        self._examples = run.train.examples
        self._evaluation = evaluation_usage(run) + _each(estimate)
        self.estimate = estimate
        """What the run was estimated to cost."""
        self.usage = spent
        """Everything so far."""

    @property
    def cost(self) -> RunCost:
        """Cost so far."""
        return RunCost(estimate=self.estimate, usage=self.usage)

    def column(self) -> dict[str, float]:
        """The cost column of a metrics row; empty if the price is unknown."""
        price = self.estimate.price
        return {} if price is None else {COST: price.usd(self.usage)}

    def count_teacher(self) -> None:
        """Count the base model's pass over the replay rows for their soft targets."""
        self.usage += self.estimate.teacher

    def count_step(self, step: int) -> None:
        """Count the tokens of *step*."""
        self.usage += step_usage(self._plan, step, self._examples)

    def count_evaluation(self) -> None:
        """Count the tokens of one evaluation."""
        self.usage += self._evaluation

    def count_lost(self, after: int, up_to: int) -> None:
        """Count the steps after *after* that were sent before the service failed; their evaluations are unknown."""
        for step in range(after + 1, up_to + 1):
            self.count_step(step)

    def at(self, step: int) -> CostSoFar | None:
        """Cost when *step* is counted and its evaluation is not; None without a price."""
        price = self.estimate.price
        if price is None:
            return None
        return CostSoFar(
            usd=price.usd(self.usage),
            usd_if_stopped_now=price.usd(self._if_stopped(step, step + self._config.lookahead)),
            usd_if_stopped_next=price.usd(self._if_stopped(step, step + 1 + self._config.lookahead)),
        )

    def least_usd(self, start_step: int) -> float | None:
        """Lowest cost of a run that resumes at *start_step* and stops as soon as it can; None without a price."""
        price = self.estimate.price
        if price is None:
            return None
        # Before the first step is reported, all pending steps and the first evaluation have been sent.
        ahead = self._if_stopped(start_step, start_step + 1 + self._config.lookahead, evaluated=True)
        ahead += self.estimate.teacher
        return price.usd(ahead if start_step else ahead + self._evaluation)

    def _if_stopped(self, step: int, end: int, *, evaluated: bool = False) -> TokenUsage:
        end = min(end, self._plan.total_steps)
        total = self.usage
        for each in range(step, end + 1):
            # An evaluation of *step* itself is counted later than the step.
            if each > step:
                total += step_usage(self._plan, each, self._examples)
            elif evaluated:
                continue
            if each == end or self._plan.is_due(self._config.eval_every, self._plan.step(each)):
                total += self._evaluation
        return total


def step_usage(plan: Plan, step: int, examples: Sequence[ShiftedExample | SoftExample]) -> TokenUsage:
    """Token usage of one step."""
    return TokenUsage(trained=sum(len(examples[row]) for row in plan.step(step).rows))


def evaluation_usage(run: PreparedRun) -> TokenUsage:
    """Token usage of one evaluation of the loss."""
    return TokenUsage(prefilled=0 if run.evaluation is None else run.evaluation.counts.input_tokens)


def _each(estimate: CostEstimate) -> TokenUsage:
    count = max(estimate.evaluations, 1)
    sampling = estimate.sampling
    return TokenUsage(prefilled=sampling.prefilled // count, sampled=sampling.sampled // count)


def estimate_run(
    run: PreparedRun,
    config: TrainingConfig,
    *,
    base_model: str,
    engine: str,
    prices: PriceTable,
    sampling: Sequence[tuple[str, TokenUsage | None]],
) -> CostEstimate:
    """Estimated cost of a checked run.

    Args:
        run: The checked rows and the plan.
        config: The settings.
        base_model: The model that is adapted.
        engine: Where it runs; `local` is free.
        prices: What a token costs elsewhere.
        sampling: What callbacks sample at one evaluation, with their names; None where one does not say.
    """
    plan, free = run.plan, engine == "local"
    steps = [plan.step(number) for number in range(1, plan.total_steps + 1)]
    due = sum(plan.is_due(config.eval_every, step) or step.step == plan.total_steps for step in steps)
    evaluations = 0 if run.evaluation is None else 1 + due
    known = [usage for _, usage in sampling if usage is not None]
    price = None if free else prices.models.get(base_model)
    reason = prices.note if price is not None else prices.unknown(base_model)
    return CostEstimate(
        base_model=base_model,
        training=TokenUsage(trained=sum(len(run.train.examples[row]) for step in steps for row in step.rows)),
        evaluations=evaluations,
        evaluation=evaluation_usage(run).times(evaluations),
        sampling=sum(known, TokenUsage()).times(evaluations),
        teacher=teacher_usage(run, config),
        uncounted=tuple(name for name, usage in sampling if usage is None),
        price=price,
        reason="no charge: it runs on this machine" if free else reason,
        free=free,
    )


def dollars(usd: float) -> str:
    """An amount in USD with as many digits as it needs to be non-zero."""
    return f"${usd:,.2f}" if usd >= 1 or not usd else f"${usd:.4f}"


def teacher_usage(run: PreparedRun, config: TrainingConfig) -> TokenUsage:
    """Tokens prefilled for the base model's soft targets, and the one token sampled per row."""
    if config.replay_targets == "answers":
        return TokenUsage()
    lengths = [len(one) + 1 for one, replay in zip(run.train.examples, run.train.replay, strict=True) if replay]
    return TokenUsage(prefilled=sum(lengths), sampled=len(lengths))
