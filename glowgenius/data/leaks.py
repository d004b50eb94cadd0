"""Rows to test on that the model has seen: the same question, nearly the same, or another wording of the same group."""

from __future__ import annotations

import operator
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from glowgenius._lazy import installed
from glowgenius.data.findings import pair_finding
from glowgenius.data.report import LeakReport
from glowgenius.data.row_checks import Kind
from glowgenius.data.sameness import question_key
from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from glowgenius.data.message import Conversation

_GROUP: Final = Kind(
    "problem",
    "rows of one group on both sides",
    "split with Dataset.train_test_split, which keeps groups whole, or give them different groups",
)
_QUESTION: Final = Kind(
    "problem",
    "the same question on both sides",
    "remove it from one side: a test of what was trained says nothing about new questions",
)
EXACT: Final[dict[str, tuple[Callable[[Conversation], Hashable], Kind]]] = {
    "leak_by_question": (question_key, _QUESTION),
    "leak_by_group": (operator.attrgetter("group"), _GROUP),
}
"""Kind of leak → what both rows share, and the words of the finding."""

_NEAR: Final = Kind(
    "warning",
    "nearly the same question and answer on both sides",
    "look whether they test anything new; a common 'group' keeps them on one side",
)


def near_status(near: bool | None) -> tuple[bool, str]:
    """Whether to look for near duplicates, and what a report says about it.

    Args:
        near: As for `Dataset.check`.

    Raises:
        ConfigError: It is none of the three.
    """
    if near is not None and not isinstance(near, bool):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
        raise ConfigError(f"near must be True, False or None, got {near!r} ({type(near).__name__})")
    if near is False:
        return False, "not looked for, since near=False"
    if near is None and not installed("rensa"):
        return False, "not looked for, since the package 'rensa' is not installed: pip install 'glowgenius[check]'"
    return True, "looked for rows that share 80 % of their character 5-grams, in question and answer each"


def shared(
    train: Sequence[Conversation],
    test: Sequence[Conversation],
    key: Callable[[Conversation], Hashable] = question_key,
) -> list[tuple[int, int]]:
    """`(training row, test row)` for each test row whose key a training row has; the first such training row.

    Exact and cheap: what a run can do before every training. A key that is None or empty is shared with nobody.
    """
    wanted = {key(row) for row in test}
    first: dict[Hashable, int] = {}
    for position, row in enumerate(train):
        own = key(row)
        if own in wanted:
            first.setdefault(own, position)
    pairs = ((first.get(own), position) for position, row in enumerate(test) if (own := key(row)))
    return [(trained, tested) for trained, tested in pairs if trained is not None]


def find_leaks(train: Sequence[Conversation], test: Sequence[Conversation], *, near: bool | None = None) -> LeakReport:
    """Rows of *test* that *train* gives away.

    A question counts as the same whatever its case, spaces, quotes and dashes; the system message is not looked at.
    A leak by group or by question is a problem; nearly alike rows are a warning.

    Args:
        train: The rows trained on, such as a `Dataset`.
        test: The rows to test on.
        near: Whether to look for near duplicates too. None does if the package `rensa` is installed, and says so
            in the report; False is the cheap, exact check.

    Raises:
        ConfigError: *near* is none of the three, or one side is no data set.
        MissingDependencyError: *near* is True and the package `rensa` is not installed.
    """
    look, how = near_status(near)
    for name, rows in (("train", train), ("test", test)):
        given: Any = rows
        if not isinstance(given, Sequence) or not all(hasattr(row, "prompt") for row in rows):
            raise ConfigError(f"{name} of find_leaks must be a Dataset, got a {type(rows).__name__}")
    exact = {kind: shared(train, test, key) for kind, (key, _) in EXACT.items()}
    found = [pair_finding(train, test, kind, pairs, EXACT[kind][1]) for kind, pairs in exact.items()]
    if look:
        known = {tested for _, tested in exact["leak_by_question"]}
        found.append(pair_finding(train, test, "near_leak", _near_pairs(train, test, known), _NEAR))
    return LeakReport(
        num_train=len(train),
        num_test=len(test),
        findings=tuple(finding for finding in found if finding is not None),
        near=how,
    )


def _near_pairs(train: Sequence[Conversation], test: Sequence[Conversation], known: set[int]) -> list[tuple[int, int]]:
    """`(training row, test row)` of rows that are nearly alike; test rows that are *known* to leak left out."""
    from glowgenius.data.grouping import near_duplicates

    border = len(train)
    groups = near_duplicates([*train, *test], {border + tested for tested in known})
    return sorted(
        (
            (group[0], position - border)
            for group in groups
            if group[0] < border
            for position in group
            if position >= border
        ),
        key=lambda pair: pair[1],
    )
