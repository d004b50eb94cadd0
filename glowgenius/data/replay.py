"""Rows that keep what a model knew: which of them are mixed in, and how many."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from attrs import evolve

from glowgenius._validators import is_number
from glowgenius.data.sameness import question_key
from glowgenius.data.splits import permutation
from glowgenius.errors import ConfigError, DatasetError, Problem, list_problems

if TYPE_CHECKING:
    from collections.abc import Sequence

    from glowgenius.data.message import Conversation

REPLAY: Final = "replay"
"""The tag of rows that are there to keep what the model knew."""


def choose_replay(
    rows: Sequence[Conversation], replay: Sequence[Conversation], *, share: float | None, seed: int
) -> list[Conversation]:
    """The replay rows for *rows*, tagged; see `Dataset.with_replay`."""
    if not rows or not replay:
        raise DatasetError(f"with_replay needs rows on both sides, got {len(rows)} to learn and {len(replay)} to keep")
    if share is not None and (not is_number(share) or not 0 < share < 1):
        raise ConfigError(f"share of with_replay must be None or a number above 0 and below 1, got {share!r}")
    order = permutation(len(replay), seed)
    wanted = len(replay) if share is None else max(1, round(share * len(rows) / (1 - share)))
    if wanted > len(replay):
        most = len(replay) / (len(rows) + len(replay))
        raise ConfigError(
            f"share={share:g} beside {len(rows)} rows takes {wanted} replay rows, and there are {len(replay)}; give "
            f"more of them, or a share of at most {most - 0.0005:.3f}"
        )
    chosen = sorted(order[:wanted])
    _refuse_taught(rows, replay, chosen)
    return [_tagged(replay[position]) for position in chosen]


def _refuse_taught(rows: Sequence[Conversation], replay: Sequence[Conversation], chosen: Sequence[int]) -> None:
    """A question that is taught and replayed would be pulled both ways."""
    taught = {question_key(row): row.answer for row in rows}
    problems = [
        Problem(
            row=position,
            row_id=replay[position].id,
            field="question",
            found=f"{replay[position].question!r} is taught as {taught[key]!r} and replayed as {answer!r}",
            accepted="a question that no training row asks",
        )
        for position in chosen
        if taught.get(key := question_key(replay[position]), answer := replay[position].answer) != answer
    ]
    if problems:
        raise DatasetError(
            f"{len(problems)} replay rows contradict what is taught; leave them out\n{list_problems(problems)}",
            problems,
        )


def _tagged(row: Conversation) -> Conversation:
    return row if REPLAY in row.tags else evolve(row, tags=(*row.tags, REPLAY))
