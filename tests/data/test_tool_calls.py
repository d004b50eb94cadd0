"""Tools and tool calls in every spelling: one form when read, and a fault with its place for what is none."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from glowgenius.data import Conversation, Dataset, Message
from glowgenius.errors import ConfigError, DatasetError
from tests.support.conversations import JSON_VALUES, WORDS

AN_OBJECT = "a JSON object, as an object or as text; {} where there are none"
CALL = {"id": "c1", "type": "function", "function": {"name": "tide", "arguments": {"h": "Leith", "at": 3}}}
TOOL = {
    "type": "function",
    "function": {
        "name": "tide",
        "description": "High tide.",
        "parameters": {"type": "object", "properties": {"h": {"type": "string"}}, "required": ["h"]},
    },
}
BARE = TOOL["function"]
TALK = [{"role": "user", "content": "When?"}]


def calling(call, **more):
    return Dataset.from_records([{"messages": [*TALK, {"role": "assistant", "content": None, **more, **call}]}])


def faults(row):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records([row])
    return [f"{problem.field}: {problem.found} → {problem.accepted}" for problem in caught.value.problems]


@pytest.mark.parametrize(
    "call",
    [
        {"tool_calls": [CALL]},
        {"tool_calls": (CALL,)},
        {"tool_calls": [{**CALL, "function": {"name": "tide", "arguments": '{"h": "Leith", "at": 3}'}}]},
        {"tool_calls": [{**CALL, "function": {"name": "tide", "arguments": ' {"h":"Leith","at":3}\n'}}]},
        {"tool_calls": [{"function": CALL["function"], "id": "c1", "refusal": None}]},
        {"tool_calls": [{"id": "c1", "name": "tide", "arguments": '{"h": "Leith", "at": 3}'}]},
        {"tool_calls": [{"type": "tool_use", "id": "c1", "name": "tide", "input": {"h": "Leith", "at": 3}}]},
    ],
)
def test_every_spelling_of_a_call_is_the_same_call(call):
    dataset = calling(call)
    assert dataset == calling({"tool_calls": [CALL]})
    assert dataset[0].messages[1].to_dict()["tool_calls"] == [CALL]
    assert dataset.check().ok


@settings(max_examples=50)
@given(arguments=st.dictionaries(WORDS, JSON_VALUES, max_size=4))
def test_arguments_as_text_are_arguments_as_an_object_in_the_same_order(arguments):
    made = [
        Message("assistant", "", tool_calls=[{"function": {"name": "f", "arguments": given}}])
        for given in (arguments, json.dumps(arguments), json.dumps(arguments, ensure_ascii=False))
    ]
    assert made[0] == made[1] == made[2]
    for message in made:
        kept = message.to_dict()["tool_calls"][0]["function"]["arguments"]
        assert json.dumps(kept) == json.dumps(arguments)


def test_both_spellings_are_no_contradiction():
    text = {**CALL, "id": "another", "function": {"name": "tide", "arguments": json.dumps({"at": 3, "h": "Leith"})}}
    rows = [{"messages": [*TALK, {"role": "assistant", "tool_calls": [call]}]} for call in (CALL, text)]
    report = Dataset.from_records(rows).check()
    assert "different answers" not in str(report)
    other = {**CALL, "function": {"name": "tide", "arguments": {"h": "Hull"}}}
    rows = [{"messages": [*TALK, {"role": "assistant", "tool_calls": [call]}]} for call in (CALL, other)]
    assert "different answers" in str(Dataset.from_records(rows).check())


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (None, f"null → {AN_OBJECT}"),
        (5, f"the number 5 → {AN_OBJECT}"),
        (True, f"true → {AN_OBJECT}"),
        ([1], f"a list of 1 → {AN_OBJECT}"),
        ("", f"an empty string → {AN_OBJECT}"),
        ("null", f"null → {AN_OBJECT}"),
        ("5", f"the number 5 → {AN_OBJECT}"),
        ('"{}"', f"the string '{{}}' → {AN_OBJECT}"),
        ("[]", f"an empty list → {AN_OBJECT}"),
        ("{'h': 1}", "text that is no JSON: Expecting property name enclosed in double quotes at character 2"),
        ('{"h": 1', "text that is no JSON: Expecting ',' delimiter at character 8"),
        ('{"h": 1} x', "text that is no JSON: Extra data at character 10"),
        ('{"h": 1, "h": 2}', "the key 'h' given twice in one object → each key once"),
        ('{"h": NaN}', "NaN, which is no JSON → a finite number, a string or null"),
        ('{"h": 1e999}', "the number 1e999, beyond what a float can hold → a smaller number"),
        ('{"h": "\\ud83d"}', "text with half a character (\\ud83d) → JSON values"),
    ],
)
def test_arguments_that_are_no_object_are_refused_with_their_place(tmp_path, arguments, problem):
    call = {"type": "function", "function": {"name": "tide", "arguments": arguments}}
    path = tmp_path / "rows.jsonl"
    row = {"messages": [*TALK, {"role": "assistant", "content": None, "tool_calls": [CALL, call]}]}
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(path)
    [found] = caught.value.problems
    assert (found.line, found.field) == (1, "messages[1].tool_calls[1].function.arguments")
    assert f"{found.found} → {found.accepted}".startswith(problem)
    with pytest.raises(ConfigError, match=r"^Message\.tool_calls\[0\]\.function\.arguments: "):
        Message("assistant", "", tool_calls=[call])


def test_the_advice_for_a_call_without_arguments_works():
    for nothing in ({}, "{}", "{ }"):
        dataset = calling({"tool_calls": [{"function": {"name": "now", "arguments": nothing}}]})
        assert dataset[0].messages[1].tool_calls[0]["function"]["arguments"] == {}
    assert calling({"tool_calls": [{"function": {"name": "now"}}]}) == dataset


def test_arguments_under_a_name_that_nobody_knows_are_not_lost():
    row = {"messages": [*TALK, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "args": {"h": 1}}}]}]}
    assert faults(row) == [f"messages[1].tool_calls[0].function.arguments: missing → {AN_OBJECT}"]


def test_the_older_function_call_becomes_a_call():
    dataset = Dataset.from_records(
        [
            {
                "messages": [
                    *TALK,
                    {"role": "assistant", "content": None, "function_call": {"name": "tide", "arguments": '{"h": 1}'}},
                    {"role": "function", "name": "tide", "content": "9:30"},
                    {"role": "assistant", "content": "At 9:30.", "function_call": None},
                ]
            }
        ]
    )
    call = {"type": "function", "function": {"name": "tide", "arguments": {"h": 1}}}
    assert dataset[0].messages[1:3] == (
        Message("assistant", "", tool_calls=[call]),
        Message("tool", "9:30", name="tide"),
    )


CALLING = '{"name": "tide", "arguments": {"h": "Leith"}}'
LEITH = {"type": "function", "function": {"name": "tide", "arguments": {"h": "Leith"}}}


@pytest.mark.parametrize(
    ("columns", "speaker", "said", "call", "result"),
    [
        ("messages", "role", "content", "tool_call", "tool_response"),
        ("messages", "role", "content", "tool_call", "tool"),
        ("conversations", "from", "value", "function_call", "observation"),
    ],
)
def test_a_call_in_a_turn_of_its_own_is_the_assistants(columns, speaker, said, call, result):
    turns = [
        ("user", "When?"),
        ("assistant", "I look."),
        (call, CALLING),
        (call, CALLING),
        (result, "9:30"),
        (call, CALLING),
    ]
    [row] = Dataset.from_records([{columns: [{speaker: who, said: what} for who, what in turns]}])
    assert row.messages == (
        Message("user", "When?"),
        Message("assistant", "I look.", tool_calls=[LEITH, LEITH]),
        Message("tool", "9:30"),
        Message("assistant", "", tool_calls=[LEITH]),
    )


def test_a_call_in_a_turn_of_its_own_that_is_none_is_refused():
    accepted = (
        "a call as JSON text, such as '{\"name\": …, \"arguments\": {…}}', or 'tool_calls': "
        "[{'id': …, 'type': 'function', 'function': {'name': …, 'arguments': …}}]"
    )
    for columns, speaker, said in (("messages", "role", "content"), ("conversations", "from", "value")):
        row = {columns: [{speaker: "user", said: "Q"}, {speaker: "tool_call", said: "tide()"}]}
        assert faults(row) == [
            f"{columns}[1].{said}: text that is no JSON: Expecting value at character 1 → {accepted}"
        ]


@pytest.mark.parametrize(
    "tool",
    [
        TOOL,
        BARE,
        {"type": "function", **BARE},
        {"name": "tide", "description": "High tide.", "input_schema": BARE["parameters"]},
        {"inputSchema": BARE["parameters"], "description": "High tide.", "name": "tide"},
        {"type": "function", "function": {**BARE, "parameters": json.dumps(BARE["parameters"]), "strict": None}},
    ],
)
def test_every_spelling_of_a_tool_is_the_same_tool(tool):
    row = {"question": "Q", "answer": "A"}
    expected = Dataset.from_records([row | {"tools": [TOOL]}])
    assert Dataset.from_records([row | {"tools": [tool]}]) == expected
    assert Dataset.from_records([row | {"tools": json.dumps([tool])}]) == expected
    assert json.dumps(expected[0].to_record()["tools"]) == json.dumps([TOOL])
    built = Conversation(messages=[Message("user", "Q")], tools=[tool])
    assert json.dumps(built.to_record()["tools"]) == json.dumps([TOOL])


@pytest.mark.parametrize(
    ("tool", "field"),
    [
        ({"name": "f", "parameters": 5}, "tools[0].parameters"),
        ({"name": "f", "parameters": "{"}, "tools[0].parameters"),
        ({"name": "f", "input_schema": []}, "tools[0].input_schema"),
        ({"name": "f", "parameters": {}, "input_schema": {}}, "tools[0]"),
        ({"name": "f", "description": {"a": 1}}, "tools[0].description"),
        ({"type": "retrieval", "name": "f"}, "tools[0].type"),
        (
            {"type": "function", "function": {"name": "f", "parameters": {"type": "array"}}},
            "tools[0].function.parameters.type",
        ),
        (
            {"type": "function", "function": {"name": "f", "parameters": {"properties": ["a"]}}},
            "tools[0].function.parameters.properties",
        ),
        (
            {"type": "function", "function": {"name": "f", "parameters": {"properties": {"a": "string"}}}},
            "tools[0].function.parameters.properties.a",
        ),
        ({"name": "f", "parameters": {"properties": {}, "required": "a"}}, "tools[0].parameters.required"),
        ({"name": "f", "parameters": {"properties": {}, "required": [1]}}, "tools[0].parameters.required"),
    ],
)
def test_a_broken_schema_is_refused_with_its_place(tool, field):
    [fault] = faults({"question": "Q", "answer": "A", "tools": [tool]})
    assert fault.startswith(f"{field}: ")
    with pytest.raises(ConfigError, match=r"^Conversation\."):
        Conversation(messages=[Message("user", "Q")], tools=[tool])


def test_an_argument_called_type_is_no_schema_of_another_kind():
    table = {"name": "f", "parameters": {"type": {"description": "a kind"}, "required": {"description": "?"}}}
    [row] = Dataset.from_records([{"question": "Q", "answer": "A", "tools": [table]}])
    assert row.tools[0]["function"]["parameters"] == table["parameters"]


RATE = {
    "name": "rate",
    "description": "The rate of two currencies",
    "parameters": {"type": "object", "properties": {"base": {"type": "string"}}, "required": ["base"]},
}
GLAIVE = {
    "system": "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n"
    + json.dumps(RATE, indent=4)
    + "\n\n"
    + json.dumps({**RATE, "name": "other"}),
    "chat": "USER: What is the rate?\n\n\nASSISTANT: I look. <functioncall> "
    '{"name": "rate", "arguments": \'{"base": "it\'s USD"}\'} <|endoftext|>\n\n\n'
    'FUNCTION RESPONSE: {"rate": 0.85}\n\n\nASSISTANT: It is:\n\n0.85. <|endoftext|>\n\n\n'
    "USER: Thanks\n\n\nASSISTANT: Welcome. <|endoftext|>\n\n\n",
}


def test_a_transcript_with_functions_is_read_as_its_turns_by_the_advice_of_its_refusal():
    [fault] = faults(GLAIVE)
    assert fault == "chat: no column of that name → did you mean 'messages'? columns={'chat': 'messages'} reads it so"
    [row] = Dataset.from_records([GLAIVE], columns={"chat": "messages"})
    call = {"type": "function", "function": {"name": "rate", "arguments": {"base": "it's USD"}}}
    assert row.messages == (
        Message("system", "You are a helpful assistant."),
        Message("user", "What is the rate?"),
        Message("assistant", "I look.", tool_calls=[call]),
        Message("tool", '{"rate": 0.85}', name="rate"),
        Message("assistant", "It is:\n\n0.85."),
        Message("user", "Thanks"),
        Message("assistant", "Welcome."),
    )
    assert [tool["function"]["name"] for tool in row.tools] == ["rate", "other"]
    joined = {"messages": GLAIVE["system"] + "\n\n" + GLAIVE["chat"]}
    assert Dataset.from_records([joined])[0] == row


@pytest.mark.parametrize(
    ("call", "arguments"),
    [('{"name": "rate", "arguments": {"base": "USD"}}', {"base": "USD"}), ('{"name": "rate", "arguments": "{}"}', {})],
)
def test_a_call_of_a_transcript_may_be_json_as_well(call, arguments):
    text = f"USER: Hm?\nASSISTANT: <functioncall> {call}"
    [row] = Dataset.from_records([{"messages": text}])
    assert row.messages[1].tool_calls[0]["function"]["arguments"] == arguments


def test_a_system_message_of_a_transcript_that_lists_no_functions_is_whole():
    for said in ("You are helpful, with no access to external functions.", "Use { braces }."):
        [row] = Dataset.from_records([{"system": f"SYSTEM: {said}", "messages": "USER: Hi\n\nASSISTANT: Ho"}])
        assert (row.messages[0].content, row.tools) == (said, ())


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "USER: a\n\nUSER: b\n\nASSISTANT: c",
            "messages: 'USER' as turn 2, which does not follow the turn before it → ",
        ),
        ("USER: a\n\nASSISTANT: b\n\nFUNCTION RESPONSE: c", "messages: 'FUNCTION RESPONSE' as turn 3, which does not"),
        ("USER: a\n\nASSISTANT: b\nASSISTANT: c", "messages: 'ASSISTANT' as turn 3, which does not follow"),
        ("USER: a\n\nASSISTANT: b <|endoftext|> c", "messages: '<|endoftext|>' within turn 2 → "),
        ("USER: a\n\nASSISTANT: <functioncall> rate()", "messages (turn 2): text that is no JSON: "),
        ('USER: a\n\nASSISTANT: <functioncall> {"name": "f", "arguments": \'{\'}', "messages (turn 2)"),
    ],
)
def test_a_transcript_that_is_not_clear_is_refused(text, fault):
    found = faults({"messages": text})
    assert found[0].startswith(fault)


def test_functions_in_a_system_message_beside_tools_are_refused():
    row = {"system": GLAIVE["system"], "messages": "USER: Hi\n\nASSISTANT: Ho", "tools": [TOOL]}
    assert faults(row) == ["tools: tools beside functions in the system message → one of the two"]
