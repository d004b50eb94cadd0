"""Which messages each value of TrainOn chooses."""

from __future__ import annotations

import pytest

from glowgenius.data.message import Message
from glowgenius.errors import ConfigError
from glowgenius.rendering import TrainOn
from glowgenius.rendering.renderer import message_weights

ROLES = ["system", "user", "assistant", "developer", "user", "assistant", "tool", "assistant"]

EXPECTED = {
    TrainOn.LAST_ASSISTANT_MESSAGE: [0, 0, 0, 0, 0, 0, 0, 1],
    TrainOn.LAST_ASSISTANT_TURN: [0, 0, 0, 0, 0, 1, 0, 1],
    TrainOn.ALL_ASSISTANT_MESSAGES: [0, 0, 1, 0, 0, 1, 0, 1],
    TrainOn.ALL_MESSAGES: [1, 1, 1, 1, 1, 1, 1, 1],
    TrainOn.ALL_TOKENS: [1, 1, 1, 1, 1, 1, 1, 1],
    TrainOn.ALL_USER_AND_SYSTEM_MESSAGES: [1, 1, 0, 1, 1, 0, 0, 0],
    TrainOn.CUSTOMIZED: [0, 0, 0, 0, 0, 0, 0, 0],
}


def test_the_values_are_those_of_the_cookbook():
    assert [value.value for value in TrainOn] == [
        "last_assistant_message",
        "last_assistant_turn",
        "all_assistant_messages",
        "all_messages",
        "all_tokens",
        "all_user_and_system_messages",
        "customized",
    ]


@pytest.mark.parametrize("train_on", TrainOn)
def test_each_value_chooses_its_messages(train_on):
    messages = [Message(role, "text") for role in ROLES]
    assert message_weights(messages, train_on) == EXPECTED[train_on]


def test_the_last_message_is_only_trained_if_the_assistant_speaks():
    messages = [Message("user", "a"), Message("assistant", "b"), Message("user", "c")]
    assert message_weights(messages, TrainOn.LAST_ASSISTANT_MESSAGE) == [0, 0, 0]
    assert message_weights(messages, TrainOn.LAST_ASSISTANT_TURN) == [0, 0, 0]
    assert message_weights(messages, TrainOn.ALL_ASSISTANT_MESSAGES) == [0, 1, 0]


@pytest.mark.parametrize("train_on", TrainOn)
def test_a_message_weight_multiplies_the_choice(train_on):
    weights = [None, 0.5, 0.0, None, 2.0, 0.25, 1.0, None]
    messages = [Message(role, "text", weight=weight) for role, weight in zip(ROLES, weights, strict=True)]
    chosen = [weight is not None for weight in weights] if train_on is TrainOn.CUSTOMIZED else EXPECTED[train_on]
    own = [1.0 if weight is None else weight for weight in weights]
    assert message_weights(messages, train_on) == [a * b for a, b in zip(chosen, own, strict=True)]


@pytest.mark.parametrize(
    ("word", "hint"), [("all_assistant", " (did you mean 'all_assistant_messages'?)"), ("qqq", ""), (3, "")]
)
def test_another_word_is_refused_with_the_nearest(word, hint):
    with pytest.raises(ConfigError) as caught:
        TrainOn(word)
    assert str(caught.value) == (
        "train_on must be one of 'last_assistant_message', 'last_assistant_turn', 'all_assistant_messages', "
        f"'all_messages', 'all_tokens', 'all_user_and_system_messages', 'customized', got {word!r}{hint}"
    )
