"""Files that callbacks write step by step: begun once, and gone on with where a run is resumed."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from glowgenius._files import parse_object, whole_lines
from glowgenius._output import logger
from glowgenius.errors import ConfigError
from glowgenius.training.run_folder import CONFIG

if TYPE_CHECKING:
    from collections.abc import Callable

    from glowgenius.training.events import TrainBegin

_SHOWN: Final = 5
"""How many lines a message names."""

_LOG = logger("glowgenius.training")


def choose_path(owner: str, path: Path | None, name: str, event: TrainBegin, *, blank: bytes = b"") -> Path:
    """*path*, or *name* in the run folder; its folder is made.

    Args:
        owner: Whose file it is.
        path: The one that was given.
        name: Its name in the run folder otherwise.
        event: The beginning of the run.
        blank: What it holds before anything has been measured.

    Raises:
        ConfigError: There is neither, or a run that is not resumed would write into what another one has left there.
    """
    if path is None and event.config.output_dir is None:
        raise ConfigError(
            f"{owner} has nowhere to write: give it a path, or set TrainingConfig.output_dir, where it writes {name}"
        )
    chosen = Path(event.config.output_dir or ".") / name if path is None else path
    if chosen.is_dir():
        raise ConfigError(f"{owner}: {str(chosen)!r} is a folder; name a file")
    holds = chosen.exists() and chosen.read_bytes()[: len(blank) + 1] not in {b"", blank}
    if holds and not event.resumed and not _is_left_over(chosen, event):
        raise ConfigError(
            f"{owner}: {str(chosen)!r} holds another run already; name another file, delete this one, or go on with "
            "that run: train(..., resume_from_checkpoint=True)"
        )
    chosen.parent.mkdir(parents=True, exist_ok=True)
    return chosen


def _is_left_over(path: Path, event: TrainBegin) -> bool:
    """Whether a run that had begun in the run folder left the file, and no step of its own, or it would be resumed."""
    folder = event.config.output_dir
    return folder is not None and path.parent == Path(folder) and (Path(folder) / CONFIG).exists()


def sound_lines(owner: str, path: Path, accepts: Callable[[dict[str, Any]], bool]) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a file of JSON objects, each with its end, and what they say.

    A last line that a kill has cut off is left out, and a missing file has none. Where others are damaged, the whole
    file is kept beside as `<name>.damaged`, the log says so, and the run goes on with the lines that are sound: nothing
    that a run computes depends on them.

    Args:
        owner: Whose file it is.
        path: The file.
        accepts: Whether an object is one that the owner writes.
    """
    if not path.exists():
        return []
    found, damaged = list[tuple[str, dict[str, Any]]](), list[int]()
    lines = whole_lines(path)
    for number, line in enumerate(lines, 1):
        try:
            record = parse_object(line)
        except ValueError:
            record = {}
        if accepts(record):
            found.append((f"{line.decode()}\n", record))
        else:
            damaged.append(number)
    if b"\0" in path.read_bytes().rpartition(b"\n")[2]:
        damaged.append(len(lines) + 1)  # no kill writes zeros
    if damaged:
        aside = path.with_name(f"{path.name}.damaged")
        shutil.copyfile(path, aside)
        _LOG.warning(
            "%s: %s is damaged in line%s %s; the run goes on without, and the whole file is kept as %s",
            owner,
            path,
            "s" * (len(damaged) > 1),
            ", ".join(map(str, damaged[:_SHOWN])) + ", …" * (len(damaged) > _SHOWN),
            aside,
        )
    return found
