"""A comparison as parts of a page: verdicts, charts, the table of slices, and every answer that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from glowgenius.evaluation.figures import p_value, percent, points
from glowgenius.evaluation.tables import notes
from glowgenius.markup.html import Markup, tag
from glowgenius.markup.plots import Dot, Row, whisker_chart
from glowgenius.reporting.tokens import token_section

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.evaluation.comparison import Comparison
    from glowgenius.evaluation.result import EvaluationResult, EvaluationRow
    from glowgenius.evaluation.slices import Pair, SliceComparison

OPEN_UP_TO: Final = 20
"""A longer list of answers starts folded."""

_EXPLANATION: Final = (
    "Fixed: wrong before training, right after. Broken: the reverse. Kept: the share of what the base answered right "
    "that the tuned model still answers. Majority: what always giving the most frequent answer scores. "
    "Intervals hold 95 %: Wilson's for a score; for a difference the bootstrap over groups of questions, widened where "
    "needed to cover Newcombe's interval for pairs. p is McNemar's exact test of fixed against broken. "
    "Nats per token: how unlikely the reference answers are, before and after."
)


def comparison_sections(comparison: Comparison) -> list[Markup]:
    """Everything that a comparison has to say, in order."""
    parts = list(comparison.slices.values())
    verdicts = [
        tag(
            "li",
            tag("strong", part.name),
            f": {part.verdict}",
            *(tag("span", note, class_="soft") for note in notes(part)),
        )
        for part in parts
    ]
    return [
        tag("h2", "What changed"),
        tag("ul", *verdicts, class_="verdicts"),
        tag("div", _scores(parts), _differences(parts), class_="charts"),
        _table(parts),
        tag("p", _EXPLANATION, class_="soft"),
        *(
            piece
            for part in parts
            if part.tokens
            for piece in (tag("h2", f"Token by token: {part.name}"), *token_section(part.tokens))
        ),
        tag("h2", "Every changed answer"),
        tag("p", "Nats per token say how unlikely each model found the reference answer.", class_="soft"),
        *(piece for part in parts for piece in _answers(part)),
    ]


def _scores(parts: Sequence[SliceComparison]) -> Markup:
    """Both scores of each slice with their intervals, and the majority baseline."""
    rows = [
        Row(
            label=part.name,
            dots=(_score(part.base, part.metric, "base"), _score(part.tuned, part.metric, "tuned")),
            tick=part.baseline.score,
        )
        for part in parts
    ]
    keys = [("base", "○ base"), ("tuned", "● tuned"), ("majority", "| majority baseline")]
    return whisker_chart("Score", rows, low=0, high=1, show=percent, keys=keys)


def _score(result: EvaluationResult, metric: str, side: str) -> Dot:
    limits = result.interval(metric)
    mean = result.means[metric]
    title = f"{side}: {percent(mean)}, 95 % interval {percent(limits.low)} to {percent(limits.high)}"
    return Dot(value=mean, low=limits.low, high=limits.high, colour=side, hollow=side == "base", title=title)


def _differences(parts: Sequence[SliceComparison]) -> Markup:
    """The difference of each slice with its interval, on a scale that holds them all and 0."""
    rows = [
        Row(
            label=part.name,
            dots=(
                Dot(
                    value=part.difference,
                    low=part.interval.low,
                    high=part.interval.high,
                    colour="tuned",
                    title=f"{points(part.difference)} points, 95 % interval {_interval(part)}",
                ),
            ),
        )
        for part in parts
    ]
    keys = [("tuned", "● difference with its 95 % interval")]
    low = min(0.0, *(part.interval.low for part in parts)) - 0.05
    high = max(0.0, *(part.interval.high for part in parts)) + 0.05
    return whisker_chart(
        "Difference in points, tuned minus base", rows, low=low, high=high, show=points, zero=True, keys=keys
    )


def _interval(part: SliceComparison) -> str:
    return f"{points(part.interval.low)} to {points(part.interval.high)}"


def _table(parts: Sequence[SliceComparison]) -> Markup:
    """A row per slice; on a phone, a card."""
    rows = [_cells(part) for part in parts]
    names = [name for name, _ in rows[0]]
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    body = tag("tbody", *(tag("tr", *(tag("td", text, data_label=name) for name, text in row)) for row in rows))
    return tag("div", tag("table", head, body, class_="slices"), class_="wide")


def _cells(part: SliceComparison) -> list[tuple[str, str]]:
    """Heading and text of each cell."""
    old, new = part.base.means, part.tuned.means
    likelihood = f"{old['nll']:.3f} → {new['nll']:.3f}" if "nll" in old and "nll" in new else "–"
    return [
        ("slice", part.name),
        ("judged by", part.metric),
        ("n", str(part.n)),
        ("base", percent(old[part.metric])),
        ("tuned", percent(new[part.metric])),
        ("majority", percent(part.baseline.score)),
        ("kept", "–" if part.retention is None else percent(part.retention)),
        ("fixed", str(len(part.fixed))),
        ("broken", str(len(part.broken))),
        ("points", points(part.difference)),
        ("95 % interval", _interval(part)),
        ("p", p_value(part.mcnemar_p)),
        ("nats / token", likelihood),
    ]


def _answers(part: SliceComparison) -> list[Markup]:
    """The changed answers of a slice side by side, and those that stayed wrong."""
    kinds = [
        ("broken", part.broken, "bad"),
        ("fixed", part.fixed, "good"),
        ("wrong before and after", part.both_wrong, ""),
    ]
    lists = [_list(part, kind, pairs, mood) for kind, pairs, mood in kinds if pairs]
    return [tag("h3", part.name), *(lists or [tag("p", f"All {part.n} answers were right before and after.")])]


def _list(part: SliceComparison, kind: str, pairs: Sequence[Pair], mood: str) -> Markup:
    """One kind of answers, unfolded if it is a short list of changes."""
    cards = [_card(part, pair, mood) for pair in pairs]
    return tag(
        "details",
        tag("summary", f"{len(pairs)} {kind}", class_=mood),
        *cards,
        open=bool(mood) and len(pairs) <= OPEN_UP_TO,
    )


def _card(part: SliceComparison, pair: Pair, mood: str) -> Markup:
    """One question with both answers."""
    name = f" ({pair.base.id})" if pair.base.id else ""
    return tag(
        "article",
        tag("p", pair.question, class_="question"),
        tag("span", f"accepted{name}: {' / '.join(pair.accepted)}", class_="who"),
        tag("div", _side("base", part.base, pair.base), _side("tuned", part.tuned, pair.tuned), class_="sides"),
        class_=mood,
    )


def _side(role: str, result: EvaluationResult, row: EvaluationRow) -> Markup:
    """One answer, as it was generated."""
    cut = f", cut off at max_tokens={result.max_tokens}" if row.stop_reason == "length" else ""
    likelihood = "" if row.nll is None else f", {row.nll:.3g} nats per token"
    said = (
        tag("p", row.prediction, class_="answer") if row.prediction else tag("p", tag("em", "nothing"), class_="answer")
    )
    return tag("div", tag("span", f"{role}{cut}{likelihood}", class_="who"), said, class_="side")
