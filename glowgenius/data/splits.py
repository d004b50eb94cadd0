"""Train/test splits by row and by group, and mixing in replay rows."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING, Final

from attrs import evolve

from glowgenius._validators import is_integer, is_number
from glowgenius.data.grouping import question_key
from glowgenius.data.json_values import shortened
from glowgenius.errors import ConfigError, DatasetError, Problem, list_problems

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.data.message import Conversation

_SPLITS_BY = ("group", "row", "label")
_LABELS_SHOWN = 5


def check_seed(seed: int) -> None:
    """Refuse an invalid seed; a negative one would give the order of its absolute value.

    Raises:
        ConfigError: The seed is no integer ≥ 0.
    """
    if not is_integer(seed) or seed < 0:
        raise ConfigError(f"seed must be an integer ≥ 0, got {seed!r} ({type(seed).__name__})")


def permutation(length: int, seed: int) -> list[int]:
    """The positions 0 … length - 1 in an order determined by the seed: a Fisher-Yates shuffle from the end.

    Step i (from length - 1 down to 1) swaps position i with position ⌊u · (i + 1)⌋, where u is the next value of
    `random.Random(seed).random()`. Python promises that sequence for all versions; it does not promise the
    algorithm of `random.shuffle`, and numpy promises neither.
    """
    check_seed(seed)
    uniform = random.Random(seed).random  # noqa: S311 - an order, not a secret
    order = list(range(length))
    for i in range(length - 1, 0, -1):
        j = int(uniform() * (i + 1))
        order[i], order[j] = order[j], order[i]
    return order


def families(rows: Sequence[Conversation]) -> list[list[int]]:
    """Groups of row positions that must stay in one split: same group or same question, transitively.

    A row without a group that asks what no other row asks is a family of its own.
    """
    parent = list(range(len(rows)))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[object, int] = {}
    for i, row in enumerate(rows):
        keys: list[object] = [] if row.group is None else [("group", row.group)]
        question = question_key(row)
        if question:
            keys.append(question)
        for key in keys:
            # The smaller root wins, so that groups come in the order of their first rows.
            low, high = sorted((root(first.setdefault(key, i)), root(i)))
            parent[high] = low
    members: dict[int, list[int]] = {}
    for i in range(len(rows)):
        members.setdefault(root(i), []).append(i)
    return list(members.values())


def split_positions(
    rows: Sequence[Conversation], test_size: float, *, seed: int, by: str
) -> tuple[list[int], list[int]]:
    """Positions of training rows and of test rows, each in the order of the data.

    Args:
        rows: The rows to split.
        test_size: A share of the rows, between 0 and 1, or a number of rows.
        seed: Decides which families go to the test side.
        by: `group` keeps families whole; `row` splits row by row; `label` keeps families whole and gives each answer
            the same share of both sides.

    Raises:
        ConfigError: An argument is not valid.
        DatasetError: One side would be empty.
    """
    check_seed(seed)
    if by not in _SPLITS_BY:
        raise ConfigError(f"by must be 'group', 'row' or 'label', got {by!r}")
    wanted = _rows_wanted(test_size, len(rows))
    units = [[i] for i in range(len(rows))] if by == "row" else families(rows)
    if len(units) < 2:  # noqa: PLR2004 - the two sides
        raise DatasetError(_one_family(len(rows)))
    shuffled = [units[i] for i in permutation(len(units), seed)]
    if by == "label":
        test = [i for units, share in _by_label(rows, shuffled, wanted) for i in _nearest(units, share)]
    else:
        test = _nearest(shuffled, wanted)
    chosen = frozenset(test)
    return [i for i in range(len(rows)) if i not in chosen], sorted(test)


def _nearest(shuffled: Sequence[list[int]], wanted: int) -> list[int]:
    """Rows of the number of groups closest to the wanted size; at least one group and never all."""
    total = sum(map(len, shuffled))
    test: list[int] = []
    for unit in shuffled:
        # A group that would move further from the wanted size is skipped; smaller ones may still fit.
        size = len(test) + len(unit)
        if size < total and abs(size - wanted) < abs(len(test) - wanted):
            test += unit
    return test or min(shuffled, key=len)  # every group is more than twice the wanted size


def _by_label(
    rows: Sequence[Conversation], shuffled: Sequence[list[int]], wanted: int
) -> list[tuple[list[list[int]], int]]:
    """Groups of each label, and how many of their rows are test rows, by the largest remainder method.

    A family whose rows have several labels counts as the commonest of them, the first among equals.

    Raises:
        ConfigError: There are more labels than rows to test on.
        DatasetError: A label has one family only, which cannot be on both sides.
    """
    strata: dict[str, list[list[int]]] = {}
    for family in shuffled:
        # Counter keeps the order of the rows, so among equals the first wins.
        label = Counter(rows[i].answer for i in family).most_common(1)[0][0]
        strata.setdefault(label, []).append(family)
    alone = [label for label, units in strata.items() if len(units) < 2]  # noqa: PLR2004 - the two sides
    if alone:
        raise DatasetError(_alone(alone, len(strata)))
    if wanted < len(strata):
        raise ConfigError(
            f"by='label' puts each of the {len(strata)} answers on both sides, and test_size asks for {wanted} rows to "
            f"test on: at least {len(strata)}"
        )
    sizes = [sum(map(len, units)) for units in strata.values()]
    exact = [wanted * size / len(rows) for size in sizes]
    shares = [max(1, int(share)) for share in exact]
    order = sorted(range(len(exact)), key=lambda at: int(exact[at]) - exact[at])
    for at in order[: max(0, wanted - sum(shares))]:
        shares[at] += 1
    return list(zip(strata.values(), shares, strict=True))


def _alone(labels: Sequence[str], total: int) -> str:
    """Why answers that occur once cannot be stratified, and what to do."""
    named = ", ".join(repr(shortened(label)) for label in labels[:_LABELS_SHOWN])
    more = f" and {len(labels) - _LABELS_SHOWN:,} more" if len(labels) > _LABELS_SHOWN else ""
    return (
        f"{len(labels):,} of {total:,} answers have one row only, or rows that belong together ({named}{more}), and "
        "by='label' puts each answer on both sides: give them more rows, leave them out with dataset.filter(…), or "
        "split with by='group', which asks for no closed set of answers"
    )


def parts_named(sizes: Mapping[str, int]) -> str:
    """Why rows with a `split` column are not split again, and what to do instead."""
    first, second = list(sizes)[:2]
    parts = ", ".join(f"{name!r} ({count:,})" for name, count in sizes.items())
    return (
        f"the column 'split' of the rows names parts already: {parts}; use dataset.splits[{first!r}] and "
        f"dataset.splits[{second!r}], or forget the column: dataset.map(lambda row: attrs.evolve(row, split=None))"
    )


def _rows_wanted(test_size: float, total: int) -> int:
    if is_integer(test_size):
        if 1 <= test_size < total:
            return int(test_size)
        limit = f"at least 1 and below the number of rows, {total}"
    elif isinstance(test_size, float) and 0 < test_size < 1:
        return max(1, round(test_size * total))
    else:
        limit = "a number of rows, or a share above 0 and below 1"
    raise ConfigError(f"test_size must be {limit}, got {test_size!r} ({type(test_size).__name__})")


def _one_family(total: int) -> str:
    if total < 2:  # noqa: PLR2004 - the two sides
        return f"{'1 row' if total else 'no rows'} cannot be split into two sides that are not empty"
    return (
        f"all {total} rows belong together (one group, or the same question), so one side of the split would be empty; "
        "give rows about different things different groups, or split with by='row'"
    )


REPLAY: Final = "replay"
"""The tag of rows that are there to keep what the model knew."""


def choose_replay(
    rows: Sequence[Conversation], replay: Sequence[Conversation], *, share: float | None, seed: int
) -> list[Conversation]:
    """Replay rows for *rows*, tagged; see `Dataset.with_replay`."""
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
    """Refuse questions that are both in the training rows and in the replay rows."""
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
