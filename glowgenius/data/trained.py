"""Hashes of the training questions: enough to recognise a question later, without storing its text."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import zlib
from collections import Counter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

import numpy as np
from attrs import field, frozen

from glowgenius.data.grouping import NEAR, grams, must_equal, question_key, texts_of
from glowgenius.errors import CheckpointError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from glowgenius.data.dataset import Dataset
    from glowgenius.data.message import Conversation
    from glowgenius.typing import JSON

Known: TypeAlias = Literal["exactly", "nearly", "by group"]
"""How a question was trained: itself, one that is nearly the same, or another of its group."""

_VERSION: Final = 1
_WIDEST: Final = 32
"""Values of a sketch: a question of up to 36 characters is compared exactly."""

_NARROWEST: Final = 8
_BUDGET: Final = 1_000_000
"""Values of all sketches together, which are 4 MB."""

_EMPTY: Final = np.uint32(0xFFFFFFFF)


@final
@frozen(kw_only=True, eq=False)
class Trained:
    """Hashes of the training rows of a run."""

    num_rows: int
    """How many rows were trained."""

    questions: NDArray[np.uint64] = field(repr=False)
    """A hash of each question, as far as a reader tells questions apart; sorted, each once."""

    groups: NDArray[np.uint64] = field(repr=False)
    """A hash of each group; sorted, each once."""

    answers: NDArray[np.uint64] = field(repr=False)
    """Of each row, a hash of what a near duplicate has to share: the numbers, and a short answer."""

    sketches: NDArray[np.uint32] = field(repr=False)
    """Of each row the smallest hashes of the 5-grams of its question, `[N, k]`; k is 0 where rows are too many."""

    @classmethod
    def of(cls, rows: Sequence[Conversation]) -> Trained:
        """The hashes of *rows*."""
        width = min(_WIDEST, _BUDGET // max(len(rows), 1))
        width = width if width >= _NARROWEST else 0
        sketches = np.full((len(rows), width), _EMPTY, dtype=np.uint32)
        answers = np.zeros(len(rows) if width else 0, dtype=np.uint64)
        if width:
            for at, row in enumerate(rows):
                question, answer = texts_of(row)
                found = _sketch(question, width)
                sketches[at, : len(found)] = found
                answers[at] = _hash(must_equal(question, answer))
        return cls(
            num_rows=len(rows),
            questions=_distinct(_hash(question_key(row)) for row in rows),
            groups=_distinct(_hash(row.group) for row in rows if row.group is not None),
            answers=answers,
            sketches=sketches,
        )

    def known(self, rows: Sequence[Conversation]) -> list[Known | None]:
        """How each of *rows* was trained (exactly, nearly, by group); None if it was not.

        Nearly the same are questions that share 80 % of their 5-grams, by their sketches, and all numbers, with the
        same answer where that is short.
        """
        index = _Index(self)
        return [self._known(row, index) for row in rows]

    def _known(self, row: Conversation, index: _Index) -> Known | None:
        if question_key(row) and _is_in(self.questions, _hash(question_key(row))):
            return "exactly"
        if index.has_near(row):
            return "nearly"
        if row.group is not None and _is_in(self.groups, _hash(row.group)):
            return "by group"
        return None

    def to_json(self) -> dict[str, JSON]:
        """The hashes as a JSON object."""
        arrays: dict[str, Any] = {
            "questions": self.questions,
            "groups": self.groups,
            "answers": self.answers,
            "sketches": self.sketches,
        }
        return {
            "version": _VERSION,
            "rows": self.num_rows,
            "sketch_width": self.sketches.shape[1],
            **{
                name: base64.b64encode(array.astype(array.dtype.newbyteorder("<")).tobytes()).decode()
                for name, array in arrays.items()
            },
        }

    @classmethod
    def from_json(cls, values: Mapping[str, Any], place: str) -> Trained:
        """The hashes that `to_json` wrote.

        Raises:
            CheckpointError: It is not; *place* says where it stands.
        """
        try:
            width = int(values["sketch_width"])
            wide = {name: _array(values[name], "<u8") for name in ("questions", "groups", "answers")}
            sketches = _array(values["sketches"], "<u4").reshape(-1 if width else int(values["rows"]), width)
            wide["answers"] = wide["answers"].reshape(len(sketches) if width else 0)
            return cls(num_rows=int(values["rows"]), sketches=sketches.astype(np.uint32), **wide)
        except (KeyError, TypeError, ValueError, binascii.Error) as error:
            raise CheckpointError(f"{place}: not a record of what was trained: {error!r}") from error


@final
class _Index:
    """Finds rows whose sketches share values with a question's sketch.

    Args:
        trained: Has the sketches.
    """

    def __init__(self, trained: Trained) -> None:
        self._trained = trained
        self._width = trained.sketches.shape[1]
        flat = trained.sketches.ravel()
        self._order = np.argsort(flat, kind="stable")
        self._values = flat[self._order]

    def has_near(self, row: Conversation) -> bool:
        """Whether a near duplicate was trained."""
        question, answer = texts_of(row)
        if not self._width or not question:
            return False
        own = _sketch(question, self._width)
        starts, ends = (np.searchsorted(self._values, own, side=side) for side in ("left", "right"))
        hits = Counter(
            int(at) // self._width for start, end in zip(starts, ends, strict=True) for at in self._order[start:end]
        )
        wanted = np.uint64(_hash(must_equal(question, answer)))
        return any(
            count >= NEAR / 2 * len(own)
            and self._trained.answers[at] == wanted
            and _alike(own, self._trained.sketches[at], self._width) >= NEAR
            for at, count in hits.items()
        )


def without(rows: Dataset, held: Dataset) -> Dataset | None:
    """*rows* minus those of *held*, with multiplicity; None if some are not among them."""
    left = Counter(json.dumps(row.to_record(), sort_keys=True) for row in held)
    kept: list[int] = []
    for at, row in enumerate(rows):
        record = json.dumps(row.to_record(), sort_keys=True)
        if left[record]:
            left[record] -= 1
        else:
            kept.append(at)
    return rows.select(kept) if kept and not left.total() else None


def _hash(value: object) -> int:
    """A hash that is the same on every machine and in every process."""
    return int.from_bytes(
        hashlib.blake2b(repr(value).encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little"
    )


def _distinct(hashes: Iterable[int]) -> NDArray[np.uint64]:
    return np.unique(np.fromiter(hashes, dtype=np.uint64))


def _is_in(ordered: NDArray[np.uint64], value: int) -> bool:
    at = int(np.searchsorted(ordered, np.uint64(value)))
    return at < len(ordered) and int(ordered[at]) == value


def _sketch(text: str, width: int) -> NDArray[np.uint32]:
    """Bottom-k sketch of *text*: the smallest hashes of its 5-grams, at most *width*, sorted."""
    hashes = {zlib.crc32(gram.encode("utf-8", "surrogatepass")) for gram in grams(text)} - {int(_EMPTY)}
    return np.array(sorted(hashes)[:width], dtype=np.uint32)


def _alike(one: NDArray[np.uint32], padded: NDArray[np.uint32], width: int) -> float:
    """Jaccard similarity of two texts' 5-grams: exact if the sketches hold all, else estimated by bottom-k."""
    other = padded[padded != _EMPTY]
    union = np.union1d(one, other)
    if max(len(one), len(other)) >= width:
        union = union[:width]
    return float(np.isin(union, np.intersect1d(one, other)).mean()) if len(union) else 0.0


def _array(text: str, kind: str) -> NDArray[Any]:
    array = np.frombuffer(base64.b64decode(text, validate=True), dtype=kind)
    return array.astype(array.dtype.newbyteorder("="))
