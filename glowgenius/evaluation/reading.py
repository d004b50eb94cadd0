"""What a comparison says, as a few sentences made by rule from the slices whose names say what they ask.

| slice | what it asks |
| --- | --- |
| `seen` | trained facts in a trained wording |
| `paraphrase` | trained facts in another wording |
| `unseen` | facts of the same kind that were not trained |
| `control`, `retention` | what the base model knew and nobody trained |
| `invented` | things that do not exist; right is to say so |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from glowgenius.evaluation.figures import limits, percent, points
from glowgenius.evaluation.verdicts import MARGIN

if TYPE_CHECKING:
    from collections.abc import Mapping

    from glowgenius.evaluation.slices import SliceComparison

KEPT: Final = ("control", "retention")
"""Slices of what the base model knew."""


def sentences(parts: Mapping[str, SliceComparison]) -> tuple[str, ...]:
    """The sentences; slices of other names say nothing here."""
    found = [_learned(parts.get("seen"), parts.get("paraphrase"), parts.get("unseen"))]
    found += [_form(part) for name, part in parts.items() if name not in KEPT and part.metric != "abstains"]
    found += [_kept(part) for name, part in parts.items() if name in KEPT]
    found += [_invented(part) for part in parts.values() if part.metric == "abstains"]
    return tuple(sentence for sentence in found if sentence)


def _moved(part: SliceComparison) -> str:
    """Before and after, with the interval of the difference."""
    old, new = part.base.means[part.metric], part.tuned.means[part.metric]
    interval = f"{points(part.interval.low)} to {points(part.interval.high)} points"
    return f"{percent(old)} → {percent(new)} of {part.n} (95 % interval of the difference {interval})"


def _learned(seen: SliceComparison | None, paraphrase: SliceComparison | None, unseen: SliceComparison | None) -> str:
    """Whether facts were learned, their wording, or the subject."""
    if seen is None:
        return ""
    if not _gained(seen):
        said = "Too few questions to tell whether" if _maybe(seen) else "There is no sign that"
        return f"{said} the trained questions were learned: {_moved(seen)}."
    if paraphrase is None or _gained(paraphrase):
        return _facts(seen, paraphrase, unseen)
    if _maybe(paraphrase):
        return (
            f"It learned its training questions, {_moved(seen)}; too few questions to tell whether it learned "
            f"the facts "
            f"behind them: in other words {_moved(paraphrase)}."
        )
    return (
        f"It learned its training questions by heart, {_moved(seen)}, and not the facts: in other words "
        f"{_moved(paraphrase)}."
    )


def _facts(seen: SliceComparison, paraphrase: SliceComparison | None, unseen: SliceComparison | None) -> str:
    """What was learned, and whether it reaches further than what was trained."""
    facts = "" if paraphrase is None else f", and in other words {_moved(paraphrase)}"
    what = "its training questions" if paraphrase is None else "these facts"
    if unseen is None:
        return f"It learned {what}: {_moved(seen)}{facts}."
    guess = max(unseen.baseline.score, unseen.name_baseline or 0.0)
    share = unseen.tuned.means[unseen.metric]
    if unseen.tuned.interval(unseen.metric).low > guess:
        return (
            f"It learned {what}, {_moved(seen)}{facts}; and it answers {percent(share)} of {unseen.n} facts that it "
            f"was never shown, which guessing does not explain ({percent(guess)})."
        )
    return (
        f"It learned {what} and not the subject: {_moved(seen)}{facts}; of {unseen.n} facts that it was never shown it "
        f"gets {percent(share)}, not surely more than guessing does ({percent(guess)})."
    )


def _gained(part: SliceComparison) -> bool:
    return part.finding == "higher"


def _maybe(part: SliceComparison) -> bool:
    """Whether the interval leaves room for a gain that would matter."""
    return part.finding == "unknown" and part.interval.high > MARGIN


def _form(part: SliceComparison) -> str:
    """How much of a gain is only the form of the answers."""
    if part.few_shot is None:
        return ""
    zero, few = part.base.means[part.metric], part.few_shot.means[part.metric]
    tuned = part.tuned.means[part.metric]
    if tuned <= zero:
        return ""
    if tuned <= few:
        return (
            f"{part.name}: {percent(zero)} → {percent(tuned)} may be the form of the answer alone: worked examples "
            f"bring the base model to {percent(few)}."
        )
    form = max(0.0, few - zero)
    return (
        f"{part.name}: of the {points(tuned - zero)} points, {points(form)} may be the form of the answer, as the base "
        f"model behind worked examples gets {percent(few)}; the other {points(tuned - zero - form)} are not."
    )


def _kept(part: SliceComparison) -> str:
    """What is left of what the base model knew."""
    known = len(part.both_right) + len(part.broken)
    interval = part.retention_interval
    if part.retention is None or interval is None:
        return f"{part.name}: the base model answered none of {part.n} questions, so there was nothing to keep."
    return (
        f"{part.name}: it keeps {percent(part.retention)} of what the base model answered, {len(part.both_right)} of "
        f"{known} questions (95 % interval {limits(interval.low, interval.high)})."
    )


def _invented(part: SliceComparison) -> str:
    """How often it answers as if what does not exist did."""
    old, new = 1 - part.base.means["abstains"], 1 - part.tuned.means["abstains"]
    interval = part.tuned.interval("abstains")
    return (
        f"{part.name}: it answers {percent(new)} of {part.n} questions about things that do not exist as if they did "
        f"(95 % interval {limits(1 - interval.high, 1 - interval.low)}); before training "
        f"{percent(old)}."
    )
