"""The one rule by which differences are judged, in comparisons as in sweeps."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from glowgenius.evaluation.intervals import Interval

FEWEST_GROUPS: Final = 10
"""With fewer independent groups of questions there is no verdict."""

MARGIN: Final = 0.05
"""A difference that surely lies within it is called "at most x either way": 5 points of a score."""

Finding: TypeAlias = Literal["higher", "lower", "same", "unknown"]
"""What an interval of a difference says: surely above 0, surely below, surely close to it, or none of these."""

RULE: Final = (
    "Better or worse: the 95 % interval leaves out 0. At most x points either way: it holds 0 and ends within 5 points "
    "of it. Too few questions to tell: all else, and whatever rests on fewer than 10 questions (or groups of them). "
    "Intervals are over questions alone: another training seed gives another model."
)
"""The rule in words, as it is printed beside the verdicts of a comparison."""


def found(interval: Interval, *, groups: int | None, margin: float = MARGIN) -> Finding:
    """What the interval of a difference says.

    Args:
        interval: Of the difference.
        groups: How many independent groups of questions it rests on; None where it rests on seeds alone.
        margin: Within which a difference counts as none.
    """
    if groups is not None and groups < FEWEST_GROUPS:
        return "unknown"
    if interval.low > 0:
        return "higher"
    if interval.high < 0:
        return "lower"
    return "same" if -margin <= interval.low and interval.high <= margin else "unknown"
