"""One message as a mapping, in the spellings that are in use, to the fields of ours."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from glowgenius.data.columns import Fault, near_miss
from glowgenius.data.frozen import as_list, as_mapping, describe, is_finite, unpaired_surrogate
from glowgenius.data.strict_json import BrokenJSONError, StrictDecoder
from glowgenius.data.tools import CALL, read_call, read_calls
from glowgenius.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROLES = ("system", "developer", "user", "assistant", "tool")
"""Who can speak, in the words of the OpenAI chat format."""

SOME_TEXT = "a string with something in it"
"""What a question, an answer or a turn must be."""

_SAME_ROLE = {
    **dict.fromkeys(("human", "question", "prompter"), "user"),
    **dict.fromkeys(("gpt", "ai", "model", "bot", "chatgpt", "answer", "agent"), "assistant"),
}
"""Roles of other libraries → ours, for the hint only."""

TOOL_ROLES = ("function", "ipython", "observation", "tool_response")
"""Who speaks for a tool in other libraries; read as `tool`."""

CALL_ROLES = ("tool_call", "function_call")
"""Who makes a call in other libraries, with the call as JSON text; read as the assistant's."""

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


def message_fields(
    field: str, turn: object, faults: list[Fault], *, may_be_blank: bool = False
) -> dict[str, Any] | None:
    """The arguments of `Message` for a message given as a mapping; None where *faults* got what is wrong with it.

    OpenAI's older `function_call` and role `function` become `tool_calls` and `tool`; a call that has a turn of its
    own becomes the assistant's.
    """
    given = as_mapping(turn)
    if given is None:
        faults.append(Fault(field, describe(turn), "an object with 'role' and 'content'"))
        return None
    # Exports write `"name": null`, `"tool_calls": []` and `"annotations": []`: nothing is what they hold.
    keys = {
        str(key): item for key, item in given.items() if item is not None and (key == "content" or item not in _EMPTY)
    }
    found = _in_our_words(field, keys)
    parts = as_list(keys.get("content"))
    if parts is not None and "role" in keys:
        found += _join_parts(f"{field}.content", parts, keys)
    if not found:
        found = _faults(field, keys, given, may_be_blank=may_be_blank)
    if found:
        faults.extend(found)
        return None
    weight = float(keys["trainable"]) if "trainable" in keys and "weight" not in keys else keys.get("weight")
    options: dict[str, Any] = {
        key: keys[key] for key in ("reasoning_content", "name", "tool_call_id", "tool_calls") if key in keys
    }
    return {"role": keys["role"], "content": keys.get("content", ""), "weight": weight, **options}


_EMPTY: tuple[object, ...] = ([], (), {})


def _in_our_words(field: str, keys: dict[str, Any]) -> list[Fault]:
    """Put the roles and calls of other spellings into ours, within *keys*; what stands in the way of it."""
    role = keys.get("role")
    if role in TOOL_ROLES:
        keys["role"] = "tool"
    elif role in CALL_ROLES:
        calls = calls_in_text(f"{field}.content", keys.get("content"))
        if isinstance(calls, Fault):
            return [calls]
        if "tool_calls" in keys:
            return [Fault(f"{field}.tool_calls", f"calls beside the role {role!r}", "the role 'assistant'")]
        keys.update(role="assistant", content="", tool_calls=calls)
    if "function_call" in keys:
        if "tool_calls" in keys:
            return [Fault(f"{field}.function_call", "a call beside 'tool_calls'", "one of the two")]
        call = read_call(f"{field}.function_call", keys.pop("function_call"))
        if isinstance(call, Fault):
            return [call]
        keys["tool_calls"] = [call]
    elif "tool_calls" in keys:
        read = read_calls(f"{field}.tool_calls", keys["tool_calls"])
        if isinstance(read, Fault):
            return [read]
        keys["tool_calls"] = read
    return []


def calls_in_text(field: str, text: object) -> list[Any] | Fault:
    """The call or calls that stand in *text* as JSON, each with name and arguments."""
    accepted = f"a call as JSON text, such as '{{\"name\": …, \"arguments\": {{…}}}}', or 'tool_calls': [{CALL}]"
    value = text
    if isinstance(text, str):
        try:
            value, faults = StrictDecoder().decode_only(text)
        except BrokenJSONError as error:
            return Fault(field, f"text that is no JSON: {error.reason} at character {error.position + 1}", accepted)
        if faults:
            return Fault(field, faults[0].found, faults[0].accepted)
    given = [value] if as_mapping(value) is not None else as_list(value)
    return read_calls(field, given) if given else Fault(field, describe(text), accepted)


def _faults(field: str, keys: dict[str, Any], given: Mapping[object, Any], *, may_be_blank: bool) -> list[Fault]:
    renamed = {key: _meant_key(key) for key in keys if key not in _MESSAGE_KEYS}
    found = [
        Fault(f"{field}.{key}", "no such key of a message", f"did you mean {meant!r}?" if meant else _KEYS_ACCEPTED)
        for key, meant in renamed.items()
    ]
    if "role" not in renamed.values():
        found.extend(_role_faults(field, keys.get("role"), missing="role" not in given))
    if "content" not in renamed.values():
        found.extend(_content_faults(field, keys, missing="content" not in given, may_be_blank=may_be_blank))
    found.extend(_option_faults(field, keys))
    return found


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


def _content_faults(field: str, keys: Mapping[str, Any], *, missing: bool, may_be_blank: bool) -> list[Fault]:
    calls = "tool_calls" in keys
    speaks = keys.get("role") in ("user", "assistant") and not calls and not may_be_blank
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
    return [fault for fault in faults if fault is not None]
