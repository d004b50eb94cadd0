"""Fields, tools and tool calls of one message, in every common spelling."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from glowgenius.data.columns import Fault, near_miss
from glowgenius.data.json_values import (
    BrokenJSONError,
    FrozenMapping,
    StrictDecoder,
    as_list,
    as_mapping,
    describe,
    freeze,
    is_finite,
    json_fault,
    thaw,
    unpaired_surrogate,
)
from glowgenius.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

CALL = "{'id': …, 'type': 'function', 'function': {'name': …, 'arguments': …}}"
"""What a tool call looks like."""

TOOL = "{'type': 'function', 'function': {'name': …, 'description': …, 'parameters': …}}"
"""What a tool looks like."""

_ARGUMENTS = ("arguments", "input", "parameters")
"""Names of a call's arguments: OpenAI's, Anthropic's and Llama's."""

_SCHEMAS = ("parameters", "input_schema", "inputSchema")
"""Names of a tool's schema: OpenAI's, Anthropic's and MCP's."""

_CALL_TYPES = ("function", "tool_use")
_AN_OBJECT = "a JSON object, as an object or as text; {} where there are none"
_A_SCHEMA = "a JSON schema, as an object or as text: {'type': 'object', 'properties': {…}, 'required': […]}"


def answer_text(content: str, calls: Iterable[Mapping[str, Any]]) -> str:
    """An answer as comparable text: its content, and one line of JSON per tool call.

    Ids are left out and keys are sorted, so that the same calls are the same text however they were written.
    """
    lines = [
        json.dumps(
            {"name": call["function"]["name"], "arguments": thaw(call["function"]["arguments"])},
            ensure_ascii=False,
            sort_keys=True,
        )
        for call in calls
    ]
    return "\n".join([content, *lines] if content.strip() or not lines else lines)


def read_tools(value: object) -> tuple[object, Fault | None]:
    """The tools of a row as a list, or the fault.

    Text is taken for JSON: tables cannot hold a list, and other libraries write the column so.
    """
    if isinstance(value, str):
        if not value.strip():  # the empty cell of a table
            return (), None
        value, fault = _decoded("tools", value, f"a list of {TOOL}, or the same as JSON")
        if fault is not None or value is None:
            return (), fault
    given = as_list(value)
    if given is None:
        return (), Fault("tools", describe(value), f"a list of {TOOL}, or the same as JSON")
    tools = [read_tool(f"tools[{position}]", tool) for position, tool in enumerate(given)]
    fault = next((tool for tool in tools if isinstance(tool, Fault)), None)
    return (() if fault else tools), fault


def read_tool(field: str, value: object) -> FrozenMapping | Fault:
    """One tool as `{"type": "function", "function": {"name", "description", "parameters"}}`, or the fault.

    Also taken are the function alone, Anthropic's and MCP's names of its schema, and a schema written as JSON text.
    """
    found = _function(field, value, TOOL)
    if isinstance(found, Fault):
        return found
    outer, function = found
    inside = f"{field}.function" if outer is not None else field
    schemas = [name for name in _SCHEMAS if name in function]
    if len(schemas) > 1:
        return Fault(inside, f"both {schemas[0]!r} and {schemas[1]!r}", "one of the two")
    if "description" in function and not isinstance(function["description"], str):
        return Fault(f"{inside}.description", describe(function["description"]), "a string")
    if schemas:
        schema = function.pop(schemas[0])
        name = f"{inside}.{schemas[0]}"
        if isinstance(schema, str):
            schema, fault = _decoded(name, schema, _A_SCHEMA)
            if fault is not None:
                return fault
        if fault := _schema_fault(name, schema):
            return fault
        function["parameters"] = schema
    return _wrapped(outer, _ordered(function, ("name", "description", "parameters")))


def read_calls(field: str, value: object) -> list[FrozenMapping] | Fault:
    """The tool calls of a message in the library's form, or the first fault."""
    given = as_list(value)
    if given is None:
        return Fault(field, describe(value), f"a list of {CALL}")
    calls: list[FrozenMapping] = []
    for position, item in enumerate(given):
        call = read_call(f"{field}[{position}]", item)
        if isinstance(call, Fault):
            return call
        calls.append(call)
    return calls


def read_call(field: str, value: object) -> FrozenMapping | Fault:
    """One tool call with its arguments as an object, or the fault.

    OpenAI's own files have the arguments as JSON text; they are decoded here, once, so that every template gets what
    it asks for. Their keys stay in the order in which they were written.
    """
    found = _function(field, value, CALL)
    if isinstance(found, Fault):
        return found
    outer, function = found
    inside = f"{field}.function" if outer is not None else field
    known = _ARGUMENTS[:1] if outer is not None else _ARGUMENTS
    names = [name for name in known if name in function]
    if len(names) > 1:
        return Fault(inside, f"both {names[0]!r} and {names[1]!r}", "one of the two")
    if not names and set(function) - {"name", "id", "type"}:
        return Fault(f"{inside}.arguments", "missing", _AN_OBJECT)
    name = f"{inside}.{names[0]}" if names else inside
    arguments: Any = function.pop(names[0]) if names else {}
    if isinstance(arguments, str):
        arguments, fault = _decoded(name, arguments, _AN_OBJECT)
        if fault is not None:
            return fault
    if as_mapping(arguments) is None:
        return Fault(name, describe(arguments), _AN_OBJECT)
    function["arguments"] = arguments
    if outer is None:
        outer = {key: function.pop(key) for key in ("id", "type") if key in function}
    return _wrapped(outer, _ordered(function, ("name", "arguments")))


def _function(field: str, value: object, accepted: str) -> tuple[dict[str, Any] | None, dict[str, Any]] | Fault:
    """The wrapper of a tool or call, None if there is none, and the function."""
    given = as_mapping(value)
    wrapped = given is not None and "function" in given
    function = None if given is None else as_mapping(given["function"]) if wrapped else given
    name = None if function is None else function.get("name")
    if given is None:
        return Fault(field, describe(value), accepted)
    if fault := json_fault(given):
        return Fault(field, fault, "JSON values")
    if function is None or not isinstance(name, str) or not name.strip():
        return Fault(field, f"{describe(value)} without the name of a function", accepted)
    kind = given.get("type")
    if kind is not None and kind not in _CALL_TYPES and not (accepted is TOOL and kind == "custom" and not wrapped):
        return Fault(f"{field}.type", describe(kind), "'function', the one kind of tool that there is here")
    inner = _without_nulls(function, keep=_ARGUMENTS)
    return (_without_nulls(given) if wrapped else None), inner


def _without_nulls(given: Any, keep: tuple[str, ...] = ()) -> dict[str, Any]:
    """*given* without the null values that exports write for missing ones."""
    return {str(key): item for key, item in given.items() if item is not None or key in keep}


def _ordered(function: dict[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    """*function* with its known keys first, and without the `type` of an unwrapped one."""
    ordered = {key: function[key] for key in first if key in function}
    return {**ordered, **{key: item for key, item in function.items() if key not in (*first, "type")}}


def _wrapped(outer: dict[str, Any] | None, function: dict[str, Any]) -> FrozenMapping:
    around = {key: item for key, item in (outer or {}).items() if key not in ("type", "function")}
    opening = {"id": around.pop("id")} if "id" in around else {}
    frozen: FrozenMapping = freeze({**opening, "type": "function", "function": function, **around})
    return frozen


def _decoded(field: str, text: str, accepted: str) -> tuple[Any, Fault | None]:
    """The JSON value in *text*, or the fault."""
    try:
        value, faults = StrictDecoder().decode_only(text)
    except BrokenJSONError as error:
        found = f"text that is no JSON: {error.reason} at character {error.position + 1}" if text else "an empty string"
        return None, Fault(field, found, accepted)
    if faults:
        fault = faults[0]
        found = fault.found if fault.field is None else f"the key {fault.field!r} {fault.found}"
        return None, Fault(field, found, fault.accepted)
    if deep := json_fault(value):
        return None, Fault(field, deep, "JSON values")
    return value, None


def _schema_fault(field: str, schema: object) -> Fault | None:
    """Why *schema* is not a valid schema of function arguments."""
    given = as_mapping(schema)
    if given is None:
        return Fault(field, describe(schema), _A_SCHEMA)
    kind, properties, required = (given.get(key) for key in ("type", "properties", "required"))
    if as_mapping(kind) is not None:
        return None  # an argument that is called "type", in a plain table of arguments
    if kind not in (None, "object"):
        return Fault(f"{field}.type", describe(kind), "'object': arguments have names")
    names = as_list(required)
    listed = names is not None and all(isinstance(name, str) for name in names)
    if required is not None and as_mapping(required) is None and not listed:
        return Fault(f"{field}.required", describe(required), "a list of names")
    return None if properties is None else _properties_fault(f"{field}.properties", properties)


def _properties_fault(field: str, properties: object) -> Fault | None:
    given = as_mapping(properties)
    if given is None:
        return Fault(field, describe(properties), "an object: from each name to its schema")
    for name, item in given.items():
        if as_mapping(item) is None and not isinstance(item, bool):
            return Fault(f"{field}.{name}", describe(item), "a JSON schema, such as {'type': 'string'}")
    return None


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
    """The fault of a text value, if any."""
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
    """Arguments of `Message` for a message given as a mapping; None if a fault was appended to *faults*.

    OpenAI's older `function_call` and role `function` become `tool_calls` and `tool`; a call that has a turn of its
    own becomes the assistant's.
    """
    given = as_mapping(turn)
    if given is None:
        faults.append(Fault(field, describe(turn), "an object with 'role' and 'content'"))
        return None
    # Exports write `"name": null`, `"tool_calls": []` and `"annotations": []` for absent fields.
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
    """Convert foreign roles and calls in *keys* to the library's form; returns the fault, if any."""
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
    """The tool call or calls written as JSON in *text*, each with name and arguments."""
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


_PARTS_OF_OTHERS: Final = {
    "tool_use": "a call in the message's 'tool_calls', as {'id': …, 'function': {'name': …, 'arguments': …}}",
    "tool_result": "a message of its own, {'role': 'tool', 'tool_call_id': …, 'content': …}",
}
"""Parts of Anthropic's messages that say what messages here say in another place."""


def _join_parts(field: str, parts: Sequence[Any], keys: dict[str, Any]) -> list[Fault]:
    """Join the text parts of a message's content, without separators.

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
            accepted = _PARTS_OF_OTHERS.get(str(kind), "{'type': 'text', 'text': …}: rows of text only")
            faults.append(Fault(f"{field}[{position}]", found, accepted))
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


_SPOKEN: Final = re.compile(r"(?:\A|\n)\s*(SYSTEM|USER|ASSISTANT|FUNCTION RESPONSE):")
_SPEAKERS_OF_TEXT: Final = {"SYSTEM": "system", "USER": "user", "ASSISTANT": "assistant", "FUNCTION RESPONSE": "tool"}
_FOLLOWS: Final = {
    "system": (None,),
    "user": (None, "system", "assistant"),
    "assistant": ("user", "tool"),
    "tool": ("assistant",),
}
"""Whom a speaker may follow; None is the beginning."""

_FUNCTION_CALL: Final = "<functioncall>"
_END: Final = "<|endoftext|>"
_QUOTED_ARGUMENTS: Final = re.compile(r"(\{.*\"arguments\"\s*:\s*)'(.*)'(\s*\})", re.DOTALL)
_WITH_FUNCTIONS: Final = re.compile(
    r"(.*?)\s+with access to the following functions\.\s*Use them if required\s*-?\s*(\{.*)", re.DOTALL
)
_TRANSCRIPT: Final = (
    "'USER: …' and 'ASSISTANT: …' in turn, each at the beginning of a line, or a list of messages with 'role' and "
    "'content'"
)


def is_transcript(value: object) -> bool:
    """Whether *value* is one text with all turns of a conversation, as in glaive's data sets: `USER: …`."""
    return isinstance(value, str) and value.lstrip().startswith(("USER:", "SYSTEM:")) and "ASSISTANT:" in value


def read_transcript(field: str, text: str) -> list[dict[str, Any]] | Fault:
    """Turns of a transcript as messages.

    A turn begins with its speaker at the beginning of a line; `<functioncall> {…}` is a call, `FUNCTION RESPONSE:` the
    result of one, and `<|endoftext|>` ends an answer. What does not alternate is refused: an answer might quote it.
    """
    parts = _SPOKEN.split(text)[1:]
    messages: list[dict[str, Any]] = []
    for number, (speaker, said) in enumerate(zip(parts[::2], parts[1::2], strict=True)):
        role = _SPEAKERS_OF_TEXT[speaker]
        before: dict[str, Any] = messages[-1] if messages else {"role": None}
        if before["role"] not in _FOLLOWS[role] or (role == "tool") != bool(before.get("tool_calls")):
            place = f"{speaker!r} as turn {number + 1}, which does not follow the turn before it"
            return Fault(field, place, _TRANSCRIPT)
        content = said.strip()
        if role == "assistant":
            content = content.removesuffix(_END).rstrip()
        if _END in content:
            return Fault(field, f"{_END!r} within turn {number + 1}", f"{_END!r} at the end of an answer only")
        message: dict[str, Any] = {"role": role, "content": content}
        if role == "tool":
            message["name"] = before["tool_calls"][-1]["function"]["name"]
        if role == "assistant" and _FUNCTION_CALL in content:
            message["content"], _, written = content.partition(_FUNCTION_CALL)
            message["content"] = message["content"].rstrip()
            quoted = _QUOTED_ARGUMENTS.fullmatch(written.strip())
            if quoted is not None:  # glaive quotes the arguments, which are JSON text, as Python would
                written = quoted[1] + json.dumps(quoted[2].replace("\\'", "'")) + quoted[3]
            calls = calls_in_text(f"{field} (turn {number + 1})", written)
            if isinstance(calls, Fault):
                return calls
            message["tool_calls"] = calls
        messages.append(message)
    return messages


def functions_in_system(text: str) -> tuple[str, list[Any]]:
    """A system message without `SYSTEM:` and its listed functions, as in glaive's data sets; and the functions.

    Where what follows the sentence is not just JSON objects, the message stays whole.
    """
    text = text.strip().removeprefix("SYSTEM:").strip()
    found = _WITH_FUNCTIONS.fullmatch(text)
    if found is None:
        return text, []
    decoder, rest = json.JSONDecoder(), found[2].strip()
    tools: list[Any] = []
    while rest:
        try:
            tool, end = decoder.raw_decode(rest)
        except ValueError:
            return text, []
        if "name" not in (as_mapping(tool) or ()):
            return text, []
        tools.append(tool)
        rest = rest[end:].strip()
    return f"{found[1]}.", tools
