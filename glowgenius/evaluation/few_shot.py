"""Worked examples before each question: what a model knows once it has seen the form of the answers."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from attrs import evolve

from glowgenius._validators import is_integer
from glowgenius.data.sameness import question_key
from glowgenius.data.splits import permutation
from glowgenius.errors import ConfigError, EvaluationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Conversation, Message


def with_examples(
    rows: Sequence[Conversation], examples: Sequence[Conversation], *, shots: int = 5, seed: int = 0
) -> list[Conversation]:
    """*rows*, each behind *shots* worked examples as earlier turns of the same conversation.

    A base model answers in sentences, so exact match finds that it knows nothing. Shown the form, it says what it
    knows: the difference between zero-shot and few-shot is format, that between few-shot and trained is knowledge.
    Examples are drawn for each question from its own generator, from different groups; none is of the question's own
    group or asks the same, so no answer is given away.

    Args:
        rows: The questions.
        examples: Where worked examples are drawn from, such as the training set.
        shots: How many come before each question.
        seed: Of the draws.

    Raises:
        ConfigError: *shots* is no integer ≥ 1.
        EvaluationError: There are not enough examples of other groups for a question.
    """
    if not is_integer(shots) or shots < 1:
        raise ConfigError(f"shots must be an integer ≥ 1, got {shots!r}")
    keys = [question_key(example) for example in examples]
    return [_with(row, examples, keys, shots, seed) for row in rows]


def _with(
    row: Conversation, examples: Sequence[Conversation], keys: Sequence[tuple[str, ...]], shots: int, seed: int
) -> Conversation:
    own, taken = question_key(row), set[object]()
    turns: list[Message] = []
    # One question's draws do not depend on which other questions are asked.
    digest = hashlib.sha256(f"{seed} {own}".encode()).digest()
    for position in permutation(len(examples), int.from_bytes(digest[:6], "big")):
        example = examples[position]
        group: object = keys[position] if example.group is None else example.group
        if keys[position] == own or group in taken or (row.group is not None and example.group == row.group):
            continue
        taken.add(group)
        turns += [message for message in example.messages if message.role not in ("system", "developer")]
        if len(taken) == shots:
            opening = [message for message in row.messages if message.role in ("system", "developer")]
            return evolve(row, messages=(*opening, *turns, *row.messages[len(opening) :]))
    raise EvaluationError(
        f"{shots} worked examples were asked for, and only {len(taken)} of other groups can be had for the question "
        f"{row.question!r}; give more examples, or fewer shots"
    )
