"""When two rows are the same to a reader: keys that ignore how a text is written."""

from __future__ import annotations

import json
import unicodedata
from typing import TYPE_CHECKING

from glowgenius.data.frozen import thaw

if TYPE_CHECKING:
    from glowgenius.data.message import Conversation, Message

_SAME_SIGN = str.maketrans(
    {
        **dict.fromkeys("‘’‚‛′‵ʹʼ´＇`", "'"),
        **dict.fromkeys("“”„‟″‶«»＂", '"'),
        **dict.fromkeys("‐‑‒–—―−﹣－⁃", "-"),
        **dict.fromkeys("\u00ad\u200b\u200c\u200d\u2060\ufeff\u200e\u200f\ufe0e\ufe0f", None),
    }
)
"""Kinds of one sign → that sign; None for signs that have no width. Before NFKC, which takes some of them apart."""

_SAME_LETTER = str.maketrans(
    {
        **dict(zip("аеорсухіјѕһԁԛԝ", "aeopcyxijshdqw", strict=True)),
        **dict(zip("αοιρυνκ", "aoipuvk", strict=True)),
    }
)
"""Small Cyrillic and Greek letters that fonts draw like Latin ones → those."""

_END = " ?.!"


def folded(text: str) -> str:
    """The text as far as a reader tells texts apart.

    Case, white space, compatibility characters, kinds of quotes and dashes, letters of other scripts that look Latin,
    signs without width, and a closing question mark or full stop make no difference.
    """
    if text.isascii():
        same = " ".join(text.replace("`", "'").lower().split())
    else:
        plain = unicodedata.normalize("NFKC", text.translate(_SAME_SIGN)).casefold()
        same = " ".join(plain.translate(_SAME_LETTER).split())
    return same.rstrip(_END) or same


def _said(message: Message) -> str:
    if not message.tool_calls:
        return folded(message.content)
    # An id is made anew at every call, and says nothing about it.
    calls = [thaw(call["function"]) for call in message.tool_calls]
    return f"{folded(message.content)} {json.dumps(calls, sort_keys=True)}"


def question_key(conversation: Conversation) -> tuple[str, ...]:
    """What two rows have in common that ask the same: the prompt's turns but for the system's, folded.

    All turns count, since the last question of a long conversation is often no more than "and why?".
    """
    return tuple(
        f"{message.role}: {_said(message)}"
        for message in conversation.prompt
        if message.role not in ("system", "developer")
    )


def prompt_key(conversation: Conversation) -> tuple[str, ...]:
    """As `question_key`, with the system's turns and the tools: under others another answer may be right."""
    turns = tuple(f"{message.role}: {_said(message)}" for message in conversation.prompt)
    return (*turns, _tools(conversation)) if conversation.tools else turns


def answer_key(conversation: Conversation) -> str:
    """The last assistant message, folded; empty where there is none."""
    last = conversation.messages[len(conversation.prompt) :][:1]
    return _said(last[0]) if last else ""


def accepted_keys(conversation: Conversation) -> frozenset[str]:
    """The answer and every reference, folded: two rows agree if they have one in common."""
    return frozenset((answer_key(conversation), *map(folded, conversation.references)))


def _tools(conversation: Conversation) -> str:
    return json.dumps(thaw(conversation.tools), sort_keys=True)


def row_key(conversation: Conversation) -> tuple[tuple[str, str, str], ...]:
    """What is the same in two rows that are trained the same: every turn, to the letter, and the tools."""
    turns = tuple(
        (message.role, message.content, json.dumps(thaw(message.tool_calls), sort_keys=True))
        if message.tool_calls
        else (message.role, message.content, "")
        for message in conversation.messages
    )
    return (*turns, ("tools", _tools(conversation), "")) if conversation.tools else turns
