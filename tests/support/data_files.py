"""Data files written in a temporary folder, and the errors that reading them raises."""

from __future__ import annotations

from pathlib import Path

import pytest

from glowgenius.data import Dataset
from glowgenius.errors import DatasetError

GOOD = '{"question": "Q", "answer": "A"}'
EXAMPLE = '{"question": "…", "answer": "…"}'


def write(name, content):
    """Write text or bytes; the name again, as the path to read."""
    data = content if isinstance(content, bytes) else content.encode()
    Path(name).write_bytes(data)
    return name


def rows(name, content, **options):
    """The rows of a file with this content."""
    return list(Dataset.from_file(write(name, content), **options))


def error(name, content):
    """The whole text of the error that a file raises."""
    with pytest.raises(DatasetError) as caught:
        Dataset.from_file(write(name, content))
    return str(caught.value)


def lines(headline, *problems):
    """An error as it is printed."""
    return "\n".join([headline, *(f"  {problem}" for problem in problems)])


def cannot(name, problem, how="read"):
    """The error about a file that cannot be read, whatever its rows."""
    return lines(f"{name}: cannot be {how}; nothing was loaded", f"{name}{problem}")
