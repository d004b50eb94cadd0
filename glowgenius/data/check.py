"""Checks of a data set: duplicates, contradictions, leaks between splits, and suspicious rows."""

from __future__ import annotations

import operator
from array import array
from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, final

from glowgenius._lazy import installed
from glowgenius._validators import is_number
from glowgenius.data.check_report import (
    GROUPS_KEPT,
    ROW_KINDS,
    DatasetReport,
    Kind,
    LeakReport,
    group_finding,
    pair_finding,
    row_finding,
    row_kinds,
    untrained_columns,
)
from glowgenius.data.columns import ELSEWHERE, Fault, Shape, advised, judging_kind
from glowgenius.data.grouping import accepted_keys, prompt_key, question_key, row_key
from glowgenius.data.json_values import as_list, describe, json_fault
from glowgenius.errors import ConfigError, Problem, RenderingError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping

    from glowgenius.data.check_report import Finding, TokenStatistics
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
    """Whether to look for near duplicates, and the report's line about it.

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
    """`(training row, test row)` for each test row with the key of a training row, the first such one.

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
    """Rows of *test* that also occur in *train*, exactly or nearly.

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
    """`(training row, test row)` of near duplicates; test rows *known* to leak are left out."""
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


_TRAINED: Final = ("train", "training")
"""Names of the part that is trained, in the column `split`."""

_DUPLICATE: Final = Kind(
    "problem",
    "the same to the letter",
    "keep one of them; a row that should count more has the column 'weight' for it",
)
_CONTRADICTION: Final = Kind(
    "problem",
    "the same question with different answers",
    "keep one answer, or give each row all accepted ones as 'references'",
)
_LOOK_ALIKE: Final = Kind(
    "warning",
    "the same question and answer in other characters (quotes, spaces, case, look-alike letters)",
    "keep one of them, unless both ways of writing are meant to be learned",
)
_NEAR_REMEDY: Final = Kind(
    "warning", "nearly the same question and answer", "look whether they are meant; a group keeps them on one side"
)


class Rendered(Protocol):
    """What a check needs from a rendered row."""

    def __len__(self) -> int:
        """Number of tokens."""
        ...

    @property
    def num_trained(self) -> int:
        """Number of tokens that carry loss."""
        ...


class CountsTokens(Protocol):
    """What a check needs from a renderer; every `glowgenius.Renderer` has it."""

    @property
    def description(self) -> str:
        """One line about the renderer."""
        ...

    def render_rows(self, conversations: Iterable[Conversation], /) -> Iterator[tuple[Rendered, ...] | RenderingError]:
        """The training examples of each row, or the error why it cannot be rendered."""
        ...


def duplicates(rows: Sequence[Conversation]) -> list[list[int]]:
    """Positions of rows with exactly equal messages, in groups, in the order of their first rows."""
    from glowgenius.data.grouping import rows_by_key

    return rows_by_key(rows, row_key)


def same_questions(rows: Sequence[Conversation]) -> list[list[int]]:
    """Positions of rows with the same `prompt_key`, in the order of their first rows; none without a prompt."""
    from glowgenius.data.grouping import rows_by_key

    return [same for same in rows_by_key(rows, prompt_key) if rows[same[0]].prompt]


def contradictions(rows: Sequence[Conversation], same: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
    """Positions of rows with the same question, two of which share no accepted answer, by first row.

    Args:
        rows: The rows.
        same: What `same_questions` says of them, if it is known already.
    """
    groups = same_questions(rows) if same is None else same
    return [list(group) for group in groups if not _agree([rows[at] for at in group])]


def look_alikes(rows: Sequence[Conversation], same: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
    """Positions of rows whose questions differ only in characters such as quotes, with the same answer.

    Of rows that are the same to the letter, which `duplicates` has, only the first is among them.

    Args:
        rows: The rows.
        same: As for `contradictions`.
    """
    found: list[list[int]] = []
    for group in same_questions(rows) if same is None else same:
        if _agree([rows[at] for at in group]):
            different = {row_key(rows[at]): at for at in reversed(group)}
            if len(different) > 1:
                found.append(sorted(different.values()))
    return found


def _agree(rows: Sequence[Conversation]) -> bool:
    """Whether any two of the rows have an accepted answer in common."""
    accepted = list({accepted_keys(row) for row in rows})
    if frozenset[str].intersection(*accepted):
        return True
    return all(one & other for i, one in enumerate(accepted) for other in accepted[:i])


def check_rows(
    rows: Sequence[Conversation],
    *,
    name: str = "the rows",
    format: str = "messages",  # noqa: A002 - as in Dataset
    renderer: CountsTokens | None = None,
    max_length: int | None = None,
    near: bool | None = None,
    problems: Sequence[Problem] = (),
    notes: Sequence[str] = (),
) -> DatasetReport:
    """Run every check, and return one report; `Dataset.check` documents the arguments.

    Raises:
        ConfigError: *max_length* without a renderer, or an argument of the wrong kind.
        MissingDependencyError: *near* is True and the package `rensa` is not installed.
    """
    look, how = near_status(near)
    _check_arguments(renderer, max_length)
    walk = _walk(rows)
    tokens, found = (None, list["Finding"]()) if renderer is None else _tokens(rows, renderer, max_length)
    found += _same_findings(rows, look=look)
    found += _split_findings(rows, walk)
    found += [
        row_finding(rows, kind, places, ROW_KINDS[kind], count=walk.counts[kind])
        for kind, places in walk.places.items()
    ]
    return DatasetReport(
        name=name,
        format=format,
        num_rows=len(rows),
        num_groups=len(walk.groups),
        roles=dict(walk.roles),
        splits=dict(walk.splits),
        tags=dict(walk.tags),
        untrained=untrained_columns(rows, format),
        notes=tuple(notes),
        tokens=tokens,
        findings=tuple(sorted(found, key=lambda item: item.severity)),
        problems=tuple(problems),
        near=how,
    )


def _check_arguments(renderer: object, max_length: object) -> None:
    if renderer is None and max_length is not None:
        raise ConfigError("max_length counts tokens, so it needs renderer=, such as Renderer.for_model(…)")
    if renderer is not None and not callable(getattr(renderer, "render_rows", None)):
        kind = type(renderer).__name__
        raise ConfigError(f"renderer must have a method render_rows, such as Renderer.for_model(…) has, got a {kind}")
    if max_length is not None and (not isinstance(max_length, int) or isinstance(max_length, bool) or max_length < 1):
        raise ConfigError(f"max_length must be an integer ≥ 1, got {max_length!r} ({type(max_length).__name__})")


@final
class _Walk:
    """Counts collected in one pass over the rows."""

    def __init__(self) -> None:
        self.roles = Counter[str]()
        self.splits = Counter[str]()
        self.tags = Counter[str]()
        self.groups = set[str]()
        self.counts = Counter[str]()
        self.places = defaultdict[str, list[int]](list)

    def add(self, position: int, row: Conversation) -> None:
        """Count the next row."""
        for message in row.messages:
            self.roles[message.role] += 1
        if row.split is not None:
            self.splits[row.split] += 1
        self.tags.update(row.tags)
        if row.group is not None:
            self.groups.add(row.group)
        for kind in row_kinds(row):
            self.counts[kind] += 1
            if len(self.places[kind]) < GROUPS_KEPT:
                self.places[kind].append(position)


def _walk(rows: Sequence[Conversation]) -> _Walk:
    walk = _Walk()
    for position, row in enumerate(rows):
        walk.add(position, row)
    return walk


def _same_findings(rows: Sequence[Conversation], *, look: bool) -> list[Finding]:
    """Duplicates, contradictions and look-alikes, and near duplicates among the other rows if requested."""
    exact, same = duplicates(rows), same_questions(rows)
    alike = look_alikes(rows, same)
    found = [
        group_finding(rows, "duplicate", exact, _DUPLICATE),
        group_finding(rows, "contradiction", contradictions(rows, same), _CONTRADICTION),
        group_finding(rows, "look_alike", alike, _LOOK_ALIKE),
    ]
    if look:
        from glowgenius.data.grouping import near_duplicates

        known = {at for group in (*exact, *alike) for at in group[1:]}
        found.append(group_finding(rows, "near_duplicate", near_duplicates(rows, known), _NEAR_REMEDY))
    return [finding for finding in found if finding is not None]


def _split_findings(rows: Sequence[Conversation], walk: _Walk) -> list[Finding]:
    """Leaks between the splits named by the rows' `split`: each split against those before it."""
    names = list(walk.splits)
    found: list[Finding] = []
    for index, name in enumerate(names[1:], start=1):
        for trained in names[:index]:
            train, test = sorted((trained, name), key=lambda part: part.casefold() not in _TRAINED)
            found += _leaks_between(rows, train, test)
    return found


def _leaks_between(rows: Sequence[Conversation], train: str, test: str) -> list[Finding]:
    first, second = ([at for at, row in enumerate(rows) if row.split == part] for part in (train, test))
    found: list[Finding | None] = []
    for kind, (key, words) in EXACT.items():
        pairs = shared([rows[at] for at in first], [rows[at] for at in second], key)
        places = [(first[trained], second[tested]) for trained, tested in pairs]
        said = words._replace(title=f"{words.title} (split {train!r} against {test!r})")
        found.append(pair_finding(rows, rows, kind, places, said, total=len(second)))
    return [finding for finding in found if finding is not None]


def _tokens(
    rows: Sequence[Conversation], renderer: CountsTokens, max_length: int | None
) -> tuple[TokenStatistics | None, list[Finding]]:
    """Token lengths of all renderable rows, and findings about rows that cannot be rendered or are too long."""
    from glowgenius.data.check_report import summary

    lengths, trained = array("q"), 0
    long, broken = list[int](), list[int]()
    sizes, reasons = list[str](), list[str]()
    for position, examples in enumerate(renderer.render_rows(rows)):
        if isinstance(examples, RenderingError):
            broken.append(position)
            reasons.append(str(examples.problems[0].found if examples.problems else examples.message))
            continue
        longest = max(map(len, examples))
        lengths.extend(map(len, examples))
        trained += sum(example.num_trained for example in examples)
        if max_length is not None and longest > max_length:
            long.append(position)
            sizes.append(f"{longest:,} tokens")
    found: list[Finding] = []
    if long:
        words = Kind("problem", f"more than {max_length:,} tokens", "shorten them, or choose another on_overflow")
        found.append(row_finding(rows, "too_long", long, words, notes=sizes))
    if broken:
        words = Kind("problem", "cannot be rendered", "change what the reason says, or choose another renderer")
        found.append(row_finding(rows, "unrenderable", broken, words, notes=reasons))
    return (summary(lengths, trained, renderer.description) if lengths else None), found


SCORE: Final = "a score of the answer, which training would not look at"
"""What is found of a column of scores: the same in every row, so a file has it as one problem."""

_NO: Final = frozenset(
    (
        *(
            "bad",
            "negative",
            "wrong",
            "incorrect",
            "rejected",
            "reject",
            "fail",
            "failed",
            "false",
            "no",
            "n",
            "0",
            "-1",
        ),
        *("thumbs_down", "thumbs down", "thumbsdown", "down", "dislike", "disliked", "poor", "low", "unacceptable"),
        *("invalid", "unsatisfactory", "not ok", "worse", "lose", "loss", "harmful", "unsafe", "👎", "disapproved"),
        *("declined", "flagged", "excluded", "discarded", "undesirable", "-1.0", "0.0", "bad answer", "very bad"),
    )
)
_NO_LABEL: Final = frozenset(("false", "0", "-1", "bad", "undesirable", "rejected"))
"""What `label` says no with: "negative" or "no" is a class as well."""

_YES: Final = frozenset(("true", "yes", "y", "1", "1.0"))


def judged(row: Mapping[str, Any], columns: Iterable[str], shape: Shape) -> list[Fault]:
    """Why a row should not be trained, from *columns* that rate its answer; else None."""
    return [
        fault
        for column in columns
        if (kind := judging_kind(column, shape)) and (fault := _judgement(column, row, kind))
    ]


def _judgement(column: str, row: Mapping[str, Any], kind: str) -> Fault | None:
    value: Any = row[column]
    plain = value.strip().casefold() if isinstance(value, str) else ""
    number = float(value) if is_number(value) and json_fault(value) is None else _number(plain)
    use = advised({column: "metadata"})
    if kind == "score" and number is not None:
        compared = f"float(row.metadata[{column!r}])" if isinstance(value, str) else f"row.metadata[{column!r}]"
        accepted = f"{use} trains every row alike; then dataset.filter(lambda row: {compared} > 0) leaves the good ones"
        return Fault(column, SCORE, accepted)
    if kind == "bad":
        says_no = value is True or (number is not None and number > 0) or plain in _YES
    else:
        says_no = (
            value is False or (number is not None and number <= 0) or plain in (_NO_LABEL if column == "label" else _NO)
        )
    if not says_no:
        return None
    same = "is not" if isinstance(value, bool) else "!="
    kto = ", as in KTO's preference data" if column == "label" else ""
    return Fault(
        column,
        f"{describe(value)}: the row says that its answer is not to be learned{kto}",
        f"rows to learn from; {use} keeps the column, and dataset.filter(lambda row: "
        f"row.metadata.get({column!r}) {same} {value!r}) leaves such rows out",
    )


def _number(text: str) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None


def preference_fault(row: Mapping[str, Any]) -> Fault | None:
    """Advice about a pair of answers, one of them preferred, if the values tell which; else None."""
    if "chosen" not in row or "rejected" not in row or "messages" in row:
        return None
    asks = [column for column in row if column in ELSEWHERE or column in ("prompt", "question", "instruction", "input")]
    others = [column for column in asks if column not in ("chosen", "rejected")]
    found = "preference data ('chosen' beside 'rejected'), which supervised training does not compare"
    if as_list(row["chosen"]) is not None and not any(as_list(row[column]) is not None for column in others):
        names = {"chosen": "messages", "rejected": "metadata", **dict.fromkeys(others, "metadata")}
        return Fault("rejected", found, f"{advised(names)} trains the chosen answers alone")
    if not others and isinstance(row["chosen"], str):
        accepted = "rows of the chosen dialogues alone, their turns as 'messages' instead of one text"
        return Fault("rejected", found, accepted)
    return None
