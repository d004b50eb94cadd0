"""Hypothesis strategies for everything that a row of a data set can hold."""

from __future__ import annotations

from hypothesis import strategies as st

from glowgenius.data import Conversation, Dataset, Message

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
"""Any text that UTF-8 can hold: control characters, line separators and emoji included."""

WORDS = TEXT.filter(str.strip)
"""Text with something visible in it."""

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**80), 2**80) | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=3,
)

TOOL_CALLS = st.builds(
    lambda name, arguments: {"id": "call", "type": "function", "function": {"name": name, "arguments": arguments}},
    WORDS,
    st.dictionaries(WORDS, JSON_VALUES, max_size=2),
)

WEIGHTS = st.none() | st.floats(0, 1000)

ASSISTANT_MESSAGES = st.builds(
    Message,
    st.just("assistant"),
    WORDS,
    weight=WEIGHTS,
    reasoning_content=st.none() | TEXT,
    name=st.none() | WORDS,
    tool_calls=st.lists(TOOL_CALLS, max_size=2),
) | st.builds(Message, st.just("assistant"), TEXT, tool_calls=st.lists(TOOL_CALLS, min_size=1, max_size=2))

OTHER_MESSAGES = (
    st.builds(Message, st.sampled_from(["system", "developer"]), TEXT, weight=WEIGHTS)
    | st.builds(Message, st.just("user"), WORDS, weight=WEIGHTS, name=st.none() | WORDS)
    | st.builds(Message, st.just("tool"), TEXT, tool_call_id=st.none() | WORDS)
)

CONVERSATIONS = st.builds(
    lambda start, end, **options: Conversation(messages=[*start, end], **options),
    st.lists(OTHER_MESSAGES | ASSISTANT_MESSAGES, max_size=3),
    ASSISTANT_MESSAGES,
    id=st.none() | WORDS,
    group=st.none() | WORDS,
    split=st.none() | WORDS,
    tags=st.lists(WORDS, max_size=2),
    references=st.lists(WORDS, max_size=2),
    weight=st.floats(0, 1000, exclude_min=True),
    metadata=st.dictionaries(TEXT, JSON_VALUES, max_size=2),
)

DATASETS = st.lists(CONVERSATIONS, min_size=1, max_size=3).map(Dataset)


def questions(*texts: str, group: str | None = None) -> list[Conversation]:
    """A row for each question, with an answer that names it."""
    return [Conversation.from_question(text, f"Answer to {text}", group=group) for text in texts]
