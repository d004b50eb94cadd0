"""What is worth knowing about rows before they are trained; nothing here changes or drops one."""

from __future__ import annotations

from array import array
from collections import Counter, defaultdict
from typing import TYPE_CHECKING, Final, Protocol, final

from glowgenius.data.findings import group_finding, pair_finding, row_finding
from glowgenius.data.leaks import EXACT, near_status, shared
from glowgenius.data.report import GROUPS_KEPT, DatasetReport
from glowgenius.data.row_checks import ROW_KINDS, Kind, row_kinds
from glowgenius.data.sameness import accepted_keys, prompt_key, row_key
from glowgenius.data.untrained import untrained_columns
from glowgenius.errors import ConfigError, Problem, RenderingError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from glowgenius.data.message import Conversation
    from glowgenius.data.report import Finding, TokenStatistics

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
_NEAR: Final = Kind(
    "warning", "nearly the same question and answer", "look whether they are meant; a group keeps them on one side"
)


class Rendered(Protocol):
    """What a check asks of a rendered row."""

    def __len__(self) -> int:
        """All tokens."""
        ...

    @property
    def num_trained(self) -> int:
        """Tokens that carry loss."""
        ...


class CountsTokens(Protocol):
    """What a check asks of a renderer; every `glowgenius.Renderer` has it."""

    @property
    def description(self) -> str:
        """What renders, in one line."""
        ...

    def render_rows(self, conversations: Iterable[Conversation], /) -> Iterator[tuple[Rendered, ...] | RenderingError]:
        """Each row as the examples it is trained as, or why it cannot be."""
        ...


def duplicates(rows: Sequence[Conversation]) -> list[list[int]]:
    """Positions of rows whose messages are the same to the letter, in the order of their first rows."""
    from glowgenius.data.grouping import rows_by_key

    return rows_by_key(rows, row_key)


def same_questions(rows: Sequence[Conversation]) -> list[list[int]]:
    """Positions of rows with the same `prompt_key`, in the order of their first rows; none without a prompt."""
    from glowgenius.data.grouping import rows_by_key

    return [same for same in rows_by_key(rows, prompt_key) if rows[same[0]].prompt]


def contradictions(rows: Sequence[Conversation], same: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
    """Positions of rows that ask the same and of which two accept no common answer, in the order of the first rows.

    Args:
        rows: The rows.
        same: What `same_questions` says of them, if it is known already.
    """
    groups = same_questions(rows) if same is None else same
    return [list(group) for group in groups if not _agree([rows[at] for at in group])]


def look_alikes(rows: Sequence[Conversation], same: Sequence[Sequence[int]] | None = None) -> list[list[int]]:
    """Positions of rows that ask the same in other characters, such as other quotes, and agree on the answer.

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
    """Everything about the rows, in one report; `Dataset.check` documents the arguments.

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
    """What one pass over the rows counts."""

    def __init__(self) -> None:
        self.roles = Counter[str]()
        self.splits = Counter[str]()
        self.tags = Counter[str]()
        self.groups = set[str]()
        self.counts = Counter[str]()
        self.places = defaultdict[str, list[int]](list)

    def add(self, position: int, row: Conversation) -> None:
        """The next row."""
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
    """Duplicates, contradictions and look-alikes, and where asked for near duplicates among what is left."""
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
        found.append(group_finding(rows, "near_duplicate", near_duplicates(rows, known), _NEAR))
    return [finding for finding in found if finding is not None]


def _split_findings(rows: Sequence[Conversation], walk: _Walk) -> list[Finding]:
    """Leaks between the parts that the rows' own `split` names: each part against those before it."""
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
    """The lengths of all rows that can be rendered, and findings about those that cannot, or are too long."""
    from glowgenius.data.token_statistics import summary

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
