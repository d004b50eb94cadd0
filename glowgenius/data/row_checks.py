"""What one row can have that a reader should know of, though it can be trained."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from glowgenius.data.sameness import folded

if TYPE_CHECKING:
    from collections.abc import Iterator

    from glowgenius.data.message import Conversation, Message
    from glowgenius.data.report import Severity


class Kind(NamedTuple):
    """The words of one kind of finding."""

    severity: Severity
    title: str
    advice: str


ROW_KINDS: Final = {
    "assistant_twice": Kind(
        "warning",
        "two assistant messages in a row",
        "join them, unless the model is meant to speak twice; many chat templates refuse it",
    ),
    "user_twice": Kind("warning", "two user messages in a row", "join them; many chat templates refuse it"),
    "no_question": Kind(
        "warning", "no user message before the answer", "ask something, unless the model is meant to begin"
    ),
    "late_system": Kind(
        "warning", "a system message that is not the first", "move it to the front; many chat templates refuse it"
    ),
    "empty_system": Kind(
        "warning", "an empty system message", "leave it out, unless it is meant to replace the template's own"
    ),
    "tool_without_call": Kind(
        "warning", "a tool message that no call of the assistant comes before", "give the assistant's 'tool_calls'"
    ),
    "edge_space": Kind(
        "warning",
        "an answer with white space at its beginning or end",
        "strip it: the model learns it as part of the answer",
    ),
    "control_character": Kind(
        "warning", "a control character in the text", "remove it: it is seldom meant, and tokenizers differ about it"
    ),
    "lost_character": Kind(
        "warning", "the sign � of a character that was lost", "convert the source again, from its true encoding"
    ),
    "other_reference": Kind(
        "warning",
        "references that do not contain the answer",
        "add the answer to the references: evaluation would call the trained answer wrong",
    ),
    "never_trained": Kind(
        "warning",
        "an answer of weight 0",
        "give it a weight above 0, or leave the row out: with the default train_on nothing of it is trained",
    ),
}
"""Kind of finding → its words."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


def row_kinds(row: Conversation) -> Iterator[str]:
    """The kinds of `ROW_KINDS` that the row has, each once."""
    messages = row.messages
    roles = [message.role for message in messages]
    if "user" not in roles:
        yield "no_question"
    before = ""
    twice: set[str] = set()
    for role in roles:
        if role == before and role in ("assistant", "user"):
            twice.add(f"{role}_twice")
        before = role
    yield from sorted(twice)
    if any(role in ("system", "developer") for role in roles[1:]) and _late_system(roles):
        yield "late_system"
    if any(message.role == "system" and not message.content.strip() for message in messages):
        yield "empty_system"
    if "tool" in roles and not _calls_before_tools(messages):
        yield "tool_without_call"
    yield from _of_the_text(row)


def _late_system(roles: list[str]) -> bool:
    """Whether a system message comes after somebody else has spoken; a developer's may follow the system's."""
    first = next((at for at, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
    return any(role in ("system", "developer") for role in roles[first:])


def _calls_before_tools(messages: tuple[Message, ...]) -> bool:
    first = next(at for at, message in enumerate(messages) if message.role == "tool")
    return any(message.tool_calls for message in messages[:first])


def _of_the_text(row: Conversation) -> Iterator[str]:
    answer = row.messages[-1]
    if answer.content != answer.content.strip():
        yield "edge_space"
    for message in row.messages:
        if not message.content.isprintable() and _CONTROL.search(message.content):
            yield "control_character"
            break
    if any("\ufffd" in message.content for message in row.messages):
        yield "lost_character"
    if row.references and folded(row.answer) not in map(folded, row.references):
        yield "other_reference"
    if answer.weight == 0:
        yield "never_trained"
