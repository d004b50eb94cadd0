"""What happens to an example that is longer than `max_length`."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, assert_never, final

import numpy as np
from attrs import frozen
from typing_extensions import override

from glowgenius._validators import is_integer
from glowgenius.errors import ConfigError, Problem, SequenceTooLongError, nearest
from glowgenius.rendering.renderer import RenderedExample

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Conversation


class Overflow(StrEnum):
    """The policies for examples that are too long; a silent cut is none of them."""

    ERROR = "error"
    """Refuse, and list every row that is too long."""

    DROP = "drop"
    """Leave the row out, and count it."""

    TRUNCATE = "truncate"
    """Cut the prompt from the left, never a trained token, and count the row."""

    TRUNCATE_ANSWERS = "truncate_answers"
    """As `truncate`, and where no more of the prompt is left, cut the end of the answers too, and count that apart.

    An answer that is cut trains no stop token.
    """

    @classmethod
    @override
    def _missing_(cls, value: object) -> Overflow:
        known = [member.value for member in cls]
        hint = nearest(value, known) if isinstance(value, str) else ""
        choices = ", ".join(repr(word) for word in known)
        raise ConfigError(f"on_overflow must be one of {choices}, got {value!r}{hint}")


@final
@frozen(kw_only=True)
class Fitted:
    """What became of a list of examples under a length limit."""

    examples: tuple[RenderedExample, ...]
    """Those that are left, in their order."""

    rows: tuple[int, ...]
    """Which row each of `examples` was, 0-based."""

    dropped: tuple[int, ...]
    """Rows that were left out."""

    truncated: tuple[int, ...]
    """Rows of which untrained tokens were cut, or more."""

    cut_answers: tuple[int, ...]
    """Those of `truncated` that lost trained tokens as well."""


def fit(
    example: RenderedExample,
    max_length: int | None,
    policy: Overflow | str = Overflow.ERROR,
    *,
    bos_token_id: int | None = None,
) -> RenderedExample | None:
    """*example* with at most *max_length* tokens; the very same object where it fits, None where it is dropped.

    `truncate` first takes the untrained tokens behind the last trained one, which no trained token can see,
    and then tokens from the left, but not a BOS at the very beginning.
    It never takes a trained token, nor the last token in front of the first trained one, from which that is predicted.
    `truncate_answers` takes trained ones from the right where that is not enough.

    Args:
        example: Left as it is; a cut makes a new one.
        max_length: Most tokens the whole example may have, the first one included; None is no limit.
        policy: What to do with an example that is longer.
        bos_token_id: The token that `truncate` keeps if it is the very first one.

    Raises:
        ConfigError: *max_length* or *policy* is not valid.
        SequenceTooLongError: It is too long and may not be dropped, or truncation would have to cut trained tokens.
    """
    result = _fit(example, max_length, Overflow(policy), bos_token_id)
    if isinstance(result, Problem):
        raise SequenceTooLongError(f"the example is longer than max_length={max_length}", [result])
    return result


def fit_all(
    examples: Sequence[RenderedExample],
    max_length: int | None,
    policy: Overflow | str = Overflow.ERROR,
    *,
    bos_token_id: int | None = None,
    conversations: Sequence[Conversation] | None = None,
) -> Fitted:
    """`fit` for a whole data set, with every offending row in one error.

    Args:
        examples: In the order of the data.
        max_length: As in `fit`.
        policy: As in `fit`.
        bos_token_id: As in `fit`.
        conversations: The rows the examples were rendered from, one each, to name them by file and line in an error.

    Raises:
        ConfigError: An argument is not valid.
        SequenceTooLongError: `problems` has one entry for each row that cannot be kept.
    """
    if conversations is not None and len(conversations) != len(examples):
        raise ConfigError(f"one conversation per example, got {len(conversations)} for {len(examples)}")
    kept: list[tuple[int, RenderedExample]] = []
    dropped: list[int] = []
    truncated: list[int] = []
    cut_answers: list[int] = []
    problems: list[Problem] = []
    for row, example in enumerate(examples):
        result = _fit(example, max_length, Overflow(policy), bos_token_id)
        if isinstance(result, Problem):
            problems.append(_located(result, row, None if conversations is None else conversations[row]))
        elif result is None:
            dropped.append(row)
        else:
            kept.append((row, result))
            if result is not example:
                truncated.append(row)
            if result.num_trained < example.num_trained:
                cut_answers.append(row)
    if problems:
        raise SequenceTooLongError(f"{len(problems)} of {len(examples)} rows exceed max_length={max_length}", problems)
    return Fitted(
        examples=tuple(example for _, example in kept),
        rows=tuple(row for row, _ in kept),
        dropped=tuple(dropped),
        truncated=tuple(truncated),
        cut_answers=tuple(cut_answers),
    )


def _fit(
    example: RenderedExample, max_length: int | None, policy: Overflow, bos_token_id: int | None
) -> RenderedExample | Problem | None:
    """The example that fits, None where it is dropped, or the reason why it cannot be kept."""
    if max_length is not None and (not is_integer(max_length) or max_length < 2):  # noqa: PLR2004 - see shift
        raise ConfigError(
            f"max_length must be None or an integer ≥ 2, got {max_length!r} ({type(max_length).__name__})"
        )
    if max_length is None or len(example) <= max_length:
        return example
    match policy:
        case Overflow.ERROR:
            return Problem(
                found=f"{len(example)} tokens, {len(example) - max_length} too many",
                accepted=f"raise max_length, shorten the row, or {_policies(example, max_length, bos_token_id)}",
            )
        case Overflow.DROP:
            return None
        case Overflow.TRUNCATE | Overflow.TRUNCATE_ANSWERS:
            return _truncate(example, max_length, bos_token_id, answers=policy is Overflow.TRUNCATE_ANSWERS)
        case _:
            assert_never(policy)


def _policies(example: RenderedExample, max_length: int, bos_token_id: int | None) -> str:
    """The policies that accept *example*: a cut prompt is advised only where the trained tokens fit."""
    if not example.weights[1:].any():
        return "on_overflow='drop'"
    cut = _truncate(example, max_length, bos_token_id, answers=False)
    return f"on_overflow='drop' or {'truncate_answers' if isinstance(cut, Problem) else 'truncate'!r}"


def _truncate(
    example: RenderedExample, max_length: int, bos_token_id: int | None, *, answers: bool
) -> RenderedExample | Problem:
    """*example* cut to *max_length*, with *answers* also by trained tokens at the end."""
    trained = np.flatnonzero(example.weights[1:]) + 1
    if not len(trained):
        return Problem(found=f"{len(example)} tokens, none of them trained", accepted="a row with something to train")
    first, end = int(trained[0]), int(trained[-1]) + 1
    end = max(end, max_length)  # only as much of the untrained tail goes as has to
    keep = 1 if bos_token_id is not None and int(example.tokens[0]) == bos_token_id else 0
    # The first trained token needs one token before it; a BOS will do.
    needed = keep + end - first if keep else end - first + 1
    if needed > max_length and answers:
        end -= needed - max_length
    elif needed > max_length:
        return Problem(
            found=f"{len(example)} tokens, and truncation would have to cut trained ones: they span {end - first}",
            accepted=f"max_length ≥ {needed}, a shorter answer, or on_overflow='drop' or 'truncate_answers'",
        )
    start = end - (max_length - keep)
    tokens = np.concatenate([example.tokens[:keep], example.tokens[start:end]])
    weights = np.concatenate([example.weights[:keep], example.weights[start:end]])
    if not keep:
        weights[0] = 0  # what is now first has nothing before it
    return RenderedExample(tokens, weights)


def _located(problem: Problem, row: int, conversation: Conversation | None) -> Problem:
    """*problem* with the place of its row."""
    source = None if conversation is None else conversation.source
    return Problem(
        found=problem.found,
        accepted=problem.accepted,
        path=None if source is None else source.path,
        line=None if source is None else source.line,
        row=row if source is None else source.row,
        row_id=None if conversation is None else conversation.id,
    )
