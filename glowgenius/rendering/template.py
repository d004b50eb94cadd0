"""Chat templates of `transformers`, rendered with a fixed date and bounded loops."""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any, Final, final

from attrs import evolve, frozen

from glowgenius._validators import is_integer
from glowgenius.data.json_values import thaw
from glowgenius.data.message import Message
from glowgenius.errors import ConfigError, RenderingError
from glowgenius.models.hub import render_with_marks, template_writer
from glowgenius.rendering.call_markup import EXAMPLE, THINKS, LossCheck, learn
from glowgenius.rendering.encoder import MARK, ControlTokens, Encoder, double_bos
from glowgenius.rendering.renderer import as_day, begins_with_reasoning, match_results, split_reasoning, unrenderable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from glowgenius.models.tokenizer import Tokenizer
    from glowgenius.rendering.call_markup import CallMarkup
    from glowgenius.typing import Tools

    Rows = list[dict[str, Any]]

MAX_CHARACTERS: Final = 20_000_000
"""The longest text, in characters, that a template may write by default."""

MAX_LOOPS: Final = 1_000_000
"""Default limit of the iterations of a template's loops over `range(…)` in one text."""

_DRAWS: Final = re.compile(r"\|\s*random\b|\blipsum\s*\(")


class TooMuchError(RenderingError):
    """A template exceeded one of its limits."""


@final
class Surroundings:
    """Template functions whose result depends on more than the conversation, such as the date.

    Args:
        today: The day that `strftime_now` tells.
        max_characters: The longest text that is written.
        max_loops: How often loops over `range(…)` may turn.
    """

    def __init__(self, today: date, *, max_characters: int, max_loops: int) -> None:
        for name, value in (("max_characters", max_characters), ("max_loops", max_loops)):
            if not is_integer(value) or value < 1:
                raise ConfigError(f"{name} must be an integer ≥ 1, got {value!r} ({type(value).__name__})")
        self.today: Final = as_day(today)
        self.asked_for_today = False
        """Whether a template has asked which day it is."""
        self._max_characters = max_characters
        self._max_loops = max_loops
        self._turns = 0

    def functions(self, source: str) -> dict[str, Any]:
        """Replacements for the functions of a template with this *source*."""
        given: dict[str, Any] = {}
        if "strftime_now" in source:
            given["strftime_now"] = self._strftime_now
        if "range" in source:
            given["range"] = self._range
        return given

    def begin(self) -> None:
        """Reset the counters for another text."""
        self._turns = 0

    def joined(self, pieces: Iterable[str]) -> str:
        """*pieces* joined, with the length checked.

        Raises:
            TooMuchError: It is too long.
        """
        parts: list[str] = []
        length = 0
        for piece in pieces:
            length += len(piece)
            self.refuse_length(length)
            parts.append(piece)
        return "".join(parts)

    def refuse_length(self, length: int) -> None:
        """Refuse a text of *length* characters if that exceeds the limit.

        Raises:
            TooMuchError: It is.
        """
        if length > self._max_characters:
            raise TooMuchError(
                f"it writes more than {self._max_characters:,} characters; if that is meant, "
                "ChatTemplateRenderer(…, max_characters=…)"
            )

    def _strftime_now(self, form: str) -> str:
        self.asked_for_today = True
        return datetime.combine(self.today, time()).strftime(form)

    def _range(self, *bounds: int) -> range:
        numbers = range(*bounds)
        self._turns += len(numbers)
        if self._turns > self._max_loops:
            raise TooMuchError(
                f"its loops turn more than {self._max_loops:,} times; if that is meant, "
                "ChatTemplateRenderer(…, max_loops=…)"
            )
        return numbers


def draws_at_random(source: str) -> bool:
    """Whether the output of a template with this *source* is random."""
    return _DRAWS.search(source) is not None


_QUESTION: Final = Message("user", "glowgenius asks")
_ANSWER: Final = "glowgenius answers"
_REASONING: Final = "glowgenius ponders"
_ARGUMENTS: Final = {"glowgenius_key": "glowgenius value", "glowgenius_other": "another GLOWGENIUS"}
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "glowgenius_tool",
        "description": "A glowgenius description.",
        "parameters": {"type": "object", "properties": {key: {"type": "string"} for key in _ARGUMENTS}},
    },
}
_REASONING_FIELD: Final = re.compile(r"reasoning_content|(?:\.|\[['\"])(?:reasoning|thinking)\b")
_GENERATION_MARKER: Final = re.compile(r"\{%-?\s*generation\s*-?%\}")

_REMEDY: Final = (
    "pass another renderer, for example glowgenius.rendering.FamilyRenderer, written for a family of models, "
    "or one of tinker-cookbook's through glowgenius.rendering.as_renderer"
)


@final
@frozen(kw_only=True)
class Given:
    """Input of a template: our messages and tools, and their form in the template."""

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
    """The chat template of a tokenizer with fixed options; nothing is added to its output."""

    def __init__(self, tokenizer: Tokenizer, options: Mapping[str, Any], surroundings: Surroundings) -> None:
        self.tokenizer = tokenizer
        self.options = dict(options)
        self._surroundings = surroundings
        self._functions = {
            name: function for name, function in surroundings.functions(self.source).items() if name not in self.options
        }
        self.control = ControlTokens(tokenizer)
        """The control tokens of the tokenizer."""
        self.encoder = Encoder(tokenizer, self.control)
        """Encodes what the template writes; it writes its own BOS, so none is added."""
        self._losses = LossCheck(self.text)
        self._as_text: bool | None = None
        self.thinks = False
        """Whether the template knows `reasoning_content`: then `<think>…</think>` before an answer is taken for it."""
        self._tags = [tag for tag in ("</think>", "<think>") if tag in self.source]
        self._quick: tuple[Any, Callable[..., Any] | None] | None = None

    @property
    def source(self) -> str:
        """Source of the template; of all templates if the tokenizer has several."""
        template = self.tokenizer.chat_template
        return template if isinstance(template, str) else json.dumps(template, sort_keys=True)

    @property
    def has_generation_markers(self) -> bool:
        """Whether the template marks generated text with `{% generation %}`."""
        return _GENERATION_MARKER.search(self.source) is not None

    @property
    def knows_reasoning(self) -> bool:
        """Whether the template handles the reasoning of messages in any mode."""
        return _REASONING_FIELD.search(self.source) is not None

    def given(self, messages: Sequence[Message], tools: Tools = ()) -> Given:
        """*messages* and *tools* in the template's form, with a `MARK` in every control token of their text.

        Raises:
            RenderingError: The tokenizer cannot encode such text as text, or a result answers no call.
        """
        messages = match_results(messages)
        if self.thinks:
            messages = split_reasoning(messages)
        rows = self.encoder.rows(messages)
        for index, (message, row) in enumerate(zip(messages, rows, strict=True)):
            if message.role == "assistant" and self._tags:
                self._spell_tags(index, message, row)
        calls = [call for row in rows for call in row.get("tool_calls", ())]
        if calls and self._text_of_arguments():
            for call in calls:
                call["function"]["arguments"] = json.dumps(call["function"]["arguments"], ensure_ascii=False)
        return Given(
            messages=messages,
            tools=tools,
            rows=rows,
            schemas=self.encoder.values(thaw(tuple(tools)), "tools") if tools else None,
        )

    def _spell_tags(self, index: int, message: Message, row: dict[str, Any]) -> None:
        """Put a mark into reasoning tags that an answer only mentions: the template would cut it there."""
        field = f"messages[{index}]"
        if any(tag in (message.reasoning_content or "") for tag in self._tags):
            tag = next(tag for tag in self._tags if tag in (message.reasoning_content or ""))
            raise unrenderable(
                f"the reasoning holds {tag!r}, at which the chat template would end it",
                "reasoning without it",
                field=f"{field}.reasoning_content",
            )
        found = [tag for tag in self._tags if tag in message.content]
        if not found or (begins_with_reasoning(message.content) and not self.thinks):
            return
        if not self.encoder.writes_data:
            raise unrenderable(
                f"the text holds {found[0]!r}, at which the chat template would cut it",
                "write it differently, for example with a space inside",
                field=f"{field}.content",
            )
        for tag in found:
            row["content"] = row["content"].replace(tag, f"{tag[0]}{MARK}{tag[1:]}")

    def text(self, messages: Sequence[Message], tools: Tools = (), *, add_generation_prompt: bool = False) -> str:
        """Output of the template; control tokens in the text of messages contain a `MARK`.

        Raises:
            RenderingError: There is no message, or the template refuses these.
        """
        return self.write(self.given(messages, tools), add_generation_prompt=add_generation_prompt)

    def write(self, given: Given, number: int | None = None, *, add_generation_prompt: bool = False) -> str:
        """Like `text`, for the first *number* messages or for all.

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
        quick = self._quick_writer()
        self._surroundings.begin()
        try:
            text = (quick or self._writer)(rows, given.schemas, add_generation_prompt=add_generation_prompt)
            self._surroundings.refuse_length(len(text))
        except ImportError:
            raise  # jinja2 is missing: not an error in the messages
        except TooMuchError as error:
            raise unrenderable(
                f"the chat template does too much: {error.message.partition('; ')[0]}",
                error.message.partition("; ")[2],
                field="messages",
            ) from error
        except Exception as error:  # a template raises whatever it likes: jinja2's errors or Python's
            raise unrenderable(
                f"the chat template refuses it: {error}", self._accepted(given, error), field="messages"
            ) from error
        if not isinstance(text, str):
            raise RenderingError(f"apply_chat_template(tokenize=False) must return a str, got {type(text).__name__}")
        return text

    def _accepted(self, given: Given, error: Exception) -> str:
        """Advice about a template that raises *error*."""
        functions = [schema.get("function", schema) for schema in given.schemas or ()]
        missing = [key for key in ("description", "parameters") if any(key not in function for function in functions)]
        asked = [key for key in missing if repr(key) in str(error)]
        if asked:
            return f"tools that all have {' and '.join(map(repr, asked))}"
        calls = [len(message.tool_calls) for message in given.messages]
        if any(calls) or any(message.role == "tool" for message in given.messages):
            if "tool" not in self.source:
                return "a model whose chat template knows tool calls, or rows without them"
            if max(calls) > 1 and "tool" in str(error):
                return "messages with one call each, or a model whose chat template takes several"
        if any(message.role == "system" for message in given.messages) and "system" in str(error).lower():
            return "its text in the first user message, or a model whose chat template takes a system message"
        return "messages that the template accepts"

    def _writer(self, rows: Rows, tools: Rows | None, *, add_generation_prompt: bool) -> Any:
        options = self.options if tools is None else {**self.options, "tools": tools}
        return self.tokenizer.apply_chat_template(
            rows, tokenize=False, add_generation_prompt=add_generation_prompt, **options
        )

    def _quick_writer(self) -> Callable[..., Any] | None:
        """A faster function with the same output, if there is one, with the functions of `Surroundings`.

        The tokenizer's own method takes no functions.
        """
        if self._quick is None or self._quick[0] is not self.tokenizer.chat_template:
            plain = template_writer(self.tokenizer, self.options)
            same = plain is not None and all(
                self._outcome(plain, messages) == self._outcome(self._writer, messages)
                for messages in ([_QUESTION], [_QUESTION, Message("assistant", _ANSWER, reasoning_content=_REASONING)])
            )
            variables = {**self._functions, **self.options}
            quick = template_writer(self.tokenizer, variables, join=self._surroundings.joined) if same else None
            self._quick = (self.tokenizer.chat_template, quick)
        return self._quick[1]

    def _outcome(self, write: Callable[..., Any], messages: Sequence[Message]) -> Any:
        try:
            return write(self.encoder.rows(messages), None, add_generation_prompt=messages[-1].role == "user")
        except Exception as error:  # noqa: BLE001 - a template raises whatever it likes, and says so when it is used
            return str(error)

    def marked_letters(self, given: Given) -> tuple[str, list[tuple[int, int]]]:
        """Output of the template, and the character spans between generation markers."""
        options = {**self._functions, **self.options}
        if given.schemas is not None:
            options["tools"] = given.schemas
        return render_with_marks(self.tokenizer, given.rows, options)

    def refuse_lost(self, given: Given, text: str) -> None:
        """Refuse a rendering that lacks something in its messages or tools.

        Raises:
            RenderingError: It names the message that the template leaves out.
        """
        self._losses.refuse(given.messages, given.tools, text.replace(MARK, ""))

    def _text_of_arguments(self) -> bool:
        """Whether the template expects call arguments as JSON text instead of an object.

        Templates are written for one of the two: the other is encoded twice, printed as Python would, or refused.
        """
        if self._as_text is None:
            self._as_text = any(self._asks_for_text(tools) for tools in (None, [_TOOL]))
        return self._as_text

    def _asks_for_text(self, tools: Rows | None) -> bool:
        found: list[str] = []
        for arguments in (_ARGUMENTS, json.dumps(_ARGUMENTS)):
            call = {
                "id": "callgg001",
                "type": "function",
                "function": {"name": "glowgenius_tool", "arguments": arguments},
            }
            rows = [_QUESTION.to_dict(), {"role": "assistant", "content": "", "tool_calls": [call]}]
            try:
                found.append(str(self._writer(rows, tools, add_generation_prompt=False)))
            except ImportError:
                raise
            except Exception:  # noqa: BLE001 - a template raises whatever it likes
                found.append("")
        as_object, as_text = found
        fits = [all(word in text for word in _ARGUMENTS.values()) for text in found]
        fits[0] = fits[0] and repr(_ARGUMENTS) not in as_object
        fits[1] = fits[1] and json.dumps(json.dumps(_ARGUMENTS))[1:-1] not in as_text
        return fits == [False, True]


@final
@frozen(kw_only=True)
class Ending:
    """How an assistant turn ends: `closing stop tail`."""

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


@final
@frozen(kw_only=True)
class TurnShape:
    """Text around the content of an assistant message: `prompt | opening content closing stop tail`."""

    opening: str
    """What the model writes before its answer, such as an empty thinking block; mostly nothing."""

    header: str
    """What begins the assistant's turn within a prompt, where that has a control token; else nothing."""

    endings: tuple[Ending, ...]
    """How an answer ends, and how a turn ends that makes a call, where that is otherwise."""

    trims: bool
    """Whether the template strips white space around the answer."""

    rewrites: bool
    """Whether a plain answer is rendered differently once another question follows; masks do not use it."""

    reasoning: tuple[str, str] | None
    """What stands before and after `reasoning_content`, where the template writes it."""

    @property
    def stop(self) -> str:
        """The token that ends an answer."""
        return self.endings[0].stop

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Ids of the tokens that end a turn, the answer's own first."""
        return tuple(ending.stop_id for ending in self.endings)

    def ending(self, turn: str) -> Ending | None:
        """How *turn* ends; None if it ends with no stop token."""
        return next((ending for ending in self.endings if turn.endswith(ending.stop + ending.tail)), None)

    def read(self, text: str) -> Message:
        """The message in generated text, up to `closing`."""
        reasoning = None
        if self.opening and text.startswith(self.opening):
            text = text[len(self.opening) :]
        elif self.reasoning is not None and text.startswith(self.reasoning[0]):
            thought, between, answer = text[len(self.reasoning[0]) :].partition(self.reasoning[1])
            if between:
                reasoning, text = thought, answer
        return Message("assistant", text.strip() if self.trims else text, reasoning_content=reasoning)


def probe(template: ChatTemplate) -> TurnShape:
    """Shape of the assistant's turn, found by rendering one question and one answer.

    The text searched here is our own, so the search cannot be misled by what users write;
    the examples of users are cut by position only.

    Raises:
        RenderingError: The template has no generation prompt, no stop token, or a second BOS.
    """
    if draws_at_random(template.source):
        raise RenderingError(
            f"this chat template cannot be used: it draws at random, so no row would be the same twice; {_REMEDY}"
        )
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
    ending = _ending(template, prompt + generated, rest)
    body = prompt + generated[: len(generated) - len(ending.tail)]
    return TurnShape(
        opening="" if answer.reasoning_content else opening,
        header=_header(template, prompt),
        endings=(ending, *_ending_of_calls(template, ending)),
        trims=_generated(template, prompt, evolve(answer, content=f" \n{_ANSWER}\n ")) == generated,
        rewrites=not _followed(template, answer).startswith(body),
        reasoning=_reasoning(template, prompt),
    )


def call_markup(template: ChatTemplate, shape: TurnShape) -> CallMarkup | None:
    """How the template writes tool calls; None if it writes none, or none that can be parsed."""

    def body(calls: list[dict[str, Any]], content: str, reasoning: str | None) -> str | None:
        for tools in ((), (_TOOL,)):
            message = Message("assistant", content, tool_calls=calls, reasoning_content=reasoning)
            try:
                prompt = template.text([_QUESTION], tools, add_generation_prompt=True)
                generated = _generated(template, prompt, message, tools)
            except RenderingError:
                continue
            ending = shape.ending(prompt + generated)
            if ending is not None:
                return generated[: len(generated) - len(ending.stop + ending.tail)]
        return None

    def write(calls: list[dict[str, Any]], content: str) -> str | None:
        plain = body(calls, content, None)
        if plain is not None:
            return plain.removeprefix(shape.opening)
        _, _, rest = (body(calls, content, THINKS) or "").partition(THINKS)
        known = shape.reasoning is not None and rest.startswith(shape.reasoning[1])
        return rest[len(shape.reasoning[1]) :] if known and shape.reasoning is not None else None

    return learn(write, body([EXAMPLE], "", THINKS))


def look_around(template: ChatTemplate) -> None:
    """Render with a system message and with tools, to find out whether a date is written only then."""
    for messages, tools in (([Message("system", "glowgenius"), _QUESTION], ()), ([_QUESTION], (_TOOL,))):
        with suppress(RenderingError):
            template.text(messages, tools, add_generation_prompt=True)


def _typical_answer(template: ChatTemplate, prompt: str) -> Message:
    """A plain answer; with reasoning for a model that always thinks first."""
    plain = Message("assistant", _ANSWER)
    thoughtful = Message("assistant", _ANSWER, reasoning_content=_REASONING)
    try:
        _generated(template, prompt, plain)
    except RenderingError:
        return thoughtful if _reasoning(template, prompt) else plain
    return plain


def _header(template: ChatTemplate, prompt: str) -> str:
    """Text that `add_generation_prompt=True` adds to *prompt*, if it contains a control token."""
    before = template.text([_QUESTION])
    added = prompt[len(before) :] if prompt.startswith(before) else ""
    return added if template.control.first_in(added) else ""


def _ending(template: ChatTemplate, turn: str, rest: str) -> Ending:
    """How *turn* ends, where *rest* follows the answer: closing text, stop token, and tail.

    Of several control tokens without a letter between them, the last one ends the turn.
    """
    places = template.control.all_in(rest)
    last = 0
    while last + 1 < len(places) and places[last][1] == places[last + 1][0]:
        last += 1
    if not places or places[last][2] is None:
        raise RenderingError(
            "this chat template cannot be used: it puts no special token after the assistant's answer, "
            f"so that the model would never learn to stop; {_REMEDY}"
        )
    return _cut(template, turn, rest, places[last])


def _cut(template: ChatTemplate, turn: str, rest: str, place: tuple[int, int, int | None]) -> Ending:
    """Ending of *turn* whose stop token is at *place* in *rest*."""
    start, end, stop_id = place
    tail = rest[end:]
    encode = template.encoder.encode
    tail_tokens = encode(turn)[len(encode(turn[: len(turn) - len(tail)])) :]
    return Ending(
        closing=rest[:start], stop=rest[start:end], stop_id=stop_id or 0, tail=tail, tail_tokens=tuple(tail_tokens)
    )


def _ending_of_calls(template: ChatTemplate, plain: Ending) -> list[Ending]:
    """How a turn with tool calls ends, if it has a stop token of its own."""
    call = {"id": "callgg001", "function": {"name": "glowgenius_tool", "arguments": _ARGUMENTS}}
    calling = Message("assistant", "", tool_calls=[call])
    for tools in ((), (_TOOL,)):
        try:
            turn = template.text([_QUESTION, calling], tools)
        except RenderingError:
            continue
        _, found, rest = turn.rpartition("glowgenius_tool")
        places = [place for place in template.control.all_in(rest) if place[2] is not None]
        if not found or not all(word in turn for word in _ARGUMENTS.values()) or not places:
            continue
        if turn.endswith(plain.stop + plain.tail) or rest[places[-1][1] :].strip():
            return []
        return [_cut(template, turn, rest, places[-1])]
    return []


def _followed(template: ChatTemplate, answer: Message) -> str:
    """The conversation after one more question; empty if the template refuses that."""
    try:
        return template.text([_QUESTION, answer, _QUESTION])
    except RenderingError:
        return ""


def _generated(template: ChatTemplate, prompt: str, answer: Message, tools: Tools = ()) -> str:
    """Text that the template writes after *prompt* for *answer*."""
    text = template.text([_QUESTION, answer], tools)
    if not text.startswith(prompt):
        raise unrenderable("its generation prompt is not how an answer begins", "another template")
    return text[len(prompt) :]


def _reasoning(template: ChatTemplate, prompt: str) -> tuple[str, str] | None:
    """Text around the reasoning of an answer; None if the template leaves it out."""
    answer = Message("assistant", _ANSWER, reasoning_content=_REASONING)
    try:
        generated = _generated(template, prompt, answer)
    except RenderingError:
        return None
    before, found, rest = generated.partition(_REASONING)
    between, answered, _ = rest.partition(_ANSWER)
    return (before, between) if found and answered and between.strip() else None
