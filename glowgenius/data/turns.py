"""Lists of turns, in OpenAI's and in ShareGPT's spelling, to messages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowgenius.data.columns import Fault, near_miss
from glowgenius.data.frozen import as_list, as_mapping, describe, is_finite, json_fault, unpaired_surrogate
from glowgenius.data.message import ROLES, Message
from glowgenius.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

SOME_TEXT = "a string with something in it"
"""What a question, an answer or a turn must be."""

_SAME_ROLE = {
    **dict.fromkeys(("human", "question", "prompter"), "user"),
    **dict.fromkeys(("gpt", "ai", "model", "bot", "chatgpt", "answer", "agent"), "assistant"),
    **dict.fromkeys(("function", "ipython", "observation"), "tool"),
}
"""Roles of other libraries → ours, for the hint only."""

SHAREGPT_ROLES = {"human": "user", "gpt": "assistant", "user": "user", "assistant": "assistant", "system": "system"}
"""What may stand in `from`, and the role that it becomes."""

_MESSAGE_KEYS = (
    "role",
    "content",
    "weight",
    "trainable",
    "reasoning_content",
    "name",
    "tool_call_id",
    "tool_calls",
)
_KEYS_ACCEPTED = f"one of {', '.join(_MESSAGE_KEYS)}"
_SAME_KEY = {
    "from": "role",
    "speaker": "role",
    "value": "content",
    "text": "content",
    "train": "trainable",
    "loss": "trainable",
    "mask": "weight",
    "reasoning": "reasoning_content",
    "thinking": "reasoning_content",
    "function_call": "tool_calls",
}


def text_fault(field: str, value: object, *, may_be_blank: bool = False) -> Fault | None:
    """What is wrong with a piece of text, if anything."""
    if not isinstance(value, str):
        return Fault(field, describe(value), "a string" if may_be_blank else SOME_TEXT)
    if not may_be_blank and not value.strip():
        return Fault(field, f"only white space ({value!r})" if value else "an empty string", SOME_TEXT)
    if half := unpaired_surrogate(value):
        return Fault(field, f"half a character ({half})", "text that can be written as UTF-8")
    return None


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
    complete = tuple(message for message in messages if message is not None)
    if len(faults) == already:
        faults.extend(order_faults(field, complete))
    return complete


def _read_message(field: str, turn: object, faults: list[Fault]) -> Message | None:
    if isinstance(turn, Message):
        fault = blank_fault(f"{field}.content", turn)
        faults.extend([fault] if fault else [])
        return turn
    given = as_mapping(turn)
    if given is None:
        faults.append(Fault(field, describe(turn), "an object with 'role' and 'content'"))
        return None
    # Exports write `"name": null` and `"tool_calls": []` for every message: nothing is what they hold.
    keys = {
        str(key): item for key, item in given.items() if item is not None and not (key == "tool_calls" and item == [])
    }
    parts = as_list(keys.get("content"))
    if parts is not None and "role" in keys:
        found_in_parts = _join_parts(f"{field}.content", parts, keys)
        if found_in_parts:
            faults.extend(found_in_parts)
            return None
    renamed = {key: _meant_key(key) for key in keys if key not in _MESSAGE_KEYS}
    found = [
        Fault(f"{field}.{key}", "no such key of a message", f"did you mean {meant!r}?" if meant else _KEYS_ACCEPTED)
        for key, meant in renamed.items()
    ]
    if "role" not in renamed.values():
        found.extend(_role_faults(field, keys.get("role"), missing="role" not in given))
    if "content" not in renamed.values():
        found.extend(_content_faults(field, keys, missing="content" not in given))
    found.extend(_option_faults(field, keys))
    if found:
        faults.extend(found)
        return None
    weight = float(keys["trainable"]) if "trainable" in keys and "weight" not in keys else keys.get("weight")
    options = {key: keys[key] for key in ("reasoning_content", "name", "tool_call_id", "tool_calls") if key in keys}
    return Message(keys["role"], keys.get("content", ""), weight=weight, **options)


def _join_parts(field: str, parts: Sequence[Any], keys: dict[str, Any]) -> list[Fault]:
    """Put the text of a message that comes in parts in *keys*, without anything between the parts.

    Parts of kind `text`, and of the assistant also `thinking`, which becomes `reasoning_content`; others are faults.
    """
    pieces: dict[str, list[str]] = {"text": [], "thinking": []}
    faults: list[Fault] = []
    for position, item in enumerate(parts):
        part = as_mapping(item)
        kind = None if part is None else part.get("type")
        said = None if part is None or not isinstance(kind, str) else part.get(kind)
        if isinstance(kind, str) and kind in pieces and isinstance(said, str):
            pieces[kind].append(said)
        else:
            found = (
                f"a part of type {describe(kind)}" if isinstance(kind, str) and kind not in pieces else describe(item)
            )
            faults.append(Fault(f"{field}[{position}]", found, "{'type': 'text', 'text': …}: rows of text only"))
    if pieces["thinking"] and "reasoning_content" in keys:
        faults.append(Fault(field, "a part of type 'thinking' beside 'reasoning_content'", "one of the two"))
    if not faults:
        keys["content"] = "".join(pieces["text"])
        if pieces["thinking"]:
            keys["reasoning_content"] = "".join(pieces["thinking"])
    return faults


def _meant_key(key: str) -> str | None:
    return _SAME_KEY.get(key.casefold()) or near_miss(key, _MESSAGE_KEYS)


def _role_faults(field: str, role: object, *, missing: bool) -> list[Fault]:
    if role in ROLES:
        return []
    found = "missing" if missing else describe(role)
    return [Fault(f"{field}.role", found, f"one of {', '.join(ROLES)}{role_hint(role, ROLES)}")]


def role_hint(role: object, known: Sequence[str]) -> str:
    """` (did you mean 'user'?)` for a role that is not *known*, or nothing."""
    if not isinstance(role, str):
        return ""
    same = _SAME_ROLE.get(role.strip().casefold())
    return f" (did you mean {same!r}?)" if same in known else nearest(role.strip(), known)


def _content_faults(field: str, keys: Mapping[str, Any], *, missing: bool) -> list[Fault]:
    calls = "tool_calls" in keys
    speaks = keys.get("role") in ("user", "assistant") and not calls
    fault = text_fault(f"{field}.content", keys.get("content", "" if calls else None), may_be_blank=not speaks)
    if fault is None:
        return []
    return [fault._replace(found="missing") if missing else fault]


def _option_faults(field: str, keys: Mapping[str, Any]) -> list[Fault]:
    faults: list[Fault | None] = []
    weight, trainable = keys.get("weight"), keys.get("trainable")
    if weight is not None and (not is_finite(weight) or weight < 0):
        faults.append(Fault(f"{field}.weight", describe(weight), "a number ≥ 0 (0 is not trained)"))
    elif trainable is not None and not isinstance(trainable, bool):
        faults.append(Fault(f"{field}.trainable", describe(trainable), "true or false"))
    elif weight is not None and trainable is not None and bool(weight) != trainable:
        said = f"{describe(trainable)} beside the weight {weight:g}"
        faults.append(Fault(f"{field}.trainable", said, "'weight' or 'trainable', or both saying the same"))
    faults.extend(
        text_fault(f"{field}.{key}", keys[key], may_be_blank=key == "reasoning_content")
        for key in ("name", "tool_call_id", "reasoning_content")
        if key in keys
    )
    if "tool_calls" in keys:
        faults.append(_calls_fault(f"{field}.tool_calls", keys["tool_calls"]))
    return [fault for fault in faults if fault is not None]


def _calls_fault(field: str, value: object) -> Fault | None:
    accepted = "{'id': …, 'type': 'function', 'function': {'name': …, 'arguments': …}}"
    calls = as_list(value)
    if calls is None:
        return Fault(field, describe(value), f"a list of {accepted}")
    for position, item in enumerate(calls):
        call = as_mapping(item)
        function = None if call is None else as_mapping(call.get("function", call))
        name = None if function is None else function.get("name")
        if not isinstance(name, str) or not name.strip():
            return Fault(f"{field}[{position}]", f"{describe(item)} without the name of a function", accepted)
        if fault := json_fault(item):
            return Fault(f"{field}[{position}]", fault, "JSON values")
    return None


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
    messages = tuple(message for message in read if message is not None)
    if len(faults) == already:
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
        known = tuple(SHAREGPT_ROLES)
        found.append(Fault(f"{field}.from", said, f"one of {', '.join(known)}{role_hint(speaker, known)}"))
    fault = text_fault(f"{field}.value", keys.get("value"), may_be_blank=role == "system")
    if fault:
        found.append(fault if "value" in keys else fault._replace(found="missing"))
    faults.extend(found)
    return None if found or role is None else Message(role, keys["value"])
