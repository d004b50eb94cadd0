"""Rows that say of themselves that their answer is not to be learned: votes, verdicts, scores, preference pairs."""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any, Final

from glowgenius._validators import is_number
from glowgenius.data.columns import ELSEWHERE, Fault, Shape, advised
from glowgenius.data.frozen import as_list, describe, json_fault

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

SCORE: Final = "a score of the answer, which training would not look at"
"""What is found of a column of scores: the same in every row, so a file has it as one problem."""

_GOOD: Final = frozenset(
    (
        *("correct", "right", "good", "valid", "accepted", "accept", "acceptable", "approved", "approve", "passed"),
        *(
            "pass",
            "passes",
            "verified",
            "keep",
            "train",
            "trainable",
            "totrain",
            "use",
            "usable",
            "include",
            "included",
        ),
        *("selected", "thumbsup", "upvoted", "liked", "desirable", "desired", "success", "successful", "succeeded"),
        *("preferred", "wanted", "helpful", "safe", "fortraining", "trainon", "useintraining", "active", "enabled"),
        *("feedback", "verdict", "judgement", "judgment", "decision", "outcome", "status", "thumbs", "vote", "label"),
        *("humanfeedback", "userfeedback", "humanlabel", "evaluation", "reviewed", "gold", "answercorrect", "chosen"),
    )
)
_BAD: Final = frozenset(
    (
        *("wrong", "incorrect", "bad", "invalid", "rejected", "flagged", "toxic", "harmful", "unsafe", "exclude"),
        *("excluded", "skip", "skipped", "ignore", "ignored", "drop", "dropped", "discard", "discarded", "deleted"),
        *("hallucinated", "hallucination", "failed", "thumbsdown", "downvoted", "disliked", "undesirable", "broken"),
        *("donttrain", "donottrain", "notrain", "disabled", "removed", "mistake", "refusal", "lowquality"),
    )
)
_SCORES: Final = frozenset(
    (
        *(
            "score",
            "scores",
            "reward",
            "rewards",
            "rating",
            "ratings",
            "quality",
            "grade",
            "advantage",
            "stars",
            "rank",
        ),
        *("upvotes", "downvotes", "votes", "helpfulness", "correctness", "preference", "preferencescore"),
        *("qualityscore", "qualityrating", "rewardscore", "rmscore", "answerscore", "responsescore", "completionscore"),
        *("humanscore", "humanrating", "userrating", "overallscore", "overallrating", "judgescore", "llmscore"),
    )
)
_NO: Final = frozenset(
    (
        *(
            "bad",
            "negative",
            "wrong",
            "incorrect",
            "rejected",
            "reject",
            "fail",
            "failed",
            "false",
            "no",
            "n",
            "0",
            "-1",
        ),
        *("thumbs_down", "thumbs down", "thumbsdown", "down", "dislike", "disliked", "poor", "low", "unacceptable"),
        *("invalid", "unsatisfactory", "not ok", "worse", "lose", "loss", "harmful", "unsafe", "👎", "disapproved"),
        *("declined", "flagged", "excluded", "discarded", "undesirable", "-1.0", "0.0", "bad answer", "very bad"),
    )
)
_NO_LABEL: Final = frozenset(("false", "0", "-1", "bad", "undesirable", "rejected"))
"""What `label` says no with: "negative" or "no" is a class as well."""

_YES: Final = frozenset(("true", "yes", "y", "1", "1.0"))


@functools.lru_cache(maxsize=1024)
def _kind(column: str, shape: Shape) -> str:
    """Whether a column judges the answer: `good` where yes is praise, `bad` where it is blame, `score`, or nothing."""
    plain = re.sub(r"[\W_]+", "", column).casefold()
    if column == "label" and shape.name == "text/label":
        return ""
    for name in (plain, plain.removeprefix("is"), plain.removeprefix("was"), plain.removeprefix("answeris")):
        for kind, names in (("good", _GOOD), ("bad", _BAD), ("score", _SCORES)):
            if name in names:
                return kind
    return ""


def judged(row: Mapping[str, Any], columns: Iterable[str], shape: Shape) -> list[Fault]:
    """Why a row is not to be trained, by what those of its *columns* say that no format has."""
    return [fault for column in columns if (kind := _kind(column, shape)) and (fault := _judgement(column, row, kind))]


def _judgement(column: str, row: Mapping[str, Any], kind: str) -> Fault | None:
    value: Any = row[column]
    plain = value.strip().casefold() if isinstance(value, str) else ""
    number = float(value) if is_number(value) and json_fault(value) is None else _number(plain)
    use = advised({column: "metadata"})
    if kind == "score" and number is not None:
        compared = f"float(row.metadata[{column!r}])" if isinstance(value, str) else f"row.metadata[{column!r}]"
        accepted = f"{use} trains every row alike; then dataset.filter(lambda row: {compared} > 0) leaves the good ones"
        return Fault(column, SCORE, accepted)
    if kind == "bad":
        says_no = value is True or (number is not None and number > 0) or plain in _YES
    else:
        says_no = (
            value is False or (number is not None and number <= 0) or plain in (_NO_LABEL if column == "label" else _NO)
        )
    if not says_no:
        return None
    same = "is not" if isinstance(value, bool) else "!="
    kto = ", as in KTO's preference data" if column == "label" else ""
    return Fault(
        column,
        f"{describe(value)}: the row says that its answer is not to be learned{kto}",
        f"rows to learn from; {use} keeps the column, and dataset.filter(lambda row: "
        f"row.metadata.get({column!r}) {same} {value!r}) leaves such rows out",
    )


def _number(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def preference_fault(row: Mapping[str, Any]) -> Fault | None:
    """What to do with a pair of answers of which one is preferred, where the values decide it; else None."""
    if "chosen" not in row or "rejected" not in row or "messages" in row:
        return None
    asks = [column for column in row if column in ELSEWHERE or column in ("prompt", "question", "instruction", "input")]
    others = [column for column in asks if column not in ("chosen", "rejected")]
    found = "preference data ('chosen' beside 'rejected'), which supervised training does not compare"
    if as_list(row["chosen"]) is not None and not any(as_list(row[column]) is not None for column in others):
        names = {"chosen": "messages", "rejected": "metadata", **dict.fromkeys(others, "metadata")}
        return Fault("rejected", found, f"{advised(names)} trains the chosen answers alone")
    if not others and isinstance(row["chosen"], str):
        accepted = "rows of the chosen dialogues alone, their turns as 'messages' instead of one text"
        return Fault("rejected", found, accepted)
    return None
