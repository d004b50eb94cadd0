"""What belongs to one process: forks, and temporary checkpoints in the cache."""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import shutil
import sys
import weakref
from typing import TYPE_CHECKING, Any, final

from typing_extensions import override

from glowgenius._files import make_folder
from glowgenius.errors import EngineError
from glowgenius.models.catalog import cache_directory

if TYPE_CHECKING:
    from pathlib import Path

_NOT_IN_A_FORK = (
    "a fork has neither its threads nor its connections. Start processes with "
    'multiprocessing.get_context("spawn"), and make services, trainers and samplers inside of them'
)


@final
class HomeProcess:
    """The process in which something was made, and where alone it works.

    A copy that travelled to another process in a pickle is at home there.
    """

    def __init__(self) -> None:
        self._pid = os.getpid()

    @property
    def here(self) -> bool:
        """Whether this is the process."""
        return os.getpid() == self._pid

    def check(self, what: str) -> None:
        """Refuse to go on in a fork; *what* is the subject of the sentence.

        Raises:
            EngineError: This is another process.
        """
        if not self.here:
            raise EngineError(
                f"{what} belongs to process {self._pid}, of which this process ({os.getpid()}) is a fork: "
                f"{_NOT_IN_A_FORK}"
            )

    @override
    def __reduce__(self) -> Any:
        return HomeProcess, ()


def refuse_fork_of_sdk() -> None:
    """Refuse to use the SDK where its one thread did not come along: even a new client would wait for it for ever.

    Raises:
        EngineError: This process is a fork of one in which the SDK has been used.
    """
    holder: Any = sys.modules.get("tinker.lib.internal_client_holder")
    singleton = getattr(holder, "_internal_client_holder_thread_singleton", None)
    thread = getattr(singleton, "_thread", None)
    if thread is not None and not thread.is_alive():
        raise EngineError(
            f"the Tinker SDK was used in the process of which this process ({os.getpid()}) is a fork: {_NOT_IN_A_FORK}"
        )


_OWN = ("checkpoints", "models", "temporary")
"""Checkpoints of scripts that named no folder, converted models, and checkpoints that go with their run."""


@final
class TemporaryFolders:
    """The temporary folders of this process, in one that it has locked: a lock ends with its process.

    Args:
        root: Where the folders of all processes lie; those of processes that have ended are removed.
    """

    def __init__(self, root: Path) -> None:
        from filelock import FileLock

        make_folder(root)
        self._home = HomeProcess()
        self._mine = root / secrets.token_hex(8)
        # Locked before it can be seen, so that nobody takes it for a stale one.
        self._lock: Any = FileLock(_lock_of(self._mine), timeout=0, thread_local=False)
        self._lock.acquire()
        _clear(root)
        make_folder(self._mine)
        atexit.register(self.close)

    def new(self, owner: object) -> Path:
        """A new folder, which is removed when *owner* is dropped."""
        folder = self._mine / secrets.token_hex(4)
        make_folder(folder)
        weakref.finalize(owner, self._remove, folder).atexit = False  # `close` does it, and not in a fork
        return folder

    def close(self) -> None:
        """Remove all of them."""
        self._remove(self._mine)
        if self._home.here:
            self._lock.release(force=True)
            _lock_of(self._mine).unlink(missing_ok=True)

    def _remove(self, folder: Path) -> None:
        if self._home.here:
            shutil.rmtree(folder, ignore_errors=True)


def temporary_folder(owner: object) -> Path:
    """A new folder in the cache, which is removed when *owner* is dropped, and at the latest with the process."""
    return _folders(temporary_root()).new(owner)


def temporary_root() -> Path:
    """Where the temporary folders of all processes lie."""
    return cache_directory() / "temporary"


@functools.cache
def _folders(root: Path) -> TemporaryFolders:
    return TemporaryFolders(root)


def _lock_of(folder: Path) -> Path:
    return folder.with_name(f"{folder.name}.lock")


def _clear(root: Path) -> list[Path]:
    """Remove the folders of processes that are gone: whose lock can be taken."""
    from filelock import FileLock, Timeout

    removed: list[Path] = []
    for lock in sorted(root.glob("*.lock")):
        try:
            with FileLock(lock, timeout=0, thread_local=False):
                folder = lock.with_suffix("")
                if folder.is_dir():
                    shutil.rmtree(folder, ignore_errors=True)
                    removed.append(folder)
                lock.unlink(missing_ok=True)
        except (Timeout, OSError, NotImplementedError):
            continue  # somebody's, or on a file system without locks
    return removed


def cached() -> list[Path]:
    """The folders that this library keeps in the cache; whatever else lies there is not its own."""
    return [part for name in _OWN if (part := cache_directory() / name).is_dir()]


def clear_cache() -> list[Path]:
    """Remove what the library keeps in the cache, except for what a running process has there for the time being.

    Returns:
        What was removed.
    """
    removed: list[Path] = []
    for part in cached():
        if part == temporary_root():
            removed += _clear(part)
        else:
            shutil.rmtree(part, ignore_errors=True)
            removed.append(part)
    return removed
