"""Reference answers token by token: how surprising each was before training, and how surprising it is after."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from glowgenius.markup.html import Markup, tag

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.evaluation.token_losses import AnswerLosses, TokenLoss

_DARKEST: Final = 6.0
"""The loss in nats from which a token has the strongest colour: one in four hundred."""


def token_section(slices: Sequence[tuple[str, Sequence[AnswerLosses]]]) -> list[Markup]:
    """The answers of each slice as coloured tokens, base above tuned, with every loss below its token."""
    if not slices:
        return []
    return [
        tag("h2", "Token by token"),
        tag(
            "p",
            "Each token of the reference answer, with its loss in nats: the stronger the colour, the less the model "
            "expected it. 0.7 nats is an even chance, 4.6 is one in a hundred.",
            class_="soft",
        ),
        *(piece for name, answers in slices for piece in (tag("h3", name), *map(_answer, answers))),
    ]


def _answer(answer: AnswerLosses) -> Markup:
    rows = [_line("base", answer.tokens), _line("tuned", answer.tokens)]
    return tag("article", tag("p", answer.question, class_="question"), *rows, class_="tokens")


def _line(side: str, tokens: Sequence[TokenLoss]) -> Markup:
    pieces = [_token(token, token.base if side == "base" else token.tuned, side) for token in tokens]
    return tag("div", tag("span", side, class_="who"), *pieces, class_="token-line")


def _token(token: TokenLoss, loss: float, side: str) -> Markup:
    strength = 1.0 if not math.isfinite(loss) else min(max(loss, 0.0) / _DARKEST, 1.0)
    text = token.text.replace("\n", "↵").replace(" ", "·") or "∅"
    shade = tag("i", class_="shade", style=f"opacity: {0.7 * strength:.2f}")
    value = f"{loss:.2f}" if math.isfinite(loss) else str(loss)
    return tag("span", shade, tag("b", text), tag("small", value), class_=f"token {side}")
