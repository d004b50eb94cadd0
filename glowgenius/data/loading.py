"""Loading rows as conversations from files or memory; all row problems become one error."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, cast, final

from attrs import frozen

from glowgenius.data.arrow_values import plain, refuse_repeated, without_invented, without_nulls
from glowgenius.data.check import SCORE, preference_fault
from glowgenius.data.columns import SHAPES, Fault, Shape, advised, likeliest, plan, recognise
from glowgenius.data.files import UnreadableError
from glowgenius.data.formats import MISSING, read_row, row_faults, row_id, used_columns
from glowgenius.data.json_values import shortened
from glowgenius.data.message import Conversation, Source
from glowgenius.data.raw_rows import EXAMPLE, RawRow, row_of
from glowgenius.errors import PROBLEMS_SHOWN, ConfigError, DatasetError, Problem, nearest

if TYPE_CHECKING:
    from glowgenius.data.files import ReadLimits

_COLUMNS_NAMED = 8
_DIALOGUES = ("messages", "sharegpt", "prompt/completion")
_FORMATS = ", ".join(" + ".join(shape.required) for shape in SHAPES.values())


def shape_named(name: str | None) -> Shape | None:
    """The format of that name; None means it is recognised from the columns.

    Raises:
        ConfigError: There is no such format.
    """
    if name is None:
        return None
    if not isinstance(name, str) or name not in SHAPES:  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
        known = ", ".join(map(repr, SHAPES))
        hint = nearest(name, SHAPES) if isinstance(name, str) else ""  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
        raise ConfigError(f"format must be one of {known}, got {name!r}{hint}")
    return SHAPES[name]


@final
@frozen(kw_only=True)
class Loaded:
    """The valid rows, and the problems of the others."""

    conversations: tuple[Conversation, ...]
    """In their order; all rows only if there are no problems."""

    format: str
    """The name of the format."""

    problems: tuple[Problem, ...]
    """Everything that is wrong, in the order of the rows."""

    headline: str
    """What an error about the problems begins with."""

    notes: tuple[str, ...] = ()
    """What was changed in the rows while they were read, in words."""


def load(
    rows: Iterable[RawRow | Conversation], *, path: str | None, shape: Shape | None
) -> tuple[tuple[Conversation, ...], str, tuple[str, ...]]:
    """All rows as conversations, the format's name, and notes about changes to the rows.

    Args:
        rows: As for `read_all`.
        path: As for `read_all`.
        shape: As for `read_all`.

    Raises:
        DatasetError: There are rows that cannot be used, the file cannot be read, or there are no rows.
    """
    found = read_all(rows, path=path, shape=shape)
    if found.problems:
        raise DatasetError(found.headline, found.problems)
    return found.conversations, found.format, found.notes


def read_all(rows: Iterable[RawRow | Conversation], *, path: str | None, shape: Shape | None) -> Loaded:
    """Read every row as a conversation or as problems.

    Args:
        rows: Rows of a file or of memory; conversations pass as they are, if they can be trained on.
        path: The file, as the user named it; None for rows from memory.
        shape: The format that the user named; None recognises it from the first row that has one.
    """
    loader = _Loader(path, shape)
    broken: UnreadableError | None = None
    try:
        for row in rows:
            loader.add(row)
    except UnreadableError as error:
        broken = error
    return loader.finish(broken)


@final
class _Loader:
    """State of reading the rows of one source."""

    def __init__(self, path: str | None, shape: Shape | None) -> None:
        self._path = path
        self._shape = shape
        self._forced = shape is not None
        self._conversations: list[Conversation] = []
        self._waiting: list[tuple[int, RawRow]] = []  # rows whose columns make no format, until one does
        self._problems: list[Problem] = []
        self._everywhere: dict[Fault, list[Problem]] = {}  # faults of columns, which often are the same in all rows
        self._total = 0
        self._bad = 0
        self._calls: list[int] = []  # which conversations have tool calls, and came from rows

    def add(self, row: RawRow | Conversation) -> None:
        """Read the next row."""
        position = self._total
        self._total += 1
        if isinstance(row, Conversation):
            faults = row_faults(row)
            if faults:
                self._refuse(position, None, row.id, faults)
            else:
                self._conversations.append(row)
        elif row.faults:
            self._refuse(position, row.line, row_id(row.columns), row.faults)
        else:
            self._shape = self._shape or recognise(used_columns(row.columns))
            if self._shape is None:
                self._waiting.append((position, row))
            else:
                self._read(position, row, self._shape)

    def _read(self, position: int, row: RawRow, shape: Shape) -> None:
        if fault := preference_fault(row.columns):
            self._refuse_column(position, row, fault)
            self._bad += 1
            return
        columns = plan(used_columns(row.columns), shape, forced=self._forced)
        source = None if self._path is None else Source(self._path, row.line, position)
        conversation = read_row(row.columns, shape, columns, source)
        if isinstance(conversation, Conversation):
            if shape.name in _DIALOGUES and any(message.tool_calls for message in conversation.messages):
                self._calls.append(len(self._conversations))
            self._conversations.append(conversation)
            return
        own: list[Fault] = []
        for fault in conversation:
            missing = fault.found == MISSING and fault.field in shape.required
            if fault in columns.faults or missing or fault.found == SCORE:
                self._refuse_column(position, row, fault)
            else:
                own.append(fault)
        self._refuse(position, row.line, row_id(row.columns), own)

    def _refuse(self, position: int, line: int | None, name: str | None, faults: Iterable[Fault]) -> None:
        self._bad += 1
        self._problems.extend(self._problem(position, line, name, fault) for fault in faults)

    def _refuse_column(self, position: int, row: RawRow, fault: Fault) -> None:
        known = self._everywhere.setdefault(fault, [])
        if row.header_line is None:
            known.append(self._problem(position, row.line, row_id(row.columns), fault))
        elif not known:
            known.append(Problem(path=self._path, line=row.header_line, **fault._asdict()))

    def _problem(self, position: int, line: int | None, name: str | None, fault: Fault) -> Problem:
        return Problem(path=self._path, line=line, row=position, row_id=name, **fault._asdict())

    def finish(self, broken: UnreadableError | None) -> Loaded:
        """The conversations, their format, and all problems."""
        shape = self._shape or next(filter(None, map(_guess, self._waiting)), None)
        for position, row in self._waiting:
            if shape is None:
                self._refuse_column(position, row, _no_format(row))
                self._bad += 1
            else:
                self._read(position, row, shape)
        notes = self._take_out_invented()
        problems = self._ordered_problems()
        if broken is not None:
            problems.append(Problem(path=self._path, line=broken.line, found=broken.found, accepted=broken.accepted))
        elif not self._total:
            problems.append(Problem(path=self._path, found="no rows", accepted="at least one row"))
        return Loaded(
            conversations=tuple(self._conversations),
            format="messages" if shape is None else shape.name,
            problems=tuple(problems),
            headline=self._headline(broken),
            notes=notes,
        )

    def _take_out_invented(self) -> tuple[str, ...]:
        """Remove null call arguments that Arrow added and an export wrote; see `without_invented`."""
        changed = without_invented(self._conversations, self._calls)
        for position, row in changed.items():
            self._conversations[position] = row
        if not changed:
            return ()
        rows = "1 row" if len(changed) == 1 else f"{len(changed):,} rows"
        return (f"null arguments that Arrow has put into tool calls were taken out of {rows}",)

    def _ordered_problems(self) -> list[Problem]:
        """Problems in row order; a column that is wrong in every row is reported once."""
        problems = list(self._problems)
        for fault, found in self._everywhere.items():
            if len(found) == self._total > PROBLEMS_SHOWN:
                words: dict[str, Any] = {**fault._asdict(), "found": f"{fault.found} (in all {self._total} rows)"}
                problems.append(Problem(path=self._path, line=found[0].line, row=found[0].row, **words))
            else:
                problems.extend(found)
        return sorted(problems, key=lambda problem: -1 if problem.row is None else problem.row)

    def _headline(self, broken: UnreadableError | None) -> str:
        noun, place = ("records", "") if self._path is None else ("rows", f"{self._path}: ")
        if broken is not None or not self._total:
            reading = "read to the end" if self._total else "read" if self._path is not None else "used"
            return f"{place or 'the records '}cannot be {reading}; nothing was loaded"
        return f"{place}{self._bad} of {self._total} {noun} cannot be used; nothing was loaded"


def _guess(waiting: tuple[int, RawRow]) -> Shape | None:
    columns = waiting[1].columns
    return likeliest(used_columns(columns)) or likeliest(tuple(columns))


def _no_format(row: RawRow) -> Fault:
    names = [repr(shortened(column)) for column in row.columns]
    listed = ", ".join(names[:_COLUMNS_NAMED]) + (", …" if len(names) > _COLUMNS_NAMED else "")
    found = f"the columns {listed}, which make no known format" if names else "no columns"
    if len(names) == 1:
        found = f"the column {listed} alone, which makes no known format"
    header = "; perhaps the header line is missing" if row.header_line is not None else ""
    asks, *others = row.columns if len(names) > 1 else ("",)
    use = f", or {advised({asks: 'question', others[0]: 'answer'})}, which says which is which" if others else ""
    return Fault(None, found, f"one of {_FORMATS}{use}{header}")


def memory_rows(records: object, limits: ReadLimits) -> Iterable[RawRow | Conversation]:
    """The rows of *records*, whatever container they are in.

    Raises:
        ConfigError: It is a string, one mapping, or cannot be iterated over.
    """
    if _is_a(records, "datasets", "DatasetDict", "IterableDatasetDict"):
        raise ConfigError(
            "records must be rows, got a DatasetDict, which has several parts; "
            "Dataset.from_huggingface(dataset, split=…) reads one of them"
        )
    given: Any = records
    if _is_a(records, "datasets", "Dataset", "IterableDataset"):
        from glowgenius.data.readers import dataset_rows

        return dataset_rows(given)
    if _is_a(records, "pyarrow", "Table", "RecordBatch", "RecordBatchReader"):
        from glowgenius.data.table_files import arrow_rows

        batches = given.to_batches() if hasattr(given, "to_batches") else given
        return arrow_rows([given] if _is_a(records, "pyarrow", "RecordBatch") else batches, given.schema, limits)
    if _is_a(records, "pandas", "DataFrame"):
        return _pandas_rows(given)
    if _is_a(records, "polars", "DataFrame"):
        return (row_of(plain(without_nulls(row)), None) for row in given.iter_rows(named=True))
    _check_records(records)
    return map(_record_row, cast("Iterable[object]", records))


def _is_a(value: object, package: str, *names: str) -> bool:
    """Whether *value* is an instance of a package's class, without importing the package."""
    kinds = tuple(filter(None, (getattr(sys.modules.get(package), name, None) for name in names)))
    return isinstance(value, kinds)


def _pandas_rows(frame: Any) -> Iterator[RawRow]:
    """One row per row of a data frame, without missing values; the index is not a column."""
    names = [name if isinstance(name, str) else str(name) for name in frame.columns]
    refuse_repeated(names)
    for values in frame.itertuples(index=False, name=None):
        yield row_of(plain(dict(zip(names, values, strict=True))), None)


def _check_records(records: object) -> None:
    kind = type(records).__name__
    if isinstance(records, str | bytes | Mapping) or not isinstance(records, Iterable):
        hint = "; Dataset.from_file reads files" if isinstance(records, str) else ""
        if isinstance(records, Mapping) and all(isinstance(value, list) for value in records.values()):  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
            hint = "; rows of columns are [dict(zip(columns, row)) for row in zip(*columns.values())]"
        raise ConfigError(f"records must be an iterable of rows such as {EXAMPLE}, got a {kind}{hint}")


def _record_row(record: object) -> RawRow | Conversation:
    """One record as a row; a conversation is kept, an invalid record becomes a faulty row."""
    if isinstance(record, Conversation):
        return record
    if isinstance(record, Mapping):
        return row_of(plain(cast("Mapping[str, Any]", record)), None)
    accepted = f"a mapping such as {EXAMPLE}, or a Conversation"
    return RawRow(columns={}, faults=(Fault(None, f"a Python {type(record).__name__}", accepted),))
