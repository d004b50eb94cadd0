"""How right one answer is: exact match, contains, token F1.

Every metric takes a prediction and the accepted answers, and returns the best score over the accepted answers, from 0
(wrong) to 1 (right). All of them compare words as `glowgenius.evaluation.normalize` makes them, so `A` is a subway
line, and a prediction with nothing visible in it is never right. Your own metric is a function of the same shape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from glowgenius.errors import ConfigError, nearest
from glowgenius.evaluation.abstention import abstains
from glowgenius.evaluation.normalize import words

Metric: TypeAlias = Callable[[str, Sequence[str]], float]
"""`(prediction, accepted answers) -> score` in [0, 1]."""

ALSO_WORDS: Final = frozenset({"a", "i"})
"""Answers of one letter that are also words of English prose."""


def exact_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction is one of the accepted answers, word for word, else 0.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted = words(prediction)
    return float(any(predicted == answer for answer in _answers(accepted)))


def contains(prediction: str, accepted: Sequence[str], *, rivals: Sequence[str] = ()) -> float:
    """1 if an accepted answer stands in the prediction as a run of whole words, else 0.

    Meant for models that answer in sentences. Two traps are closed: `A` and `I` must be capitals in the prediction, or
    every sentence with an article would name the A train; and with *rivals*, "Brooklyn or Queens" is no answer.
    One remains: the metric cannot read "It is not in Brooklyn".

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.
        rivals: The other answers of the same kind (every borough, say); a prediction that names one of them outside
            an accepted answer is wrong. Those among them that are accepted are ignored. Use
            `functools.partial(contains, rivals=…)` to hand it to `evaluate`.

    Raises:
        ConfigError: *accepted* or *rivals* is one string instead of a sequence of strings.
    """
    predicted = words(prediction)
    cased = words(prediction, fold_case=False)
    answers = _answers(accepted)
    found = [span for answer in answers for span in _spans(answer, predicted, cased)]
    if not found:
        return 0.0
    others = [rival for rival in _answers(rivals, "rivals") if rival not in answers]
    named = [span for rival in others for span in _spans(rival, predicted, cased)]
    # "Queens" inside the accepted "Queens Village" names no other class.
    return float(all(any(low <= start and end <= high for low, high in found) for start, end in named))


def token_f1(prediction: str, accepted: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over words, each counted as often as it occurs.

    As in SQuAD (Rajpurkar et al. 2016, section 6.1), on our words. It forgives extra words, and so also gives
    "East New York" 0.8 where "New York" is right: look at exact match beside it.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right; the best of them counts.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted = words(prediction)
    return max((_f1(predicted, answer) for answer in _answers(accepted)), default=0.0)


METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {"exact_match": exact_match, "contains": contains, "token_f1": token_f1, "abstains": abstains}
)
"""The metrics that have a name. Add your own with `{**METRICS, "mine": function}`."""


def resolve_metrics(metrics: Sequence[str] | Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics as functions by name.

    Raises:
        ConfigError: A name is unknown or reserved, or there is no metric at all.
    """
    if isinstance(metrics, str):
        raise ConfigError(f"metrics must be a sequence of names, got the string {metrics!r}; write ({metrics!r},)")
    if not metrics:
        raise ConfigError(f"metrics must name at least one metric; known: {_known()}")
    if "nll" in metrics:
        raise ConfigError("'nll' is not a metric of the generated text; ask for it with nll=True")
    chosen = dict(metrics) if isinstance(metrics, Mapping) else {name: _named(name) for name in metrics}
    for name, function in chosen.items():
        if not callable(function):
            raise ConfigError(f"metrics[{name!r}] must be a function of (prediction, accepted), got {function!r}")
    return chosen


def _named(name: str) -> Metric:
    """The metric called *name*."""
    if name in METRICS:
        return METRICS[name]
    hint = nearest(name, METRICS)
    raise ConfigError(f"unknown metric {name!r}{hint}; known: {_known()}; your own: metrics={{'name': function}}")


def _known() -> str:
    return ", ".join(repr(name) for name in METRICS)


def _answers(accepted: Sequence[str], name: str = "accepted") -> list[tuple[str, ...]]:
    """The words of each answer that has any."""
    if isinstance(accepted, str):
        # A string is a sequence of strings too, and would be judged letter by letter.
        raise ConfigError(f"{name} must be a sequence of answers, got the string {accepted!r}; write ({accepted!r},)")
    return [answer for answer in map(words, accepted) if answer]


def _spans(answer: tuple[str, ...], predicted: tuple[str, ...], cased: tuple[str, ...]) -> Iterator[tuple[int, int]]:
    """Where *answer* stands in the prediction, as half-open ranges of words."""
    size = len(answer)
    for start in range(len(predicted) - size + 1):
        if predicted[start : start + size] != answer:
            continue
        if size == 1 and answer[0] in ALSO_WORDS and not cased[start].isupper():
            continue
        yield start, start + size


def _f1(predicted: tuple[str, ...], answer: tuple[str, ...]) -> float:
    """F1 of two bags of words."""
    shared = (Counter(predicted) & Counter(answer)).total()
    return 2 * shared / (len(predicted) + len(answer)) if shared else 0.0
