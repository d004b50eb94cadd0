"""Orders and splits that depend on the seed alone, on every machine and every version of Python and numpy."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from glowgenius._validators import is_integer
from glowgenius.data.sameness import question_key
from glowgenius.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.data.message import Conversation

_SPLITS_BY = ("group", "row")


def check_seed(seed: int) -> None:
    """Refuse what is no seed; a negative one would give the order of its absolute value.

    Raises:
        ConfigError: The seed is no integer ≥ 0.
    """
    if not is_integer(seed) or seed < 0:
        raise ConfigError(f"seed must be an integer ≥ 0, got {seed!r} ({type(seed).__name__})")


def permutation(length: int, seed: int) -> list[int]:
    """The positions 0 … length - 1 in an order that the seed decides: a Fisher-Yates shuffle from the end.

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
    """Positions of rows that must stay together: of one group or asking the same, and so on through others.

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
            # The smaller root wins, so that families come in the order of their first rows.
            low, high = sorted((root(first.setdefault(key, i)), root(i)))
            parent[high] = low
    members: dict[int, list[int]] = {}
    for i in range(len(rows)):
        members.setdefault(root(i), []).append(i)
    return list(members.values())


def split_positions(
    rows: Sequence[Conversation], test_size: float, *, seed: int, by: str
) -> tuple[list[int], list[int]]:
    """The positions of the training rows and of the test rows, each in the order of the data.

    Args:
        rows: The rows to split.
        test_size: A share of the rows, between 0 and 1, or a number of rows.
        seed: Decides which families go to the test side.
        by: `group` keeps families whole; `row` splits row by row.

    Raises:
        ConfigError: An argument is not valid.
        DatasetError: One side would be empty.
    """
    check_seed(seed)
    if by not in _SPLITS_BY:
        raise ConfigError(f"by must be 'group' or 'row', got {by!r}")
    wanted = _rows_wanted(test_size, len(rows))
    units = families(rows) if by == "group" else [[i] for i in range(len(rows))]
    if len(units) < 2:  # noqa: PLR2004 - the two sides
        raise DatasetError(_one_family(len(rows)))
    shuffled = [units[i] for i in permutation(len(units), seed)]
    test: list[int] = []
    for unit in shuffled:
        # A family that would lead further away from the size wanted is passed over; smaller ones may still fit.
        size = len(test) + len(unit)
        if size < len(rows) and abs(size - wanted) < abs(len(test) - wanted):
            test += unit
    test = test or min(shuffled, key=len)  # every family is more than twice the size wanted
    chosen = frozenset(test)
    return [i for i in range(len(rows)) if i not in chosen], sorted(test)


def parts_named(sizes: Mapping[str, int]) -> str:
    """Why rows whose author divided them are not divided again, and what to do instead."""
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
