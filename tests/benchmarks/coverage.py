"""How often the intervals that are printed hold the true value, simulated.

    python -m tests.benchmarks.coverage          # the table of docs/evaluation.md, a few minutes of one core
    python -m tests.benchmarks.coverage --quick  # fewer draws

Each row is a kind of interval and each column a number of training seeds. A cell is the *lowest* coverage over 10, 30,
100 and 300 questions, alone and in groups, for shares in the middle and at the ends. Questions, groups and seeds have
effects of their own; with one seed the true value is that of this seed, as nothing else can be known.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from glowgenius.evaluation.intervals import crossed_interval, paired_interval, score_interval, student

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from glowgenius.evaluation.intervals import Interval

SEEDS: Final = (1, 2, 3, 5, 10)
QUESTIONS: Final = (10, 30, 100, 300)
SHARES: Final = (0.5, 0.9, 0.98, 0.995)
"""True shares; the intervals of a share and of its rest mirror each other."""
POPULATION: Final = 400_000
"""Draws that give the true value."""
DRAWS: Final = 500
NEAR: Final = 0.95
"""A setting that comes out below is simulated again: the lowest of many is low by chance as well."""
MORE: Final = 8
"""So many times the draws, others than before."""
QUICK_DRAWS: Final = 100


@dataclass(frozen=True, kw_only=True)
class World:
    """Where questions and seeds are drawn from."""

    seeds: int
    questions: int
    grouped: bool
    share: float
    """The logit scale's middle, as a share."""

    @property
    def groups(self) -> list[int]:
        """The group of each question; groups have one to five questions."""
        if not self.grouped:
            return list(range(self.questions))
        sizes = itertools.cycle((1, 5, 2, 4, 3))
        return [group for group, size in zip(range(self.questions), sizes, strict=False) for _ in range(size)][
            : self.questions
        ]


def effects(world: World, generator: np.random.Generator, draws: int) -> tuple[Any, Any]:
    """Effects of seeds `[draws, S, 1]` and of questions `[draws, 1, N]`, of which half belongs to the group."""
    members = np.array(world.groups)
    own = generator.normal(size=(draws, 1, world.questions))
    shared = generator.normal(size=(draws, 1, members.max() + 1))[..., members]
    questions = np.sqrt(0.5) * (own + shared) if world.grouped else own
    seeds = generator.normal(scale=0.5, size=(draws, world.seeds, 1)) if world.seeds > 1 else np.zeros((draws, 1, 1))
    return seeds, questions


def shares(world: World, generator: np.random.Generator, draws: int) -> Any:
    """The probability of a right answer, of every question under every seed."""
    seeds, questions = effects(world, generator, draws)
    return 1 / (1 + np.exp(-(np.log(world.share / (1 - world.share)) + seeds + 1.5 * questions)))


def right(world: World, generator: np.random.Generator, draws: int) -> Any:
    """Scores of 0 and 1."""
    found = shares(world, generator, draws)
    return (generator.random(found.shape) < found).astype(float)


def partial(world: World, generator: np.random.Generator, draws: int) -> Any:
    """Scores with values between, such as token F1: mostly 0 or 1, a third of them elsewhere."""
    scores = right(world, generator, draws)
    return np.where(generator.random(scores.shape) < 1 / 3, generator.beta(2, 2, scores.shape) * scores, scores)


def changes(world: World, generator: np.random.Generator, draws: int) -> Any:
    """Differences of two scores: few questions change where the share is near 1, and two of three for the better."""
    found = 1 - shares(world, generator, draws)
    sign = np.where(generator.random(found.shape) < 2 / 3, 1.0, -1.0)
    return sign * (generator.random(found.shape) < found)


def losses(world: World, generator: np.random.Generator, draws: int) -> Any:
    """Losses, skewed as those of answers are."""
    seeds, questions = effects(world, generator, draws)
    return np.exp(0.7 * questions + 0.2 * generator.normal(size=(draws, world.seeds, world.questions))) + seeds


def loss_differences(world: World, generator: np.random.Generator, draws: int) -> Any:
    """Differences of two losses of the same questions."""
    seeds, questions = effects(world, generator, draws)
    return 0.3 * np.exp(0.5 * questions) + 0.5 * seeds + generator.normal(size=(draws, world.seeds, world.questions))


def of_scores(values: Any, groups: Sequence[int]) -> Interval:
    """As a sweep prints it; of one seed as an evaluation does."""
    rows = values.tolist()
    return score_interval(rows[0], groups) if len(rows) == 1 else crossed_interval(rows, groups, kind="scores")


def of_differences(values: Any, groups: Sequence[int]) -> Interval:
    """As a sweep prints it; of one seed as a comparison does."""
    rows = values.tolist()
    if len(rows) > 1:
        return crossed_interval(rows, groups, kind="differences")
    return paired_interval([max(0.0, -value) for value in rows[0]], [max(0.0, value) for value in rows[0]], groups)


def of_losses(values: Any, groups: Sequence[int]) -> Interval:
    """As a sweep prints it."""
    return crossed_interval(values.tolist(), groups, kind="unbounded", num_resamples=400)


def of_runs(values: Any, groups: Sequence[int]) -> Interval:
    """One loss a run: over seeds alone."""
    return student([row[0] for row in values.tolist()])


@dataclass(frozen=True, kw_only=True)
class Case:
    """A kind of interval."""

    name: str
    draw: Callable[[World, np.random.Generator, int], Any]
    interval: Callable[[Any, Sequence[int]], Interval]
    ends: Sequence[float] = SHARES
    questions: Sequence[int] = QUESTIONS
    cost: int = 1
    """Draws are so many times fewer."""
    least_seeds: int = 1


def run_losses(world: World, generator: np.random.Generator, draws: int) -> Any:
    """One number a run."""
    return generator.normal(1.0, 0.2, size=(draws, world.seeds, 1))


CASES: Final = (
    Case(name="score: of a slice, kept, ranked, of a sweep", draw=right, interval=of_scores),
    Case(name="score with parts, such as token F1", draw=partial, interval=of_scores, cost=3),
    Case(name="difference: of a slice, of a sweep", draw=changes, interval=of_differences),
    Case(name="loss of the answers", draw=losses, interval=of_losses, ends=(0.5,), cost=2),
    Case(name="difference of losses", draw=loss_differences, interval=of_losses, ends=(0.5,), cost=2),
    Case(name="loss of a run", draw=run_losses, interval=of_runs, ends=(0.5,), questions=(10,), least_seeds=2),
)


def worlds(case: Case, seeds: int) -> Iterator[World]:
    """Every setting of a cell of the table."""
    for questions, grouped, share in itertools.product(case.questions, (False, True), case.ends):
        yield World(seeds=seeds, questions=questions, grouped=grouped, share=share)


def coverage(case: Case, world: World, draws: int, seed: int = 0) -> float:
    """The share of intervals that hold the true value."""
    generator = np.random.default_rng([seed, world.seeds, world.questions, world.grouped, int(1000 * world.share)])
    anyone = World(seeds=min(2, world.seeds), questions=1, grouped=False, share=world.share)
    truth = float(case.draw(anyone, np.random.default_rng(seed + 1), POPULATION).mean())
    values = case.draw(world, generator, draws)
    return float(np.mean([truth in case.interval(value, world.groups) for value in values]))


def lowest(case: Case, seeds: int, draws: int) -> float | None:
    """The lowest coverage of a cell of the table; None where there is no such interval."""
    if seeds < case.least_seeds:
        return None
    found = {world: coverage(case, world, draws // case.cost) for world in worlds(case, seeds)}
    # Draws of their own: those that made a setting look low would make it look low again.
    near = [world for world, share in found.items() if share < NEAR]
    found |= {world: coverage(case, world, MORE * draws // case.cost, seed=1) for world in near}
    return min(found.values())


def table(draws: int) -> str:
    """The table, in Markdown."""
    heads = [f"{seeds} seeds" if seeds > 1 else "1 seed" for seeds in SEEDS]
    lines = [f"| 95 % interval of a | {' | '.join(heads)} |"]
    lines.append(f"| --- |{' --- |' * len(SEEDS)}")
    for case in CASES:
        found = [lowest(case, seeds, draws) for seeds in SEEDS]
        lines.append(f"| {case.name} | {' | '.join('–' if one is None else f'{one:.3f}' for one in found)} |")
        print(lines[-1], file=sys.stderr, flush=True)
    return "\n".join(lines)


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_DRAWS} draws instead of {DRAWS:,}")
    draws = QUICK_DRAWS if parser.parse_args().quick else DRAWS
    fewest = draws // max(case.cost for case in CASES)
    print(
        f"The lowest coverage of each, {fewest:,} to {draws:,} draws a setting; "
        f"settings below {NEAR} again with {MORE * fewest:,} to {MORE * draws:,} other draws.\n"
    )
    print(table(draws))
    return 0


if __name__ == "__main__":
    sys.exit(main())
