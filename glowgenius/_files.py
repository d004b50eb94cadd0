r"""Files that the package writes and reads again: whole or not at all, a line at a time, and never through a link.

The order on the disk is: the contents of a file, then its name in the folder, then whatever names it.
Only `\n` ends a line: JSON text may hold U+2028, U+0085 and other characters that `str.splitlines` divides at.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from glowgenius.errors import CheckpointError, GlowGeniusError, StorageError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Mapping

    from glowgenius.typing import JSON

_NOT_OFFERED: Final = (errno.EACCES, errno.EPERM, errno.EINVAL, errno.ENOTSUP, errno.EBADF)
"""What `fsync` of a folder says where it is not offered, as on some network folders, or not allowed."""


_REMEDIES: Final = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room: the quota of this user is used up",
    errno.EFBIG: "choose another disk: this one takes no file of that size",
    errno.EIO: "choose another disk: this one reports errors",
    errno.EROFS: "choose a folder on a disk that can be written",
    errno.EACCES: "choose a folder that may be written, or change its permissions",
    errno.EPERM: "choose a folder that may be written, or change its permissions",
    errno.ENOENT: "make its folder first, or choose another",
    errno.ENOTDIR: "choose another path: a part of this one is a file",
    errno.EISDIR: "choose the name of a file: this one is a folder",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "close files: this process has too many open (ulimit -n)",
}
"""What to do about what the system says."""


@contextmanager
def writing(path: Path) -> Generator[None]:
    """Turn the system's refusal to write *path*, in the block, into an error that says what to do.

    Raises:
        StorageError: Any OSError of the block, and what safetensors makes of one.
    """
    try:
        yield
    except GlowGeniusError:
        raise  # some are an OSError too
    except Exception as error:
        # safetensors has an exception of its own, which derives from Exception alone and quotes the system.
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":
            raise
        number = getattr(error, "errno", None) or _errno_quoted(str(error))
        reason = os.strerror(number) if number in _REMEDIES else getattr(error, "strerror", None) or str(error)
        remedy = _REMEDIES.get(number or 0, "choose another folder")
        refused = StorageError(f"{str(path)!r} cannot be written: {reason}; {remedy}")
        refused.errno, refused.strerror = number, reason
        raise refused from error


def make_folder(path: Path) -> Path:
    """Make the folder *path* and those above it, where they are missing.

    Raises:
        StorageError: It cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def _errno_quoted(text: str) -> int | None:
    """The system's number of an error in the text of one of Rust, `… (os error 28)`."""
    _, found, rest = text.partition("(os error ")
    number = rest.partition(")")[0]
    return int(number) if found and number.isdecimal() else None


def write_whole(path: Path, text: str | Iterable[str]) -> None:
    """Write beside, sync, rename: a reader sees the old file or the new one, and never half of it.

    The temporary file is `.<name>-<random>` in the same folder, since a rename is atomic only within a file system.

    Args:
        path: The file.
        text: All of it, or its parts.

    Raises:
        StorageError: The folder is missing, or nothing can be written there; the old file is as it was.
    """
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(4)}")
    with writing(path):
        try:
            with temporary.open("x", encoding="utf-8", newline="\n") as file:
                file.writelines([text] if isinstance(text, str) else text)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        sync(path.parent)


def append(path: Path, text: str, *, synced: bool) -> None:
    """Add *text* to a file, all of it or nothing.

    Args:
        path: The file.
        text: Whole lines.
        synced: Whether it is on the disk when this returns, and so is the name of the file.

    Raises:
        StorageError: Nothing can be written there; the file is as it was.
    """
    is_new = not path.exists()
    with writing(path):
        with path.open("ab", buffering=0) as file:
            before, rest = file.tell(), memoryview(text.encode())
            try:
                while rest:
                    rest = rest[file.write(rest) :]
                if synced:
                    os.fsync(file.fileno())
            except OSError:
                with suppress(OSError):
                    file.truncate(before)
                raise
        if synced and is_new:
            sync(path.parent)


def sync(path: Path) -> None:
    """Wait until the file or the folder *path* is on the disk.

    For a folder this makes the names of its files last. Some systems do not offer it; those do so by themselves.
    """
    folder = path.is_dir()
    if folder and os.name == "nt":
        return
    try:
        descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if not folder or error.errno not in _NOT_OFFERED:
            raise


def json_line(record: Mapping[str, JSON], *, indent: int | None = None) -> str:
    """*record* as a line of JSON, or as several; half a character, which UTF-8 cannot write, as its escape."""
    text = json.dumps(record, indent=indent, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:
        text = json.dumps(record, indent=indent, allow_nan=False)
    return text + "\n"


def whole_lines(path: Path) -> list[bytes]:
    r"""The lines of a file without their `\n`; a last one without it was cut off by a kill and never happened."""
    whole, _, _ = path.read_bytes().rpartition(b"\n")
    return whole.split(b"\n") if whole else []


def parse_object(text: bytes) -> dict[str, Any]:
    """The JSON object that *text* is.

    Raises:
        ValueError: It is not UTF-8, not JSON, or no object; the message says which.
    """
    try:
        value: object = json.loads(text.decode(), parse_constant=_refuse_constant)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not UTF-8") from error
    except RecursionError as error:
        raise ValueError("JSON that is nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"not JSON: {error}") from error
    if not isinstance(value, dict):
        raise ValueError(f"not a JSON object, but a {type(value).__name__}")  # noqa: TRY004 - damage, not a wrong type
    return cast("dict[str, Any]", value)


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON number")


def read_object(path: Path, *, within: Path, remedy: str) -> dict[str, Any]:
    """The JSON object in the file *path* of the folder *within*.

    Raises:
        FileNotFoundError: There is no such file.
        CheckpointError: It is damaged, or a link that leads out of the folder; *remedy* says what to do.
    """
    try:
        return parse_object(regular(path, within).read_bytes())
    except FileNotFoundError:
        raise
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise CheckpointError(f"{path}: {reason}; {remedy}") from error


def inside(path: Path, folder: Path) -> Path:
    """*path*, after a look that no symbolic link on the way to it leads out of *folder*.

    *folder* itself may be a link: the user has named it. A hard link cannot be told from the file itself.

    Raises:
        CheckpointError: One does, or the path leads out of the folder by itself.
    """
    try:
        root, found = folder.resolve(), path.resolve()
    except (OSError, RuntimeError) as error:  # links that lead to each other
        raise CheckpointError(f"{str(path)!r} cannot be followed to a file: {error}") from error
    if not found.is_relative_to(root):
        raise CheckpointError(
            f"{str(path)!r} leads out of {str(folder)!r}, to {str(found)!r}, and is not followed: a folder that comes "
            "from somebody else could so name any file of this machine. If it is meant, put what it points to into "
            "the folder instead of the link"
        )
    return path


def regular(path: Path, folder: Path) -> Path:
    """As `inside`, for a file: a pipe or a device would be waited for.

    Raises:
        CheckpointError: As `inside` does, or it is there and no file.
    """
    if inside(path, folder).exists() and not path.is_file():
        raise CheckpointError(f"{str(path)!r} is no file, and is not read")
    return path


def refuse_links(folder: Path, within: Path) -> None:
    """Look that nothing in *folder*, at any depth, leads out of *within*, and that all of it is files and folders.

    Raises:
        CheckpointError: Something does; the message names it.
    """
    inside(folder, within)
    for place, folders, files in os.walk(folder):
        for name in sorted([*folders, *files]):
            one = Path(place) / name
            if not one.is_dir():
                regular(one, within)
            inside(one, within)
