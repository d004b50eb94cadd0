"""Rendering with the tokenizer's own chat template, the one its model was trained with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, final

import numpy as np
from typing_extensions import override

from glowgenius.errors import RenderingError
from glowgenius.rendering.control import ControlTokens, double_bos
from glowgenius.rendering.example import ExampleBuilder
from glowgenius.rendering.renderer import Renderer, fingerprint_of, unrenderable
from glowgenius.rendering.spans import RenderedText
from glowgenius.rendering.template import ChatTemplate, probe
from glowgenius.rendering.train_on import TrainOn, message_weights

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from glowgenius.data.message import Message
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.rendering.example import RenderedExample
    from glowgenius.rendering.spans import Span
    from glowgenius.typing import JSON, TokenArray


@final
class ChatTemplateRenderer(Renderer):
    """The tokenizer's chat template decides every token; positions decide what is trained.

    The tokens are exactly those of `tokenizer.apply_chat_template(messages)`.
    An assistant message is trained from where its generation prompt ends up to and including the token that stops it.
    Both ends are found by rendering the beginning of the conversation, and each example is checked: had the template
    or the tokenizer changed anything before them, the message would be trained in a context that sampling never
    produces, and the conversation is refused.
    Where the template has `{% generation %}` markers, they decide which of those tokens are trained.

    Text of a message that the tokenizer would take for a control token is refused.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        chat_template_kwargs: Mapping[str, JSON] | None = None,
        use_generation_markers: bool = True,
    ) -> None:
        """Learn the shape of the template's turns.

        Args:
            tokenizer: It has to have a chat template.
            chat_template_kwargs: Further variables for the template, such as `{"enable_thinking": False}`.
            use_generation_markers: False leaves `{% generation %}` markers of the template aside.

        Raises:
            RenderingError: There is no chat template, or it cannot be used for training; the message says why.
        """
        if not tokenizer.chat_template:
            raise RenderingError("the tokenizer has no chat template; use QuestionAnswerRenderer(tokenizer)")
        self._tokenizer = tokenizer
        self._template = ChatTemplate(tokenizer, chat_template_kwargs or {})
        self._control = ControlTokens(tokenizer)
        self._shape = probe(self._template, self._control)
        self._marked = use_generation_markers and self._template.has_generation_markers

    @property
    @override
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    @override
    def stop_sequences(self) -> tuple[int, ...]:
        return (self._shape.stop_id,)

    @property
    @override
    def fingerprint(self) -> str:
        settings: dict[str, Any] = {
            "template": self._template.source,
            "chat_template_kwargs": self._template.options,
            "generation_markers": self._marked,
        }
        return fingerprint_of("ChatTemplateRenderer", self._tokenizer, settings)

    @property
    @override
    def description(self) -> str:
        masks = "generation markers" if self._marked else "prefix differences"
        return f"chat template of the tokenizer (masks from {masks}, stop token {self._shape.stop})"

    @override
    def render_messages(self, messages: Sequence[Message], train_on: TrainOn) -> RenderedExample:
        self._control.refuse_in(messages)
        rendered = RenderedText(self._template, self._shape, messages)
        if double := double_bos(rendered.tokens, self._tokenizer):
            raise double
        tokens = rendered.tokens.tolist()
        builder = ExampleBuilder()
        for (start, end), weight in self._weighted_spans(rendered, messages, train_on):
            # A token that two neighbours share belongs to the first of them.
            builder.add(tokens[len(builder) : start], 0.0)
            builder.add(tokens[len(builder) : end], weight)
        builder.add(tokens[len(builder) :], 0.0)
        return builder.build()

    @override
    def render_prompt(self, messages: Sequence[Message]) -> TokenArray:
        self._control.refuse_in(messages)
        text = self._template.text(messages, add_generation_prompt=True)
        self._template.refuse_lost(messages, text)
        tokens = self._template.encode(text)
        if double := double_bos(tokens, self._tokenizer):
            raise double
        return tokens

    @override
    def parse(self, tokens: Sequence[int]) -> Message:
        """The assistant's message in sampled *tokens*; the stop token and anything behind it is left out.

        What the template writes around an answer (an empty thinking block, a space before the stop token) is taken off.
        White space around the answer is stripped exactly where the template strips it too.
        Reasoning becomes `reasoning_content` where the template shows how it is written.
        """
        ids = [int(token) for token in tokens]
        stopped = self._shape.stop_id in ids
        if stopped:
            ids = ids[: ids.index(self._shape.stop_id)]
        text = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return self._shape.read(text.removesuffix(self._shape.closing) if stopped else text)

    def _weighted_spans(
        self, rendered: RenderedText, messages: Sequence[Message], train_on: TrainOn
    ) -> Iterator[tuple[Span, float]]:
        """The trained positions, in the order of the messages."""
        marked = self._marks(rendered, messages) if self._marked and train_on is not TrainOn.ALL_TOKENS else None
        weights = message_weights(messages, train_on)
        if train_on is TrainOn.ALL_TOKENS and len(set(weights)) == 1:
            yield (1, len(rendered.tokens)), weights[0]  # nothing comes before the first token to predict it from
            return
        for index, (message, weight) in enumerate(zip(messages, weights, strict=True)):
            if not weight:
                continue
            if train_on is TrainOn.ALL_TOKENS:
                yield rendered.piece(index), weight
            elif message.role != "assistant":
                yield rendered.content(index), weight
            elif marked is None:
                yield rendered.answer(index), weight
            else:
                for span in rendered.marked_answer(index, marked):
                    yield span, weight

    def _marks(self, rendered: RenderedText, messages: Sequence[Message]) -> list[bool]:
        """Which tokens lie between generation markers."""
        tokens, marks = self._template.assistant_mask(messages)
        if not np.array_equal(tokens, rendered.tokens):
            raise unrenderable(
                "the chat template writes other tokens when it is asked for its generation markers",
                "ChatTemplateRenderer(…, use_generation_markers=False)",
                field="messages",
            )
        return marks
