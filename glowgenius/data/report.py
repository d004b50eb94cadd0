"""What a check found, as values, as one page of text, and as a table for notebooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, final

from attrs import asdict, field, frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius.data.frozen import shortened, thaw
from glowgenius.errors import Problem, list_problems
from glowgenius.markup.html import fragment, tag

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from glowgenius.data.message import Conversation
    from glowgenius.data.untrained import UntrainedColumn
    from glowgenius.markup.html import Markup

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
    """One kind of thing that was found, with every place."""

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
        """The finding as lines of text."""
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
    """How long the rows are in tokens."""

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
        """The statistics as lines of text, with bars."""
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
    """What is in a data set, and what is wrong with it. Print it for one page."""

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
        """Whether nothing was found but warnings."""
        return not self.problems and all(finding.severity != "problem" for finding in self.findings)

    def found(self, kind: str) -> Finding | None:
        """The finding of that kind, such as `contradiction`; None where there is none."""
        return next((finding for finding in self.findings if finding.kind == kind), None)

    @property
    def exit_code(self) -> int:
        """What a command ends with: 0 if `ok`, else 1."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {"ok": self.ok, **thaw(asdict(self))}

    def lines(self) -> tuple[str, ...]:
        """The report as lines of text."""
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
        """What notebooks show: the page, with a table of the findings."""
        head = [line for line in self.lines() if not line.startswith(("PROBLEM", "WARNING", "    "))]
        rows = [(one.severity, one.title, "\n".join(one.examples), one.advice) for one in self.findings]
        return fragment([tag("pre", "\n".join(head)), *_table(("", "found", "where", "what to do"), rows)])


@final
@frozen(kw_only=True)
class LeakReport:
    """Rows to test on that were also trained, in the same words or nearly so. Print it for one page."""

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
        """Whether no test row was trained; nearly alike rows are warnings."""
        return all(finding.severity != "problem" for finding in self.findings)

    @property
    def leaked(self) -> tuple[int, ...]:
        """Positions of the test rows concerned, each once."""
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
    """The first rows as a table of HTML: question, answer, and what is known about them."""
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
