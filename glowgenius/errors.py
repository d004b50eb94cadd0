"""Every exception that glowgenius raises on purpose.

    GlowGeniusError
    ├── ConfigError               (ValueError)       a setting or an argument is not valid
    ├── DatasetError              (ValueError)       rows that cannot be used; `.problems` lists all of them
    ├── RenderingError            (ValueError)       a conversation cannot become tokens and weights
    │   ├── SequenceTooLongError                     rows exceed `max_length`; `.problems` lists them
    │   └── NothingToTrainError                      an example without one trained token
    ├── NotPicklableError         (TypeError)        it may hold a key, or lives in this process alone
    ├── MissingDependencyError    (ImportError)      an optional package is not installed
    ├── ModelNotFoundError        (LookupError)      a base model cannot be found or is not supported
    ├── EngineError               (RuntimeError)     the engine refused or failed
    │   ├── AuthenticationError   (PermissionError)  no key, or a key that the service refuses
    │   ├── BillingError          (PermissionError)  the account cannot pay for the request
    │   ├── RequestRejectedError  (ValueError)       the service understood the request and refused it
    │   ├── RateLimitError        (ConnectionError)  too many requests
    │   └── ServiceUnavailableError (ConnectionError) the service cannot be reached or does not answer
    ├── StorageError              (OSError)          a file cannot be written: the disk is full, read-only, gone
    ├── CheckpointError           (RuntimeError)     a checkpoint is missing, incomplete or unreadable
    │   └── ResumeMismatchError   (ValueError)       data, config or renderer changed since the checkpoint
    ├── TrainingError             (RuntimeError)     the run cannot go on
    │   └── PreflightError        (ValueError)       a problem known before the first request; `.problems`
    └── EvaluationError           (ValueError)       nothing to evaluate, or results that do not pair

Each class is also a built-in, so code that does not know glowgenius can catch it.
All of them survive pickling.
A message says what was found, where, what is accepted, and what to do.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, final

import attrs
from attrs import frozen
from typing_extensions import override

from glowgenius._output import showable
from glowgenius._secrets import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

PROBLEMS_SHOWN = 20
"""How many problems an error prints; the rest are counted."""


def clean(text: str) -> str:
    """*text* as an error or a log may show it: without keys, and with nothing in it that steers a terminal."""
    return showable(redact(text))


@final
@frozen(kw_only=True)
class Problem:
    """One thing that is wrong with one row of the data."""

    found: str = attrs.field(converter=showable)
    """What is there now, as a short phrase."""

    accepted: str = attrs.field(converter=showable)
    """What would be accepted instead, or what to do."""

    path: str | None = None
    """The file, as the user named it; None for rows that came from memory."""

    line: int | None = None
    """1-based line of the file; for rows from memory, None."""

    row: int | None = None
    """0-based position of the row in the data set."""

    row_id: str | None = None
    """The row's own `id`, where it has one."""

    field: str | None = attrs.field(default=None, converter=attrs.converters.optional(showable))
    """The offending field, such as `answer` or `messages[1].role`."""

    @override
    def __str__(self) -> str:
        place = self.where
        subject = f"{self.field}: " if self.field else ""
        return f"{place}{subject}{self.found} → {self.accepted}"

    @property
    def where(self) -> str:
        """The place as a prefix: `path:line: `, `path, row 3: `, `row 3: ` or nothing, with the id when known."""
        if self.path is not None and self.line is not None:
            place = f"{self.path}:{self.line}"
        elif self.path is not None and self.row is not None:
            place = f"{self.path}, row {self.row}"
        elif self.path is not None:
            place = self.path
        elif self.row is not None:
            place = f"row {self.row}"
        else:
            place = ""
        if self.row_id is not None:
            place = f"{place} (id {self.row_id!r})".strip()
        return f"{showable(place)}: " if place else ""


def list_problems(problems: Sequence[Problem]) -> str:
    """The problems as lines of text: the first `PROBLEMS_SHOWN`, then how many more there are."""
    lines = [f"  {problem}" for problem in problems[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        lines.append(f"  … and {len(problems) - PROBLEMS_SHOWN} more (all of them in error.problems)")
    return "\n".join(lines)


def nearest(word: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the known word closest to *word*, or an empty string."""
    spellings = {name.lower(): name for name in known}
    close = difflib.get_close_matches(word.lower(), spellings, n=1, cutoff=0.6)
    return f" (did you mean {spellings[close[0]]!r}?)" if close else ""


class GlowGeniusError(Exception):
    """The root of the tree: catching it catches everything that glowgenius raises on purpose.

    Its texts hold no key, and no control character of the data or the model that they quote.
    """

    def __init__(self, *args: object, **named: object) -> None:
        super().__init__(*(clean(each) if isinstance(each, str) else each for each in args), **named)

    @override
    def add_note(self, note: str, /) -> None:
        super().add_note(clean(note))


class _WithProblems(GlowGeniusError):  # noqa: N818 - a part of errors, never raised itself
    """An error about several rows at once."""

    def __init__(self, message: str, problems: Sequence[Problem] = ()) -> None:
        GlowGeniusError.__init__(self, message, tuple(problems))
        self.message = clean(message)
        """The headline, without the list."""
        self.problems: tuple[Problem, ...] = tuple(problems)
        """Every problem found, in the order of the data."""

    @override
    def __str__(self) -> str:
        return f"{self.message}\n{redact(list_problems(self.problems))}" if self.problems else self.message


class ConfigError(GlowGeniusError, ValueError):
    """A setting or an argument is not valid."""


class DatasetError(_WithProblems, ValueError):
    """Rows that cannot be used; nothing was dropped, and `problems` lists all of them."""


class RenderingError(_WithProblems, ValueError):
    """A conversation cannot become tokens and weights."""


class SequenceTooLongError(RenderingError):
    """Rows exceed `max_length` and the policy is to refuse them, or a prompt and its answer exceed the context."""


class NothingToTrainError(RenderingError):
    """An example without one trained token would cost money and teach nothing."""


class NotPicklableError(GlowGeniusError, TypeError):
    """What was to be pickled may hold a key, or lives in this process alone."""


class MissingDependencyError(GlowGeniusError, ImportError):
    """An optional package is not installed; the message names the extra that brings it."""


class ModelNotFoundError(GlowGeniusError, LookupError):
    """A base model cannot be found, or its architecture is not supported."""


class EngineError(GlowGeniusError, RuntimeError):
    """The engine refused or failed; the engine's own error is its `__cause__`."""


class AuthenticationError(EngineError, PermissionError):
    """There is no key, or the service refuses it."""


class BillingError(EngineError, PermissionError):
    """The account cannot pay for the request."""


class RequestRejectedError(EngineError, ValueError):
    """The service understood the request and refused it."""


class RateLimitError(EngineError, ConnectionError):
    """The service asks for fewer requests."""


class ServiceUnavailableError(EngineError, ConnectionError):
    """The service cannot be reached, or does not answer."""


class StorageError(GlowGeniusError, OSError):
    """A file or folder cannot be written: the disk is full or read-only, or the folder is missing.

    `errno` and `strerror` are the system's, where it gave them.
    """

    @override
    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class CheckpointError(GlowGeniusError, RuntimeError):
    """A checkpoint is missing, incomplete or unreadable."""


class ResumeMismatchError(CheckpointError, ValueError):
    """The data, the config or the renderer changed since the checkpoint was written."""


class TrainingError(GlowGeniusError, RuntimeError):
    """The run cannot go on."""


class PreflightError(_WithProblems, TrainingError, ValueError):
    """A problem of the run that is known before the first request."""


class EvaluationError(GlowGeniusError, ValueError):
    """Nothing to evaluate, or results that cannot be paired."""
