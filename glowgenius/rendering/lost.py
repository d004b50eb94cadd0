"""Whether a renderer writes all that a conversation says: its messages, its calls, its tools."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, final

from attrs import evolve, frozen

from glowgenius.errors import RenderingError
from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence

    from glowgenius.data.message import Message
    from glowgenius.typing import Tools

    Write = Callable[[Sequence[Message], Tools], str]

_SAYS: Final = "glowgenius says {} things"
_THINKS: Final = "glowgenius ponders {} things"
_KEY: Final = "glowgenius_key_{}"
_VALUE: Final = "glowgenius value {} here"
_NAME: Final = "glowgenius_name_{}"
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
    """What a template leaves out of conversations of one form."""

    fields: tuple[tuple[int, str], ...]
    """Message and field, such as `content`, `name` or `tool_calls[0]`."""

    tools: bool
    """Whether it leaves tools out."""

    ids: bool
    """Whether it leaves out which call a result answers."""


@final
class LossCheck:
    """Tells what a renderer leaves out, by texts of our own in the place of everything that a conversation says.

    So what one message says is never taken for another that says the same. What is left out depends on who speaks
    when, not on the words, so conversations of one form are looked at once.
    An assistant's earlier message may lawfully be shortened, as long as it was whole when it was the last.
    """

    def __init__(
        self, write: Write, *, by: str = "the chat template", spell: Callable[[str], str] | None = None
    ) -> None:
        """Look at what *write* makes of messages and tools.

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
        """How many forms of conversations are remembered."""
        return len(self._found)

    def refuse(self, messages: Sequence[Message], tools: Tools, text: str, answers: Container[int] = ()) -> None:
        """Refuse *text* where it lacks something that *messages* or *tools* say.

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
        """What is left out of conversations like this one; None where our own words are refused in it."""
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
        """Whether *text* lacks a field, and, of an assistant's message, lacked it while that was the last as well."""
        message = messages[index]
        said = str(getattr(message, field) or "")
        if not said.strip() or said in text:
            return False
        if message.role != "assistant":
            return True
        if index == len(messages) - 1:
            return self._spell is not None  # an answer that a template writes is compared to the letter elsewhere
        return said not in self._write(messages[: index + 1], tools)

    def _refuse_disorder(self, messages: Sequence[Message]) -> None:
        """Refuse results in another order than their calls, where only their order tells which is which."""
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
    """Which remedy a lost *field* of a message has."""
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
    """What of a message decides how a template writes it, its words aside."""
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
    """Whether the id of a call holds the name of its function."""
    return str(call["function"]["name"]) in str(call.get("id") or "")


def _stand_ins(messages: Sequence[Message]) -> list[Message]:
    """*messages* with words of our own, each of which occurs once; results keep the calls that they answer."""
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
                # Nine letters, which Mistral asks for; Kimi writes an id in the place of the name that it holds.
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
                content=_SAYS.format(index) if message.content.strip() else message.content,
                reasoning_content=_THINKS.format(index)
                if (message.reasoning_content or "").strip()
                else message.reasoning_content,
                name=None if named is None else names.get(named, _NAME.format(index)),
                tool_call_id=None if answers is None else ids.get(answers, answers),
                tool_calls=calls,
                weight=None,
            )
        )
    return made


def lost(field: str, accepted: str, *, by: str = "the chat template") -> RenderingError:
    """The error for something that *by* does not write."""
    return unrenderable(f"{by} does not write it", accepted, field=field)


def holds(text: str, part: str) -> bool:
    """Whether *part* stands in *text*, white space aside: templates trim and indent."""
    return part in text or "".join(part.split()) in "".join(text.split())


def _written(content: str, text: str) -> bool:
    """Whether *text* has *content*: as it is, as JSON, or without the switches that templates take out."""
    if content in text or holds(text, content):
        return True
    return json.dumps(content, ensure_ascii=False)[1:-1] in text or holds(text, _SWITCH.sub("", content))
