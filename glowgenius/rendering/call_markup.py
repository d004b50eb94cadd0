"""Markup of tool calls in chat templates, and the check that a template writes everything a conversation contains."""

from __future__ import annotations

import ast
import json
import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, cast, final

from attrs import evolve, frozen

from glowgenius.errors import ConfigError, RenderingError
from glowgenius.rendering.encoder import num_shared
from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from glowgenius.data.message import Message

    Write = Callable[[list[dict[str, Any]], str], str | None]
    from collections.abc import Callable, Container, Sequence

    from glowgenius.typing import Tools

    WriteConversation = Callable[[Sequence[Message], Tools], str]

_NAME: Final = "glowgenius_tool"
_SECOND: Final = "glowgenius_gauge"
_KEYS: Final = ("glowgenius_key", "glowgenius_other")
_WORDS: Final[dict[str, Any]] = dict(zip(_KEYS, ("glowgenius value", "another GLOWGENIUS"), strict=True))
_NUMBERS: Final[dict[str, Any]] = dict(zip(_KEYS, (111222333, 444555666), strict=True))
_SAYS: Final = "glowgenius answers"
THINKS: Final = "glowgenius ponders"
"""The reasoning that `learn` is shown."""

_DECODER: Final = json.JSONDecoder()
_A_NAME: Final = r"[^\s<>\"'(){}\[\],|]+"


@final
@frozen(kw_only=True)
class CallMarkup:
    """How a template writes tool calls: where they begin, their form, and the text between and after them."""

    core: str
    """What stands right before the first name, or the first JSON object, whatever was said before; may be nothing."""

    before_core: str
    """What a template writes before `core` where a name stands there as well, as `to=` does."""

    lead: str
    """What it puts between content and `core`."""

    between: re.Pattern[str] | None
    """What stands between two calls; None where there is one call at most."""

    closing: str
    """What stands behind the last call."""

    form: _Form
    """How one call is written."""

    thought: tuple[str, str] | None = None
    """What stands around reasoning before a call, where that is otherwise than before an answer."""

    def read(self, text: str, plain: Callable[[str], Message]) -> Message | None:
        """The message in *text* with its tool calls; *plain* parses the rest. None if no call can be parsed."""
        at = text.find(self.core) if self.core else 0
        if at < 0:
            return None
        calls: list[dict[str, Any]] = []
        end = at + len(self.core)
        while True:
            found = self.form.read(text, end)
            if found is None:
                return None
            call, end = found
            calls.append(call)
            again = None if self.between is None else self.between.match(text, end)
            if again is None:
                break
            end = again.end()
        rest = text[end:]
        if not rest.startswith(self.closing) and rest.strip() != self.closing.strip():
            return None
        behind = rest[len(self.closing) :] if rest.startswith(self.closing) else ""
        head = text[:at]
        if self.before_core:
            head = re.sub(re.escape(self.before_core) + _A_NAME + r"\Z", "", head)
        message = plain(head)
        if self.thought is not None and message.reasoning_content is None and head.startswith(self.thought[0]):
            inner, cut, said = head[len(self.thought[0]) :].partition(self.thought[1])
            message = evolve(message, reasoning_content=inner, content=said) if cut else message
        content = message.content.removesuffix(self.lead) if message.content.strip() else ""
        if behind.strip() and content:
            return None
        with suppress(ConfigError):
            return evolve(message, content=content or behind, tool_calls=[{"function": call} for call in calls])
        return None


@final
@frozen(kw_only=True)
class _Form:
    """Form of one call: a JSON object, a name and a JSON object, or a name and key-value pairs."""

    keys: tuple[str, str] | None = None
    """The names of name and arguments in a JSON object that holds both."""

    middle: str = ""
    """What stands between the name and a JSON object, or the first key."""

    pairs: _Pairs | None = None
    """How keys and values are written, where they are no JSON."""

    def read(self, text: str, at: int) -> tuple[dict[str, Any], int] | None:
        """The function called at position *at* of *text*, and the position after it."""
        if self.keys is not None:
            found = _json_at(text, at)
            if found is None or not {*self.keys} <= {*found[0]}:
                return None
            value, end = found
            return {"name": value[self.keys[0]], "arguments": value[self.keys[1]]}, end
        named = re.compile(_A_NAME).match(text, at)
        if named is None:
            return None
        if self.pairs is None:
            if not text.startswith(self.middle, named.end()):
                return None
            found = _json_at(text, named.end() + len(self.middle))
            return None if found is None else ({"name": named.group(), "arguments": found[0]}, found[1])
        arguments = self.pairs.read(text, named.end(), self.middle.replace(_NAME, named.group()))
        return None if arguments is None else ({"name": named.group(), "arguments": arguments[0]}, arguments[1])


@final
@frozen(kw_only=True)
class _Pairs:
    """Form of arguments written as key-value pairs."""

    colon: str
    """Between key and value."""

    comma: str
    """Between a value and the next key."""

    quotes: tuple[str, str]
    """Around a string; mostly nothing."""

    tail: str
    """Behind the last value."""

    empty: str
    """In the place of all of them where there are none."""

    escapes: bool
    """Whether quotes and line breaks within a string are escaped as in Python."""

    def read(self, text: str, at: int, opening: str) -> tuple[dict[str, Any], int] | None:
        """The arguments that begin at position *at* of *text* with *opening*, and the position after them."""
        if not text.startswith(opening, at) or (self.empty.startswith(opening) and text.startswith(self.empty, at)):
            return ({}, at + len(self.empty)) if text.startswith(self.empty, at) else None
        arguments: dict[str, Any] = {}
        at += len(opening)
        while True:
            colon = text.find(self.colon, at)
            if colon < 0:
                return None
            key, at = text[at:colon], colon + len(self.colon)
            found = self._value(text, at)
            if found is None:
                return None
            arguments[key], at = found
            if not text.startswith(self.comma, at):
                return (arguments, at + len(self.tail)) if text.startswith(self.tail, at) else None
            at += len(self.comma)

    def _value(self, text: str, at: int) -> tuple[Any, int] | None:
        """The value at position *at*: the shortest valid one that a comma or the end follows."""
        opening, closing = self.quotes
        if opening and text.startswith(opening, at):
            start = at + len(opening)
            for found in re.finditer(re.escape(closing), text[start:]):
                end = start + found.end()
                if not text.startswith((self.comma, self.tail), end):
                    continue
                if not self.escapes:
                    return text[start : start + found.start()], end
                with suppress(ValueError, SyntaxError):
                    return ast.literal_eval(text[at:end]), end
            return None
        ends = sorted(
            found.start()
            for mark in {self.comma, self.tail}
            if mark
            for found in re.finditer(re.escape(mark), text[at:])
        )
        for end in ends:
            written = text[at : at + end]
            known, value = self._decoded(written)
            if known:
                return value, at + end
            if not opening:
                return written, at + end
        return None

    def _decoded(self, written: str) -> tuple[bool, Any]:
        """Whether *written* is a non-string value, and the value."""
        with suppress(ValueError):
            value = json.loads(written)
            return not isinstance(value, str), value
        if written in ("True", "False", "None") or (written[:1] in "[{" and self.quotes[0]):
            with suppress(ValueError, SyntaxError):
                return True, ast.literal_eval(written)
            opening, closing = map(re.escape, self.quotes)
            as_json = re.sub(
                f'{opening}(.*?){closing}|([{{,])([^\\s{{}}\\[\\],:"]+):',
                lambda found: f'{found[2]}"{found[3]}":' if found[2] else json.dumps(found[1]),
                written,
                flags=re.DOTALL,
            )
            with suppress(ValueError):
                return True, json.loads(as_json)
        return False, None


def learn(write: Write, thoughtful: str | None) -> CallMarkup | None:
    """The call markup of a template, learned from *write*, which renders calls and content as sampled text.

    *thoughtful* is what it samples for the reasoning `THINKS` and one call, where reasoning is written there.

    None where it writes no calls, or in a way that cannot be read back.
    """
    one = write([_call(_NAME, _WORDS)], "")
    number = write([_call(_NAME, _NUMBERS)], "")
    if one is None or number is None:
        return None
    two = write([_call(_NAME, _NUMBERS), _call(_SECOND, _NUMBERS)], "")
    escaped = "it\\'s\\nso" in (write([_call(_NAME, {_KEYS[0]: "it's\nso"})], "") or "")
    found = _json_form(one) or _pair_form(one, number, write([_call(_NAME, {})], ""), two, escapes=escaped)
    if found is None:
        return None
    form, start, closing = found
    opening = one[:start]
    before, cut, core = opening.rpartition(_NAME)
    said = write([_call(_NAME, _WORDS)], _SAYS) or ""
    head = said.partition(_SAYS)[2]
    if not cut:
        core, before = opening, ""
        if head and (at := head.find(_NAME)) >= 0 and form.keys is None:
            core = _shared_end(opening, head[:at]) or opening
        elif head and form.keys is not None and (place := head.find("{")) >= 0:
            core = _shared_end(opening, head[:place]) or opening
    lead = head[: head.find(core)] if core and core in head else ""
    around, thinks, rest = (thoughtful or "").partition(THINKS)
    place = rest.find(before + _NAME + core if cut else core or "{")
    return CallMarkup(
        core=core,
        before_core=before,
        lead=lead,
        between=_between(form, two, start),
        closing=closing,
        form=form,
        thought=(around, rest[:place]) if thinks and place > 0 else None,
    )


EXAMPLE: Final = {"id": "callgg001", "function": {"name": _NAME, "arguments": _WORDS}}
"""A call for `thoughtful`."""


def _between(form: _Form, two: str | None, start: int) -> re.Pattern[str] | None:
    """The text between two calls, the first of which begins at *start* of *two*; None if there is only one."""
    found = None if two is None or two.count(_SECOND) == 0 else form.read(two, start)
    if found is None or two is None:
        return None
    second = two.rfind("{", 0, two.find(_SECOND)) if form.keys is not None else two.rfind(_SECOND)
    return re.compile(re.escape(two[found[1] : second]).replace(_SECOND, _A_NAME))


def _json_form(one: str) -> tuple[_Form, int, str] | None:
    """The form of a call with JSON arguments that begins in *one*, and the text after it."""
    for place in (found.start() for found in re.finditer(r"\{", one)):
        value = _json_at(one, place)
        if value is None:
            continue
        given, end = value
        if given == _WORDS:
            start = one.rfind(_NAME, 0, place)
            return (_Form(middle=one[start + len(_NAME) : place]), start, one[end:]) if start >= 0 else None
        name = next((key for key, item in given.items() if item == _NAME), None)
        arguments = next((key for key, item in given.items() if item == _WORDS), None)
        if name is not None and arguments is not None:
            return _Form(keys=(name, arguments)), place, one[end:]
    return None


def _pair_form(
    one: str, number: str, none: str | None, two: str | None, *, escapes: bool
) -> tuple[_Form, int, str] | None:
    """Like `_json_form`, for a call with arguments as key-value pairs."""
    words, figures = (_pieces(text, values) for text, values in ((one, _WORDS), (number, _NUMBERS)))
    if words is None or figures is None or none is None or _NAME not in none:
        return None
    start, middle, colon, comma, closing = figures
    quote, unquote = words[2].removeprefix(colon), words[3].removesuffix(comma)
    behind = none[none.rfind(_NAME) + len(_NAME) :]
    shared = _shared_end(closing, behind)
    tail, empty = closing.removesuffix(shared), behind.removesuffix(shared)
    if not tail and shared:
        # The last value ends only where the call ends: at the text that two calls have between them as well.
        first = None if two is None else _pieces(two, _NUMBERS)
        ends = len(shared) if first is None else num_shared(shared, first[4])
        tail, empty, shared = shared[:ends], behind[: len(behind) - len(shared) + ends], shared[ends:]
    pairs = _Pairs(colon=colon, comma=comma, quotes=(quote, unquote), tail=tail, empty=empty, escapes=escapes)
    return _Form(middle=middle, pairs=pairs), start, shared


def _pieces(text: str, values: Mapping[str, Any]) -> tuple[int, str, str, str, str] | None:
    """Start of the name, and the text after name, key, value and last value."""
    places: list[tuple[int, int]] = []
    at = text.find(_KEYS[0])
    name = text.rfind(_NAME, 0, at)
    if at < 0 or name < 0:
        return None
    for word in (_KEYS[0], str(values[_KEYS[0]]), _KEYS[1], str(values[_KEYS[1]])):
        at = text.find(word, at)
        if at < 0:
            return None
        places.append((at, at + len(word)))
        at += len(word)
    (key, key_end), (value, value_end), (other, other_end), (last, last_end) = places
    if text[key_end:value] != text[other_end:last][: len(text[key_end:value])]:
        return None
    return name, text[name + len(_NAME) : key], text[key_end:value], text[value_end:other], text[last_end:]


def _shared_end(one: str, other: str) -> str:
    """Common suffix of two texts."""
    number = num_shared(one[::-1], other[::-1])
    return one[len(one) - number :]


def _json_at(text: str, at: int) -> tuple[dict[str, Any], int] | None:
    """The JSON object at position *at*, and the position after it."""
    with suppress(ValueError, RecursionError):
        value, end = _DECODER.raw_decode(text, at)
        return (cast("dict[str, Any]", value), end) if isinstance(value, dict) else None
    return None


def _call(name: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    return {"id": "callgg001" if name == _NAME else "callgg002", "function": {"name": name, "arguments": arguments}}


_MESSAGE_TEXT: Final = "glowgenius says {} things"
_THINKS: Final = "glowgenius ponders {} things"
_KEY: Final = "glowgenius_key_{}"
_VALUE: Final = "glowgenius value {} here"
_SPEAKER: Final = "glowgenius_name_{}"
_CALL: Final = "glowgenius_call_{}"
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "glowgenius_tool",
        "description": "A glowgenius description.",
        "parameters": {
            "type": "object",
            "properties": {"glowgenius_argument": {"type": "string", "description": "A word."}},
            "required": ["glowgenius_argument"],
        },
    },
}
_FORMS_KEPT: Final = 256
_SWITCH: Final = re.compile(r"(?<!\S)/\w+")
"""A word such as `/no_think`, which templates take out of a system message and act on."""

_REMEDY: Final = {
    "content": "a role that the template knows, instead of {role!r}",
    "later": "its text in the first system message, or a role that the template knows, instead of {role!r}",
    "tool": "a model whose chat template knows the results of tools, or their text in a user's message",
    "name": "no 'name', or the name within the content: who speaks would be lost",
    "tool_calls": "a model whose chat template knows tool calls",
    "beside": "no content beside its calls, or a model whose chat template writes both",
    "id": "an 'id' that holds the name of the function, such as 'functions.find:0' for 'find', or {other}",
    "reasoning_content": "no 'reasoning_content', or a model whose chat template writes reasoning",
    "answer": "do not train this message, or use a template that writes it",
    "tools": "a model whose chat template knows tools, or rows without them",
    "as_it_is": "a content that the template writes as it is",
}
"""What is accepted instead, of a chat template."""

_REMEDY_OF_RENDERER: Final = {
    "content": "a role that this renderer writes, instead of {role!r}",
    "later": "its text in the first system message, or a role that this renderer writes, instead of {role!r}",
    "tool": "a renderer that writes the results of tools, or their text in a user's message",
    "name": _REMEDY["name"],
    "tool_calls": "a renderer that writes tool calls",
    "beside": "no content beside its calls, or a renderer that writes both",
    "id": _REMEDY["id"],
    "reasoning_content": "no 'reasoning_content', or a renderer, or options of this one, that write reasoning",
    "answer": "do not train this message, or use a renderer that writes it",
    "tools": "a renderer that writes tools, or rows without them",
    "as_it_is": "a content that the renderer writes as it is",
}
"""The same, of a renderer that has no template."""


@final
@frozen
class _Loss:
    """Fields that a template leaves out of conversations of one form."""

    fields: tuple[tuple[int, str], ...]
    """Message and field, such as `content`, `name` or `tool_calls[0]`."""

    tools: bool
    """Whether it leaves tools out."""

    ids: bool
    """Whether it leaves out which call a result answers."""


@final
class LossCheck:
    """Detects fields of a conversation that a renderer leaves out, with marker texts in their place.

    So what one message says is never taken for another that says the same. What is left out depends on who speaks
    when, not on the words, so conversations of one form are looked at once.
    An assistant's earlier message may lawfully be shortened, as long as it was whole when it was the last.
    """

    def __init__(
        self, write: WriteConversation, *, by: str = "the chat template", spell: Callable[[str], str] | None = None
    ) -> None:
        """Check the output of *write*, which renders messages and tools.

        Args:
            write: Gives the text of messages and tools.
            by: Who writes, for errors.
            spell: What becomes of a text as tokens and back, of a renderer that writes tokens; such a renderer is asked
                for the trained answers as well, which a chat template's are compared with elsewhere.
        """
        self._write = write
        self._by = by
        self._spell = spell
        self._remedy = _REMEDY if spell is None else _REMEDY_OF_RENDERER
        self._fields = ("content",) if spell is None else ("content", "reasoning_content")
        self._found: dict[tuple[Any, ...], _Loss | None] = {}

    @property
    def num_forms(self) -> int:
        """Number of conversation forms remembered."""
        return len(self._found)

    def refuse(self, messages: Sequence[Message], tools: Tools, text: str, answers: Container[int] = ()) -> None:
        """Raise an error if *text* lacks something in *messages* or *tools*.

        Args:
            messages: The conversation.
            tools: What its assistant may call.
            text: What was written.
            answers: The assistant's messages that are trained, whose reasoning must not be lost either.

        Raises:
            RenderingError: It names the message that is left out.
        """
        loss = self._loss(messages, tools)
        for at, tool in enumerate(tools):
            if (loss is not None and loss.tools) or not holds(text, str(tool["function"]["name"])):
                raise self._lost(f"tools[{at}]", "tools")
        for index, field in () if loss is None else loss.fields:
            if field != "reasoning_content" or index in answers:
                raise self._lost(
                    f"messages[{index}].{field}", _kind(index, messages[index], field), messages[index].role
                )
        for index, message in enumerate(messages):
            if message.role != "assistant" and not self._is_written(message.content, text):
                raise self._lost(f"messages[{index}].content", "as_it_is")
            for field in ("content", "reasoning_content") if index in answers else ():
                if not self._is_written(getattr(message, field) or "", text):
                    raise self._lost(f"messages[{index}].{field}", "answer")
        if loss is not None and loss.ids:
            self._refuse_disorder(messages)

    def _lost(self, field: str, kind: str, role: str = "") -> RenderingError:
        return lost(field, self._remedy[kind].format(role=role, other=self._remedy["tool_calls"]), by=self._by)

    def _is_written(self, content: str, text: str) -> bool:
        return _written(content, text) or (self._spell is not None and holds(text, self._spell(content)))

    def _loss(self, messages: Sequence[Message], tools: Tools) -> _Loss | None:
        """Fields left out of conversations of this form; None if the template refuses the marker texts."""
        form = (*map(_form, messages), bool(tools))
        if form not in self._found:
            if len(self._found) >= _FORMS_KEPT:
                self._found.clear()
            try:
                self._found[form] = self._look(_stand_ins(messages), (_TOOL,) if tools else ())
            except RenderingError:
                self._found[form] = None
        return self._found[form]

    def _look(self, messages: Sequence[Message], tools: Tools) -> _Loss:
        text = self._write(messages, tools)
        fields: list[tuple[int, str]] = []
        for index, message in enumerate(messages):
            fields += [(index, field) for field in self._fields if self._is_lost(messages, index, field, tools, text)]
            if message.name is not None and message.role != "tool" and message.name not in text:
                fields.append((index, "name"))
            for at, call in enumerate(message.tool_calls):
                function = call["function"]
                said = [*function["arguments"], *function["arguments"].values()]
                if not all(part in text for part in said):
                    fields.append((index, f"tool_calls[{at}]"))
                elif function["name"] not in text:
                    fields.append((index, f"tool_calls[{at}]{'.id' if said else ''}"))
        lost_tools = bool(tools) and not all(part in text for part in ("glowgenius_tool", "glowgenius_argument"))
        ids = [call["id"] for message in messages for call in message.tool_calls if "id" in call]
        return _Loss(tuple(fields), lost_tools, ids=any(found not in text for found in ids))

    def _is_lost(self, messages: Sequence[Message], index: int, field: str, tools: Tools, text: str) -> bool:
        """Whether *text* lacks a field; for an assistant message, also while it was the last message."""
        message = messages[index]
        said = str(getattr(message, field) or "")
        if not said.strip() or said in text:
            return False
        if message.role != "assistant":
            return True
        if index == len(messages) - 1:
            return self._spell is not None  # rendered answers are compared exactly elsewhere
        return said not in self._write(messages[: index + 1], tools)

    def _refuse_disorder(self, messages: Sequence[Message]) -> None:
        """Refuse tool results in another order than their calls if only the order connects them."""
        open_calls: list[str] = []
        for index, message in enumerate(messages):
            if message.role != "tool":
                open_calls = [str(call["id"]) for call in message.tool_calls if "id" in call]
            elif message.tool_call_id in open_calls:
                if message.tool_call_id != open_calls[0]:
                    raise unrenderable(
                        f"it answers the call {message.tool_call_id!r} before {open_calls[0]!r} is answered, and "
                        f"{self._by} does not write which call a result belongs to",
                        "the results in the order of their calls",
                        field=f"messages[{index}].tool_call_id",
                    )
                open_calls = open_calls[1:]


def _kind(index: int, message: Message, field: str) -> str:
    """Which advice applies to a lost *field* of a message."""
    if field.endswith(".id"):
        return "id"
    if field == "content" and message.role == "tool":
        return "tool"
    if field == "content" and message.role == "assistant":
        return "beside" if message.tool_calls else "answer"
    if field == "content" and message.role in ("system", "developer") and index:
        return "later"
    return field.partition("[")[0]


def _form(message: Message) -> tuple[Any, ...]:
    """The properties of a message that decide how a template writes it, without its text."""
    return (
        message.role,
        bool(message.content.strip()),
        message.reasoning_content is None,
        bool((message.reasoning_content or "").strip()),
        message.name is None,
        message.tool_call_id is None,
        tuple(
            (call.get("id") is None, _is_named(call), bool(call["function"]["arguments"]))
            for call in message.tool_calls
        ),
    )


def _is_named(call: Mapping[str, Any]) -> bool:
    """Whether the id of a call contains the name of its function."""
    return str(call["function"]["name"]) in str(call.get("id") or "")


def _stand_ins(messages: Sequence[Message]) -> list[Message]:
    """*messages* with unique marker texts; results keep the ids of the calls they answer."""
    ids: dict[str, str] = {}
    names: dict[str, str] = {}
    made: list[Message] = []
    for index, message in enumerate(messages):
        calls: list[Mapping[str, Any]] = []
        for at, call in enumerate(message.tool_calls):
            number = f"{index:03}{at:02}"
            names[call["function"]["name"]] = _CALL.format(number)
            arguments = {_KEY.format(number): _VALUE.format(number)} if call["function"]["arguments"] else {}
            stand_in: dict[str, Any] = {"function": {"name": _CALL.format(number), "arguments": arguments}}
            if call.get("id") is not None:
                # Nine characters, as Mistral requires; Kimi writes the id in place of the function name it contains.
                stand_in["id"] = ids[call["id"]] = (
                    call["id"].replace(call["function"]["name"], _CALL.format(number))
                    if _is_named(call)
                    else f"ggid{number}"
                )
            calls.append(stand_in)
        named, answers = message.name, message.tool_call_id
        made.append(
            evolve(
                message,
                content=_MESSAGE_TEXT.format(index) if message.content.strip() else message.content,
                reasoning_content=_THINKS.format(index)
                if (message.reasoning_content or "").strip()
                else message.reasoning_content,
                name=None if named is None else names.get(named, _SPEAKER.format(index)),
                tool_call_id=None if answers is None else ids.get(answers, answers),
                tool_calls=calls,
                weight=None,
            )
        )
    return made


def lost(field: str, accepted: str, *, by: str = "the chat template") -> RenderingError:
    """The error for something that the renderer *by* leaves out."""
    return unrenderable(f"{by} does not write it", accepted, field=field)


def holds(text: str, part: str) -> bool:
    """Whether *text* contains *part*, ignoring white space: templates trim and indent."""
    return part in text or "".join(part.split()) in "".join(text.split())


def _written(content: str, text: str) -> bool:
    """Whether *text* contains *content*: verbatim, as JSON, or without the switches that templates remove."""
    if content in text or holds(text, content):
        return True
    return json.dumps(content, ensure_ascii=False)[1:-1] in text or holds(text, _SWITCH.sub("", content))
