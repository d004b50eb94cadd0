"""Which words of an answer a model expected, before and after training: the loss of every token, side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np
from attrs import frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.errors import EvaluationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.data.message import Conversation
    from glowgenius.rendering.renderer import Renderer


class KnowsItsTokens(Protocol):
    """What token losses need of a model; `glowgenius.Sampler` is one."""

    @property
    def name(self) -> str:
        """What the model is called in tables."""
        ...

    @property
    def renderer(self) -> Renderer:
        """What turns messages into tokens."""
        ...

    def answer_logprobs(self, conversations: Sequence[Conversation]) -> Sequence[Any]:
        """The natural-log probabilities of the answer's tokens, its stop token included, `N × [T]`."""
        ...


@final
@frozen(kw_only=True)
class TokenLoss:
    """One token of a reference answer."""

    text: str
    """What it decodes to; a control token by its name."""

    base: float
    """Its loss before training, in nats."""

    tuned: float
    """Its loss after training, in nats."""


@final
@frozen(kw_only=True)
class AnswerLosses:
    """The reference answer to one question, token by token."""

    question: str
    """What is asked."""

    tokens: tuple[TokenLoss, ...]
    """The tokens that training counts, the stop token included."""

    def to_dict(self) -> dict[str, Any]:
        """The losses as JSON values."""
        return {
            "question": self.question,
            "tokens": [{"text": token.text, "base": token.base, "tuned": token.tuned} for token in self.tokens],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AnswerLosses:
        """The losses that `to_dict` wrote."""
        return cls(question=values["question"], tokens=tuple(TokenLoss(**token) for token in values["tokens"]))

    @override
    def __str__(self) -> str:
        widths = [max(len(repr(token.text)), 6) for token in self.tokens]
        lines = [("", [repr(token.text) for token in self.tokens])]
        lines += [("base", [f"{token.base:.2f}" for token in self.tokens])]
        lines += [("tuned", [f"{token.tuned:.2f}" for token in self.tokens])]
        rows = [
            f"{name:<6}" + " ".join(t.rjust(w) for t, w in zip(texts, widths, strict=True)) for name, texts in lines
        ]
        return showable("\n".join([self.question, *rows]))


def token_losses(
    base: KnowsItsTokens, tuned: KnowsItsTokens, dataset: Sequence[Conversation]
) -> tuple[AnswerLosses, ...]:
    """The loss of every token of the reference answers, under both models.

    Raises:
        EvaluationError: The models render differently, so that their tokens are not the same.
    """
    if base.renderer.fingerprint != tuned.renderer.fingerprint:
        raise EvaluationError("the tokens of two models with different renderers cannot be compared one by one")
    old, new = base.answer_logprobs(dataset), tuned.answer_logprobs(dataset)
    return tuple(
        _losses(base.renderer, row, before, after) for row, before, after in zip(dataset, old, new, strict=True)
    )


def _losses(renderer: Renderer, row: Conversation, before: Any, after: Any) -> AnswerLosses:
    example = renderer.render(row)
    trained = [int(example.tokens[place]) for place in np.flatnonzero(example.weights[1:]) + 1]
    texts = [
        renderer.tokenizer.decode([token], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        for token in trained
    ]
    return AnswerLosses(
        question=row.question,
        tokens=tuple(
            TokenLoss(text=text, base=-float(old), tuned=-float(new))
            for text, old, new in zip(texts, before, after, strict=True)
        ),
    )
