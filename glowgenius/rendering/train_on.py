"""Which messages of a conversation are trained."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, assert_never

from typing_extensions import override

from glowgenius.errors import ConfigError, nearest

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Message

_ASSISTANT = "assistant"


class TrainOn(StrEnum):
    """Which tokens carry loss; the names and meanings are those of tinker-cookbook's `TrainOnWhat`.

    A trained message is its content together with the token that ends its turn.
    The header in front of it (`<|im_start|>assistant`) belongs to the prompt; only `ALL_TOKENS` trains it.
    A `weight` on a message multiplies whatever is chosen here.
    """

    LAST_ASSISTANT_MESSAGE = "last_assistant_message"
    """The last message, which has to be the assistant's."""

    LAST_ASSISTANT_TURN = "last_assistant_turn"
    """Every assistant message after the last user message: tool calls and the reply they lead to."""

    ALL_ASSISTANT_MESSAGES = "all_assistant_messages"
    """Every assistant message."""

    ALL_MESSAGES = "all_messages"
    """Every message, whoever speaks."""

    ALL_TOKENS = "all_tokens"
    """Every token, headers too; the first one never, because nothing comes before it to predict it from."""

    ALL_USER_AND_SYSTEM_MESSAGES = "all_user_and_system_messages"
    """Every user, system and developer message."""

    CUSTOMIZED = "customized"
    """The messages that say so by their own `weight`; a message without one is not trained."""

    @classmethod
    @override
    def _missing_(cls, value: object) -> TrainOn:
        known = [member.value for member in cls]
        hint = nearest(value, known) if isinstance(value, str) else ""
        choices = ", ".join(repr(word) for word in known)
        raise ConfigError(f"train_on must be one of {choices}, got {value!r}{hint}")


def message_weights(messages: Sequence[Message], train_on: TrainOn) -> list[float]:
    """The loss weight of each message: 0 where *train_on* leaves it out, else its own `weight` or 1."""
    return [
        (1.0 if message.weight is None else message.weight) if chosen else 0.0
        for message, chosen in zip(messages, _chosen(messages, train_on), strict=True)
    ]


def _chosen(messages: Sequence[Message], train_on: TrainOn) -> list[bool]:
    """Whether each message is trained, before its own weight."""
    roles = [message.role for message in messages]
    match train_on:
        case TrainOn.LAST_ASSISTANT_MESSAGE:
            last = len(roles) - 1
            return [role == _ASSISTANT and index == last for index, role in enumerate(roles)]
        case TrainOn.LAST_ASSISTANT_TURN:
            last_user = max((index for index, role in enumerate(roles) if role == "user"), default=-1)
            return [role == _ASSISTANT and index > last_user for index, role in enumerate(roles)]
        case TrainOn.ALL_ASSISTANT_MESSAGES:
            return [role == _ASSISTANT for role in roles]
        case TrainOn.ALL_MESSAGES | TrainOn.ALL_TOKENS:
            return [True] * len(roles)
        case TrainOn.ALL_USER_AND_SYSTEM_MESSAGES:
            return [role in ("user", "system", "developer") for role in roles]
        case TrainOn.CUSTOMIZED:
            return [message.weight is not None for message in messages]
        case _:
            assert_never(train_on)
