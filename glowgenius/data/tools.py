"""The column of tools, in OpenAI's spelling, to what chat templates take."""

from __future__ import annotations

from typing import Any

from glowgenius.data.columns import Fault
from glowgenius.data.frozen import as_list, as_mapping, describe, json_fault
from glowgenius.data.strict_json import BrokenJSONError, StrictDecoder

_TOOL = "{'type': 'function', 'function': {'name': …, 'description': …, 'parameters': …}}"


def read_tools(value: object) -> tuple[object, Fault | None]:
    """The tools of a row as a list, or what is wrong with them.

    Text is taken for JSON: tables cannot hold a list, and other libraries write the column so.
    """
    if isinstance(value, str):
        if not value.strip():  # the empty cell of a table
            return (), None
        try:
            value, faults = StrictDecoder().decode_only(value)
        except BrokenJSONError as error:
            found = f"text that is no JSON: {error.reason} at character {error.position + 1}"
            return (), Fault("tools", found, f"a list of {_TOOL}, or the same as JSON")
        if faults:
            return (), faults[0]._replace(field="tools")
        if value is None:
            return (), None
    tools = as_list(value)
    if tools is None:
        return (), Fault("tools", describe(value), f"a list of {_TOOL}, or the same as JSON")
    faults_found = (_tool_fault(f"tools[{position}]", tool) for position, tool in enumerate(tools))
    fault = next((fault for fault in faults_found if fault is not None), None)
    return (() if fault else tools), fault


def _tool_fault(field: str, tool: object) -> Fault | None:
    given = as_mapping(tool)
    if given is None:
        return Fault(field, describe(tool), _TOOL)
    function: Any = as_mapping(given.get("function", given))
    name = None if function is None else function.get("name")
    if not isinstance(name, str) or not name.strip():
        return Fault(field, f"{describe(tool)} without the name of a function", _TOOL)
    if fault := json_fault(tool):
        return Fault(field, fault, "JSON values")
    return None
