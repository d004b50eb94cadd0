"""`Dataset`: an immutable sequence of training conversations."""

from __future__ import annotations

import hashlib
import json
import operator
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, final, overload

from typing_extensions import override

from glowgenius.data.columns import Fault
from glowgenius.data.files import limits_given, user_path, write_lines
from glowgenius.data.loading import load, memory_rows, shape_named
from glowgenius.data.message import Conversation
from glowgenius.data.raw_rows import RawRow, Renaming
from glowgenius.data.readers import file_name, file_rows
from glowgenius.data.splits import parts_named, permutation, split_positions
from glowgenius.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from glowgenius.data.check import CountsTokens
    from glowgenius.data.check_report import DatasetReport, UntrainedColumn
    from glowgenius.data.files import ReadLimits

_FINGERPRINT_KIND = b"glowgenius dataset 1\n"
"""Goes into every fingerprint; the number changes with the meaning of a row."""

_SHOWN_OF_FINGERPRINT = 12


@final
class Dataset(Sequence[Conversation]):
    """An immutable sequence of conversations, each ending with the answer to learn.

    A data set never changes: everything that looks like a change gives a new one.
    Two are equal if they hold the same rows in the same order, wherever those were read.
    """

    __slots__ = ("_fingerprint", "_format", "_notes", "_rows")

    def __init__(self, conversations: Iterable[Conversation] = ()) -> None:
        """Create a data set from conversations; unlike in `from_records` it may be empty.

        Raises:
            DatasetError: Some of them cannot be trained on, such as one that ends with a question.
        """
        rows = _conversations_only(_iterable("Dataset", conversations, "Conversations"))
        self._rows: tuple[Conversation, ...] = load(rows, path=None, shape=None)[0] if rows else ()
        self._format = "messages"
        self._notes: tuple[str, ...] = ()
        self._fingerprint: str | None = None

    @classmethod
    def _of(cls, rows: Iterable[Conversation], format_: str, notes: tuple[str, ...] = ()) -> Dataset:
        """A data set of rows that are already checked."""
        made = cls()
        made._rows = tuple(rows)
        made._format = format_
        made._notes = notes
        return made

    def _with(self, rows: Iterable[Conversation]) -> Dataset:
        """A data set with rows of this one."""
        return Dataset._of(rows, self._format, self._notes)

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        format: str | None = None,  # noqa: A002 - public name
        columns: Mapping[str, str] | None = None,
        limits: ReadLimits | None = None,
    ) -> Dataset:
        """Read a `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` file, optionally with `.gz`. Text is UTF-8.

        The columns decide the format: `messages` (OpenAI), `question` + `answer`, `prompt` + `completion`,
        `instruction` + `output` (Alpaca, with `input`, `system`, `history`), `input` + `output`, or
        `conversations` (ShareGPT). A row may also have `id`, `group`, `split`, `tags`, `references`, `weight`,
        `metadata`; columns of other names are kept as metadata, unless they look like slips of the known ones.

        Args:
            path: The file; its suffix says what it is.
            format: The format's name, as in `dataset.format`, where the columns fit more than one. Columns
                of the other formats are then kept as metadata.
            columns: Name in the file → name here, such as `{"query": "question"}`; a column given the name
                `metadata` is kept there under its own. Several may become `context`, `choices` or `metadata`.
            limits: What the file may hold at most; None takes the defaults of `glowgenius.data.ReadLimits`, as
                far as the environment variable `GLOWGENIUS_READ_LIMITS` does not set others.

        Raises:
            ConfigError: There is no such format, column or limit.
            DatasetError: Any row cannot be used; the error lists every problem with its line.
            MissingDependencyError: The file is Parquet, and the package `pyarrow` is not installed.
        """
        name = file_name(path)
        return cls._of(
            *load(file_rows(name, Renaming(columns), limits_given(limits)), path=name, shape=shape_named(format))
        )

    @classmethod
    def from_records(
        cls,
        records: Iterable[Mapping[str, object] | Conversation],
        *,
        format: str | None = None,  # noqa: A002 - public name
        columns: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Create a data set from rows in memory: mappings with the same columns as files, or conversations.

        A `pandas` or `polars` data frame, an Arrow table and a `datasets.Dataset` are taken as well.
        In every column NaN is a value that is missing, an array is a list, and a date is its ISO text.

        Args:
            records: The rows; at least one.
            format: As for `from_file`.
            columns: As for `from_file`.

        Raises:
            ConfigError: There is no such format or column, or *records* is one mapping or a string.
            DatasetError: Any record cannot be used; the error lists every problem with its 0-based row.
        """
        names = Renaming(columns)
        shape = shape_named(format)
        rows = memory_rows(records, limits_given(None))
        return cls._of(*load(names.apply(rows) if names else rows, path=None, shape=shape))

    @classmethod
    def from_huggingface(
        cls,
        name_or_dataset: object,
        split: str | None = None,
        *,
        format: str | None = None,  # noqa: A002 - public name
        columns: Mapping[str, str] | None = None,
    ) -> Dataset:
        """Create a data set from a Hugging Face data set.

        Arrow fills in null wherever one row lacks what another has: columns, and keys of messages and tool calls.
        These nulls are taken out again, and so are those that were meant. Class labels become their names.

        Args:
            name_or_dataset: A name on the hub, a folder (of data files, or from `save_to_disk`), or a
                `datasets.Dataset`, `DatasetDict` or iterable data set.
            split: Which part, where it has parts; needed if it has more than one.
            format: As for `from_file`.
            columns: As for `from_file`.

        Raises:
            ConfigError: An argument is not valid.
            DatasetError: It cannot be loaded, or any row cannot be used.
            MissingDependencyError: The package `datasets` is not installed.
        """
        from glowgenius.data.readers import read_huggingface

        names, shape = Renaming(columns), shape_named(format)
        rows, name = read_huggingface(name_or_dataset, split)
        return cls._of(*load(names.apply(rows) if names else rows, path=name, shape=shape))

    @property
    def format(self) -> str:
        """The recognised format of the rows, such as `question/answer`; several are joined by a plus sign."""
        return self._format

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the rows in order, as 64 hexadecimal digits.

        It depends on the content alone: not on the file, its format, the machine, or the version of Python.
        """
        if self._fingerprint is None:
            digest = hashlib.sha256(_FINGERPRINT_KIND)
            for row in self._rows:
                # Sorted keys and ASCII escapes make equal content equal text, without line breaks inside a row.
                text = json.dumps(row.to_record(), sort_keys=True, separators=(",", ":"), allow_nan=False)
                digest.update(text.encode("ascii") + b"\n")
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups, each once, in the order of their first rows."""
        return tuple(dict.fromkeys(row.group for row in self._rows if row.group is not None))

    @property
    def notes(self) -> tuple[str, ...]:
        """Changes made to the rows while reading, as sentences; usually empty."""
        return self._notes

    @property
    def untrained_columns(self) -> tuple[UntrainedColumn, ...]:
        """Columns kept as metadata and not trained, each with an example and how to use it."""
        from glowgenius.data.check_report import untrained_columns

        return untrained_columns(self._rows, self._format)

    @property
    def splits(self) -> dict[str, Dataset]:
        """The splits named by the column `split`, in the order of their first rows; other rows are in none."""
        parts: dict[str, list[Conversation]] = {}
        for row in self._rows:
            if row.split is not None:
                parts.setdefault(row.split, []).append(row)
        return {name: self._with(rows) for name, rows in parts.items()}

    @override
    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, index: int) -> Conversation: ...
    @overload
    def __getitem__(self, index: slice) -> Dataset: ...
    @override
    def __getitem__(self, index: int | slice) -> Conversation | Dataset:
        if isinstance(index, slice):
            return self._with(self._rows[index])
        try:
            return self._rows[index]
        except IndexError:
            raise IndexError(f"row {index} of a data set of {len(self)} rows") from None

    @override
    def __iter__(self) -> Iterator[Conversation]:
        return iter(self._rows)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Dataset):
            return NotImplemented
        return self is other or (len(self) == len(other) and self.fingerprint == other.fingerprint)

    @override
    def __hash__(self) -> int:
        return hash(self.fingerprint)

    @override
    def __repr__(self) -> str:
        rows = "1 row" if len(self) == 1 else f"{len(self)} rows"
        count = len(self.groups)
        groups = f", {count} group{'s' * (count > 1)}" if count else ""
        start = self.fingerprint[:_SHOWN_OF_FINGERPRINT]
        return f"Dataset({rows}, format={self._format!r}{groups}, fingerprint {start}…)"

    def _repr_html_(self) -> str:
        """Notebook display: the first rows as a table; all text in it is escaped."""
        from glowgenius.data.check_report import table_of

        return table_of(repr(self), self._rows)

    def map(self, function: Callable[[Conversation], Conversation]) -> Dataset:
        """Apply *function* to each row; `attrs.evolve` changes single fields of a row.

        Raises:
            DatasetError: Some results are no conversations that can be trained on.
        """
        _check_callable("map", function)
        changed = Dataset([function(row) for row in self._rows])
        return self._with(changed)

    def filter(self, keep: Callable[[Conversation], bool]) -> Dataset:
        """The rows for which *keep* is true, in order; possibly none."""
        _check_callable("filter", keep)
        return self._with(row for row in self._rows if keep(row))

    def select(self, indices: Iterable[int]) -> Dataset:
        """The rows at these positions, in the given order; negative positions count from the end.

        Raises:
            ConfigError: A position is no integer, or there is no row there.
        """
        positions = [_position(index, len(self)) for index in _iterable("select", indices, "integers")]
        return self._with(self._rows[position] for position in positions)

    def shuffle(self, seed: int = 0) -> Dataset:
        """The rows in an order determined by the seed, the same on every machine and version (see `permutation`)."""
        return self.select(permutation(len(self), seed))

    def concatenate(self, *others: Dataset) -> Dataset:
        """These rows, followed by the rows of the other data sets."""
        for other in others:
            if not isinstance(other, Dataset):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
                raise ConfigError(f"concatenate takes Dataset objects, got {other!r} ({type(other).__name__})")
        parts = [part for part in (self, *others) if part]
        formats = dict.fromkeys(name for part in parts for name in part.format.split(" + "))
        notes = tuple(dict.fromkeys(note for part in parts for note in part.notes))
        return Dataset._of((row for part in parts for row in part), " + ".join(formats) or self._format, notes)

    def __add__(self, other: Dataset) -> Dataset:
        if not isinstance(other, Dataset):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
            return NotImplemented
        return self.concatenate(other)

    def train_test_split(
        self, test_size: float, seed: int = 0, by: Literal["group", "row", "label"] = "group"
    ) -> tuple[Dataset, Dataset]:
        """Split into a training and a test set, each in the order of the data.

        Rows of one group stay on one side, and so do rows that ask the same question, whatever their groups.
        Since groups are not divided, the test side is as near to *test_size* as whole groups come.

        Args:
            test_size: A share of the rows above 0 and below 1, or a number of rows.
            seed: Decides which groups are for testing.
            by: `group`; `row` to let rows of one group straddle the split; or `label` to have each answer of a closed
                set, such as the labels of a classification, in the same share on both sides, groups still whole.

        Raises:
            ConfigError: An argument is not valid, or the rows' own column `split` names several parts: those are
                `splits`, each of which can be split again.
            DatasetError: One side would be empty, since all rows belong together; or an answer would be on one side
                only.
        """
        if len(self.splits) > 1:
            raise ConfigError(parts_named({name: len(part) for name, part in self.splits.items()}))
        train, test = split_positions(self._rows, test_size, seed=seed, by=by)
        return self.select(train), self.select(test)

    def with_replay(self, replay: Dataset, share: float | None = None, seed: int = 0) -> Dataset:
        """Add replay rows, which preserve what the model already knows; they are tagged `replay`.

        A model that is trained on new rows alone forgets how to answer others. Rows about anything else, best of all in
        its own words (`make_replay`), hold that still. The header of a run says how many there are.

        Args:
            replay: The rows to choose from.
            share: Which part of all rows they become, such as 0.3; None takes every one.
            seed: Decides which of them are taken.

        Raises:
            ConfigError: *share* is no number between 0 and 1, or takes more replay rows than there are.
            DatasetError: One side is empty, or a replay row contradicts what is taught.
        """
        from glowgenius.data.splits import choose_replay

        if not isinstance(replay, Dataset):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
            raise ConfigError(f"with_replay takes a Dataset, got a {type(replay).__name__}")
        return self.concatenate(replay._with(choose_replay(self._rows, replay, share=share, seed=seed)))

    def check(
        self,
        renderer: CountsTokens | None = None,
        max_length: int | None = None,
        *,
        near: bool | None = None,
    ) -> DatasetReport:
        """Check the rows before training: duplicates, contradictions, lengths and more; prints as one page.

        Problems (`report.ok` is false): rows that are the same to the letter, the same question with different
        answers, the same question in two parts of `split`, rows that cannot be rendered or exceed *max_length*.
        Warnings: nearly alike rows, the same question in other characters, roles in an order that templates refuse,
        white space around an answer, control characters, references without the answer.

        Args:
            renderer: Adds statistics of tokens; as for training, from `Renderer.for_model`.
            max_length: Most tokens a row may have; needs *renderer*.
            near: Whether to look for near duplicates. None does if the package `rensa` is installed, and the report
                says so; False is the cheap, exact check.

        Raises:
            ConfigError: *max_length* without a renderer, or an argument of the wrong kind.
            MissingDependencyError: *near* is True and the package `rensa` is not installed.
        """
        from glowgenius.data.check import check_rows

        sources = dict.fromkeys("" if row.source is None else row.source.path for row in self._rows)
        name = " + ".join(source or "rows from memory" for source in sources) if any(sources) else "data set"
        return check_rows(
            self._rows,
            name=name,
            format=self._format,
            renderer=renderer,
            max_length=max_length,
            near=near,
            notes=self._notes,
        )

    def to_jsonl(self, path: str | os.PathLike[str]) -> None:
        """Write the rows so that `from_file` reads an equal data set; the file is written completely or not at all.

        Raises:
            ConfigError: The name does not end in `.jsonl`.
            DatasetError: There are no rows, or the file cannot be written.
        """
        target = user_path(file_name(path))
        if target.suffix.lower() != ".jsonl":
            raise ConfigError(f"path must end in .jsonl, got {os.fspath(path)!r}")
        if not self._rows:
            raise DatasetError(f"{os.fspath(path)}: not written, since the data set has no rows")
        try:
            write_lines(
                target, (json.dumps(row.to_record(), ensure_ascii=False, allow_nan=False) for row in self._rows)
            )
        except OSError as error:
            raise DatasetError(f"{os.fspath(path)}: cannot be written: {error.strerror or error}") from error


def _iterable(owner: str, values: Iterable[Any], kind: str) -> Iterable[Any]:
    if not isinstance(values, Iterable):  # pyright: ignore[reportUnnecessaryIsInstance] - users pass anything
        raise ConfigError(f"{owner} takes {kind} in a list or another iterable, got a {type(values).__name__}")
    return values


def _check_callable(owner: str, function: object) -> None:
    if not callable(function):
        raise ConfigError(f"{owner} takes a function of a Conversation, got a {type(function).__name__}")


def _conversations_only(items: Iterable[object]) -> list[RawRow | Conversation]:
    fault = "a Conversation"
    return [
        item
        if isinstance(item, Conversation)
        else RawRow(columns={}, faults=(Fault(None, f"a Python {type(item).__name__}", fault),))
        for item in items
    ]


def _position(index: int, length: int) -> int:
    try:
        position = operator.index(index)
    except TypeError:
        position = None
    if position is None or isinstance(index, bool):
        raise ConfigError(f"select takes integers, got {index!r} ({type(index).__name__})")
    if not -length <= position < length:
        raise ConfigError(f"select takes positions of {length} rows, got {position}")
    return position
