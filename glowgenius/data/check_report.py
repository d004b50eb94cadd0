"""`DatasetReport`: the findings of a check, with token statistics, as text, HTML and JSON."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, TypeAlias, final

import numpy as np
from attrs import asdict, field, frozen
from markupsafe import Markup
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.data.columns import SHAPES, advised, judging_kind
from glowgenius.data.grouping import folded
from glowgenius.data.json_values import as_list, shortened, thaw
from glowgenius.data.splits import REPLAY
from glowgenius.errors import Problem, list_problems
from glowgenius.markup.html import fragment, tag

if TYPE_CHECKING:
    from array import array
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from markupsafe import Markup

    from glowgenius.data.message import Conversation, Message

EXAMPLES_SHOWN: Final = 3
"""How many examples of a finding the page shows."""

GROUPS_KEPT: Final = 1000
"""How many places of a finding are kept; `count` counts all of them."""

Severity: TypeAlias = Literal["problem", "warning"]
"""A problem makes `ok` false, a warning does not."""

_BAR: Final = 40
_LONGEST_CELL: Final = 200
_ROWS_SHOWN: Final = 5


@final
@frozen(kw_only=True)
class Finding:
    """One kind of problem, with every place where it was found."""

    kind: str
    """What it is, as one word for programs: `contradiction`, `duplicate`, `leak` …"""

    severity: Severity
    """Whether it makes `ok` false."""

    count: int
    """How often it was found."""

    title: str
    """What it is, in words."""

    advice: str
    """What to do about it."""

    rows: tuple[tuple[int, ...], ...]
    """Positions of the rows concerned, for each place; the first 1,000 places."""

    examples: tuple[str, ...]
    """The first few places, as text."""

    def lines(self) -> tuple[str, ...]:
        """The finding as text lines."""
        more = self.count - len(self.examples)
        return (
            f"{self.title}",
            *(f"    {line}" for line in self.examples),
            *([f"    … and {more:,} more"] if more > 0 else []),
            f"    → {self.advice}",
        )


@final
@frozen(kw_only=True)
class TokenStatistics:
    """Statistics of the rows' lengths in tokens."""

    total: int
    """All tokens of all rows."""

    trained: int
    """Those that carry loss."""

    shortest: int
    """Tokens of the shortest row."""

    median: int
    """Half of the rows have at most so many."""

    p90: int
    """Nine of ten rows have at most so many."""

    p99: int
    """99 of 100 rows have at most so many."""

    longest: int
    """Tokens of the longest row."""

    histogram: tuple[tuple[int, int, int], ...]
    """`(from, to, rows)` with both ends included, of equal width."""

    renderer: str
    """What made the tokens."""

    def lines(self) -> tuple[str, ...]:
        """The statistics as text lines, with a bar chart."""
        most = max((rows for _, _, rows in self.histogram), default=0)
        width = max((len(f"{end:,}") for _, end, _ in self.histogram), default=0)
        shares = f"median {self.median:,}, 90 % ≤ {self.p90:,}, 99 % ≤ {self.p99:,}"
        return (
            f"tokens: {self.total:,} in all, {self.trained:,} trained ({self.renderer})",
            f"a row: shortest {self.shortest:,}, {shares}, longest {self.longest:,}",
            *(
                f"    {start:>{width},}–{end:<{width},} {'█' * round(_BAR * rows / most) or '▏'} {rows:,}"
                for start, end, rows in self.histogram
                if rows
            ),
        )


@final
@frozen(kw_only=True)
class DatasetReport:
    """Findings and statistics of a data set check; prints as one page."""

    name: str
    """The file, or what the rows are called."""

    format: str
    """The format that the rows were recognised as."""

    num_rows: int
    """Rows that can be used."""

    num_groups: int
    """Different groups."""

    roles: Mapping[str, int] = field(factory=dict[str, int])
    """How many messages each role has."""

    splits: Mapping[str, int] = field(factory=dict[str, int])
    """How many rows each value of the column `split` has."""

    tags: Mapping[str, int] = field(factory=dict[str, int])
    """How many rows each tag has."""

    untrained: tuple[UntrainedColumn, ...] = ()
    """Columns that are kept as metadata and not trained."""

    notes: tuple[str, ...] = ()
    """What was changed in the rows while they were read."""

    tokens: TokenStatistics | None = None
    """Lengths in tokens; None where no renderer was given."""

    findings: tuple[Finding, ...] = ()
    """What was found, problems first."""

    problems: tuple[Problem, ...] = ()
    """Rows of a file that cannot be read; a `Dataset` has none of them."""

    near: str = ""
    """How near duplicates were looked for, or why they were not."""

    @property
    def ok(self) -> bool:
        """Whether there are only warnings, or nothing."""
        return not self.problems and all(finding.severity != "problem" for finding in self.findings)

    def found(self, kind: str) -> Finding | None:
        """The finding of one kind, such as `contradiction`; None if there is none."""
        return next((finding for finding in self.findings if finding.kind == kind), None)

    @property
    def exit_code(self) -> int:
        """Exit code of a command: 0 if `ok`, else 1."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"ok": self.ok, **thaw(asdict(self))}

    def lines(self) -> tuple[str, ...]:
        """The report as text lines."""
        groups = f", {self.num_groups:,} group{'s' * (self.num_groups > 1)}" if self.num_groups else ""
        read = f"{self.name}: {self.num_rows:,} {'row' if self.num_rows == 1 else 'rows'}, {self.format}{groups}"
        counts = [
            f"{title}: {', '.join(f'{name} {count:,}' for name, count in shown.items())}"
            for title, shown in (("messages", self.roles), ("split", self.splits), ("tags", _most(self.tags)))
            if shown
        ]
        found = [line for finding in self.findings for line in _marked(finding)]
        unreadable = list_problems(self.problems).splitlines() if self.problems else []
        return (
            read,
            *(f"  {line}" for line in (*counts, *(self.tokens.lines() if self.tokens else ()))),
            *(f"  kept, not trained: {column}: {column.advice}" for column in self.untrained),
            *(f"  {note}" for note in self.notes),
            *([f"PROBLEM {len(self.problems):,} × cannot be read:", *unreadable] if unreadable else []),
            *found,
            f"near duplicates: {self.near}",
            self._verdict(),
        )

    def _verdict(self) -> str:
        problems = len(self.problems) + sum(finding.severity == "problem" for finding in self.findings)
        warnings = sum(finding.severity == "warning" for finding in self.findings)
        return f"{'ok' if self.ok else 'not ok'}: {_times(problems, 'problem')}, {_times(warnings, 'warning')}"

    @override
    def __str__(self) -> str:
        return showable("\n".join(self.lines()))

    def _repr_html_(self) -> str:
        """Notebook display: the report with a table of the findings."""
        head = [line for line in self.lines() if not line.startswith(("PROBLEM", "WARNING", "    "))]
        rows = [(one.severity, one.title, "\n".join(one.examples), one.advice) for one in self.findings]
        return fragment([tag("pre", "\n".join(head)), *_table(("", "found", "where", "what to do"), rows)])


@final
@frozen(kw_only=True)
class LeakReport:
    """Test rows that also occur in the training rows, exactly or nearly; prints as one page."""

    num_train: int
    """Rows trained on."""

    num_test: int
    """Rows tested on."""

    findings: tuple[Finding, ...] = ()
    """By kind; `rows` are pairs `(training row, test row)`."""

    near: str = ""
    """How near duplicates were looked for, or why they were not."""

    @property
    def ok(self) -> bool:
        """Whether no test row occurs in the training rows; near duplicates are only warnings."""
        return all(finding.severity != "problem" for finding in self.findings)

    @property
    def leaked(self) -> tuple[int, ...]:
        """Positions of the leaked test rows, each once."""
        return tuple(sorted({rows[1] for finding in self.findings for rows in finding.rows}))

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"ok": self.ok, **thaw(asdict(self))}

    @override
    def __str__(self) -> str:
        head = f"{_times(self.num_test, 'test row')} against {_times(self.num_train, 'training row')}"
        found = [line for finding in self.findings for line in _marked(finding)]
        end = "ok: no leak" if self.ok else "not ok: leaks"
        return showable("\n".join([head, *found, f"near duplicates: {self.near}", end]))


def table_of(title: str, rows: Sequence[Conversation]) -> str:
    """The first rows as an HTML table: question, answer, and metadata."""
    first = rows[:_ROWS_SHOWN]
    names = [name for name in ("id", "group", "split") if any(getattr(row, name) for row in first)]
    shown = [
        (
            str(position),
            shortened(row.question, _LONGEST_CELL),
            shortened(row.answer, _LONGEST_CELL),
            str(len(row.messages)),
            *(getattr(row, name) or "" for name in names),
        )
        for position, row in enumerate(first)
    ]
    more = len(rows) - len(shown)
    tail = [tag("p", f"… and {more:,} more")] if more > 0 else []
    return fragment([tag("p", title), *_table(("", "question", "answer", "messages", *names), shown), *tail])


def _table(names: Sequence[str], rows: Sequence[Sequence[str]]) -> list[Markup]:
    if not rows:
        return []
    head = tag("thead", tag("tr", *(tag("th", name, scope="col") for name in names)))
    body = tag("tbody", *(tag("tr", *(tag("td", text) for text in row)) for row in rows))
    return [tag("div", tag("table", head, body, class_="words"), class_="wide")]


def _most(tags: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(tags.items(), key=lambda item: (-item[1], item[0]))[:8])


def _marked(finding: Finding) -> list[str]:
    first, *rest = finding.lines()
    return [f"{finding.severity.upper()} {first}", *rest]


def _times(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


_ROWS_NAMED = 4
_TEXT = 60


def row_finding(
    rows: Sequence[Conversation],
    kind: str,
    positions: Sequence[int],
    words: Kind,
    *,
    count: int | None = None,
    notes: Sequence[str] = (),
) -> Finding:
    """A finding about single rows.

    Args:
        rows: The rows.
        kind: The finding's kind.
        positions: Where it was found; the first of them at least.
        words: Severity, title and advice.
        count: How often it was found in all, where that is more than there are *positions*.
        notes: What to say of each of the first positions instead of quoting the row.
    """
    said = [notes[i] if i < len(notes) else _quoted(rows[at]) for i, at in enumerate(positions[:EXAMPLES_SHOWN])]
    total = len(positions) if count is None else count
    return Finding(
        kind=kind,
        severity=words.severity,
        count=total,
        title=f"{words.title}: {_rows(total)}",
        advice=words.advice,
        rows=tuple((position,) for position in positions[:GROUPS_KEPT]),
        examples=tuple(f"{place(rows, at)}: {text}" for at, text in zip(positions, said, strict=False)),
    )


def group_finding(
    rows: Sequence[Conversation], kind: str, groups: Sequence[Sequence[int]], words: Kind
) -> Finding | None:
    """A finding about groups of rows; None if there are none."""
    if not groups:
        return None
    involved = sum(map(len, groups))
    times = "once" if len(groups) == 1 else f"{len(groups):,} times"
    return Finding(
        kind=kind,
        severity=words.severity,
        count=len(groups),
        title=f"{words.title}: {times}, {_rows(involved)}",
        advice=words.advice,
        rows=tuple(tuple(group) for group in groups[:GROUPS_KEPT]),
        examples=tuple(_group_example(rows, group) for group in groups[:EXAMPLES_SHOWN]),
    )


def pair_finding(
    train: Sequence[Conversation],
    test: Sequence[Conversation],
    kind: str,
    pairs: Sequence[tuple[int, int]],
    words: Kind,
    *,
    total: int | None = None,
) -> Finding | None:
    """A finding about pairs of a training row and a test row; None if there are none.

    Args:
        train: The rows that the first position of a pair counts.
        test: The rows that the second one counts.
        kind: The finding's kind.
        pairs: The pairs.
        words: Severity, title and advice.
        total: How many rows are tested on, where those are not all of *test*.
    """
    if not pairs:
        return None
    return Finding(
        kind=kind,
        severity=words.severity,
        count=len(pairs),
        title=f"{words.title}: {_rows(len(pairs))} of {len(test) if total is None else total:,} to test on",
        advice=words.advice,
        rows=tuple(pairs[:GROUPS_KEPT]),
        examples=tuple(
            f"{place(test, at)}: {_quoted(test[at])}; trained: {place(train, first)}: {_quoted(train[first])}"
            for first, at in islice(pairs, EXAMPLES_SHOWN)
        ),
    )


def place(rows: Sequence[Conversation], position: int) -> str:
    """Place of a row: file and line if it was read from one, else its position, and its id if it has one."""
    row = rows[position]
    where = f"row {position}" if row.source is None else str(row.source)
    return where if row.id is None else f"{where} (id {row.id!r})"


def _group_example(rows: Sequence[Conversation], group: Sequence[int]) -> str:
    named = [place(rows, at) for at in group[:_ROWS_NAMED]]
    more = f" and {len(group) - _ROWS_NAMED:,} more" if len(group) > _ROWS_NAMED else ""
    said = " / ".join(dict.fromkeys(_quoted(rows[at]) for at in group[:_ROWS_NAMED]))
    return f"{', '.join(named)}{more}: {said}"


def _quoted(row: Conversation) -> str:
    return f"{shortened(row.question, _TEXT)!r} → {shortened(row.answer, _TEXT)!r}"


def _rows(count: int) -> str:
    return f"{count:,} {'row' if count == 1 else 'rows'}"


_BINS: Final = 10
_STEPS: Final = (1, 2, 5)


def summary(lengths: array[int], trained: int, renderer: str) -> TokenStatistics:
    """Token statistics of rows with these *lengths*; at least one row.

    Percentiles are lengths that occur: the smallest that the share of the rows does not exceed.
    """
    sizes = np.sort(np.frombuffer(lengths, dtype=np.int64))
    count = len(sizes)

    def percentile(share: int) -> int:
        return int(sizes[max(0, -(-share * count // 100) - 1)])

    return TokenStatistics(
        total=int(sizes.sum()),
        trained=trained,
        shortest=int(sizes[0]),
        median=percentile(50),
        p90=percentile(90),
        p99=percentile(99),
        longest=int(sizes[-1]),
        histogram=_histogram(sizes),
        renderer=renderer,
    )


def _histogram(sizes: np.typing.NDArray[np.int64]) -> tuple[tuple[int, int, int], ...]:
    """Histogram with about ten equal bins at most; the bin width is 1, 2 or 5 times a power of ten."""
    low, high = int(sizes[0]), int(sizes[-1])
    power = 1
    while True:
        width = next((step * power for step in _STEPS if (high // (step * power)) - (low // (step * power)) < _BINS), 0)
        if width:
            break
        power *= 10
    start = low // width * width
    counts = np.bincount((sizes - start) // width)
    return tuple(
        (start + index * width, start + (index + 1) * width - 1, int(rows)) for index, rows in enumerate(counts)
    )


class Kind(NamedTuple):
    """Text templates of one kind of finding."""

    severity: Severity
    title: str
    advice: str


ROW_KINDS: Final = {
    "assistant_twice": Kind(
        "warning",
        "two assistant messages in a row",
        "join them, unless the model is meant to speak twice; many chat templates refuse it",
    ),
    "user_twice": Kind("warning", "two user messages in a row", "join them; many chat templates refuse it"),
    "no_question": Kind(
        "warning", "no user message before the answer", "ask something, unless the model is meant to begin"
    ),
    "late_system": Kind(
        "warning", "a system message that is not the first", "move it to the front; many chat templates refuse it"
    ),
    "empty_system": Kind(
        "warning", "an empty system message", "leave it out, unless it is meant to replace the template's own"
    ),
    "tool_without_call": Kind(
        "warning",
        "a tool message that answers no call before it",
        "give the assistant's 'tool_calls', and the result the id of its call",
    ),
    "edge_space": Kind(
        "warning",
        "an answer with white space at its beginning or end",
        "strip it: the model learns it as part of the answer",
    ),
    "control_character": Kind(
        "warning", "a control character in the text", "remove it: it is seldom meant, and tokenizers differ about it"
    ),
    "lost_character": Kind(
        "warning", "the sign � of a character that was lost", "convert the source again, from its true encoding"
    ),
    "other_reference": Kind(
        "warning",
        "references that do not contain the answer",
        "add the answer to the references: evaluation would call the trained answer wrong",
    ),
    "never_trained": Kind(
        "warning",
        "an answer of weight 0",
        "give it a weight above 0, or leave the row out: with the default train_on nothing of it is trained",
    ),
}
"""Kind of finding → its words."""

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")


def row_kinds(row: Conversation) -> Iterator[str]:
    """The kinds of `ROW_KINDS` that apply to the row, each once."""
    messages = row.messages
    roles = [message.role for message in messages]
    if "user" not in roles:
        yield "no_question"
    before = ""
    twice: set[str] = set()
    for role in roles:
        if role == before and role in ("assistant", "user"):
            twice.add(f"{role}_twice")
        before = role
    yield from sorted(twice)
    if any(role in ("system", "developer") for role in roles[1:]) and _late_system(roles):
        yield "late_system"
    if any(message.role == "system" and not message.content.strip() for message in messages):
        yield "empty_system"
    if "tool" in roles and not _answers_calls(messages):
        yield "tool_without_call"
    yield from _of_the_text(row)


def _late_system(roles: list[str]) -> bool:
    """Whether a system message comes after another role's; a developer message may follow the system message."""
    first = next((at for at, role in enumerate(roles) if role not in ("system", "developer")), len(roles))
    return any(role in ("system", "developer") for role in roles[first:])


def _answers_calls(messages: tuple[Message, ...]) -> bool:
    """Whether every tool result follows a call, and the call that it names."""
    called, ids = False, set[str]()
    for message in messages:
        called = called or bool(message.tool_calls)
        ids |= {call["id"] for call in message.tool_calls if "id" in call}
        if message.role == "tool" and (not called or (ids and message.tool_call_id not in {None, *ids})):
            return False
    return True


def _of_the_text(row: Conversation) -> Iterator[str]:
    answer = row.messages[-1]
    if answer.content != answer.content.strip():
        yield "edge_space"
    for message in row.messages:
        if not message.content.isprintable() and _CONTROL.search(message.content):
            yield "control_character"
            break
    if any("\ufffd" in message.content for message in row.messages):
        yield "lost_character"
    if row.references and folded(row.answer) not in map(folded, row.references):
        yield "other_reference"
    if answer.weight == 0:
        yield "never_trained"


_EXAMPLE: Final = 60


@final
@frozen(kw_only=True)
class UntrainedColumn:
    """A column kept as metadata, which is in neither the prompt nor the answer."""

    name: str
    """The column."""

    example: str
    """Its first value that holds something, as JSON, cut after 60 characters."""

    num_rows: int
    """How many rows hold something in it."""

    advice: str
    """How to have the model see it."""

    @override
    def __str__(self) -> str:
        rows = "1 row" if self.num_rows == 1 else f"{self.num_rows:,} rows"
        return f"{self.name} ({rows}, such as {self.example})"


def untrained_columns(rows: Iterable[Conversation], format: str) -> tuple[UntrainedColumn, ...]:  # noqa: A002 - as in Dataset
    """Columns that rows keep as metadata, in the order in which they first have a value.

    Args:
        rows: The rows.
        format: Their format, which decides how a column can be used.
    """
    counts: dict[str, int] = {}
    first: dict[str, object] = {}
    for row in rows:
        for name, value in row.metadata.items() if row.metadata else ():
            ours = name == "answered_by" and REPLAY in row.tags  # make_replay writes which model answered
            if value not in (None, "", (), {}) and not ours:
                counts[name] = counts.get(name, 0) + 1
                first.setdefault(name, value)
    return tuple(
        UntrainedColumn(
            name=name,
            example=shortened(json.dumps(thaw(first[name]), ensure_ascii=False), _EXAMPLE),
            num_rows=count,
            advice=_advice(name, first[name], format),
        )
        for name, count in counts.items()
    )


def _advice(name: str, value: object, format: str) -> str:  # noqa: A002 - as in Dataset
    if any("context" not in SHAPES[part].columns for part in format.split(" + ") if part in SHAPES):
        return "write it into the content of a message if the model shall see it"
    if any(judging_kind(name, SHAPES[part]) for part in format.split(" + ") if part in SHAPES):
        return "it seems to judge the answer: keep it out of the prompt"
    items = as_list(value)
    if items and all(isinstance(item, str) for item in items):
        return f"{advised({name: 'choices'})} puts it below the question, {advised({name: 'context'})} before it"
    return f"{advised({name: 'context'})} puts it before the question"
