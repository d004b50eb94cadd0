"""Lists of turns, in OpenAI's and in ShareGPT's spelling, to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import evolve

from glowgenius.data.columns import Fault
from glowgenius.data.frozen import as_list, as_mapping, describe
from glowgenius.data.message import Message
from glowgenius.data.message_fields import (
    CALL_ROLES,
    SOME_TEXT,
    TOOL_ROLES,
    calls_in_text,
    message_fields,
    role_hint,
    text_fault,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["SHAREGPT_ROLES", "SOME_TEXT", "blank_fault", "order_faults", "read_messages", "read_sharegpt", "text_fault"]

SHAREGPT_ROLES = {
    "human": "user",
    "gpt": "assistant",
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    **dict.fromkeys(("tool", *TOOL_ROLES), "tool"),
    **dict.fromkeys(CALL_ROLES, "assistant"),
}
"""What may stand in `from`, and the role that it becomes."""

_SPEAKERS = ("human", "gpt", "user", "assistant", "system", "tool")
"""Those that an error lists."""


def order_faults(field: str, turns: Sequence[Message]) -> list[Fault]:
    """What makes these turns impossible to train on as a row: nobody answers, or the answer is not the end."""
    if not turns:
        return [Fault(field, "an empty list", "at least a user's and an assistant's message")]
    if turns[-1].role == "assistant":
        return []
    if not any(turn.role == "assistant" for turn in turns):
        return [
            Fault(
                field,
                "no message of the assistant",
                "a last message with the role 'assistant', which is what is trained",
            )
        ]
    return [Fault(field, f"a last message of the {turns[-1].role}", "the assistant's answer as the last message")]


def blank_fault(field: str, message: Message) -> Fault | None:
    """A turn that says nothing where something has to be said.

    An empty system message is meant (many templates insert their own without it), and so is an empty tool result.
    """
    speaks = message.role in ("user", "assistant") and not message.tool_calls
    return text_fault(field, message.content, may_be_blank=not speaks)


def read_messages(field: str, value: object, faults: list[Fault]) -> tuple[Message, ...]:
    """The messages of a `messages` column; what is wrong with them is added to *faults*."""
    turns = as_list(value)
    if turns is None:
        faults.append(Fault(field, describe(value), "a list of messages with 'role' and 'content'"))
        return ()
    already = len(faults)
    messages = [_read_message(f"{field}[{position}]", turn, faults) for position, turn in enumerate(turns)]
    if len(faults) > already:
        return ()
    complete = _joined(messages, [_speaker(turn, "role") for turn in turns])
    faults.extend(order_faults(field, complete))
    return complete


def _speaker(turn: object, key: str) -> object:
    given = as_mapping(turn)
    return None if given is None else given.get(key)


def _joined(messages: Sequence[Message | None], speakers: Sequence[object]) -> tuple[Message, ...]:
    """*messages*, with a call that has a turn of its own put into the assistant's message before it."""
    joined: list[Message] = []
    for message, speaker in zip(messages, speakers, strict=True):
        if message is None:
            continue
        if speaker in CALL_ROLES and joined and joined[-1].role == "assistant":
            joined[-1] = evolve(joined[-1], tool_calls=(*joined[-1].tool_calls, *message.tool_calls))
        else:
            joined.append(message)
    return tuple(joined)


def _read_message(field: str, turn: object, faults: list[Fault]) -> Message | None:
    if isinstance(turn, Message):
        fault = blank_fault(f"{field}.content", turn)
        faults.extend([fault] if fault else [])
        return turn
    fields = message_fields(field, turn, faults)
    return None if fields is None else Message(**fields)


def read_sharegpt(field: str, value: object, faults: list[Fault]) -> tuple[Message, ...]:
    """The messages of a `conversations` column; what is wrong with them is added to *faults*."""
    turns = as_list(value)
    if turns is None:
        faults.append(Fault(field, describe(value), "a list of turns with 'from' and 'value'"))
        return ()
    if turns and all({"role", "content"} <= {*(as_mapping(turn) or ())} for turn in turns):
        accepted = "'from' and 'value', or the name 'messages' for the column"
        faults.append(Fault(field, "turns with 'role' and 'content'", accepted))
        return ()
    already = len(faults)
    read = [_read_turn(f"{field}[{position}]", turn, faults) for position, turn in enumerate(turns)]
    if len(faults) > already:
        return ()
    messages = _joined(read, [_speaker(turn, "from") for turn in turns])
    faults.extend(order_faults(field, messages))
    return messages


def _read_turn(field: str, turn: object, faults: list[Fault]) -> Message | None:
    keys = as_mapping(turn)
    if keys is None:
        faults.append(Fault(field, describe(turn), "an object with 'from' and 'value'"))
        return None
    found = [
        Fault(f"{field}.{key}", "no such key of a turn", "'from' and 'value' only ('messages' can carry more)")
        for key, item in keys.items()
        if key not in ("from", "value") and item is not None
    ]
    speaker = keys.get("from")
    role = SHAREGPT_ROLES.get(speaker) if isinstance(speaker, str) else None
    if role is None:
        said = describe(speaker) if "from" in keys else "missing"
        hint = role_hint(speaker, tuple(SHAREGPT_ROLES))
        found.append(Fault(f"{field}.from", said, f"one of {', '.join(_SPEAKERS)}{hint}"))
    fields: dict[str, Any] = {"role": role, "content": keys.get("value")}
    fault = text_fault(f"{field}.value", keys.get("value"), may_be_blank=role in ("system", "tool"))
    if fault:
        found.append(fault if "value" in keys else fault._replace(found="missing"))
    elif speaker in CALL_ROLES:
        calls = calls_in_text(f"{field}.value", keys["value"])
        fields = {"role": role, "content": "", "tool_calls": calls}
        found += [calls] if isinstance(calls, Fault) else []
    faults.extend(found)
    return None if found or role is None else Message(**fields)
