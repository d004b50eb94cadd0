"""Tools and tool calls in every spelling that is in use, to the one that the library has: OpenAI's."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from glowgenius.data.columns import Fault
from glowgenius.data.frozen import FrozenMapping, as_list, as_mapping, describe, freeze, json_fault, thaw
from glowgenius.data.strict_json import BrokenJSONError, StrictDecoder

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

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
    """An answer as text that can be compared: its content, and a line of JSON for each call it makes.

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
    """The tools of a row as a list, or what is wrong with them.

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
    """One tool as `{"type": "function", "function": {"name", "description", "parameters"}}`, or what is wrong with it.

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
    """The calls of a message in the library's form, or the first thing that is wrong with them."""
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
    """One call with its arguments as an object, or what is wrong with it.

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
    """What stands around the function of a tool or call, None where nothing does, and the function."""
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
    """*given* without the nulls that exports write for what is not there."""
    return {str(key): item for key, item in given.items() if item is not None or key in keep}


def _ordered(function: dict[str, Any], first: tuple[str, ...]) -> dict[str, Any]:
    """*function* with the keys that have a place in it first, and without the `type` of an unwrapped one."""
    ordered = {key: function[key] for key in first if key in function}
    return {**ordered, **{key: item for key, item in function.items() if key not in (*first, "type")}}


def _wrapped(outer: dict[str, Any] | None, function: dict[str, Any]) -> FrozenMapping:
    around = {key: item for key, item in (outer or {}).items() if key not in ("type", "function")}
    opening = {"id": around.pop("id")} if "id" in around else {}
    frozen: FrozenMapping = freeze({**opening, "type": "function", "function": function, **around})
    return frozen


def _decoded(field: str, text: str, accepted: str) -> tuple[Any, Fault | None]:
    """The JSON value in *text*, or what is wrong with it."""
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
    """What makes *schema* no schema of a function's arguments."""
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
