"""Which columns a row may have, which format they make, and what to call the columns of other libraries."""

from __future__ import annotations

import difflib
import functools
import re
from typing import TYPE_CHECKING, NamedTuple, final

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Iterable

COMMON = ("id", "group", "split", "tags", "references", "tools", "weight", "metadata")
"""Columns that every format may have."""


class Fault(NamedTuple):
    """What is wrong with one field of one row; the loader adds the place and makes a `Problem` of it."""

    field: str | None
    found: str
    accepted: str


@final
@frozen(kw_only=True)
class Shape:
    """The columns of one format."""

    name: str
    """What `dataset.format` says and `format=` takes."""

    required: tuple[str, ...]
    """Columns that every row has."""

    optional: tuple[str, ...] = ()
    """Columns that a row may have, besides `COMMON`."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Every column of the format, without the common ones."""
        return self.required + self.optional


SHAPES = {
    shape.name: shape
    for shape in (
        Shape(name="messages", required=("messages",)),
        Shape(name="question/answer", required=("question", "answer"), optional=("system",)),
        Shape(name="prompt/completion", required=("prompt", "completion"), optional=("system",)),
        Shape(name="alpaca", required=("instruction", "output"), optional=("input", "system", "history")),
        Shape(name="input/output", required=("input", "output"), optional=("system",)),
        Shape(name="sharegpt", required=("conversations",), optional=("system",)),
    )
}
"""The formats by name; where one row fits several, `recognise` decides."""

OWN_NAMES = tuple(dict.fromkeys([*COMMON, *(column for shape in SHAPES.values() for column in shape.columns)]))
"""Every column name that means something here."""

_ASKS = ("question", "prompt", "instruction", "input")
_ANSWERS = ("answer", "completion", "output")

ELSEWHERE: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("query", "problem", "user", "human", "ask", "q", "source_text", "src"), _ASKS),
    **dict.fromkeys(("response", "solution", "assistant", "gpt", "a", "reply", "chosen", "generation"), _ANSWERS),
    **dict.fromkeys(("target", "targets", "label", "labels", "expected_output", "ground_truth", "gold"), _ANSWERS),
    **dict.fromkeys(("responses", "answer_text", "model_answer", "tgt", "summary"), _ANSWERS),
    **dict.fromkeys(("answers", "reference", "accepted_answers", "aliases", "possible_answers"), ("references",)),
    **dict.fromkeys(("conversation", "dialog", "dialogue", "dialogs", "chat", "chats", "turns"), ("messages",)),
    **dict.fromkeys(("system_prompt", "system_message", "sys"), ("system",)),
    **dict.fromkeys(("group_id", "fact_id"), ("group",)),
    **dict.fromkeys(("functions", "function_definitions", "tool_definitions", "available_tools"), ("tools",)),
    **dict.fromkeys(("label_weight", "loss_weight", "sample_weight"), ("weight",)),
}
"""Column names of other libraries → ours; the first that the row's format has is the one to use."""

_UNSEEN = "text that the model would not see → put it into the question (or under 'metadata', if that is meant)"

REFUSED: dict[str, str] = {
    **dict.fromkeys(("context", "passage", "document", "documents"), _UNSEEN),
    **dict.fromkeys(
        ("rejected", "ranking", "preferred"),
        "a column of preference data, not of supervised rows → keep only the answer to learn, as 'answer'",
    ),
    **dict.fromkeys(
        ("text", "content"),
        "text without a question and an answer → split it into 'question' and 'answer', or into 'messages'",
    ),
    **dict.fromkeys(
        ("reasoning_content", "reasoning", "thinking", "thought", "chain_of_thought", "rationale"),
        "reasoning beside the answer → use 'messages', with 'reasoning_content' in the assistant's message",
    ),
    **dict.fromkeys(
        ("image", "images", "audio", "audios", "video", "videos"),
        "data that is not text → rows of text only",
    ),
}
"""Columns that no format has and that would change what is trained if they were ignored, each `found → accepted`."""

_WORDS = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|[0-9]+")
_CLOSE_ENOUGH = 0.8
_SHORTEST_TYPO = 4


def near_miss(column: str, known: Iterable[str] = OWN_NAMES) -> str | None:
    """The known name that *column* is a slip of: other case, stray spaces, a plural, a letter or two.

    Compounds (`question_id`, `answerSource`) are names of their own, and so are words of up to three letters.
    """
    known = tuple(known)
    bare = re.sub(r"[\W_]+", "", column).casefold()
    for name in known:
        if bare in (name, f"{name}s", name.removesuffix("s")):
            return name
    if len(bare) < _SHORTEST_TYPO or len(_WORDS.findall(column)) > 1:
        return None
    close = difflib.get_close_matches(bare, known, n=1, cutoff=_CLOSE_ENOUGH)
    return close[0] if close else None


def recognise(columns: Iterable[str]) -> Shape | None:
    """The format of a row with these columns, or None where they make none or more than one."""
    complete = complete_shapes(columns)
    return complete[0] if len(complete) == 1 else None


def complete_shapes(columns: Iterable[str]) -> list[Shape]:
    """The formats whose required columns are all there."""
    present = frozenset(columns)
    complete = [shape for shape in SHAPES.values() if present.issuperset(shape.required)]
    if SHAPES["alpaca"] in complete and SHAPES["input/output"] in complete:
        complete.remove(SHAPES["input/output"])  # the `input` of Alpaca belongs to its instruction
    return complete


@functools.lru_cache(maxsize=512)
def likeliest(present: tuple[str, ...]) -> Shape | None:
    """The format that most of the columns point to, by name, by slip or by another library's name; None if none do."""
    complete = complete_shapes(present)
    if complete:
        return complete[0]

    def score(shape: Shape) -> float:
        return sum(
            1.0 if name in present else 0.9 * (_stand_in(name, present, shape) is not None) for name in shape.required
        )

    best = max(SHAPES.values(), key=lambda shape: score(shape) / len(shape.required))
    return best if score(best) else None


def _stand_in(name: str, present: Iterable[str], shape: Shape) -> str | None:
    """The column that seems to be meant as *name*."""
    return next((column for column in present if column not in OWN_NAMES and meant(column, shape) == name), None)


def meant(column: str, shape: Shape) -> str | None:
    """What a column that is not ours should be called in a row of this format; None where nothing suggests itself."""
    candidates = ELSEWHERE.get(column.casefold())
    if candidates is not None:
        return next((name for name in candidates if name in shape.columns or name in COMMON), candidates[0])
    return near_miss(column)


@final
@frozen(kw_only=True)
class Plan:
    """What to do with a set of columns under a format; computed once for each set, not once a row."""

    faults: tuple[Fault, ...]
    """Columns that cannot stay as they are."""

    metadata: tuple[str, ...]
    """Columns that mean nothing here and are kept."""

    renamed: frozenset[str]
    """Names of ours that a fault already says are there under another name, so that they are not missing as well."""


@functools.lru_cache(maxsize=512)
def plan(columns: tuple[str, ...], shape: Shape, *, forced: bool) -> Plan:
    """Sort the columns of a row into those of its format, those to keep as metadata, and faults.

    A slip (`anser`) is always a fault. Another library's name (`response`) is one while our name is absent;
    beside a complete row it can only be something else, such as an older model's response, and is kept.

    Args:
        columns: The row's columns; those of ours that hold nothing left out.
        shape: The format that the row is read as.
        forced: Whether the user named the format, which makes columns of other formats mere metadata.
    """
    complete = set(shape.required) <= set(columns)
    faults: list[Fault] = []
    metadata: list[str] = []
    renamed: set[str] = set()
    for column in columns:
        if column in shape.columns or column in COMMON:
            continue
        keep = forced and complete
        suggestion = meant(column, shape)
        if column in OWN_NAMES:
            fault = None if keep else _of_another_format(column, shape, forced=forced)
        elif column.casefold() in REFUSED:
            found, accepted = REFUSED[column.casefold()].split(" → ")
            fault = None if keep else Fault(column, found, accepted)
        elif suggestion is None or (column.casefold() in ELSEWHERE and (keep or suggestion in columns)):
            fault = None
        else:
            renamed.add(suggestion)
            fault = Fault(
                column, "no column of that name", f"did you mean {suggestion!r}? (or put it under 'metadata')"
            )
        if fault is None:
            metadata.append(column)
        else:
            faults.append(fault)
    return Plan(faults=tuple(faults), metadata=tuple(metadata), renamed=frozenset(renamed))


def _of_another_format(column: str, shape: Shape, *, forced: bool) -> Fault:
    owner = next(other.name for other in SHAPES.values() if column in other.columns)
    return Fault(
        column,
        f"a column of the format {owner!r}, in a row read as {shape.name!r}",
        f"the columns of {shape.name!r}, or format={owner!r}"
        if forced
        else f"the columns of one format only (format={shape.name!r} would keep this one as metadata)",
    )
