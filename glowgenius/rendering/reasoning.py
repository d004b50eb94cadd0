"""Reasoning that stands within an answer as `<think>…</think>`, the form of most public traces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from attrs import evolve

from glowgenius.rendering.renderer import unrenderable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Message

_INLINE: Final = re.compile(r"\s*<(think|thinking)>(.*?)</\1>\s*(.*)", re.DOTALL)
_OPENED: Final = re.compile(r"\s*<(think|thinking)>")


def begins_with_reasoning(content: str) -> bool:
    """Whether an answer begins with `<think>`; one that only mentions it does not."""
    return "<think" in content and _OPENED.match(content) is not None


def split_reasoning(messages: Sequence[Message]) -> Sequence[Message]:
    """*messages* with the reasoning that an assistant's content begins with as its `reasoning_content`.

    White space around both parts goes: the template writes its own. What is only mentioned stays text.

    Raises:
        RenderingError: Reasoning begins and does not end, or stands there twice.
    """
    if not any("<think" in message.content for message in messages):
        return messages
    return [_split(index, message) for index, message in enumerate(messages)]


def _split(index: int, message: Message) -> Message:
    if message.role != "assistant" or not begins_with_reasoning(message.content):
        return message
    found = _INLINE.fullmatch(message.content)
    if found is None:
        raise unrenderable(
            "it begins with reasoning that does not end",
            "'</think>' and the answer behind it, or the reasoning as 'reasoning_content'",
            field=f"messages[{index}].content",
        )
    if message.reasoning_content is not None:
        raise unrenderable(
            "it begins with reasoning beside 'reasoning_content'", "one of the two", field=f"messages[{index}].content"
        )
    return evolve(message, reasoning_content=found[2].strip(), content=found[3])
