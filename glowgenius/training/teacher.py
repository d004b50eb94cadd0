"""Replay rows whose targets are what the base model finds likely: the model is held to what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from glowgenius.batching.shift import ShiftedExample
from glowgenius.batching.soft import SoftExample, softened, widened
from glowgenius.training.prices import TokenUsage

if TYPE_CHECKING:
    from collections.abc import Callable

    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.prepared import PreparedRun
    from glowgenius.training.sampler import Sampler

WIDTH: Final = 20
"""How many tokens of a distribution are asked for, the most that Tinker gives; they hold nearly all of it."""


def teacher_usage(run: PreparedRun, config: TrainingConfig) -> TokenUsage:
    """The tokens that are read, and the one of each row that is sampled, to learn what the base model finds likely."""
    if config.replay_targets == "answers":
        return TokenUsage()
    lengths = [len(one) + 1 for one, replay in zip(run.train.examples, run.train.replay, strict=True) if replay]
    return TokenUsage(prefilled=sum(lengths), sampled=len(lengths))


def teacher_lines(config: TrainingConfig) -> tuple[str, ...]:
    """What the page of a run says about the targets of replay rows, where they are not the answers."""
    if config.replay_targets == "answers":
        return ()
    found = f"the {WIDTH} tokens that the base model finds likeliest at each place"
    return (f"replay targets: {found}, asked for before the first step",)


def taught(run: PreparedRun, config: TrainingConfig, base: Callable[[], Sampler]) -> PreparedRun:
    """*run* with distributions as the targets of its replay rows, where the settings ask for them.

    An answer pulls each token towards certainty, which the base model did not have: it is changed even where it knew.
    Its own distribution pulls nowhere until something else has moved it (Li & Hoiem 2016, "Learning without
    Forgetting", section 3.2).

    Args:
        run: The checked rows; some are tagged `replay` where distributions are asked for.
        config: The settings.
        base: Makes the sampler of the base model.

    Raises:
        EngineError: The engine refused, failed, or left the likeliest tokens out.
    """
    if config.replay_targets == "answers":
        return run
    rows = run.train
    marked = [one for one, replay in zip(rows.examples, rows.replay, strict=True) if replay]
    chosen = [one for one in marked if isinstance(one, ShiftedExample)]
    tops = iter(base().likeliest(chosen, WIDTH))
    examples: list[ShiftedExample | SoftExample] = []
    for one, replay in zip(rows.examples, rows.replay, strict=True):
        if isinstance(one, ShiftedExample):
            examples.append(softened(one, *next(tops)) if replay else widened(one, WIDTH))
    return evolve(run, train=evolve(rows, examples=tuple(examples)))
