"""Where each message lies among the tokens of its conversation: by position, verified, never by search."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

import numpy as np
from attrs import evolve

from glowgenius.rendering.prefix import num_shared
from glowgenius.rendering.renderer import unrenderable
from glowgenius.rendering.template import holds, lost

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Message
    from glowgenius.rendering.template import ChatTemplate, TurnShape

_STAND_INS: Final = ("glowgenius one", "another GLOWGENIUS")
"""Two contents with different first and different last letters: what renders alike around them is not content."""

_SNIPPET: Final = 24
"""Characters of context in an error."""

Span = tuple[int, int]
"""Positions of the first token and of the one behind the last."""


@final
class RenderedText:
    """One conversation rendered by its chat template, as text and as tokens, ready to be divided."""

    def __init__(self, template: ChatTemplate, shape: TurnShape, messages: Sequence[Message]) -> None:
        self._template = template
        self._shape = shape
        self._messages = messages
        self._text = template.text(messages)
        self.tokens = template.encode(self._text)
        """All tokens, `[T]`."""
        template.refuse_lost(messages, self._text)

    def answer(self, index: int) -> Span:
        """Where assistant message *index* lies, from its generation prompt up to and including its stop token.

        Raises:
            RenderingError: Sampling would not produce it at this place, or it does not end with the stop token.
        """
        prompt = self._template.text(self._messages[:index], add_generation_prompt=True)
        turn = self._text if self._is_last(index) else self._template.text(self._messages[: index + 1])
        if not turn.endswith(self._shape.stop + self._shape.tail):
            raise unrenderable(
                f"the template ends it with {turn[-_SNIPPET:]!r} and not with the stop token {self._shape.stop!r}",
                "messages whose turns end with that token, or do not train this one",
                field=f"messages[{index}]",
            )
        turn = turn[: len(turn) - len(self._shape.tail)]
        start = self._tokens_of(prompt, index, prompt=True)
        self._refuse_incomplete(index, turn[len(prompt) :])
        end = self._end_of_last() if self._is_last(index) else None
        return start, self._tokens_of(turn, index) if end is None else end

    def marked_answer(self, index: int, marked: Sequence[bool]) -> list[Span]:
        """The parts of assistant message *index* that generation markers cover.

        Raises:
            RenderingError: As `answer`, or the markers leave the stop token out.
        """
        start, stop = self.answer(index)
        behind = len(self.tokens)
        if not self._is_last(index):
            behind = self._tokens_of(self._template.text(self._messages[: index + 1]), index)
        if not marked[stop - 1]:
            covered = "nothing of it" if not any(marked[start:stop]) else "its text but not its stop token"
            raise unrenderable(
                f"the chat template's generation markers cover {covered}, so that the model would never learn to stop",
                "{% endgeneration %} behind the stop token, or ChatTemplateRenderer(…, use_generation_markers=False)",
                field=f"messages[{index}]",
            )
        edges = np.flatnonzero(np.diff(np.array([False, *marked[start:behind], False], dtype=np.int8))) + start
        return [(int(edges[at]), int(edges[at + 1])) for at in range(0, len(edges), 2)]

    def content(self, index: int) -> Span:
        """Where the content of message *index* lies, whoever speaks, with the stop token where that follows at once.

        Raises:
            RenderingError: The template does not write the content as it is.
        """
        first, second = (self._with_content(index, stand_in) for stand_in in _STAND_INS)
        before = num_shared(first, second)
        after = num_shared(first[::-1], second[::-1])
        lost = (
            first == second
            or self._text[:before] != first[:before]
            or not self._text.endswith(first[len(first) - after :])
        )
        if lost or before + after > len(self._text):
            raise unrenderable(
                "the chat template does not write its content as it is",
                "a train_on that leaves it out",
                field=f"messages[{index}]",
            )
        end = len(self._text) - after
        end += len(self._shape.stop) if self._text.startswith(self._shape.stop, end) else 0
        # A token that reaches over an edge holds some of the content, so it counts as content:
        # what lies surely outside are the tokens that the text before has too, and those that the text behind has too.
        head, rest = (self._template.encode(text).tolist() for text in (self._text[:before], self._text[end:]))
        tokens = self.tokens.tolist()
        return num_shared(head, tokens), len(tokens) - num_shared(rest[::-1], tokens[::-1])

    def piece(self, index: int) -> Span:
        """Everything that message *index* adds to the tokens, its header included; the first token is left out.

        Raises:
            RenderingError: The template rewrites messages once later ones follow.
        """
        start = 0 if index == 0 else self._tokens_of(self._template.text(self._messages[:index]), index)
        if self._is_last(index):
            return max(start, 1), len(self.tokens)
        return max(start, 1), self._tokens_of(self._template.text(self._messages[: index + 1]), index)

    def _is_last(self, index: int) -> bool:
        return index == len(self._messages) - 1

    def _with_content(self, index: int, content: str) -> str:
        """The conversation with another content of message *index*."""
        messages = list(self._messages)
        messages[index] = evolve(messages[index], content=content)
        return self._template.text(messages)

    def _end_of_last(self) -> int | None:
        """The end of a last answer without encoding it again: behind its stop token the tail is always the same."""
        tail = self._shape.tail_tokens
        end = len(self.tokens) - len(tail)
        fits = end > 0 and self.tokens[end - 1] == self._shape.stop_id and self.tokens[end:].tolist() == list(tail)
        return end if fits else None

    def _tokens_of(self, beginning: str, index: int, *, prompt: bool = False) -> int:
        """How many tokens *beginning* has; it has to be the beginning of the conversation, as text and as tokens."""
        field = f"messages[{index}]"
        if not self._text.startswith(beginning):
            at = num_shared(self._text, beginning)
            alone, here = beginning[at : at + _SNIPPET], self._text[at : at + _SNIPPET]
            raise unrenderable(
                f"sampling starts from {alone!r} where this conversation has {here!r}"
                if prompt
                else f"the chat template rewrites it once later messages follow: {alone!r} becomes {here!r}",
                f"{'chat_template_kwargs that fit the answer, or ' if prompt else ''}"
                "each turn as a conversation of its own, which ends with the turn to train",
                field=field,
            )
        tokens = self._template.encode(beginning)
        if not np.array_equal(tokens, self.tokens[: len(tokens)]):
            place = len(beginning)
            left, right = self._text[max(0, place - _SNIPPET) : place], self._text[place : place + _SNIPPET]
            raise unrenderable(
                f"the tokenizer divides {left!r} otherwise when {right!r} follows, "
                "so that training would not go on from the tokens that sampling starts with",
                "no white space at the beginning of the content; "
                "where the template itself writes that white space, another renderer",
                field=field,
            )
        return len(tokens)

    def _refuse_incomplete(self, index: int, written: str) -> None:
        """Refuse an answer of which the template leaves something out."""
        message = self._messages[index]
        for name, text in (("content", message.content), ("reasoning_content", message.reasoning_content or "")):
            if not holds(written, text):
                raise lost(f"messages[{index}].{name}", "do not train this message, or use a template that writes it")
