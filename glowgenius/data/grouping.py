"""Grouping of questions with the same meaning, exactly or nearly."""

from __future__ import annotations

import json
import re
import unicodedata
from array import array
from collections import defaultdict
from itertools import islice
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from glowgenius._lazy import require
from glowgenius.data.json_values import thaw

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence

    from numpy.typing import NDArray

    from glowgenius.data.message import Conversation, Message

    Key = TypeVar("Key", bound=Hashable)
    Row = TypeVar("Row")

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
    """The text normalised for comparison.

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
    # Call ids are random, so they are not compared.
    calls = [thaw(call["function"]) for call in message.tool_calls]
    return f"{folded(message.content)} {json.dumps(calls, sort_keys=True)}"


def question_key(conversation: Conversation) -> tuple[str, ...]:
    """Comparison key of a row's question: the prompt without system messages, folded.

    All turns count, since the last question of a long conversation is often no more than "and why?".
    """
    return tuple(
        f"{message.role}: {_said(message)}"
        for message in conversation.prompt
        if message.role not in ("system", "developer")
    )


def prompt_key(conversation: Conversation) -> tuple[str, ...]:
    """Like `question_key`, with system messages and tools, under which another answer may be right."""
    turns = tuple(f"{message.role}: {_said(message)}" for message in conversation.prompt)
    return (*turns, _tools(conversation)) if conversation.tools else turns


def answer_key(conversation: Conversation) -> str:
    """The last assistant message, folded; empty if there is none."""
    last = conversation.messages[len(conversation.prompt) :][:1]
    return _said(last[0]) if last else ""


def accepted_keys(conversation: Conversation) -> frozenset[str]:
    """The answer and every reference, folded: two rows agree if they share one."""
    return frozenset((answer_key(conversation), *map(folded, conversation.references)))


def _tools(conversation: Conversation) -> str:
    return json.dumps(thaw(conversation.tools), sort_keys=True)


def row_key(conversation: Conversation) -> tuple[tuple[str, str, str], ...]:
    """Comparison key of a whole row: every message exactly, and the tools."""
    turns = tuple(
        (message.role, message.content, json.dumps(thaw(message.tool_calls), sort_keys=True))
        if message.tool_calls
        else (message.role, message.content, "")
        for message in conversation.messages
    )
    return (*turns, ("tools", _tools(conversation), "")) if conversation.tools else turns


NEAR: Final = 0.8
"""Share of the 5-grams of both texts that two near duplicates have in common, in question and answer each."""

_GRAM: Final = 5
_BANDS: Final = 21
_ROWS_OF_BAND: Final = 6
"""21 bands of 6 values: a pair at 0.8 is met with probability 1 - (1 - 0.8⁶)²¹ = 0.998, one at 0.5 with 0.28."""

_NUM_PERM: Final = 128
_SEED: Final = 1
_BATCH: Final = 1024
_NEIGHBOURS: Final = 4
"""How many rows in front of it a row is compared with in one band: enough for chains, and linear in a crowd."""

_SHORT: Final = 40
"""An answer of so many characters is a name or a number: one letter makes another answer of it."""

_NUMBERS = re.compile(r"\d+")


def runs(hashes: NDArray[np.int64] | NDArray[np.uint32]) -> list[list[int]]:
    """Positions of equal values that occur more than once, in the order of the first of each."""
    order = np.argsort(hashes, kind="stable")
    ordered = hashes[order]
    starts = np.flatnonzero(np.concatenate(([True], ordered[1:] != ordered[:-1]))) if len(order) else order
    ends = np.append(starts[1:], len(order))
    several = np.flatnonzero(ends - starts > 1)
    found = [order[starts[i] : ends[i]].tolist() for i in several.tolist()]
    return sorted(found, key=lambda run: run[0])


def rows_by_key(rows: Sequence[Row], key: Callable[[Row], Key]) -> list[list[int]]:
    """Positions of rows that share a key, in groups, in the order of their first rows."""
    hashes = np.fromiter((hash(key(row)) for row in rows), dtype=np.int64, count=len(rows))
    found: list[list[int]] = []
    for run in runs(hashes):
        same: defaultdict[Key, list[int]] = defaultdict(list)
        for position in run:
            same[key(rows[position])].append(position)
        found.extend(positions for positions in same.values() if len(positions) > 1)
    return sorted(found, key=lambda positions: positions[0])


def near_duplicates(rows: Sequence[Conversation], skip: Iterable[int] = ()) -> list[list[int]]:
    """Positions of near duplicates, grouped by connected pairs, in the order of their first rows.

    Two rows are if their questions share at least `NEAR` of their character 5-grams (Jaccard, computed exactly for
    the pairs that MinHash proposes), and so do their answers; the numbers in both and answers of up to 40 characters
    have to be the same, since "in 1883" and "in 1893" are different facts.
    In a crowd of look-alikes a row is compared with the 4 before it in each band, not with all.

    Args:
        rows: The rows.
        skip: Positions to leave out, such as exact duplicates of a row before them.

    Raises:
        MissingDependencyError: The package `rensa` is not installed.
    """
    left_out = frozenset(skip)
    positions = array("q", (at for at in range(len(rows)) if at not in left_out))
    bands = _band_hashes((rows[at] for at in positions), len(positions))
    parent: dict[int, int] = {}

    def root(at: int) -> int:
        while at != (above := parent.get(at, at)):
            at = above
        return at

    for column in range(bands.shape[1]):
        for run in runs(bands[:, column]):
            for first, second in _neighbours([positions[at] for at in run]):
                low, high = sorted((root(first), root(second)))
                if low != high and _alike(rows[first], rows[second]):
                    parent[high] = low
    members: defaultdict[int, list[int]] = defaultdict(list)
    for at in sorted({*parent, *parent.values()}):
        members[root(at)].append(at)
    return sorted(members.values(), key=lambda group: group[0])


def _neighbours(run: list[int]) -> Iterator[tuple[int, int]]:
    for index, second in enumerate(run):
        for first in run[max(0, index - _NEIGHBOURS) : index]:
            yield first, second


def _band_hashes(rows: Iterable[Conversation], count: int) -> NDArray[np.uint32]:
    """A hash per row and band `[N, bands]`; never equal for rows with different numbers or short answers."""
    rensa = require("rensa", extra="check", purpose="looking for near duplicates")
    factors = np.random.default_rng(_SEED).integers(1, 2**62, size=_ROWS_OF_BAND, dtype=np.uint64) | np.uint64(1)
    hashes = np.empty((count, _BANDS), dtype=np.uint32)
    remaining = iter(rows)
    for start in range(0, count, _BATCH):
        texts = [texts_of(row) for row in islice(remaining, _BATCH)]
        matrix = rensa.RMinHash.digest_matrix_from_token_sets(
            [grams(f"{question}\n{answer}") for question, answer in texts], _NUM_PERM, _SEED
        )
        values = np.array(matrix.to_rows(), dtype=np.uint64)[:, : _BANDS * _ROWS_OF_BAND]
        mixed = (values.reshape(len(texts), _BANDS, _ROWS_OF_BAND) * factors).sum(axis=2, dtype=np.uint64)
        alike = np.array([hash(must_equal(*text)) for text in texts], dtype=np.int64).view(np.uint64)
        hashes[start : start + len(texts)] = (mixed ^ alike[:, None]) >> np.uint64(32)
    return hashes


def texts_of(row: Conversation) -> tuple[str, str]:
    """Question text and answer text, folded."""
    return "\n".join(turn.partition(": ")[2] for turn in question_key(row)), answer_key(row)


def must_equal(question: str, answer: str) -> tuple[object, ...]:
    """The parts that must be equal in near duplicates."""
    return (*_NUMBERS.findall(question), "", *_NUMBERS.findall(answer), answer if len(answer) <= _SHORT else None)


def grams(text: str) -> list[str]:
    """All 5-character substrings of *text*; a shorter text is its own."""
    return [text[at : at + _GRAM] for at in range(max(1, len(text) - _GRAM + 1))]


def _alike(first: Conversation, second: Conversation) -> bool:
    one, other = texts_of(first), texts_of(second)
    return must_equal(*one) == must_equal(*other) and all(
        _jaccard(frozenset(grams(a)), frozenset(grams(b))) >= NEAR for a, b in zip(one, other, strict=True)
    )


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / len(one | other)
