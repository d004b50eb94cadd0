"""A tokenizer's chat template: its text, and what can be learnt about it by rendering two short messages."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, final

from attrs import evolve, frozen

from glowgenius.data.frozen import thaw
from glowgenius.data.message import Message
from glowgenius.errors import RenderingError
from glowgenius.models.hub import render_with_marks, template_writer
from glowgenius.rendering.control import ControlTokens, double_bos
from glowgenius.rendering.encoder import MARK, Encoder
from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.typing import Tools

    Rows = list[dict[str, Any]]

_QUESTION: Final = Message("user", "glowgenius asks")
_ANSWER: Final = "glowgenius answers"
_REASONING: Final = "glowgenius ponders"
_STAND_IN: Final = "glowgenius says {} things"
_FORMS_KEPT: Final = 256
_GENERATION_MARKER: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")

_REMEDY: Final = (
    "pass another renderer, for example glowgenius.rendering.FamilyRenderer, written for a family of models, "
    "or one of tinker-cookbook's through glowgenius.rendering.as_renderer"
)


@final
@frozen(kw_only=True)
class Given:
    """What a template is given to write, in our words and in its own."""

    messages: Sequence[Message]
    """The conversation."""

    tools: Tools
    """The tools it may call."""

    rows: Rows
    """The messages as the template takes them."""

    schemas: Rows | None
    """The tools as the template takes them; None where there are none."""


@final
class ChatTemplate:
    """The chat template of a tokenizer, with fixed options; nothing is ever added to what it writes."""

    def __init__(self, tokenizer: Tokenizer, options: Mapping[str, Any]) -> None:
        self.tokenizer = tokenizer
        self.options = dict(options)
        self.control = ControlTokens(tokenizer)
        """The control tokens of the tokenizer."""
        self.encoder = Encoder(tokenizer, self.control)
        """Encodes what the template writes; it writes its own BOS, so none is added."""
        self._unwritten: dict[tuple[Any, ...], frozenset[int]] = {}
        self._quick: tuple[Any, Callable[..., Any] | None] | None = None

    @property
    def source(self) -> str:
        """The template as it is written; of a tokenizer with several, all of them."""
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else json.dumps(template, sort_keys=True)

    @property
    def has_generation_markers(self) -> bool:
        """Whether the template says by itself which text the assistant generates."""
        return _GENERATION_MARKER.search(self.source) is not None

    def given(self, messages: Sequence[Message], tools: Tools = ()) -> Given:
        """*messages* and *tools* as the template takes them, with a `MARK` in every control token of their text.

        Raises:
            RenderingError: The tokenizer cannot encode such text as text.
        """
        return Given(
            messages=messages,
            tools=tools,
            rows=self.encoder.rows(messages),
            schemas=self.encoder.values(thaw(tuple(tools)), "tools") if tools else None,
        )

    def text(self, messages: Sequence[Message], tools: Tools = (), *, add_generation_prompt: bool = False) -> str:
        """What the template writes; control tokens in the text of messages have a `MARK` in them.

        Raises:
            RenderingError: There is no message, or the template refuses these.
        """
        return self.write(self.given(messages, tools), add_generation_prompt=add_generation_prompt)

    def write(self, given: Given, number: int | None = None, *, add_generation_prompt: bool = False) -> str:
        """As `text`, of the first *number* messages, or of all.

        Raises:
            RenderingError: There is no message, or the template refuses these.
        """
        rows = given.rows[:number]
        if not rows:
            raise unrenderable(
                "nothing comes before the assistant's first message, and a chat template cannot render nothing",
                "begin with a system or user message, or do not train the assistant's first message",
                field="messages[0]",
            )
        # Reasoning goes by several names in templates, which the tokenizer's own method sees to.
        quick = None if any("reasoning_content" in row for row in rows) else self._quick_writer()
        try:
            text = (quick or self._writer)(rows, given.schemas, add_generation_prompt=add_generation_prompt)
        except ImportError:
            raise  # jinja2 is missing: not a fault of the messages
        except Exception as error:  # a template raises whatever it likes: jinja2's errors or Python's
            raise unrenderable(
                f"the chat template refuses it: {error}", "messages that the template accepts", field="messages"
            ) from error
        if not isinstance(text, str):
            raise RenderingError(f"apply_chat_template(tokenize=False) must return a str, got {type(text).__name__}")
        return text

    def _writer(self, rows: Rows, tools: Rows | None, *, add_generation_prompt: bool) -> Any:
        options = self.options if tools is None else {**self.options, "tools": tools}
        return self.tokenizer.apply_chat_template(
            rows, tokenize=False, add_generation_prompt=add_generation_prompt, **options
        )

    def _quick_writer(self) -> Callable[..., Any] | None:
        """The same without its detours, where there is one that writes the same."""
        if self._quick is None or self._quick[0] is not self.tokenizer.chat_template:
            writer = template_writer(self.tokenizer, self.options)
            self._quick = (self.tokenizer.chat_template, writer if writer and self._writes_alike(writer) else None)
        return self._quick[1]

    def _writes_alike(self, writer: Callable[..., Any]) -> bool:
        rows = self.encoder.rows([_QUESTION])
        try:
            written = [write(rows, None, add_generation_prompt=True) for write in (writer, self._writer)]
        except Exception:  # noqa: BLE001 - a template raises whatever it likes, and says so when messages are rendered
            return False
        return bool(written[0] == written[1])

    def marked_letters(self, given: Given) -> tuple[str, list[tuple[int, int]]]:
        """What the template writes, and which stretches of it lie between generation markers, in letters."""
        options = self.options if given.schemas is None else {**self.options, "tools": given.schemas}
        return render_with_marks(self.tokenizer, given.rows, options)

    def refuse_lost(self, given: Given, text: str) -> None:
        """Refuse a rendering that lacks what a system, developer or user message says, a tool, or a tool call.

        An assistant's earlier message may lawfully be shortened: thinking models drop past reasoning.

        Raises:
            RenderingError: It names the message that the template leaves out.
        """
        for at, tool in enumerate(given.tools):
            if not holds(text.replace(MARK, ""), str(tool.get("function", tool).get("name", ""))):
                raise lost(f"tools[{at}]", "a model whose chat template knows tools, or rows without them")
        unwritten = self._unwritten_in(given.messages, given.tools)
        for index, message in enumerate(given.messages):
            if index in unwritten and message.content.strip():
                raise lost(f"messages[{index}].content", f"a role that the template knows, instead of {message.role!r}")
            for at, call in enumerate(message.tool_calls):
                function = call.get("function", call)
                if not holds(text.replace(MARK, ""), str(function.get("name", ""))):
                    raise lost(f"messages[{index}].tool_calls[{at}]", "a model whose chat template knows tool calls")

    def _unwritten_in(self, messages: Sequence[Message], tools: Tools) -> frozenset[int]:
        """Which system, developer and user messages the template does not write, whatever they say.

        Every content is replaced by a text of our own that occurs once, so that what one message says is never taken
        for another that says the same. It depends on who speaks when, so conversations of one form are looked at once.
        """
        rows = ((row.role, row.name, row.reasoning_content, row.tool_call_id, row.tool_calls) for row in messages)
        form = (*rows, tuple(tools))
        if form not in self._unwritten:
            stand_ins = [
                evolve(message, content=_STAND_IN.format(index), weight=None) for index, message in enumerate(messages)
            ]
            text = self.text(stand_ins, tools)
            if len(self._unwritten) >= _FORMS_KEPT:
                self._unwritten.clear()
            self._unwritten[form] = frozenset(
                index
                for index, message in enumerate(stand_ins)
                if message.role in ("system", "developer", "user") and message.content not in text
            )
        return self._unwritten[form]


@final
@frozen(kw_only=True)
class TurnShape:
    """What stands around the content of an assistant message: `prompt | opening content closing stop tail`."""

    opening: str
    """What the model writes before its answer, such as an empty thinking block; mostly nothing."""

    closing: str
    """What the template puts between answer and stop token; mostly nothing."""

    stop: str
    """The token that ends the turn."""

    stop_id: int
    """Its id."""

    tail: str
    """What the template writes after the stop token; the model never has to."""

    tail_tokens: tuple[int, ...]
    """The same as tokens."""

    trims: bool
    """Whether the template strips white space around the answer."""

    rewrites: bool
    """Whether a plain answer is written otherwise once another question follows; a hint that no mask rests on."""

    reasoning: tuple[str, str] | None
    """What stands before and after `reasoning_content`, where the template writes it."""

    def read(self, text: str) -> Message:
        """The message in what the model wrote, up to `closing`."""
        reasoning = None
        if self.opening and text.startswith(self.opening):
            text = text[len(self.opening) :]
        elif self.reasoning is not None and text.startswith(self.reasoning[0]):
            thought, between, answer = text[len(self.reasoning[0]) :].partition(self.reasoning[1])
            if between:
                reasoning, text = thought, answer
        return Message("assistant", text.strip() if self.trims else text, reasoning_content=reasoning)


def probe(template: ChatTemplate) -> TurnShape:
    """The shape of the assistant's turn, from rendering one question and one answer.

    The text searched here is our own, so the search cannot be misled by what users write;
    the examples of users are cut by position only.

    Raises:
        RenderingError: The template has no generation prompt, no stop token, or a second BOS.
    """
    try:
        prompt = template.text([_QUESTION], add_generation_prompt=True)
        answer = _typical_answer(template, prompt)
        generated = _generated(template, prompt, answer)
        if double := double_bos(template.encoder.encode(prompt), template.tokenizer):
            raise double
    except RenderingError as error:
        reason = error.problems[0].found if error.problems else error.message
        raise RenderingError(f"this chat template cannot be used: {reason}; {_REMEDY}") from error
    opening, found, rest = generated.partition(_ANSWER)
    if not found:
        raise RenderingError(f"this chat template cannot be used: it changes the text of answers; {_REMEDY}")
    if template.control.first_in(opening) and prompt == template.text([_QUESTION]):
        raise RenderingError(
            "this chat template cannot be used: add_generation_prompt=True does not begin the assistant's turn, "
            f"so that the model would have to write {opening!r} itself; {_REMEDY}"
        )
    closing, stop, stop_id, tail = _ending(template, rest)
    turn = prompt + generated
    body = turn[: len(turn) - len(tail)]
    encode = template.encoder.encode
    return TurnShape(
        opening="" if answer.reasoning_content else opening,
        closing=closing,
        stop=stop,
        stop_id=stop_id,
        tail=tail,
        tail_tokens=tuple(encode(turn)[len(encode(body)) :]),
        trims=_generated(template, prompt, evolve(answer, content=f" \n{_ANSWER}\n ")) == generated,
        rewrites=not _followed(template, answer).startswith(body),
        reasoning=_reasoning(template, prompt),
    )


def _typical_answer(template: ChatTemplate, prompt: str) -> Message:
    """A plain answer; of a model that is made to think first, one with reasoning."""
    plain = Message("assistant", _ANSWER)
    thoughtful = Message("assistant", _ANSWER, reasoning_content=_REASONING)
    try:
        _generated(template, prompt, plain)
    except RenderingError:
        return thoughtful if _reasoning(template, prompt) else plain
    return plain


def _ending(template: ChatTemplate, rest: str) -> tuple[str, str, int, str]:
    """What stands behind an answer: what closes it, the stop token and its id, and what the model never writes.

    Of several control tokens without a letter between them, the last one ends the turn.
    """
    places = template.control.all_in(rest)
    last = 0
    while last + 1 < len(places) and places[last][1] == places[last + 1][0]:
        last += 1
    stop_id = places[last][2] if places else None
    if stop_id is None:
        raise RenderingError(
            "this chat template cannot be used: it puts no special token after the assistant's answer, "
            f"so that the model would never learn to stop; {_REMEDY}"
        )
    start, end, _ = places[last]
    return rest[:start], rest[start:end], stop_id, rest[end:]


def _followed(template: ChatTemplate, answer: Message) -> str:
    """The conversation after one more question; nothing where the template refuses that."""
    try:
        return template.text([_QUESTION, answer, _QUESTION])
    except RenderingError:
        return ""


def _generated(template: ChatTemplate, prompt: str, answer: Message) -> str:
    """What the template writes behind *prompt* for *answer*."""
    text = template.text([_QUESTION, answer])
    if not text.startswith(prompt):
        raise unrenderable("its generation prompt is not how an answer begins", "another template")
    return text[len(prompt) :]


def _reasoning(template: ChatTemplate, prompt: str) -> tuple[str, str] | None:
    """What stands around the reasoning of an answer; None where the template leaves it out."""
    answer = Message("assistant", _ANSWER, reasoning_content=_REASONING)
    try:
        generated = _generated(template, prompt, answer)
    except RenderingError:
        return None
    before, found, rest = generated.partition(_REASONING)
    between, answered, _ = rest.partition(_ANSWER)
    return (before, between) if found and answered and between.strip() else None


def lost(field: str, accepted: str) -> RenderingError:
    """The error for something that the template does not write."""
    return unrenderable("the chat template does not write it", accepted, field=field)


def holds(text: str, part: str) -> bool:
    """Whether *part* stands in *text*, white space aside: templates trim and indent."""
    return part in text or "".join(part.split()) in "".join(text.split())
