"""Rows of every format become conversations, or an error that names every field that is wrong."""

# ruff: noqa: E501 - messages are compared whole, each on one line

from __future__ import annotations

import pytest

from glowgenius.data import Conversation, Dataset, Message
from glowgenius.errors import ConfigError, DatasetError

ASKED = (Message("user", "Q"), Message("assistant", "A"))
CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": "{}"}}


def row(record, **options):
    (only,) = Dataset.from_records([record], **options)
    return only


def faults(record, **options):
    """The problems of a single record, as text without the place."""
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records([record], **options)
    assert caught.value.message == "1 of 1 records cannot be used; nothing was loaded"
    return [f"{problem.field}: {problem.found} → {problem.accepted}" for problem in caught.value.problems]


def turn_faults(*turns):
    return faults({"messages": [*turns, {"role": "assistant", "content": "A"}]})


@pytest.mark.parametrize(
    ("record", "format", "messages"),
    [
        ({"question": "Q", "answer": "A"}, "question/answer", ASKED),
        ({"prompt": "Q", "completion": "A"}, "prompt/completion", ASKED),
        ({"input": "Q", "output": "A"}, "input/output", ASKED),
        ({"instruction": "Q", "output": "A"}, "alpaca", ASKED),
        ({"instruction": "Q", "input": "", "output": "A", "history": None}, "alpaca", ASKED),
        ({"instruction": "Q", "input": "I", "output": "A"}, "alpaca", (Message("user", "Q\nI"), ASKED[1])),
        (
            {"instruction": "Q", "output": "A", "system": "S", "history": [["q", "a"], ("r", "b")]},
            "alpaca",
            (
                Message("system", "S"),
                Message("user", "q"),
                Message("assistant", "a"),
                Message("user", "r"),
                Message("assistant", "b"),
                *ASKED,
            ),
        ),
        ({"question": "Q", "answer": "A", "system": ""}, "question/answer", (Message("system", ""), *ASKED)),
        (
            {"question": "Q", "answer": " A\n", "messages": None},
            "question/answer",
            (ASKED[0], Message("assistant", " A\n")),
        ),
        (
            {"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": "S"},
            "sharegpt",
            (Message("system", "S"), *ASKED),
        ),
        (
            {
                "conversations": [
                    {"from": "system", "value": ""},
                    {"from": "user", "value": "Q", "weight": None},
                    {"from": "assistant", "value": "A"},
                ]
            },
            "sharegpt",
            (Message("system", ""), *ASKED),
        ),
        ({"messages": [{"role": "user", "content": "Q"}, ASKED[1]]}, "messages", ASKED),
        (
            {
                "messages": [
                    {"role": "developer", "content": ""},
                    {"role": "user", "content": "Q", "name": "Ada", "tool_calls": [], "refusal": None},
                    {"role": "assistant", "content": None, "tool_calls": [CALL], "weight": 0},
                    {"role": "tool", "content": "", "tool_call_id": "1"},
                    {"role": "assistant", "content": "A", "reasoning_content": "hm", "trainable": True},
                ]
            },
            "messages",
            (
                Message("developer", ""),
                Message("user", "Q", name="Ada"),
                Message("assistant", "", tool_calls=(CALL,), weight=0),
                Message("tool", "", tool_call_id="1"),
                Message("assistant", "A", reasoning_content="hm", weight=1),
            ),
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "Q", "trainable": False},
                    {**ASKED[1].to_dict(), "weight": 0.5, "trainable": True},
                ]
            },
            "messages",
            (Message("user", "Q", weight=0), Message("assistant", "A", weight=0.5)),
        ),
    ],
)
def test_every_format(record, format, messages):  # noqa: A002 - the word of the interface
    dataset = Dataset.from_records([record])
    assert dataset.format == format
    assert dataset[0].messages == messages


def test_the_columns_that_every_format_may_have():
    record = {
        "question": "Q",
        "answer": "A",
        "id": 7,
        "group": "g",
        "split": "test",
        "tags": "t",
        "references": ["A", "B"],
    }
    assert row({**record, "weight": 2}) == Conversation.from_question(
        "Q", "A", id="7", group="g", split="test", tags=["t"], references=["A", "B"], weight=2.0
    )
    assert row({"question": "Q", "answer": "A", **dict.fromkeys(["id", "group", "tags", "weight", "metadata"])}) == row(
        {"question": "Q", "answer": "A"}
    )


def test_other_columns_are_kept_as_metadata():
    record = {
        "question": "Q",
        "answer": "A",
        "topic": "parks",
        "question_id": 3,
        "null": None,
        "metadata": {"by": ["me"]},
    }
    assert row(record).metadata == {"by": ["me"], "topic": "parks", "question_id": 3, "null": None}


def test_another_librarys_name_beside_ours_is_something_else():
    assert row({"question": "Q", "answer": "A", "response": "old"}).metadata == {"response": "old"}


def test_a_forced_format_keeps_the_columns_of_the_others():
    record = {"question": "Q", "answer": "A", "prompt": "P", "completion": "C", "images": [], "answers": ["A"]}
    assert row(record, format="prompt/completion") == Conversation.from_question(
        "P", "C", metadata={"question": "Q", "answer": "A", "images": [], "answers": ["A"]}
    )


def test_an_unknown_format():
    with pytest.raises(ConfigError) as caught:
        Dataset.from_records([{}], format="message")
    assert str(caught.value) == (
        "format must be one of 'messages', 'question/answer', 'prompt/completion', 'alpaca', 'input/output', "
        "'sharegpt', 'text/label', got 'message' (did you mean 'messages'?)"
    )
    with pytest.raises(ConfigError, match=r"got 5$"):
        Dataset.from_records([{}], format=5)


SOME = "a string with something in it"


def formats(asks, answers):
    """The known formats, and how two columns make one."""
    return f"{FORMATS}, or columns={{{asks!r}: 'question', {answers!r}: 'answer'}}, which says which is which"


def slip(ours, **columns):
    """What is said of a column that seems to be meant as another, of all that are to be renamed."""
    return f"no column of that name → did you mean {ours!r}? columns={columns!r} reads it so"


FORMATS = (
    "one of messages, question + answer, prompt + completion, instruction + output, input + output, conversations, "
    "text + label"
)
SPEAKERS = "one of human, gpt, user, assistant, system, tool"
ANSWERED = "a last message with the role 'assistant', which is what is trained"
FROM_VALUE = "'from' and 'value', or the name 'messages' for the column"
TOOL = "{'type': 'function', 'function': {'name': …, 'description': …, 'parameters': …}}"
ONLY_ONE = "the columns of one format only: columns={'prompt': 'metadata'} keeps this one untrained"


@pytest.mark.parametrize(
    ("record", "problems"),
    [
        ({"question": "Q"}, [f"answer: missing → {SOME}"]),
        ({"question": "Q", "answer": None}, [f"answer: null → {SOME}"]),
        ({"question": "", "answer": "A"}, [f"question: an empty string → {SOME}"]),
        (
            {"question": "\t ", "answer": 5},
            [f"question: only white space ('\\t ') → {SOME}", f"answer: the number 5 → {SOME}"],
        ),
        (
            {"question": "Q", "answer": "A\ud800"},
            ["answer: half a character (\\ud800) → text that can be written as UTF-8"],
        ),
        ({"question": "Q", "anser": "A"}, [f"anser: {slip('answer', anser='answer')}"]),
        (
            {"question": "", "anser": "A"},
            [f"question: an empty string → {SOME}", f"anser: {slip('answer', anser='answer')}"],
        ),
        (
            {"query": "Q", "response": "A"},
            [
                f"query: {slip('question', query='question', response='answer')}",
                f"response: {slip('answer', query='question', response='answer')}",
            ],
        ),
        (
            {"instruction": "Q", "context": "C", "response": "A"},
            [f"response: {slip('output', response='output')}"],
        ),
        (
            {"question": "Q", "answer": "A", "Group": "g"},
            [f"Group: {slip('group', Group='group')}"],
        ),
        (
            {"question": "Q", "answer": "A", "answers": ["A"]},
            [f"answers: {slip('references', answers='references')}"],
        ),
        (
            {"messages": [*ASKED], "tools": [{}]},
            [f"tools[0]: an empty object without the name of a function → {TOOL}"],
        ),
        (
            {"question": "Q", "answer": "A", "prompt": "P"},
            [
                f"prompt: a column of the format 'prompt/completion', in a row read as 'question/answer' → {ONLY_ONE}",
            ],
        ),
        ({"question": "Q", "answer": "A", "system": 5}, ["system: the number 5 → a string"]),
        ({"question": "Q", "answer": "A", "id": 1.5}, [f"id: the number 1.5 → {SOME}"]),
        ({"question": "Q", "answer": "A", "group": ""}, [f"group: an empty string → {SOME}"]),
        ({"question": "Q", "answer": "A", "split": True}, [f"split: true → {SOME}"]),
        ({"question": "Q", "answer": "A", "weight": 0}, ["weight: the number 0 → a number > 0"]),
        ({"question": "Q", "answer": "A", "weight": "2"}, ["weight: the string '2' → a number > 0"]),
        ({"question": "Q", "answer": "A", "tags": {"a": 1}}, ["tags: an object → a string or a list of strings"]),
        ({"question": "Q", "answer": "A", "references": ["A", ""]}, [f"references[1]: an empty string → {SOME}"]),
        ({"question": "Q", "answer": "A", "metadata": [1]}, ["metadata: a list of 1 → an object"]),
        ({"question": "Q", "answer": "A", "metadata": {"k": {1}}}, ["metadata: a Python set → JSON values"]),
        (
            {"question": "Q", "answer": "A", "n": float("inf")},
            ["n: the number inf → JSON values (what is no column of ours is kept as metadata)"],
        ),
        (
            {"question": "Q", "answer": "A", "k": 1, "metadata": {"k": 2}},
            ["k: a column that 'metadata' holds as well → one of the two"],
        ),
        ({5: "Q", "answer": "A"}, ["None: the column 5, which is not a string → a string"]),
        ({"instruction": "Q", "output": "A", "input": 5}, ["input: the number 5 → a string"]),
        (
            {"instruction": "Q", "output": "A", "history": "x"},
            ["history: the string 'x' → a list of [question, answer] pairs"],
        ),
        (
            {"instruction": "Q", "output": "A", "history": [["q"], ["q", ""]]},
            ["history[0]: a list of 1 → a pair [question, answer]", f"history[1][1]: an empty string → {SOME}"],
        ),
        ({"messages": "Q"}, ["messages: the string 'Q' → a list of messages with 'role' and 'content'"]),
        ({"messages": None, "id": "1"}, ["messages: null → a list of messages with 'role' and 'content'"]),
        (
            {"id": "1", "x": 5},
            [f"None: the columns 'id', 'x', which make no known format → {formats('id', 'x')}"],
        ),
        ({}, [f"None: no columns → {FORMATS}"]),
        (
            {f"{i}": i for i in range(9)},
            [
                f"None: the columns '0', '1', '2', '3', '4', '5', '6', '7', …, which make no known format → {formats('0', '1')}"
            ],
        ),
        ({"messages": []}, ["messages: an empty list → at least a user's and an assistant's message"]),
        ({"messages": ["Q"]}, ["messages[0]: the string 'Q' → an object with 'role' and 'content'"]),
        (
            {"messages": [ASKED[0]]},
            [f"messages: no message of the assistant → {ANSWERED}"],
        ),
        (
            {"messages": [*ASKED, ASKED[0]]},
            ["messages: a last message of the user → the assistant's answer as the last message"],
        ),
        ({"messages": [Message("user", " "), ASKED[1]]}, [f"messages[0].content: only white space (' ') → {SOME}"]),
        ({"conversations": "Q"}, ["conversations: the string 'Q' → a list of turns with 'from' and 'value'"]),
        ({"conversations": []}, ["conversations: an empty list → at least a user's and an assistant's message"]),
        ({"conversations": [5]}, ["conversations[0]: the number 5 → an object with 'from' and 'value'"]),
        (
            {"conversations": [{"role": "user", "content": "Q"}]},
            [f"conversations: turns with 'role' and 'content' → {FROM_VALUE}"],
        ),
        (
            {"conversations": [{"from": "humn", "value": 5}, {"loss": 1}]},
            [
                f"conversations[0].from: the string 'humn' → {SPEAKERS} (did you mean 'human'?)",
                f"conversations[0].value: the number 5 → {SOME}",
                "conversations[1].loss: no such key of a turn → 'from' and 'value' only ('messages' can carry more)",
                "conversations[1].from: missing → one of human, gpt, user, assistant, system, tool",
                f"conversations[1].value: missing → {SOME}",
            ],
        ),
        (
            {"conversations": [{"from": "bot", "value": "x"}]},
            [f"conversations[0].from: the string 'bot' → {SPEAKERS} (did you mean 'assistant'?)"],
        ),
    ],
)
def test_what_is_wrong_is_named(record, problems):
    assert faults(record) == problems


def test_a_forced_format_names_its_missing_columns():
    assert faults({"id": "1"}, format="messages") == [
        "messages: missing → a list of messages with 'role' and 'content'"
    ]
    assert faults({"conversations": None}, format="sharegpt") == [
        "conversations: null → a list of turns with 'from' and 'value'"
    ]


ROLES = "one of system, developer, user, assistant, tool"
KEYS = "one of role, content, weight, trainable, reasoning_content, name, tool_call_id, tool_calls"
PART = "{'type': 'text', 'text': …}: rows of text only"
CALLS = "{'id': …, 'type': 'function', 'function': {'name': …, 'arguments': …}}"


@pytest.mark.parametrize(
    ("turn", "problems"),
    [
        ({"role": "usr", "content": "Q"}, [f"role: the string 'usr' → {ROLES} (did you mean 'user'?)"]),
        ({"role": "human", "content": "Q"}, [f"role: the string 'human' → {ROLES} (did you mean 'user'?)"]),
        ({"role": "gpt", "content": "Q"}, [f"role: the string 'gpt' → {ROLES} (did you mean 'assistant'?)"]),
        ({"role": 5, "content": "Q"}, [f"role: the number 5 → {ROLES}"]),
        ({}, [f"role: missing → {ROLES}", "content: missing → a string"]),
        ({"role": None, "content": None}, [f"role: null → {ROLES}", "content: null → a string"]),
        ({"role": "user", "content": 5}, [f"content: the number 5 → {SOME}"]),
        ({"role": "user", "content": [{"type": "text"}]}, [f"content[0]: an object → {PART}"]),
        (
            {"role": "user", "content": [{"type": "text", "text": "See:"}, {"type": "image_url", "image_url": {}}]},
            [f"content[1]: a part of type the string 'image_url' → {PART}"],
        ),
        ({"role": "user", "content": []}, [f"content: an empty string → {SOME}"]),
        (
            {"role": "assistant", "content": [{"type": "thinking", "thinking": "t"}], "reasoning_content": "r"},
            ["content: a part of type 'thinking' beside 'reasoning_content' → one of the two"],
        ),
        ({"role": "assistant", "content": ""}, [f"content: an empty string → {SOME}"]),
        (
            {"from": "human", "value": "Q"},
            [
                "from: no such key of a message → did you mean 'role'?",
                "value: no such key of a message → did you mean 'content'?",
            ],
        ),
        ({"role": "user", "contnet": "Q"}, ["contnet: no such key of a message → did you mean 'content'?"]),
        ({"role": "user", "content": "Q", "colour": 1}, [f"colour: no such key of a message → {KEYS}"]),
        ({"role": "user", "content": "Q", "weight": -1}, ["weight: the number -1 → a number ≥ 0 (0 is not trained)"]),
        ({"role": "user", "content": "Q", "weight": True}, ["weight: true → a number ≥ 0 (0 is not trained)"]),
        ({"role": "user", "content": "Q", "trainable": 1}, ["trainable: the number 1 → true or false"]),
        (
            {"role": "user", "content": "Q", "trainable": True, "weight": 0},
            ["trainable: true beside the weight 0 → 'weight' or 'trainable', or both saying the same"],
        ),
        ({"role": "user", "content": "Q", "name": ""}, [f"name: an empty string → {SOME}"]),
        ({"role": "assistant", "content": "Q", "reasoning_content": 5}, ["reasoning_content: the number 5 → a string"]),
        ({"role": "assistant", "tool_calls": "x"}, [f"tool_calls: the string 'x' → a list of {CALLS}"]),
        (
            {"role": "assistant", "tool_calls": [5]},
            [f"tool_calls[0]: the number 5 → {CALLS}"],
        ),
        (
            {"role": "assistant", "tool_calls": [{"function": {}}]},
            [f"tool_calls[0]: an object without the name of a function → {CALLS}"],
        ),
        ({"role": "assistant", "tool_calls": [{"name": "f", "x": {1}}]}, ["tool_calls[0]: a Python set → JSON values"]),
    ],
)
def test_what_is_wrong_with_a_message_is_named(turn, problems):
    assert turn_faults(turn) == [f"messages[0].{problem}" for problem in problems]


def test_text_in_parts_is_joined_and_thinking_becomes_reasoning():
    parts = [
        {"type": "thinking", "thinking": "Stadium"},
        {"type": "text", "text": "The "},
        {"type": "text", "text": "Bronx"},
    ]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Where?"}]},
        {"role": "assistant", "content": parts},
    ]
    (row,) = Dataset.from_records([{"messages": messages}])
    assert row.messages == (
        Message("user", "Where?"),
        Message("assistant", "The Bronx", reasoning_content="Stadium"),
    )


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "co\ud83c": "Q"}]},
        {"question": "Q", "answ\ud83cer": "A"},
        {"question": "Q", "answer": "", "id": "a\ud83c"},
        {"conversations": [{"from": "human", "value": "Q", "\ud83c": 1}]},
        {"question": "Q", "answer": "A", "metadata": {"\ud83c": 1}},
    ],
)
def test_an_error_about_half_a_character_can_be_written(row):
    with pytest.raises(DatasetError) as caught:
        Dataset.from_records([row])
    assert "\\ud83c" in str(caught.value.args[1])
    assert str(caught.value).encode()
