"""Whether a chat template writes all that a conversation says: its messages, its calls, its tools."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final, final

from attrs import evolve, frozen

from glowgenius.errors import RenderingError
from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from glowgenius.data.message import Message
    from glowgenius.typing import Tools

    Write = Callable[[Sequence[Message], Tools], str]

_SAYS: Final = "glowgenius says {} things"
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
    "tool": "a model whose chat template knows the results of tools, or their text in a user's message",
    "name": "no 'name', or the name within the content: who speaks would be lost",
    "tool_calls": "a model whose chat template knows tool calls",
}


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
    """Tells what a template leaves out, by texts of our own in the place of everything that a conversation says.

    So what one message says is never taken for another that says the same. What is left out depends on who speaks
    when, not on the words, so conversations of one form are looked at once.
    An assistant's earlier message may lawfully be shortened, as long as it was whole when it was the last.
    """

    def __init__(self, write: Write) -> None:
        """Look at what *write* makes of messages and tools."""
        self._write = write
        self._found: dict[tuple[Any, ...], _Loss | None] = {}

    @property
    def num_forms(self) -> int:
        """How many forms of conversations are remembered."""
        return len(self._found)

    def refuse(self, messages: Sequence[Message], tools: Tools, text: str) -> None:
        """Refuse *text* where it lacks something that *messages* or *tools* say.

        Raises:
            RenderingError: It names the message that the template leaves out.
        """
        loss = self._loss(messages, tools)
        for at, tool in enumerate(tools):
            if (loss is not None and loss.tools) or not holds(text, str(tool["function"]["name"])):
                raise lost(f"tools[{at}]", "a model whose chat template knows tools, or rows without them")
        for index, field in () if loss is None else loss.fields:
            role = messages[index].role
            kind = "tool" if (field, role) == ("content", "tool") else field.partition("[")[0]
            raise lost(f"messages[{index}].{field}", _REMEDY[kind].format(role=role))
        for index, message in enumerate(messages):
            if message.role != "assistant" and not _written(message.content, text):
                raise lost(f"messages[{index}].content", "a content that the template writes as it is")
        if loss is not None and loss.ids:
            _refuse_disorder(messages)

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
            if (
                message.content.strip()
                and message.content not in text
                and not self._whole_before(messages, index, tools)
            ):
                fields.append((index, "content"))
            if message.name is not None and message.role != "tool" and message.name not in text:
                fields.append((index, "name"))
            for at, call in enumerate(message.tool_calls):
                function = call["function"]
                said = [function["name"], *function["arguments"], *function["arguments"].values()]
                if not all(part in text for part in said):
                    fields.append((index, f"tool_calls[{at}]"))
        lost_tools = bool(tools) and not all(part in text for part in ("glowgenius_tool", "glowgenius_argument"))
        ids = [call["id"] for message in messages for call in message.tool_calls if "id" in call]
        return _Loss(tuple(fields), lost_tools, ids=any(found not in text for found in ids))

    def _whole_before(self, messages: Sequence[Message], index: int, tools: Tools) -> bool:
        """Whether the content of an assistant's message is written while it is the last, or is looked at elsewhere."""
        if messages[index].role != "assistant":
            return False
        if index == len(messages) - 1:
            return True  # a last answer is trained, and then compared to the letter
        return messages[index].content in self._write(messages[: index + 1], tools)


def _form(message: Message) -> tuple[Any, ...]:
    """What of a message decides how a template writes it, its words aside."""
    return (
        message.role,
        bool(message.content.strip()),
        message.reasoning_content is None,
        message.name is None,
        message.tool_call_id is None,
        tuple((call.get("id") is None, bool(call["function"]["arguments"])) for call in message.tool_calls),
    )


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
                stand_in["id"] = ids[call["id"]] = f"ggid{number}"  # nine letters, which Mistral asks for
            calls.append(stand_in)
        named, answers = message.name, message.tool_call_id
        made.append(
            evolve(
                message,
                content=_SAYS.format(index) if message.content.strip() else message.content,
                name=None if named is None else names.get(named, _NAME.format(index)),
                tool_call_id=None if answers is None else ids.get(answers, answers),
                tool_calls=calls,
                weight=None,
            )
        )
    return made


def _refuse_disorder(messages: Sequence[Message]) -> None:
    """Refuse results in another order than their calls, where only their order tells which is which."""
    open_calls: list[str] = []
    for index, message in enumerate(messages):
        if message.role != "tool":
            open_calls = [str(call["id"]) for call in message.tool_calls if "id" in call]
        elif message.tool_call_id in open_calls:
            if message.tool_call_id != open_calls[0]:
                raise unrenderable(
                    f"it answers the call {message.tool_call_id!r} before {open_calls[0]!r} is answered, and the chat "
                    "template does not write which call a result belongs to",
                    "the results in the order of their calls",
                    field=f"messages[{index}].tool_call_id",
                )
            open_calls = open_calls[1:]


def lost(field: str, accepted: str) -> RenderingError:
    """The error for something that the template does not write."""
    return unrenderable("the chat template does not write it", accepted, field=field)


def holds(text: str, part: str) -> bool:
    """Whether *part* stands in *text*, white space aside: templates trim and indent."""
    return part in text or "".join(part.split()) in "".join(text.split())


def _written(content: str, text: str) -> bool:
    """Whether *text* has *content*: as it is, as JSON, or without the switches that templates take out."""
    if content in text or holds(text, content):
        return True
    return json.dumps(content, ensure_ascii=False)[1:-1] in text or holds(text, _SWITCH.sub("", content))
