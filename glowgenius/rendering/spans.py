"""Token span of each message in its conversation, computed by position and verified."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from attrs import evolve, frozen

from glowgenius.rendering.call_markup import holds, lost
from glowgenius.rendering.encoder import MARK, TokenizedText, num_shared
from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.errors import RenderingError
    from glowgenius.rendering.template import ChatTemplate, Ending, Given, TurnShape

_STAND_INS: Final = ("glowgenius one", "another GLOWGENIUS")
"""Two contents with different first and different last letters: what renders alike around them is not content."""

_SNIPPET: Final = 24
"""Characters of context in an error."""

Span = tuple[int, int]
"""Positions of the first token and of the one behind the last."""


@final
@frozen
class Rewritten:
    """What replaces a span if later messages make the template rewrite an earlier one."""

    error: RenderingError
    """What to raise where the conversation cannot be divided."""


@final
class RenderedText:
    """One conversation rendered by its chat template, as text and tokens, ready to find spans in."""

    def __init__(
        self,
        template: ChatTemplate,
        shape: TurnShape,
        given: Given,
        text: str,
        tokens: list[int],
    ) -> None:
        """Check that the template leaves nothing out; *text* and *tokens* are the rendering of *given*."""
        self._template = template
        self._shape = shape
        self.given = given
        """What was rendered."""
        self._messages = given.messages
        self._text = text
        self._tokenized = TokenizedText(text, tokens, template.control)
        self.tokens = tokens
        """All tokens, `[T]`."""
        template.refuse_lost(given, text)

    def answer(self, index: int) -> Span | Rewritten:
        """Token span of assistant message *index*, from its generation prompt through its stop token.

        Raises:
            RenderingError: Sampling would not produce it at this place, or it does not end with the stop token.
        """
        prompt = self._written(index, add_generation_prompt=True)
        turn = self._text if self._is_last(index) else self._written(index + 1)
        ending = self._shape.ending(turn)
        if ending is None:
            stops = " or ".join(repr(ending.stop) for ending in self._shape.endings)
            raise unrenderable(
                f"the template ends it with {_shown(turn[-_SNIPPET:])} and not with the stop token {stops}",
                "messages whose turns end with that token, or do not train this one",
                field=f"messages[{index}]",
            )
        header = self._shape.header
        if header and turn.startswith(prompt + header):
            raise unrenderable(
                "the prompt does not begin the assistant's turn here, "
                f"so that the model would have to write {header!r} itself",
                "a renderer that begins it, for example glowgenius.rendering.FamilyRenderer, or do not train this one",
                field=f"messages[{index}]",
            )
        turn = turn[: len(turn) - len(ending.tail)]
        start = self._tokens_of(prompt, index, prompt=True)
        if isinstance(start, Rewritten):
            return start
        self._refuse_incomplete(index, turn[len(prompt) :])
        known = self._end_of_last(ending) if self._is_last(index) else None
        end = self._tokens_of(turn, index) if known is None else known
        return end if isinstance(end, Rewritten) else (start, end)

    def marks(self) -> list[Span]:
        """Token spans between generation markers, in order; a token with one marked character counts.

        Raises:
            RenderingError: The template writes something else when it is asked for them.
        """
        text, letters = self._template.marked_letters(self.given)
        if text != self._text:
            raise unrenderable(
                "the chat template writes another text when it is asked for its generation markers",
                "ChatTemplateRenderer(…, use_generation_markers=False)",
                field="messages",
            )
        stretches: list[Span] = []
        for start, end in letters:
            span = (self._edge(start), self._edge(end, behind=True))
            if stretches and span[0] <= stretches[-1][1]:
                span = (stretches.pop()[0], span[1])
            if span[0] < span[1]:
                stretches.append(span)
        return stretches

    def marked_answer(self, index: int, marks: Sequence[Span]) -> list[Span] | Rewritten:
        """The parts of assistant message *index* inside generation markers.

        Raises:
            RenderingError: As `answer`, or the markers leave the stop token out.
        """
        span = self.answer(index)
        if isinstance(span, Rewritten):
            return span
        start, stop = span
        # A span that covers the stop token may extend to the white space after it.
        parts = [(max(first, start), end) for first, end in marks if first < stop and end > start]
        if not any(first < stop <= end for first, end in parts):
            covered = "its text but not its stop token" if any(first < stop for first, _ in parts) else "nothing of it"
            raise unrenderable(
                f"the chat template's generation markers cover {covered}, so that the model would never learn to stop",
                "{% endgeneration %} behind the stop token, or ChatTemplateRenderer(…, use_generation_markers=False)",
                field=f"messages[{index}]",
            )
        return parts

    def rewritten_answer(self, index: int) -> Span:
        """Token span of assistant message *index* as later messages see it, with the header if that differs.

        Raises:
            RenderingError: Its beginning cannot be told.
        """
        start = self._tokens_of(self._written(index, add_generation_prompt=True), index)
        if isinstance(start, Rewritten):
            start = self._tokens_of(self._written(index), index)
        if isinstance(start, Rewritten):
            raise start.error
        # No text of a message is encoded as the stop token, so the next one is the template's own.
        stops = self._shape.stop_ids
        stop = next((at for at in range(start, len(self.tokens)) if self.tokens[at] in stops), None)
        return start, len(self.tokens) if stop is None else stop + 1

    def content(self, index: int) -> Span:
        """Token span of the content of message *index*, of any role, with the stop token if it follows directly.

        Raises:
            RenderingError: The template does not write the content as it is.
        """
        first, second = (self._with_content(index, stand_in) for stand_in in _STAND_INS)
        before = num_shared(first, second)
        after = num_shared(first[::-1], second[::-1])
        unlike = (
            first == second
            or self._text[:before] != first[:before]
            or not self._text.endswith(first[len(first) - after :])
        )
        if unlike or before + after > len(self._text):
            raise unrenderable(
                "the chat template does not write its content as it is",
                "a train_on that leaves it out",
                field=f"messages[{index}]",
            )
        end = len(self._text) - after
        end += len(self._shape.stop) if self._text.startswith(self._shape.stop, end) else 0
        # A token that crosses a boundary contains some of the content, so it counts as content:
        # surely outside are only the tokens shared with the text before it or with the text after it.
        head, rest = (self._template.encoder.encode(text) for text in (self._text[:before], self._text[end:]))
        return num_shared(head, self.tokens), len(self.tokens) - num_shared(rest[::-1], self.tokens[::-1])

    def piece(self, index: int) -> Span | Rewritten:
        """Token span that message *index* adds, header included; the first token is left out."""
        start = 0 if index == 0 else self._tokens_of(self._written(index), index)
        if isinstance(start, Rewritten):
            return start
        if self._is_last(index):
            return max(start, 1), len(self.tokens)
        end = self._tokens_of(self._written(index + 1), index)
        return end if isinstance(end, Rewritten) else (max(start, 1), end)

    def _edge(self, place: int, *, behind: bool = False) -> int:
        """Token index of the character at *place*; with *behind*, of the token after the character before it."""
        encoder = self._template.encoder
        whole = encoder.num_tokens(self._text[:place], self._tokenized)
        if whole is not None:
            return whole
        # The boundary is inside a token, which belongs to the marked side.
        if behind:
            return len(self.tokens) - num_shared(encoder.encode(self._text[place:])[::-1], self.tokens[::-1])
        return num_shared(encoder.encode(self._text[:place]), self.tokens)

    def _written(self, number: int, *, add_generation_prompt: bool = False) -> str:
        """Rendering of the first *number* messages."""
        return self._template.write(self.given, number, add_generation_prompt=add_generation_prompt)

    def _is_last(self, index: int) -> bool:
        return index == len(self._messages) - 1

    def _with_content(self, index: int, content: str) -> str:
        """The conversation with other content in message *index*."""
        messages = list(self._messages)
        messages[index] = evolve(messages[index], content=content)
        return self._template.text(messages, self.given.tools)

    def _end_of_last(self, ending: Ending) -> int | None:
        """End of a last answer without encoding it again: the text after its stop token is always the same."""
        tail = ending.tail_tokens
        end = len(self.tokens) - len(tail)
        fits = end > 0 and self.tokens[end - 1] == ending.stop_id and self.tokens[end:] == list(tail)
        return end if fits else None

    def _tokens_of(self, beginning: str, index: int, *, prompt: bool = False) -> int | Rewritten:
        """Number of tokens of *beginning*, checked to be a prefix of the conversation as text and as tokens."""
        field = f"messages[{index}]"
        if not self._text.startswith(beginning):
            at = num_shared(self._text, beginning)
            alone, here = (_shown(text[at : at + _SNIPPET]) for text in (beginning, self._text))
            error = unrenderable(
                f"sampling starts from {alone} where this conversation has {here}"
                if prompt
                else f"the chat template rewrites it once later messages follow: {alone} becomes {here}",
                f"{self._kwargs(index) if prompt else ''}"
                "each turn as an example of its own, as render_examples() makes them",
                field=field,
            )
            return Rewritten(error)
        length = self._template.encoder.num_tokens(beginning, self._tokenized)
        if length is None:
            place = len(beginning)
            left, right = self._text[max(0, place - _SNIPPET) : place], self._text[place : place + _SNIPPET]
            switch = prompt and "enable_thinking" in self._template.source
            raise unrenderable(
                f"the tokenizer divides {_shown(left)} otherwise when {_shown(right)} follows, "
                "so that training would not go on from the tokens that sampling starts with",
                f"{self._kwargs(index)}no white space at the beginning of the content"
                if switch
                else "no white space at the beginning of the content; "
                "where the template itself writes that white space, another renderer",
                field=field,
            )
        return length

    def _kwargs(self, index: int) -> str:
        """Template options that might make the prompt match the answer of message *index*."""
        switch = "enable_thinking" in self._template.source
        if self._messages[index].reasoning_content:
            setting = "={'enable_thinking': True} for answers with" if switch else " that let the model write"
            return f"chat_template_kwargs{setting} reasoning, or "
        if switch:
            return (
                "chat_template_kwargs={'enable_thinking': False} for answers without reasoning, "
                "'reasoning_content' for those with it, or "
            )
        return "chat_template_kwargs or 'reasoning_content' that fit the answer, or "

    def _refuse_incomplete(self, index: int, written: str) -> None:
        """Refuse an answer from which the template leaves something out."""
        message = self._messages[index]
        for name, text in (("content", message.content), ("reasoning_content", message.reasoning_content or "")):
            if not holds(written.replace(MARK, ""), text):
                raise lost(f"messages[{index}].{name}", "do not train this message, or use a template that writes it")


def _shown(text: str) -> str:
    """*text* for an error, without the encoder's marks."""
    return repr(text.replace(MARK, ""))
