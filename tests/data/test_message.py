from __future__ import annotations

import copy
import pickle

import attrs
import pytest
from hypothesis import given, settings

from glowgenius.data import Conversation, Message, Source
from glowgenius.errors import ConfigError
from tests.support.conversations import CONVERSATIONS

FORM = "{'id': …, 'type': 'function', 'function': {'name': …, 'arguments': …}}"
CALL = {"id": "1", "type": "function", "function": {"name": "find", "arguments": {"what": ["a", 1]}}}


def message_error(*args, **options):
    with pytest.raises(ConfigError) as caught:
        Message(*args, **options)
    return str(caught.value)


def conversation_error(**options):
    with pytest.raises(ConfigError) as caught:
        Conversation(**{"messages": [Message("user", "Q"), Message("assistant", "A")], **options})
    return str(caught.value)


def test_a_message_says_which_roles_there_are():
    assert message_error("usr", "Q") == (
        "Message.role must be one of 'system', 'developer', 'user', 'assistant', 'tool', "
        "got 'usr' (str) (did you mean 'user'?)"
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"content": 5}, "Message.content must be a string, got 5 (int)"),
        (
            {"content": "a\ud83d"},
            "Message.content must be text without half a character (\\ud83d), got 'a\\ud83d' (str)",
        ),
        ({"weight": -1}, "Message.weight must be None or a number ≥ 0, got -1.0 (float)"),
        ({"weight": 10**400}, "Message.weight must be None or a number ≥ 0, got inf (float)"),
        ({"weight": True}, "Message.weight must be None or a number ≥ 0, got True (bool)"),
        ({"weight": "1"}, "Message.weight must be None or a number ≥ 0, got '1' (str)"),
        ({"name": ""}, "Message.name must be None or a non-empty string, got '' (str)"),
        ({"tool_call_id": 5}, "Message.tool_call_id must be None or a non-empty string, got 5 (int)"),
        ({"reasoning_content": 5}, "Message.reasoning_content must be None or a string, got 5 (int)"),
        ({"tool_calls": 5}, "Message.tool_calls must be a list, got the number 5"),
        ({"tool_calls": ["find"]}, f"Message.tool_calls[0]: the string 'find' → {FORM}"),
        ({"tool_calls": [{"a": {1}}]}, "Message.tool_calls[0]: a Python set → JSON values"),
    ],
)
def test_a_message_is_valid_by_construction(options, message):
    assert message_error(**{"role": "assistant", "content": "A", **options}) == message


def test_a_message_may_be_empty_since_models_answer_with_nothing():
    assert Message("assistant", "").content == ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"messages": []}, "Conversation.messages must be at least one message, got () (tuple)"),
        (
            {"messages": [{"role": "user"}]},
            "Conversation.messages[0].content: missing → a string",
        ),
        ({"id": 7}, "Conversation.id must be None or a non-empty string, got 7 (int)"),
        ({"group": " "}, "Conversation.group must be None or a non-empty string, got ' ' (str)"),
        ({"split": 1}, "Conversation.split must be None or a non-empty string, got 1 (int)"),
        ({"tags": ["a", 5]}, "Conversation.tags must be a sequence of str, got 5 (int)"),
        ({"references": ["A", ""]}, "Conversation.references must be a non-empty string, got '' (str)"),
        ({"weight": 0}, "Conversation.weight must be a number > 0, got 0.0 (float)"),
        ({"weight": float("nan")}, "Conversation.weight must be a number > 0, got nan (float)"),
        ({"metadata": {"a": float("inf")}}, "tools, tool calls and metadata hold JSON values only, got the number inf"),
        ({"metadata": 5}, "Conversation.metadata must be a mapping, got 5 (int)"),
    ],
)
def test_a_conversation_is_valid_by_construction(options, message):
    assert conversation_error(**options) == message


def test_one_reference_is_one_answer_and_not_its_letters():
    assert Conversation.from_question("Q", "A", references="Bronx").references == ("Bronx",)


def test_from_question_sets_every_column():
    row = Conversation.from_question(
        "Q",
        "A",
        system="S",
        id="1",
        group="g",
        split="test",
        tags=["t"],
        references=["A", "a"],
        weight=2,
        metadata={"k": 1},
    )
    assert row == Conversation(
        messages=(Message("system", "S"), Message("user", "Q"), Message("assistant", "A")),
        id="1",
        group="g",
        split="test",
        tags=("t",),
        references=("A", "a"),
        weight=2.0,
        metadata={"k": 1},
    )
    assert row.to_record() == {
        "id": "1",
        "group": "g",
        "split": "test",
        "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": "A"},
        ],
        "tags": ["t"],
        "references": ["A", "a"],
        "weight": 2.0,
        "metadata": {"k": 1},
    }


def test_what_is_not_set_is_not_written():
    assert Conversation.from_question("Q", "A").to_record() == {
        "messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]
    }


def test_prompt_question_and_answer_of_a_long_conversation():
    system, first, hello, second, answer = messages = (
        Message("system", "S"),
        Message("user", "Hi"),
        Message("assistant", "Hello"),
        Message("user", "Q"),
        Message("assistant", "A"),
    )
    row = Conversation(messages=messages)
    assert row.prompt == (system, first, hello, second)
    assert (row.question, row.answer, row.accepted_answers) == ("Q", "A", ("A",))
    assert attrs.evolve(row, references=("x", "y")).accepted_answers == ("x", "y")
    unanswered = Conversation(messages=messages[:2])
    assert (unanswered.prompt, unanswered.question, unanswered.answer) == (messages[:2], "Hi", "")
    assert Conversation(messages=(answer,)).question == ""


def test_templates_get_plain_values_and_never_the_weight():
    message = Message("assistant", "", weight=0, reasoning_content="hm", name="n", tool_call_id="c", tool_calls=[CALL])
    expected = {
        "role": "assistant",
        "content": "",
        "reasoning_content": "hm",
        "name": "n",
        "tool_call_id": "c",
        "tool_calls": [CALL],
    }
    assert message.to_dict() == expected
    assert type(message.to_dict()["tool_calls"][0]["function"]["arguments"]["what"]) is list
    assert message.to_record() == {**expected, "weight": 0.0}
    assert Message("user", "Q").to_dict() == {"role": "user", "content": "Q"}


def test_the_repr_shows_what_is_set():
    row = Conversation.from_question("Q", "A", id="1")
    assert repr(row) == "Conversation(id='1', messages=(Message('user', 'Q'), Message('assistant', 'A')))"
    assert repr(Message("assistant", "A", weight=0)) == "Message('assistant', 'A', weight=0.0)"


def test_the_source_makes_no_difference():
    row = Conversation.from_question("Q", "A")
    moved = attrs.evolve(row, source=Source("a.jsonl", 3, 2))
    assert row == moved
    assert hash(row) == hash(moved)


@settings(max_examples=30)
@given(CONVERSATIONS)
def test_values_are_hashable_picklable_and_frozen(row):
    for twin in (pickle.loads(pickle.dumps(row)), copy.deepcopy(row)):  # noqa: S301 - our own bytes
        assert twin == row
        assert hash(twin) == hash(row)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        row.id = "other"
