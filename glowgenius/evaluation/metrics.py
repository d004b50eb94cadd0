"""How right one answer is, by a metric that has a name.

Every metric takes a prediction and the accepted answers, and returns the best score over the accepted answers, from 0
(wrong) to 1 (right). A prediction with nothing visible in it is never right. Your own metric is a function of the same
shape.

| metric | right is |
| --- | --- |
| `exact_match` | an accepted answer, as `glowgenius.evaluation.normalize` writes it: no meaning is lost |
| `strict` | exactly an accepted answer, but for outer space |
| `contains` | an accepted answer stands in it as whole words, not negated and not one of several |
| `token_f1` | the words that both have, as F1; a number between 0 and 1 |
| `json` | equal as a JSON value: the order of keys, space and escapes mean nothing |
| `json_valid` | JSON at all, whatever it says |
| `number` | equal as a number with its unit: 1,000 m is 1 km |
| `label` | names the label and nothing else, but for case, quotes, a final mark, and `Label:` before it |
| `abstains` | admits not to know |
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, TypeAlias

from glowgenius.errors import ConfigError, nearest
from glowgenius.evaluation.abstention import abstains
from glowgenius.evaluation.json_values import json_match, json_valid
from glowgenius.evaluation.mentions import mentions, named
from glowgenius.evaluation.normalize import as_label, normalize
from glowgenius.evaluation.quantities import Quantity, quantities
from glowgenius.evaluation.words import read, words

Metric: TypeAlias = Callable[[str, Sequence[str]], float]
"""`(prediction, accepted answers) -> score` in [0, 1]."""


def exact_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction is one of the accepted answers, else 0; compared as `normalize` writes them.

    Case, outer space, runs of spaces, a final full stop and the Unicode form make no difference; every other sign does.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted, right = normalize(prediction), [normalize(answer) for answer in _answers(accepted)]
    return float(bool(predicted) and predicted in right)


def strict_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction is exactly one of the accepted answers, but for outer space, else 0.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    # An answer with nothing visible in it is not among them.
    return float(prediction.strip() in [answer.strip() for answer in _answers(accepted)])


def contains(prediction: str, accepted: Sequence[str], *, rivals: Sequence[str] = ()) -> float:
    """1 if an accepted answer stands in the prediction as a run of whole words, else 0.

    Meant for models that answer in sentences. A mention does not count where it is negated ("It is not in Brooklyn",
    "often confused with Brooklyn"), where it is one of several ("Brooklyn or Queens"), and inside a longer number; nor
    does any in an answer that declines. The rules are in `glowgenius.evaluation.mentions`. `A`, `I`, `US` and the like
    must be capitals in the prediction, or every sentence with an article would name the A train.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.
        rivals: The other answers of the same kind (every borough, say); a prediction that names one of them outside
            an accepted answer is wrong. Those among them that are accepted are ignored. Use
            `functools.partial(contains, rivals=…)` to hand it to `evaluate`.

    Raises:
        ConfigError: *accepted* or *rivals* is one string instead of a sequence of strings.
    """
    text, answers = read(prediction), _answers(accepted)
    if abstains(prediction) and not any(map(abstains, answers)):
        return 0.0
    others = [rival for rival in _answers(rivals, "rivals") if words(rival) not in set(map(words, answers))]
    found = mentions(text, answers)
    if not found:
        return 0.0
    inside = [span for answer in answers for span in named(text, answer)]
    # "Queens" inside the accepted "Queens Village" names no other class.
    return float(
        all(any(low <= start and end <= high for low, high in inside) for start, end in mentions(text, others))
    )


def token_f1(prediction: str, accepted: Sequence[str]) -> float:
    """The harmonic mean of precision and recall over words, each counted as often as it occurs.

    As in SQuAD (Rajpurkar et al. 2016, section 6.1), on the words of `glowgenius.evaluation.words`. It forgives extra
    words, and so also gives "East New York" 0.8 where "New York" is right: look at exact match beside it.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right; the best of them counts.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted = words(prediction)
    return max((_f1(predicted, words(answer)) for answer in _answers(accepted)), default=0.0)


def number_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction gives one number, and it is an accepted one in value and unit, else 0.

    `10 km`, `10km`, `10,000 m` and "It is ten kilometres long." are equal; `10 m`, `10` and `> 10 km` are not. Of a
    calculation the number behind the last `=` counts. A prediction with two different numbers gives none.

    Args:
        prediction: What the model answered.
        accepted: The answers that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted, right = the_number(prediction), [the_number(answer) for answer in _answers(accepted)]
    return float(predicted is not None and predicted in right)


def label_match(prediction: str, accepted: Sequence[str]) -> float:
    """1 if the prediction names an accepted label and nothing else, else 0.

    Meant for a closed set of answers. Case, outer quotes, brackets and Markdown, a final mark, `Label:` or "The answer
    is" before it, and hyphens or underscores for spaces make no difference. Of "B) Paris" the label is `B`.

    Args:
        prediction: What the model answered.
        accepted: The labels that count as right.

    Raises:
        ConfigError: *accepted* is one string instead of a sequence of strings.
    """
    predicted, right = as_label(prediction), [as_label(answer) for answer in _answers(accepted)]
    choice = _CHOICE.match(predicted)
    return float(bool(predicted) and (predicted in right or (choice is not None and choice[1] in right)))


METRICS: Final[Mapping[str, Metric]] = MappingProxyType(
    {
        "exact_match": exact_match,
        "strict": strict_match,
        "contains": contains,
        "token_f1": token_f1,
        "json": json_match,
        "json_valid": json_valid,
        "number": number_match,
        "label": label_match,
        "abstains": abstains,
    }
)
"""The metrics that have a name. Add your own with `{**METRICS, "mine": function}`."""


def resolve_metrics(metrics: Sequence[str | Metric] | Mapping[str, Metric]) -> dict[str, Metric]:
    """The metrics as functions by name; a function in a sequence has its own name.

    Raises:
        ConfigError: A name is unknown, reserved or given twice, or there is no metric at all.
    """
    if isinstance(metrics, str):
        raise ConfigError(f"metrics must be a sequence of names, got the string {metrics!r}; write ({metrics!r},)")
    if not metrics:
        raise ConfigError(f"metrics must name at least one metric; known: {_known()}")
    if "nll" in metrics:
        raise ConfigError("'nll' is not a metric of the generated text; ask for it with nll=True")
    chosen: dict[str, Metric] = {}
    for name, function in metrics.items() if isinstance(metrics, Mapping) else map(_pair, metrics):
        if not callable(function):
            raise ConfigError(f"metrics[{name!r}] must be a function of (prediction, accepted), got {function!r}")
        if chosen.setdefault(name, function) is not function:
            raise ConfigError(
                f"two different metrics are called {name!r}; give them names: metrics={{'name': function}}"
            )
    return chosen


def the_number(text: str) -> Quantity | None:
    """The one number that *text* gives or puts in a LaTeX box; None if it gives none, several, or code."""
    boxed = _BOXED.findall(text)
    text = boxed[-1] if boxed else text
    if _NO_NUMBER.search(text):
        return None
    found = set(quantities(text.rpartition("=")[2] if "=" in text and not _BOUNDS & set(text) else text))
    return found.pop() if len(found) == 1 else None


_BOUNDS: Final = frozenset("<>≤≥≠!")
_BOXED: Final = re.compile(r"\\boxed\{([^{}]*)\}")
_NO_NUMBER: Final = re.compile(r"[{}\[\]]|\w\(|!\(")
_CHOICE: Final = re.compile(r"(\w)[).:] +\S")


def _pair(metric: str | Metric) -> tuple[str, Metric]:
    """A metric of a sequence, with its name."""
    if isinstance(metric, str):
        return metric, _named(metric)
    inner: object = getattr(metric, "func", metric)
    return str(getattr(inner, "__name__", type(inner).__name__)), metric


def _named(name: str) -> Metric:
    """The metric called *name*."""
    if name in METRICS:
        return METRICS[name]
    hint = nearest(name, METRICS)
    raise ConfigError(f"unknown metric {name!r}{hint}; known: {_known()}; your own: metrics={{'name': function}}")


def _known() -> str:
    return ", ".join(repr(name) for name in METRICS)


def _answers(accepted: Sequence[str], name: str = "accepted") -> list[str]:
    """The answers that have anything visible."""
    if isinstance(accepted, str):
        # A string is a sequence of strings too, and would be judged letter by letter.
        raise ConfigError(f"{name} must be a sequence of answers, got the string {accepted!r}; write ({accepted!r},)")
    return [answer for answer in accepted if normalize(answer)]


def _f1(predicted: tuple[str, ...], answer: tuple[str, ...]) -> float:
    """F1 of two bags of words."""
    shared = (Counter(predicted) & Counter(answer)).total()
    return 2 * shared / (len(predicted) + len(answer)) if shared else 0.0
