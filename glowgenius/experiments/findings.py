"""What a sweep says, as sentences made by rule from its points; every one of them with its numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowgenius.evaluation.verdicts import FEWEST_GROUPS
from glowgenius.experiments.units import margin_text, shown, shown_difference, span, span_of_difference

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from glowgenius.experiments.point import SweepPoint


def sentences(
    points: Sequence[SweepPoint], *, margin: float, base: float | None, groups: int | None = None
) -> tuple[str, ...]:
    """The findings of a sweep.

    Args:
        points: Every point of the grid, by one metric.
        margin: Within which a point counts as flat.
        base: The value before training, if it is known.
        groups: How many independent groups of questions the values rest on; None for a loss of the run.
    """
    best = next((point for point in points if point.standing == "best"), None)
    if best is None:
        return (_none(points), *_diverged(points))
    at_rate = [point for point in points if point.learning_rate == best.learning_rate]
    at_rank = [point for point in points if point.rank == best.rank]
    return (
        _best(best, base),
        *_few(points, groups),
        *_axis(at_rate, margin, "rank", f"at learning rate {best.learning_rate:g}", lambda point: f"{point.rank}"),
        *_axis(at_rank, margin, "learning rate", f"at rank {best.rank}", lambda point: f"{point.learning_rate:g}"),
        *_edge(points, best),
        *_diverged(points),
    )


def _none(points: Sequence[SweepPoint]) -> str:
    """Why no point is the best."""
    if all(len(point.diverged) == len(point.cells) for point in points):
        return "Every run diverged: try lower learning rates."
    metric = points[0].metric
    if all(point.value is None for point in points):
        return f"No point has a {metric} of every seed: there is nothing to compare."
    if not any(point.value for point in points):
        return (
            f"No run scores above 0 by {metric}, so there is nothing to tell: judge by nll, which moves first, or "
            "train for longer."
        )
    return "Every point has a run that diverged: try lower learning rates."


def _few(points: Sequence[SweepPoint], groups: int | None) -> list[str]:
    """The sentence that there are too few questions for a verdict."""
    if groups is None or groups >= FEWEST_GROUPS or len(points) == 1:
        return []
    found = f"{groups} independent one{'s' * (groups != 1)}"
    return [f"Too few questions to tell points apart: {found}, and the rule asks for {FEWEST_GROUPS}."]


def _best(best: SweepPoint, base: float | None) -> str:
    limits = "" if best.interval is None else f" (95 % interval {span(best.metric, best.interval)})"
    before = "" if base is None else f"; before training it was {shown(best.metric, base)}"
    place = f"rank {best.rank} and learning rate {best.learning_rate:g}"
    return f"The best {best.metric} is {shown(best.metric, best.value)}{limits}, at {place}{before}."


def _axis(
    points: Sequence[SweepPoint], margin: float, axis: str, where: str, label: Callable[[SweepPoint], str]
) -> list[str]:
    """What moving along one axis from the best point does."""
    others = [point for point in points if point.standing not in ("best", "diverged")]
    best = next(point for point in points if point.standing == "best")
    if not others:
        return []
    within = margin_text(best.metric, margin)
    told = [point for point in others if point.standing != "unknown"]
    if not told:
        return [f"One number a run cannot tell {axis}s apart {where}: add seeds, or questions."]
    if all(point.standing == "flat" for point in told):
        labels = _listed([label(point) for point in points if point.standing in ("flat", "best")])
        return [f"Flat in {axis} {where}: {labels} differ from the best by at most {within} either way."]
    kinds = (
        ("flat", f"at most {within} either way"),
        ("unclear", "not to be told apart with so few questions and seeds"),
    )
    parts = [
        f"{_listed([label(point) for point in told if point.standing == kind])} {text}"
        for kind, text in kinds
        if any(point.standing == kind for point in told)
    ]
    parts[:0] = [f"{label(point)} is worse by {_worse(point)}" for point in told if point.standing == "worse"]
    return [f"Against {axis} {label(best)} {where}: {'; '.join(parts)}."]


def _worse(point: SweepPoint) -> str:
    """How much worse, as a positive amount with its interval."""
    if point.difference is None or point.difference_interval is None:
        return "an unknown amount"
    limits = span_of_difference(point.metric, point.difference_interval)
    return f"{shown_difference(point.metric, point.difference).lstrip('+-')} (95 % interval of the difference {limits})"


def _edge(points: Sequence[SweepPoint], best: SweepPoint) -> list[str]:
    """A best point at the end of the grid is no optimum."""
    rates = sorted({point.learning_rate for point in points})
    if len(rates) == 1 or rates[0] < best.learning_rate < rates[-1]:
        return []
    end, beyond = ("lowest", "below") if best.learning_rate == rates[0] else ("highest", "above")
    return [f"The best learning rate is the {end} of the grid; a better one may lie {beyond} {best.learning_rate:g}."]


def _diverged(points: Sequence[SweepPoint]) -> list[str]:
    """Which points diverged, and why."""
    found = [point for point in points if point.diverged]
    if not found:
        return []
    runs, total = sum(len(point.diverged) for point in found), sum(len(point.cells) for point in points)
    ranks: dict[float, list[str]] = {}
    for point in sorted(found, key=lambda point: (point.learning_rate, point.rank)):
        ranks.setdefault(point.learning_rate, []).append(str(point.rank))
    places = [f"learning rate {rate:g} with rank {_listed(names)}" for rate, names in ranks.items()]
    return [
        (
            f"{runs} of {total} runs diverged: {'; '.join(places)}. For rank {found[0].rank} and learning rate "
            f"{found[0].learning_rate:g}, {found[0].diverged[0]}."
        )
    ]


def _listed(labels: Sequence[str]) -> str:
    """The labels as an enumeration."""
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"
