"""JSON Lines and JSON files to raw rows with their true lines.

A reader is a generator. A row that cannot be used is yielded with its faults and reading goes on.
Where it cannot go on (a truncated file), the reader raises `UnreadableError` after the rows that came before.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, final

from glowgenius.data.columns import OWN_NAMES
from glowgenius.data.files import Line, lines, nothing_there, text_parts
from glowgenius.data.limits import UnreadableError
from glowgenius.data.rows import EXAMPLE, RawRow, row_of, unreadable_row
from glowgenius.data.strict_json import BrokenJSONError, StrictDecoder, skip_space

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from glowgenius.data.columns import Fault
    from glowgenius.data.limits import ReadLimits


def read_jsonl(path: Path, limits: ReadLimits) -> Iterator[RawRow]:
    """One JSON object a line; blank lines are no rows.

    Raises:
        UnreadableError: The file cannot be opened, or it is one JSON document over many lines.
    """
    decoder = StrictDecoder()
    first = True
    line = None
    for line in lines(path, limits):
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
            yield row_of(value, line.number, faults, limits)
    if first:
        raise UnreadableError(nothing_there(empty=line is None), f"at least one row, such as {EXAMPLE}")


def _refuse_document(line: Line) -> None:
    """A `.json` document under the wrong name would give one error a line; say the one thing that is wrong."""
    start = line.text.strip()
    if start in ("[", "{") or start.startswith(("[{", "[ {")):
        found = f"a JSON document that begins with {start[0]!r}, not one object a line"
        raise UnreadableError(found, "one JSON object a line; or name the file .json", line=line.number)


def read_json(path: Path, limits: ReadLimits) -> Iterator[RawRow]:
    """An array of objects, or `{"data": [...]}` around it and nothing else.

    The array is walked row by row, and no more of the file is held than the row at hand and what was read with it.
    So each row knows its line, a broken file still yields what came before, and a long file takes no memory.

    Raises:
        UnreadableError: The file cannot be opened, is no array of rows, is broken, or ends too early.
    """
    walk = _ArrayWalk(text_parts(path, limits), limits)
    mark = walk.skip()
    if not mark:
        raise UnreadableError(nothing_there(empty=not walk.began), f"an array of rows, such as [{EXAMPLE}]")
    if mark == "{":
        walk.enter_data()
        yield from walk.rows()
        walk.leave("}", "the end of the object around 'data'")
    elif mark == "[":
        yield from walk.rows()
    else:
        line, column = walk.place()
        raise UnreadableError(
            f"column {column}: neither an array nor an object", f"an array, such as [{EXAMPLE}]", line=line
        )
    walk.leave("", "the end of the file")


_DATA = re.compile(r'\{[ \t\n\r]*"data"[ \t\n\r]*:[ \t\n\r]*(?=\[)')
_LOOKED_AT = 1 << 16
"""Letters in which `{"data": [` is looked for."""

_LONGEST_WORD = 16
"""Letters of the longest thing, such as `-Infinity`, that looks broken rather than cut off where its end is missing."""


@final
class _ArrayWalk:
    """Reads the rows of one array in a text that comes in parts; knows lines, and how many rows it has given out."""

    def __init__(self, parts: Iterator[str], limits: ReadLimits) -> None:
        self._parts = parts
        self._limits = limits
        self._decoder = StrictDecoder()
        self._ended = False
        self._fault: UnreadableError | None = None  # why the file cannot be read on
        self._text = ""  # the part of the file at hand
        self._at = 0  # the place in it that is read next
        self._first_line = self._line = 1
        self._left_of_text = 0  # letters of the first line that stand before the part at hand
        self._end = (1, 1)  # where the text before the white space at the end of the file ends
        self._counted = 0  # how far line ends have been counted: forward only, so the whole walk is linear
        self._row_line: int | None = None  # of the row that is being read
        self._rows = 0

    @property
    def began(self) -> bool:
        """Whether the file holds anything at all."""
        return bool(self._text) or (self._line, self._left_of_text) != (1, 0)

    def skip(self) -> str:
        """Step over white space; the letter that follows, nothing at the end of the file."""
        start = self._at
        place = None
        while True:
            self._at = skip_space(self._text, self._at)
            if self._at < len(self._text):
                return self._text[self._at]
            place = place or self.place(start)
            if self._ended:
                self._end = place
                return ""
            self._read_on()

    def place(self, position: int | None = None) -> tuple[int, int]:
        """The 1-based line and column of a position in the part at hand; by default of the next letter."""
        position = self._at if position is None else position
        if position < self._counted:  # only when an error lies before what was counted
            self._line, self._counted = self._first_line, 0
        self._line += self._text.count("\n", self._counted, position)
        self._counted = position
        line_start = self._text.rfind("\n", 0, position)
        return self._line, position - line_start if line_start >= 0 else self._left_of_text + position + 1

    def _read_on(self) -> None:
        """Forget what has been read, and take in as much again as is left: long rows shall not cost a square."""
        if self._fault is not None:
            raise self._fault
        self._first_line, column = self.place()
        self._left_of_text = column - 1
        kept = [self._text[self._at :]]
        self._limits.check("line_bytes", len(kept[0]), "characters in one row", line=self._first_line, whole=False)
        more = 0
        while more <= len(kept[0]) and not self._ended:
            try:
                part = next(self._parts, None)
            except UnreadableError as error:  # of which the rows before it know nothing yet
                self._fault = error
                break
            self._ended = part is None
            kept.append(part or "")
            more += len(kept[-1])
        self._text = "".join(kept)
        self._at = self._counted = 0
        self._line = self._first_line

    def _value(self) -> tuple[Any, tuple[Fault, ...]]:
        """The value that comes next, and what is wrong with it."""
        while True:
            try:
                value, end, faults = self._decoder.decode(self._text, self._at)
            except BrokenJSONError as error:
                incomplete = error.cut_off or error.position > len(self._text) - _LONGEST_WORD
                if self._ended or not incomplete:
                    raise self._broken(error.reason, error.position, cut_off=error.cut_off) from None
            else:
                if end < len(self._text) or self._ended:
                    size = end - self._at
                    self._limits.check("line_bytes", size, "characters in one row", line=self._row_line, whole=False)
                    self._at = end
                    return value, faults
            self._read_on()

    def rows(self) -> Iterator[RawRow]:
        """The rows of the array whose bracket comes next."""
        start = self.place()[0]
        self._at += 1
        if self.skip() == "]":
            raise UnreadableError("an empty array", f"at least one row, such as [{EXAMPLE}]", line=start)
        while True:
            line = self.place()[0]
            self._row_line = line if self._at < len(self._text) else None
            value, faults = self._value()
            yield row_of(value, line, faults, self._limits)
            self._rows += 1
            self._row_line = None
            mark = self.skip()
            if mark == "]":
                self._at += 1
                return
            if mark != ",":
                raise self._broken("Expecting ',' or ']' after a row", self._at, cut_off=not mark)
            line = self.place()[0]
            self._at += 1
            if self.skip() == "]":
                raise UnreadableError(
                    "a comma behind the last row", "no comma before the closing bracket: take it away", line=line
                )

    def enter_data(self) -> None:
        """Step to the bracket of the array in `{"data": [...]}`; an object that is anything else is refused."""
        while len(self._text) - self._at < _LOOKED_AT and not self._ended:
            self._read_on()
        if match := _DATA.match(self._text, self._at):
            self._at = match.end()
            return
        line = self.place()[0]
        value, _ = self._value()
        if self.skip():
            raise UnreadableError("one object after the other", "an array of rows; or name the file .jsonl", line=line)
        keys = list(value)
        if any(key in OWN_NAMES for key in keys):
            raise UnreadableError("a single row, not an array of rows", "square brackets around it", line=line)
        found = f"an object with {', '.join(map(repr, keys[:5])) or 'no key'}"
        raise UnreadableError(found, f'an array of rows, such as [{EXAMPLE}], or {{"data": [...]}} alone', line=line)

    def leave(self, mark: str, name: str) -> None:
        """Step over *mark*, or over the end of the text if it is empty."""
        found = self.skip()
        if mark == "}" and found == "," and self._text[self._at + 1 :].lstrip().startswith('"'):
            line = self.place()[0]
            raise UnreadableError("an object with more than 'data'", '{"data": [...]} alone', line=line)
        if found != mark:
            raise self._broken(f"Expecting {name}", self._at, cut_off=not found)
        self._at += len(mark)

    def _broken(self, reason: str, position: int, *, cut_off: bool) -> UnreadableError:
        whole = "1 whole row" if self._rows == 1 else f"{self._rows} whole rows"
        if cut_off:
            length = len(self._text.rstrip())
            line, column = self.place(length) if length else self._end
            where = "before the closing bracket"
            if self._row_line is not None:
                where = f"in the middle of the row that starts on line {self._row_line}"
            found = f"the file ends at column {column}, {where}, after {whole}"
            return UnreadableError(found, "the complete file: copy or download it again", line=line)
        line, column = self.place(position)
        return UnreadableError(f"column {column}: {reason}, after {whole}", "JSON; the rest cannot be read", line=line)
