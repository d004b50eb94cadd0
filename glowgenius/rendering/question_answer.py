"""Rendering for base models, which have no chat template: `Question: …` and `Answer: …`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, final

from typing_extensions import override

from glowgenius.data.message import Message, as_messages, as_tools
from glowgenius.errors import RenderingError
from glowgenius.rendering.encoder import ControlTokens, Encoder, num_shared
from glowgenius.rendering.renderer import (
    ExampleBuilder,
    Renderer,
    TrainOn,
    fingerprint_of,
    message_weights,
    unrenderable,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Messages
    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.rendering.renderer import RenderedExample
    from glowgenius.typing import TokenArray, Tools

_QUESTION: Final = "Question:"
_ANSWER: Final = "\nAnswer:"
_BLANK_LINE: Final = "\n\n"
_SPEAKERS: Final = ("user", "assistant")


@final
class QuestionAnswerRenderer(Renderer):
    r"""Renders `Question: …\nAnswer: …` for base models; the stop token is the tokenizer's EOS.

    A system message stands first as a paragraph of its own, further questions follow after a blank line,
    and every answer ends with EOS. A BOS comes first where the tokenizer would put one.

    The prompt ends with `Answer:`, and the space after it belongs to the answer: so the first word of the answer
    is the token that it is in running text, ` Bronx`, which is the one that the model knows.
    """

    keeps_prompts = True

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Read BOS and EOS of the tokenizer.

        Raises:
            RenderingError: It has no EOS, so that a model could never learn to stop.
        """
        if tokenizer.eos_token is None or tokenizer.eos_token_id is None:
            raise RenderingError(
                "the tokenizer has no EOS token, so that the model would never learn to stop; set tokenizer.eos_token"
            )
        self._tokenizer = tokenizer
        self._encoder = Encoder(tokenizer, ControlTokens(tokenizer))
        self._eos = tokenizer.eos_token_id
        first = tokenizer.encode("a", add_special_tokens=True)[:1]
        self._bos = first if first == [tokenizer.bos_token_id] else []

    @property
    @override
    def tokenizer(self) -> Tokenizer:
        return self._tokenizer

    @property
    @override
    def stop_sequences(self) -> tuple[int, ...]:
        return (self._eos,)

    @property
    @override
    def fingerprint(self) -> str:
        return fingerprint_of("QuestionAnswerRenderer", self._tokenizer, {"begins_with_bos": bool(self._bos)})

    @property
    @override
    def description(self) -> str:
        return f"Question: … Answer: … (stop token {self._tokenizer.eos_token})"

    @override
    def render_messages(self, messages: Sequence[Message], train_on: TrainOn, tools: Tools = ()) -> RenderedExample:
        _refuse_tools(tools)
        return self._build(
            messages, message_weights(messages, train_on), headers=train_on is TrainOn.ALL_TOKENS
        ).build()

    @override
    def render_prompt(self, messages: Messages, tools: Tools = ()) -> TokenArray:
        messages, tools = as_messages(messages), as_tools(tools)
        _refuse_tools(tools)
        if not messages or messages[-1].role != "user":
            last = repr(messages[-1].role) if messages else "nothing"
            raise unrenderable(
                f"a prompt has to end with a question, and this one ends with {last}",
                "end with a user message",
                field=f"messages[{len(messages) - 1}]" if messages else "messages",
            )
        return self._build(messages, [0.0] * len(messages), headers=False).build().tokens

    @override
    def parse(self, tokens: Sequence[int]) -> Message:
        """The answer in sampled *tokens*: up to EOS, without the space after `Answer:`."""
        ids = [int(token) for token in tokens]
        if self._eos in ids:
            ids = ids[: ids.index(self._eos)]
        text = self._tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        return Message("assistant", text.removeprefix(" "))

    def _build(self, messages: Sequence[Message], weights: Sequence[float], *, headers: bool) -> ExampleBuilder:
        """Tokens of *messages*; *headers* says whether the words around a message are trained too.

        A stretch of text between two EOS is encoded as one, so that its tokens are those of running text.
        """
        _refuse_inexpressible(messages)
        self._encoder.rows(messages)  # refuses text that can only be encoded as a control token
        builder = ExampleBuilder()
        builder.add(self._bos, 0.0)
        stretch = _Stretch(self._encoder)
        for index, (message, weight) in enumerate(zip(messages, weights, strict=True)):
            around = weight if headers else 0.0
            if message.role not in _SPEAKERS:
                stretch.add(message.content, weight)
                stretch.add(_BLANK_LINE, around)
            elif message.role == "user":
                stretch.add(_BLANK_LINE if index and messages[index - 1].role == "assistant" else "", around)
                stretch.add(_QUESTION, around)
                stretch.add(f" {message.content}", weight)
                stretch.add(_ANSWER, around)
            else:
                stretch.add(f" {message.content}", weight, index=index)
                stretch.move_to(builder)
                builder.add([self._eos], weight)
        stretch.move_to(builder)
        return builder


@final
class _Stretch:
    """Text between two EOS tokens, collected in parts and encoded at once."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._parts: list[tuple[str, float, int | None]] = []

    def add(self, text: str, weight: float, *, index: int | None = None) -> None:
        """Append *text*; *index* marks it as the answer of message *index*, where sampling starts."""
        self._parts.append((text, weight, index))

    def move_to(self, builder: ExampleBuilder) -> None:
        """Encode the collected text, add it to *builder*, and start a new stretch.

        A token that reaches over the edge between two parts takes the larger weight of the two.
        Where an answer begins there must be no such token: sampling starts exactly there.
        """
        parts, self._parts = self._parts, []
        text = "".join(part for part, _, _ in parts)
        tokens = self._encode(text)
        done, place, weight_before = 0, 0, 0.0
        for part, weight, index in parts:
            head, rest = text[:place], text[place:]
            if index is not None or weight > weight_before:
                edge = num_shared(self._encode(head), tokens)
            elif weight < weight_before:
                edge = len(tokens) - num_shared(self._encode(rest)[::-1], tokens[::-1])
            else:
                edge = done
            if index is not None and edge < len(self._encode(head)):
                raise unrenderable(
                    f"the tokenizer divides {head[-7:]!r} otherwise when {part[:12]!r} follows, "
                    "so that training would not go on from the tokens that sampling starts with",
                    "an answer without white space at its beginning, or another tokenizer",
                    field=f"messages[{index}].content",
                )
            builder.add(tokens[done : max(done, edge)], weight_before)
            done, place, weight_before = max(done, edge), place + len(part), weight
        builder.add(tokens[done:], weight_before)

    def _encode(self, text: str) -> list[int]:
        return self._encoder.encode_text(text) if text else []


def _refuse_tools(tools: Tools) -> None:
    if tools:
        raise unrenderable(
            "there are tools, which 'Question: … Answer: …' cannot express",
            "rows without them, or a chat model with its ChatTemplateRenderer",
            field="tools",
        )


def _refuse_inexpressible(messages: Sequence[Message]) -> None:
    """Refuse messages that the question-answer format cannot express."""
    for index, message in enumerate(messages):
        before = messages[index - 1].role if index else None
        extras = [
            name for name in ("reasoning_content", "name", "tool_call_id", "tool_calls") if getattr(message, name)
        ]
        if extras:
            found, accepted, field = (
                f"it has {extras[0]}",
                "a role and a content only",
                f"messages[{index}].{extras[0]}",
            )
        elif message.role == "tool":
            found, accepted, field = "a tool's message", "user and assistant messages", f"messages[{index}].role"
        elif message.role in ("system", "developer") and before in _SPEAKERS:
            found, accepted, field = (
                f"a {message.role} message after a question",
                "it at the start",
                f"messages[{index}]",
            )
        elif message.role == "assistant" and before != "user":
            found, accepted, field = "an answer without a question", "a user message before it", f"messages[{index}]"
        elif message.role == "user" and before == "user":
            found, accepted, field = "a second question in a row", "an answer between them", f"messages[{index}]"
        else:
            continue
        raise unrenderable(
            f"{found}, which 'Question: … Answer: …' cannot express",
            f"{accepted}, or a chat model with its ChatTemplateRenderer",
            field=field,
        )
