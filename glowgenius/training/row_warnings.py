"""What the rows of a run should not have, but can: the exact checks of the data layer, in one line each."""

from __future__ import annotations

import operator
from collections import Counter
from typing import TYPE_CHECKING

from glowgenius.data.checking import contradictions, duplicates, look_alikes, same_questions
from glowgenius.data.findings import place
from glowgenius.data.frozen import shortened
from glowgenius.data.leaks import shared
from glowgenius.training.preflight_report import times

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Conversation

_TEXT = 60


def row_warnings(train: Sequence[Conversation], evaluation: Sequence[Conversation] | None) -> list[str]:
    """Rows that the two data sets share, and training rows that repeat or contradict each other.

    `Dataset.check` and `find_leaks` look for more, and list every place.
    """
    same = same_questions(train)
    return [
        *_parts(train),
        *_repeated(train, same),
        *([] if evaluation is None else _leaks(train, evaluation)),
    ]


def weight_warnings(rows: Sequence[Conversation], examples: int, batch_size: int) -> list[str]:
    """Weights of rows that change nothing: the loss is a mean over a step, so they count beside other rows only.

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
            f"{place(evaluation, asked[0][1])}: {_quoted(first)}), so the eval loss will flatter; remove them from one "
            "of the two data sets"
        )
    known = {tested for _, tested in asked}
    grouped = [pair for pair in shared(train, evaluation, operator.attrgetter("group")) if pair[1] not in known]
    if grouped:
        trained, tested = grouped[0]
        warnings.append(
            f"{len(grouped)} of {times(len(evaluation), 'eval row')} {_are(len(grouped))} of a group that is also "
            f"trained (the first: {place(evaluation, tested)}, group {evaluation[tested].group!r}, as "
            f"{place(train, trained)}), so the eval loss will flatter; Dataset.train_test_split keeps groups whole"
        )
    return warnings


def _places(rows: Sequence[Conversation], group: Sequence[int]) -> str:
    """Two rows that say the same, or do not, and what they ask."""
    return f"{place(rows, group[0])} and {place(rows, group[1])}: {_quoted(rows[group[0]])}"


def _quoted(row: Conversation) -> str:
    return repr(shortened(row.question, _TEXT))


def _have(number: int) -> str:
    return "has" if number == 1 else "have"


def _are(number: int) -> str:
    return "is" if number == 1 else "are"
