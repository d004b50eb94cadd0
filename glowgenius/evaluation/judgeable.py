"""Warnings about answers that a metric cannot judge, before any question is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from glowgenius.data.check import contradictions
from glowgenius.evaluation.metrics import (
    METRICS,
    Metric,
    contains,
    exact_match,
    json_match,
    json_value,
    label_match,
    number_match,
    the_number,
)
from glowgenius.evaluation.normalize import as_label, is_one_number, looks_like_code, normalize

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from glowgenius.data.message import Conversation

FEW_ANSWERS: Final = 60
"""Up to so many different answers are compared each with each."""

SHOWN: Final = 3
"""Examples in a warning; the others are counted."""

_YEAR_DIGITS: Final = 4
_TEXT_METRICS: Final = ("exact_match", "contains", "token_f1", "label")


def judging_warnings(
    dataset: Sequence[Conversation], metrics: Mapping[str, Metric], *, decides: str | None = None
) -> tuple[str, ...]:
    """Why *metrics* may misjudge the answers of *dataset*, as sentences with advice.

    Rows that ask the same and accept different answers; references that a metric cannot read at all, that it takes
    for each other, or that another metric judges better (JSON, code and symbols, numbers).

    Args:
        dataset: The questions with their accepted answers.
        metrics: What will be measured, by name.
        decides: The one of them that says what is right, if one does. A word about answers that a metric takes for
            each other is said of the others only where the metric that tells them apart is not measured as well.
    """
    return (
        *_contradicting(dataset),
        *_unreadable(dataset, metrics),
        *_better_judged(dataset, metrics),
        *_confused(dataset, metrics, decides),
    )


def _contradicting(dataset: Sequence[Conversation]) -> Iterator[str]:
    found = contradictions(list(dataset))
    if found:
        first = found[0]
        places = " and ".join(_place(dataset, at) for at in first[:SHOWN])
        answers = " and ".join(dict.fromkeys(repr(dataset[at].accepted_answers[0]) for at in first))
        yield (
            f"{_counted(len(found), 'question is', 'questions are')} asked more than once with different accepted "
            f"answers, such as {dataset[first[0]].question!r} in {places} ({answers}): no model is right on all of "
            f"them; give these rows the same references, or keep one"
        )


def _unreadable(dataset: Sequence[Conversation], metrics: Mapping[str, Metric]) -> Iterator[str]:
    """References that a metric cannot parse, so that every answer would be wrong.

    Where a metric of text is measured beside it, only those count that look as if they were meant for it.
    """
    readers: tuple[tuple[Metric, Callable[[str], object], str, str], ...] = (
        (json_match, json_value, "JSON", "{["),
        (number_match, the_number, "a number", "0123456789"),
    )
    alone = not any(name in metrics for name in (*_TEXT_METRICS, "strict"))
    for function, read, what, signs in readers:
        rows = [
            at
            for at, row in enumerate(dataset)
            if all(read(answer) is None for answer in row.accepted_answers)
            and (alone or set(row.accepted_answers[0].strip()[:1]) & set(signs))
        ]
        for name in [name for name, metric in metrics.items() if metric is function] if rows else ():
            yield (
                f"{name} scores 0 on {len(rows)} of {len(dataset)} rows whatever the answer, because no reference is "
                f"{what}, such as {dataset[rows[0]].accepted_answers[0]!r} in {_place(dataset, rows[0])}; correct the "
                f"references, or judge these rows by 'exact_match'"
            )


def _better_judged(dataset: Sequence[Conversation], metrics: Mapping[str, Metric]) -> Iterator[str]:
    """References for which a more specific metric exists."""
    named = [name for name, metric in metrics.items() if name in _TEXT_METRICS and metric is METRICS[name]]
    if not named:
        return
    kinds: dict[str, list[int]] = {"json": [], "strict": [], "number": []}
    for at, row in enumerate(dataset):
        kind = _kind(row.accepted_answers[0])
        if kind:
            kinds[kind].append(at)
    reasons = {
        "json": ("are JSON", "text is compared, so that the order of keys decides"),
        "strict": ("look like code or symbols", "spaces or signs that are their meaning may be passed over"),
        "number": ("are numbers", "writing is compared, not value and unit"),
    }
    for better, rows in kinds.items():
        if rows and METRICS[better] not in metrics.values():
            what, why = reasons[better]
            shown = ", ".join(dict.fromkeys(repr(dataset[at].accepted_answers[0]) for at in rows[:SHOWN]))
            yield (
                f"{len(rows)} of {len(dataset)} references {what}, such as {shown}: by {' and '.join(named)} {why}; "
                f"judge them by the metric {better!r}"
            )


def _kind(answer: str) -> str | None:
    """The specific metric for an answer like this; None if any metric fits."""
    if answer.strip()[:1] in {"{", "["} and json_value(answer) is not None:
        return "json"
    if is_one_number(answer):
        return None if answer.strip().isdecimal() and len(answer.strip()) == _YEAR_DIGITS else "number"
    if looks_like_code(answer) or "\n" in answer.strip() or not any(char.isalnum() for char in answer):
        return "strict"
    return None


def _confused(dataset: Sequence[Conversation], metrics: Mapping[str, Metric], decides: str | None) -> Iterator[str]:
    """Answers of different rows that a metric counts as equal."""
    together = {
        frozenset((one, other)) for row in dataset for one in row.accepted_answers for other in row.accepted_answers
    }
    answers = list(dict.fromkeys(answer for row in dataset for answer in row.accepted_answers))
    for name, metric in metrics.items():
        remedy = "exact_match" if metric is contains else "strict"
        if name != decides and remedy in metrics:
            continue
        pairs = [pair for pair in _taken(metric, answers) if frozenset(pair) not in together]
        if not pairs:
            continue
        shown = ", ".join(f"{one!r} for {other!r}" for one, other in pairs[:SHOWN])
        more = f" and {len(pairs) - SHOWN} more" if len(pairs) > SHOWN else ""
        yield f"{name} takes {shown}{more}: if they are different answers, judge them by {remedy!r}"


def _taken(metric: Metric, answers: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Pairs whose first answer *metric* accepts for the second."""
    key = normalize if metric is exact_match else as_label if metric is label_match else None
    if key is not None:
        first: dict[str, str] = {}
        for answer in answers:
            other = first.setdefault(key(answer), answer)
            if other.strip() != answer.strip():
                yield answer, other
    elif metric is contains and len(answers) <= FEW_ANSWERS:
        for one in answers:
            yield from (
                (one, other) for other in answers if normalize(one) != normalize(other) and contains(one, [other])
            )


def _place(dataset: Sequence[Conversation], at: int) -> str:
    """Place of a row: its file and line, or else its position."""
    source = dataset[at].source
    return f"row {at}" if source is None else f"{source.path}:{source.line}"


def _counted(number: int, one: str, several: str) -> str:
    return f"{number} {one if number == 1 else several}"
