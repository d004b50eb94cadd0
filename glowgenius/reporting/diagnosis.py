"""What the numbers of a run call for, as sentences made by rule; every one of them with its numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from glowgenius.evaluation.intervals import mcnemar_exact

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.evaluation.comparison import Comparison
    from glowgenius.evaluation.slices import SliceComparison

TURNED: Final = 1.05
"""A held-out loss that ends this many times its lowest value has turned; less is noise."""

MOVED: Final = 0.95
"""A training loss that stays above this share of its first value has barely moved."""

FEW_STEPS: Final = 20
"""Below so many updates neither warm-up nor decay means much."""

CUT: Final = 0.1
"""A share of answers at `max_tokens` from which something is wrong."""

UNLIKELY: Final = 0.05
"""A p-value from which on chance alone explains a change."""

MEMORISED: Final = 0.02
"""A training loss in nats per token below which hardly anything is left to learn."""


def diagnose(
    history: Sequence[Mapping[str, object]], comparison: Comparison | None = None, *, suggested: float | None = None
) -> list[str]:
    """The sentences for a run.

    Args:
        history: Rows as in `metrics.jsonl`.
        comparison: The answers before and after, if there are any.
        suggested: The learning rate that is suggested for the model, if there is one.
    """
    train, held = series(history, "train/loss"), series(history, "eval/loss")
    found = [*_turned(train, held), *_barely_moved(train, history, suggested), *_memorised(train, held)]
    if 0 < len(train) < FEW_STEPS:
        found.append(
            f"The run made {len(train)} update{'s' * (len(train) != 1)}; below {FEW_STEPS} the warm-up and the "
            f"decay of "
            "the learning rate decide more than its peak."
        )
    return [*found, *_cut_off(comparison)]


def series(history: Sequence[Mapping[str, object]], key: str) -> list[tuple[int, float]]:
    """Step and finite value of *key*, where it was measured."""
    pairs: list[tuple[Any, Any]] = [(row.get("step"), row.get(key)) for row in history]
    return [(int(step), float(value)) for step, value in pairs if value is not None and math.isfinite(value)]


def _mean(values: Sequence[tuple[int, float]]) -> float:
    return math.fsum(value for _, value in values) / len(values)


def _turned(train: Sequence[tuple[int, float]], held: Sequence[tuple[int, float]]) -> list[str]:
    """The held-out loss rose while the training loss fell."""
    if len(held) < 2:  # noqa: PLR2004 - one value cannot rise
        return []
    best_step, best = min(held, key=lambda point: (point[1], point[0]))
    last_step, last = held[-1]
    before = [point for point in train if point[0] <= best_step][-10:]
    after = [point for point in train if point[0] > best_step][-10:]
    if last <= TURNED * best or not after:
        return []
    if best_step == 0 or not before:
        return [
            (
                f"The held-out loss was never below the {best:.3g} of step 0 and ended at {last:.3g}: what was "
                f"trained does "
                "not help on these rows, or the learning rate is too high."
            )
        ]
    if _mean(after) >= _mean(before):
        return [
            (
                f"The held-out loss rose from {best:.3g} at step {best_step} to {last:.3g} at step {last_step}, "
                f"and the "
                f"training loss with it ({_mean(before):.3g} → {_mean(after):.3g}): the run is unstable, a "
                f"lower learning "
                "rate may help."
            )
        ]
    return [
        (
            f"The held-out loss rose from {best:.3g} at step {best_step} to {last:.3g} at step {last_step} while the "
            f"training loss fell from {_mean(before):.3g} to {_mean(after):.3g}: overfitting from step {best_step} on. "
            f"result.best_sampler has the weights of step {best_step}."
        )
    ]


def _barely_moved(
    train: Sequence[tuple[int, float]], history: Sequence[Mapping[str, object]], suggested: float | None
) -> list[str]:
    if len(train) < FEW_STEPS:
        return []
    tenth = max(1, len(train) // 10)
    first, last = _mean(train[:tenth]), _mean(train[-tenth:])
    if last <= MOVED * first:
        return []
    rate = max((value for _, value in series(history, "learning_rate")), default=0.0)
    far = ""
    if suggested is not None and rate > 0 and not 1 / 3 <= suggested / rate <= 3:  # noqa: PLR2004 - half a decade
        times = suggested / rate
        ratio = f"{times:.3g} times lower than" if times > 1 else f"{1 / times:.3g} times higher than"
        far = f", which is {ratio} the {suggested:.3g} that is suggested for this model"
    return [
        (
            f"The training loss barely moved: {first:.3g} in the first steps and {last:.3g} in the last of "
            f"{len(train)}. "
            f"The peak learning rate was {rate:.3g}{far}."
        )
    ]


def _memorised(train: Sequence[tuple[int, float]], held: Sequence[tuple[int, float]]) -> list[str]:
    """Nothing is left in the training rows, and the held-out rows are another matter."""
    if len(train) < FEW_STEPS or not held:
        return []
    last = _mean(train[-max(1, len(train) // 10) :])
    if last >= MEMORISED or held[-1][1] < 10 * MEMORISED:
        return []
    step = next(step for step, value in train if value < MEMORISED)
    return [
        (
            f"The training rows are known by heart: their loss is {last:.2g}, first below {MEMORISED:g} at step "
            f"{step}, while "
            f"that of the held-out rows is {held[-1][1]:.3g}. More passes over these rows have nothing left to teach."
        )
    ]


def _cut_off(comparison: Comparison | None) -> list[str]:
    if comparison is None:
        return []
    return [_truncated(part) for part in comparison.slices.values() if part.tuned.truncated_share >= CUT]


def _truncated(part: SliceComparison) -> str:
    """How many answers of both models were cut off, and whether that is training's doing."""
    cut = [
        (before.stop_reason == "length", after.stop_reason == "length")
        for before, after in zip(part.base.rows, part.tuned.rows, strict=True)
    ]
    p = mcnemar_exact(cut.count((False, True)), cut.count((True, False)))
    base, tuned = part.base.truncated_share, part.tuned.truncated_share
    if p >= UNLIKELY:
        reason = "training has not clearly changed that, so raise max_tokens before you judge the answers"
    elif tuned > base:
        reason = "training made more of them run on: it has not learned to stop, or its answers need more room"
    else:
        reason = "fewer run on than before training; raise max_tokens to see the rest"
    return (
        f"{part.name}: {100 * tuned:.0f} % of the tuned model's answers hit max_tokens={part.tuned.max_tokens}, and "
        f"{100 * base:.0f} % of the base model's hit max_tokens={part.base.max_tokens}: {reason}."
    )
