"""`ChatTemplateRenderer`: renders with the chat template of the model's own tokenizer."""

from __future__ import annotations

from datetime import date
from typing import TYPE_CHECKING, Any, final

from attrs import frozen
from typing_extensions import override

from glowgenius.data.message import as_messages, as_tools
from glowgenius.errors import RenderingError
from glowgenius.rendering.encoder import double_bos
from glowgenius.rendering.renderer import (
    ExampleBuilder,
    Renderer,
    TrainOn,
    as_token_array,
    fingerprint_of,
    message_weights,
)
from glowgenius.rendering.spans import RenderedText, Rewritten
from glowgenius.rendering.template import (
    MAX_CHARACTERS,
    MAX_LOOPS,
    ChatTemplate,
    Surroundings,
    call_markup,
    look_around,
    probe,
)

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping, Sequence

    from glowgenius.data.message import Conversation, Message, Messages
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.rendering.call_markup import CallMarkup
    from glowgenius.rendering.renderer import RenderedExample
    from glowgenius.rendering.spans import Span
    from glowgenius.rendering.template import Given
    from glowgenius.typing import JSON, TokenArray, Tools


@final
class ChatTemplateRenderer(Renderer):
    """Renders with the tokenizer's chat template; loss masks come from token positions.

    The tokens are exactly those of `tokenizer.apply_chat_template(messages)`.
    An assistant message is trained from where its generation prompt ends up to and including the token that stops it.
    Both ends are found by rendering the beginning of the conversation, and each example is checked: had the template
    or the tokenizer changed anything before them, the message would be trained in a context that sampling never
    produces. Where the template rewrites earlier turns, as thinking models do, `render_examples` makes several examples
    of a conversation; anything else is refused.
    Where the template has `{% generation %}` markers, they decide which of those tokens are trained.

    Text of a message that reads like a control token is encoded as text, or refused where a tokenizer cannot do that.
    """

    keeps_prompts = True

    def __init__(
        self,
        tokenizer: Tokenizer,
        *,
        chat_template_kwargs: Mapping[str, JSON] | None = None,
        use_generation_markers: bool = True,
        today: date | None = None,
        max_characters: int = MAX_CHARACTERS,
        max_loops: int = MAX_LOOPS,
    ) -> None:
        """Find out how the template delimits turns.

        Args:
            tokenizer: It has to have a chat template.
            chat_template_kwargs: Further variables for the template, such as `{"enable_thinking": False}`.
            use_generation_markers: False leaves `{% generation %}` markers of the template aside.
            today: The date for templates that write today's into their prompts, as those of gpt-oss and Llama 3.2 do.
                None is the day on which the renderer is made; a run that is resumed goes on with its own.
            max_characters: The longest text that the template may write.
            max_loops: How often its loops over `range(…)` may turn in one text.

        Raises:
            ConfigError: *today* is no date, or a limit is not an integer ≥ 1.
            RenderingError: There is no chat template, or it cannot be used for training; the message says why.
        """
        if not tokenizer.chat_template:
            raise RenderingError("the tokenizer has no chat template; use QuestionAnswerRenderer(tokenizer)")
        self._tokenizer = tokenizer
        self._settings: dict[str, Any] = {
            "chat_template_kwargs": chat_template_kwargs,
            "use_generation_markers": use_generation_markers,
            "max_characters": max_characters,
            "max_loops": max_loops,
        }
        self._is_dated = today is not None
        surroundings = Surroundings(
            today or date.today(),  # noqa: DTZ011 - the day where the user is, as in the template's own function
            max_characters=max_characters,
            max_loops=max_loops,
        )
        self._template = ChatTemplate(tokenizer, chat_template_kwargs or {}, surroundings)
        self._shape = probe(self._template)
        look_around(self._template)
        self._markup: CallMarkup | None = None
        self._calls_are_unlearnt = True
        self._day = surroundings.today if surroundings.asked_for_today else None
        self._template.thinks = self._shape.reasoning is not None or self._template.knows_reasoning
        self._marked = use_generation_markers and self._template.has_generation_markers

    @property
    @override
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    @override
    def stop_sequences(self) -> tuple[int, ...]:
        return self._shape.stop_ids

    @property
    @override
    def fingerprint(self) -> str:
        settings: dict[str, Any] = {
            "template": self._template.source,
            "chat_template_kwargs": self._template.options,
            "generation_markers": self._marked,
        }
        if self._day is not None:
            settings["today"] = self._day.isoformat()
        return fingerprint_of("ChatTemplateRenderer", self._tokenizer, settings)

    @property
    @override
    def description(self) -> str:
        masks = "generation markers" if self._marked else "prefix differences"
        history = ", earlier turns rewritten" if self._shape.rewrites else ""
        stops = ", of calls ".join(ending.stop for ending in self._shape.endings)
        day = "" if self._day is None else f", writes the date {self._day.isoformat()} into every prompt"
        return f"chat template of the tokenizer (masks from {masks}, stop token {stops}{history}{day})"

    @property
    @override
    def day(self) -> date | None:
        return self._day

    @override
    def on_day(self, day: date) -> ChatTemplateRenderer:
        if self._is_dated or self._day in (None, day):
            return self
        return ChatTemplateRenderer(self._tokenizer, today=day, **self._settings)

    @override
    def render_messages(self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()) -> RenderedExample:
        example, rewritten = self._example(self._render(messages, tools), _Trained.of(messages, train_on))
        if rewritten:
            raise rewritten[min(rewritten)].error
        return example

    @override
    def split_messages(
        self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()
    ) -> tuple[RenderedExample, ...]:
        return self._split(self._render(messages, tools), train_on)

    @override
    def split_all(
        self, conversations: Sequence[Conversation], train_on: TrainOn
    ) -> Iterator[tuple[RenderedExample, ...] | RenderingError]:
        written: list[tuple[Given, str] | RenderingError] = []
        for conversation in conversations:
            try:
                written.append(self._write(conversation.messages, conversation.tools))
            except RenderingError as error:
                written.append(error)
        texts = [found[1] for found in written if not isinstance(found, RenderingError)]
        encoded = iter(self._template.encoder.encode_all(texts))
        for found in written:
            try:
                if isinstance(found, RenderingError):
                    yield found
                else:
                    yield self._split(self._divided(*found, next(encoded)), train_on)
            except RenderingError as error:
                yield error

    @override
    def render_prompt(self, messages: Messages, tools: Tools = ()) -> TokenArray:
        messages, tools = as_messages(messages), as_tools(tools)
        given = self._template.given(messages, tools)
        text = self._template.write(given, add_generation_prompt=True)
        self._template.refuse_lost(given, text)
        tokens = self._template.encoder.encode(text)
        if double := double_bos(tokens, self._tokenizer):
            raise double
        return as_token_array(tokens)

    @override
    def parse(self, tokens: Sequence[int]) -> Message:
        """The assistant message in sampled *tokens*, without the stop token and anything after it.

        What the template writes around an answer (an empty thinking block, a space before the stop token) is taken off.
        White space around the answer is stripped exactly where the template strips it too.
        Reasoning becomes `reasoning_content`, and calls become `tool_calls`, where the template shows how they are
        written. Calls that cannot be read stay in the content, and `holds_unread_call` tells.
        """
        ids = [int(token) for token in tokens]
        place = next((at for at, token in enumerate(ids) if token in self._shape.stop_ids), None)
        text = self._tokenizer.decode(ids[:place], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        if self._calls_are_unlearnt:
            self._markup, self._calls_are_unlearnt = call_markup(self._template, self._shape), False
        message = None if self._markup is None else self._markup.read(text, self._shape.read)
        if message is not None:
            return message
        plain = self._shape.endings[0]
        return self._shape.read(text.removesuffix(plain.closing) if ids[place:][:1] == [plain.stop_id] else text)

    @override
    def holds_unread_call(self, message: Message) -> bool:
        core = "" if self._markup is None else self._markup.core.strip()
        return bool(core) and core in message.content

    def _render(self, messages: Sequence[Message], tools: Tools) -> RenderedText:
        given, text = self._write(messages, tools)
        return self._divided(given, text, self._template.encoder.encode(text))

    def _write(self, messages: Sequence[Message], tools: Tools) -> tuple[Given, str]:
        given = self._template.given(messages, tools)
        return given, self._template.write(given)

    def _divided(self, given: Given, text: str, tokens: list[int]) -> RenderedText:
        rendered = RenderedText(self._template, self._shape, given, text, tokens)
        if double := double_bos(tokens, self._tokenizer):
            raise double
        return rendered

    def _split(self, rendered: RenderedText, train_on: TrainOn) -> tuple[RenderedExample, ...]:
        """The whole conversation as one example, and shorter ones for turns it writes differently from sampling."""
        messages, tools = rendered.given.messages, rendered.given.tools
        trained = _Trained.of(messages, train_on)
        examples: list[RenderedExample] = []
        while True:
            example, rewritten = self._example(rendered, trained)
            examples.append(example)
            if not rewritten:
                return tuple(reversed(examples))
            last = max(rewritten)
            if last == len(messages) - 1:
                raise rewritten[last].error
            messages = messages[: last + 1]
            trained = trained.only(rewritten, last + 1)
            rendered = self._render(messages, tools)

    def _example(self, rendered: RenderedText, trained: _Trained) -> tuple[RenderedExample, dict[int, Rewritten]]:
        """The example of *rendered*, and the trained messages it writes differently from sampling."""
        messages = rendered.given.messages
        spans: list[tuple[Span, float]] = []
        rewritten: dict[int, Rewritten] = {}
        marked = rendered.marks() if self._marked and not trained.whole else None
        for index, weight in enumerate(trained.weights):
            if not weight:
                continue
            found = self._found(rendered, index, messages[index].role, trained, marked)
            if isinstance(found, Rewritten):
                rewritten[index] = found
            else:
                spans += [(span, weight) for span in found]
        if trained.everything:
            # No context precedes the first token, so it is not predicted.
            left_out = [rendered.rewritten_answer(index) for index in sorted(rewritten)]
            edges = [1, *(edge for span in left_out for edge in span), len(rendered.tokens)]
            spans = [((edges[at], edges[at + 1]), trained.weights[0]) for at in range(0, len(edges), 2)]
        return _build(rendered.tokens, spans), rewritten

    def _found(
        self, rendered: RenderedText, index: int, role: str, trained: _Trained, marked: Sequence[Span] | None
    ) -> Sequence[Span] | Rewritten:
        """Token span of the trained part of message *index*."""
        if trained.everything:
            try:
                return [] if role != "assistant" else _listed(rendered.answer(index))
            except RenderingError:  # such as an assistant who speaks first: nothing that a shorter example would mend
                return []
        if trained.whole:
            return _listed(rendered.piece(index))
        if role != "assistant":
            return [rendered.content(index)]
        return _listed(rendered.answer(index)) if marked is None else rendered.marked_answer(index, marked)


@final
@frozen(kw_only=True)
class _Trained:
    """Which messages of a conversation are trained, with their weights."""

    weights: tuple[float, ...]
    """The weight of each message; 0 is not trained."""

    whole: bool
    """Whether the headers of messages are trained with them."""

    everything: bool
    """Whether all tokens are trained alike, also those of no message."""

    @classmethod
    def of(cls, messages: Sequence[Message], train_on: TrainOn) -> _Trained:
        weights = tuple(message_weights(messages, train_on))
        whole = train_on is TrainOn.ALL_TOKENS
        return cls(weights=weights, whole=whole, everything=whole and len(set(weights)) == 1 and weights[0] > 0)

    def only(self, chosen: Container[int], number: int) -> _Trained:
        """The *chosen* of the first *number* messages, without headers, which the whole conversation trains."""
        weights = tuple(weight if at in chosen else 0.0 for at, weight in enumerate(self.weights[:number]))
        return _Trained(weights=weights, whole=self.whole and not self.everything, everything=False)


def _listed(span: Span | Rewritten) -> Sequence[Span] | Rewritten:
    return span if isinstance(span, Rewritten) else [span]


def _build(tokens: Sequence[int], spans: Sequence[tuple[Span, float]]) -> RenderedExample:
    """All *tokens* with the weights of *spans*; a token shared by two spans belongs to the first."""
    builder = ExampleBuilder()
    for (start, end), weight in spans:
        builder.add(tokens[len(builder) : start], 0.0)
        builder.add(tokens[len(builder) : end], weight)
    builder.add(tokens[len(builder) :], 0.0)
    return builder.build()
