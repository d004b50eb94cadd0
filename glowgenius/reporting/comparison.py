"""A comparison as parts of a page: verdicts, charts, the table of slices, and every answer that changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from glowgenius.evaluation.drawing import comparison_figures
from glowgenius.markup.html import Markup, tag
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
    "Intervals hold 95 %, over questions (their groups, where they have any) and not over training seeds. "
    "p is McNemar's exact test of fixed against broken, counted in groups likewise. "
    "Nats per token: how unlikely the reference answers are, before and after."
)


def comparison_sections(comparison: Comparison) -> list[Markup]:
    """Everything that a comparison has to say, in order."""
    parts = list(comparison.slices.values())
    return [
        tag("h2", "What changed"),
        *comparison_figures(comparison.rows),
        tag("p", _EXPLANATION, class_="soft"),
        *token_section([(part.name, part.tokens) for part in parts if part.tokens]),
        tag("h2", "Every changed answer"),
        tag("p", "Nats per token say how unlikely each model found the reference answer.", class_="soft"),
        *(piece for part in parts for piece in _answers(part)),
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
