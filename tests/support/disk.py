"""A disk that takes no more than so many bytes of a file, without a disk of its own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def files_end_at(size: int) -> Generator[None]:
    """Let the system refuse (EFBIG) whatever makes a file longer than *size* bytes, in Python and in Rust alike."""
    resource = pytest.importorskip("resource", reason="only POSIX limits the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
