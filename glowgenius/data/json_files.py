"""JSON Lines and JSON files to raw rows with their true lines.

A reader is a generator. A row that cannot be used is yielded with its faults and reading goes on.
Where it cannot go on (a truncated file), the reader raises `UnreadableError` after the rows that came before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, final

from glowgenius.data.columns import OWN_NAMES
from glowgenius.data.files import Line, UnreadableError, lines, nothing_there, whole_text
from glowgenius.data.rows import EXAMPLE, RawRow, row_of, unreadable_row
from glowgenius.data.strict_json import BrokenJSONError, StrictDecoder, skip_space

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def read_jsonl(path: Path) -> Iterator[RawRow]:
    """One JSON object a line; blank lines are no rows.

    Raises:
        UnreadableError: The file cannot be opened, or it is one JSON document over many lines.
    """
    decoder = StrictDecoder()
    first = True
    line = None
    for line in lines(path):
        if not line.text.strip():
            continue
        if first:
            _refuse_document(line)
            first = False
        if line.fault:
            yield unreadable_row(line.number, line.fault, "text in UTF-8")
            continue
        try:
            value, faults = decoder.decode_only(line.text.rstrip("\r\n"))
        except BrokenJSONError as error:
            found = f"no JSON at column {error.position + 1}: {error.reason}"
            yield unreadable_row(line.number, found, f"one JSON object a line, such as {EXAMPLE}")
        else:
            yield row_of(value, line.number, faults)
    if first:
        raise UnreadableError(nothing_there(empty=line is None), f"at least one row, such as {EXAMPLE}")


def _refuse_document(line: Line) -> None:
    """A `.json` document under the wrong name would give one error a line; say the one thing that is wrong."""
    start = line.text.strip()
    if start in ("[", "{") or start.startswith(("[{", "[ {")):
        found = f"a JSON document that begins with {start[0]!r}, not one object a line"
        raise UnreadableError(found, "one JSON object a line; or name the file .json", line=line.number)


def read_json(path: Path) -> Iterator[RawRow]:
    """An array of objects, or `{"data": [...]}` around it and nothing else.

    The array is walked row by row, so that each row knows its line and a broken file still yields what came before.

    Raises:
        UnreadableError: The file cannot be opened, is no array of rows, is broken, or ends too early.
    """
    text = whole_text(path)
    start = skip_space(text, 0)
    if start == len(text):
        raise UnreadableError(nothing_there(empty=not text), f"an array of rows, such as [{EXAMPLE}]")
    walk = _ArrayWalk(text)
    if text[start] == "{":
        start = walk.enter_data(start)
        yield from walk.rows(start)
        walk.leave("}", "the end of the object around 'data'")
    elif text[start] == "[":
        yield from walk.rows(start)
    else:
        line, column = walk.place(start)
        raise UnreadableError(
            f"column {column}: neither an array nor an object", f"an array, such as [{EXAMPLE}]", line=line
        )
    walk.leave("", "the end of the file")


@final
class _ArrayWalk:
    """Reads the rows of one array in a text; knows lines, and how many rows it has given out."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._decoder = StrictDecoder()
        self._line = 1
        self._counted = 0  # how far line ends have been counted: forward only, so the whole walk is linear
        self._end = 0
        self._row_line: int | None = None  # of the row that is being read
        self._rows = 0

    def place(self, position: int) -> tuple[int, int]:
        """The 1-based line and column of a position."""
        if position < self._counted:  # only when an error lies before what was counted
            self._line, self._counted = 1, 0
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        return self._line, position - (self._text.rfind("\n", 0, position) + 1) + 1

    def rows(self, start: int) -> Iterator[RawRow]:
        """The rows of the array whose bracket is at *start*."""
        position = skip_space(self._text, start + 1)
        if self._text[position : position + 1] == "]":
            raise UnreadableError("an empty array", f"at least one row, such as [{EXAMPLE}]", line=self.place(start)[0])
        while True:
            row_line = self.place(position)[0]
            self._row_line = row_line if position < len(self._text) else None
            try:
                value, end, faults = self._decoder.decode(self._text, position)
            except BrokenJSONError as error:
                raise self._broken(error.reason, error.position, cut_off=error.cut_off) from None
            yield row_of(value, row_line, faults)
            self._rows += 1
            self._row_line = None
            position = skip_space(self._text, end)
            mark = self._text[position : position + 1]
            if mark == "]":
                self._end = position + 1
                return
            if mark != ",":
                raise self._broken("Expecting ',' or ']' after a row", position, cut_off=not mark)
            position = skip_space(self._text, position + 1)

    def enter_data(self, start: int) -> int:
        """The bracket of the array in `{"data": [...]}`; an object that is anything else is refused."""
        try:
            value, end, _ = self._decoder.decode(self._text, start)
        except BrokenJSONError as error:
            bracket = self._array_of_data(start)
            if bracket is not None:
                return bracket  # the walk will meet the break again, and say which rows came before it
            raise self._broken(error.reason, error.position, cut_off=error.cut_off) from None
        line = self.place(start)[0]
        if skip_space(self._text, end) != len(self._text):
            raise UnreadableError("one object after the other", "an array of rows; or name the file .jsonl", line=line)
        keys = list(value)
        bracket = self._array_of_data(start)
        if keys == ["data"] and bracket is not None:
            return bracket
        if any(key in OWN_NAMES for key in keys):
            raise UnreadableError("a single row, not an array of rows", "square brackets around it", line=line)
        found = f"an object with {', '.join(map(repr, keys[:5])) or 'no key'}"
        raise UnreadableError(found, f'an array of rows, such as [{EXAMPLE}], or {{"data": [...]}} alone', line=line)

    def _array_of_data(self, start: int) -> int | None:
        position = skip_space(self._text, start + 1)
        if not self._text.startswith('"data"', position):
            return None
        position = skip_space(self._text, position + len('"data"'))
        if self._text[position : position + 1] != ":":
            return None
        position = skip_space(self._text, position + 1)
        return position if self._text[position : position + 1] == "[" else None

    def leave(self, mark: str, name: str) -> None:
        """Step over *mark*, or over the end of the text if it is empty."""
        position = skip_space(self._text, self._end)
        found = self._text[position : position + 1]
        if found != mark:
            raise self._broken(f"Expecting {name}", position, cut_off=not found)
        self._end = position + len(mark)

    def _broken(self, reason: str, position: int, *, cut_off: bool) -> UnreadableError:
        whole = "1 whole row" if self._rows == 1 else f"{self._rows} whole rows"
        if cut_off:
            line, column = self.place(len(self._text.rstrip()))
            where = "before the closing bracket"
            if self._row_line is not None:
                where = f"in the middle of the row that starts on line {self._row_line}"
            found = f"the file ends at column {column}, {where}, after {whole}"
            return UnreadableError(found, "the complete file: copy or download it again", line=line)
        line, column = self.place(position)
        return UnreadableError(f"column {column}: {reason}, after {whole}", "JSON; the rest cannot be read", line=line)
