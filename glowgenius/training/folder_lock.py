"""Run folder lock: an operating system lock that allows one writer at a time."""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from glowgenius._files import parse_object, write_whole
from glowgenius._output import logger
from glowgenius.errors import ConfigError
from glowgenius.training.run_folder import RunFolder

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from filelock import BaseFileLock

LOCK: Final = ".lock"
"""What is locked. It stays, as another process may have it open."""

HOLDER: Final = ".holder.json"
"""Who holds the lock, for whoever finds it taken."""

_UNITS: Final = {"GB": 10**9, "MB": 10**6, "kB": 10**3}

_LOG = logger("glowgenius.training")


@contextmanager
def sole_writer(path: Path | None, what: str = "run") -> Generator[None]:
    """Create the folder *path*, check that it is writable, and lock it until the block ends.

    A sweep holds the folder of all of its cells, and each run of a cell the folder of that cell.

    The lock is the operating system's: a process that dies has released it. Readers need none, and are not kept out.
    On a file system that has no locks this says so and goes on. Where no run begins, nothing is left behind.

    Raises:
        ConfigError: It cannot be made or written, or another run writes into it, in this process or another.
    """
    if path is None:
        yield
        return
    _check_name(path)
    made = _make(path)
    try:
        lock = _lock(path, what)
        try:
            _sign(path, what)
            yield
        finally:
            with suppress(OSError):
                (path / HOLDER).unlink(missing_ok=True)
            if lock is not None:
                if not RunFolder(path).exists():
                    with suppress(OSError):
                        (path / LOCK).unlink(missing_ok=True)
                lock.release(force=True)
    finally:
        for folder in made:
            with suppress(OSError):
                folder.rmdir()  # only if it is still empty


def check_room(folder: Path, *, least: int, most: int) -> list[str]:
    """Compare the size of what a run will write with the free disk space.

    Args:
        folder: Where it is written; it need not exist yet.
        least: Bytes that the run writes in any case.
        most: Bytes that it has written at its end, if it goes through.

    Returns:
        Lines for the header: how much it is, and a warning where there may be too little room.

    Raises:
        ConfigError: There is too little room for the least.
    """
    near = next((each for each in (folder, *folder.absolute().parents) if _is_there(each)), None)
    try:
        free = shutil.disk_usage(near or ".").free
    except OSError:
        return []
    if free < least:
        raise ConfigError(
            f"{str(folder)!r} has room for {_size(free)}, and the run's last checkpoint alone takes {_size(least)}. "
            "Nothing was sent; make room, or choose another output_dir"
        )
    lines = [f"checkpoints: up to {_size(most)} in {folder}"]
    if free < most:
        lines.append(
            f"warning: there is room for {_size(free)} in {folder}, and the checkpoints of the run may take "
            f"{_size(most)}; make room, or keep fewer with save_top_k"
        )
    return lines


def _size(count: int) -> str:
    """A number of bytes as text, such as `1.2 GB`."""
    unit = next((unit for unit in ("GB", "MB", "kB") if count >= _UNITS[unit]), None)
    return f"{count} bytes" if unit is None else f"{count / _UNITS[unit]:.3g} {unit}"


def _check_name(path: Path) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise ConfigError(
            f"output_dir={str(path)!a} has a name that is not UTF-8, which the files of a run cannot hold; "
            "choose another"
        ) from None
    if _is_there(path) and not path.is_dir():
        raise ConfigError(f"output_dir={str(path)!r} is a file; give the name of a folder")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no system takes; making it says so
        return False


def _make(path: Path) -> list[Path]:
    """Create the folder and its missing parents; returns the created ones, innermost first."""
    missing = [folder for folder in (path, *path.parents) if not _is_there(folder)]
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        for folder in missing:
            with suppress(OSError, ValueError):
                folder.rmdir()
        raise _unusable(path, error) from error
    return missing


def _unusable(path: Path, error: OSError | ValueError) -> ConfigError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return ConfigError(
        f"output_dir={str(path)!r} cannot be written: {reason}. Nothing was sent; choose a folder that can be, or see "
        "to that"
    )


def _lock(path: Path, what: str) -> BaseFileLock | None:
    from filelock import FileLock, Timeout

    lock = FileLock(path / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
        if not (path / LOCK).exists():  # a run that did not begin has just taken it away
            lock.release(force=True)
            lock.acquire()
    except Timeout:
        raise ConfigError(
            f"output_dir={str(path)!r} is being written by another {_holder(path, what)}. Wait until that has ended, "
            "or end it; or choose another output_dir. Its files may be read meanwhile"
        ) from None
    except (NotImplementedError, OSError) as error:
        if isinstance(error, PermissionError) or not os.access(path, os.W_OK):
            raise _unusable(path, error if isinstance(error, OSError) else OSError(str(error))) from error
        _LOG.warning(
            "the file system of %s has no locks (%s): see to it yourself that no other process writes into the folder",
            path,
            error,
        )
        return None
    return lock


def _sign(path: Path, what: str) -> None:
    """Write the owner of the lock into the lock file; this also shows whether the folder is writable."""
    holder = {
        "what": what,
        "pid": os.getpid(),
        "host": socket.gethostname(),
        "thread": threading.current_thread().name,
        "since": datetime.now(UTC).isoformat(sep=" ", timespec="seconds"),
    }
    try:
        write_whole(path / HOLDER, json.dumps(holder) + "\n")
    except OSError as error:
        raise _unusable(path, error) from error


def _holder(path: Path, what: str) -> str:
    """The run or sweep that holds the lock, as far as the lock file says."""
    try:
        found = parse_object((path / HOLDER).read_bytes())
        pid, host, since = int(found["pid"]), str(found["host"]), str(found["since"])
    except (OSError, ValueError, KeyError, TypeError):
        return what
    here = host == socket.gethostname()
    who = f"this process itself, thread {found.get('thread')}" if here and pid == os.getpid() else f"process {pid}"
    kind = "sweep" if found.get("what") == "sweep" else "run"
    return f"{kind} ({who}, on {host}, since {since})"
