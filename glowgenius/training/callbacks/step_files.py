"""Files that callbacks write step by step: begun once, and gone on with where a run is resumed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from glowgenius.errors import ConfigError

if TYPE_CHECKING:
    from glowgenius.training.events import TrainBegin


def choose_path(owner: str, path: Path | None, name: str, event: TrainBegin) -> Path:
    """*path*, or *name* in the run folder; its folder is made.

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
    if not event.resumed and chosen.exists() and chosen.stat().st_size:
        raise ConfigError(
            f"{owner}: {str(chosen)!r} holds another run already; name another file, delete this one, or go on with "
            "that run: train(..., resume_from_checkpoint=True)"
        )
    chosen.parent.mkdir(parents=True, exist_ok=True)
    return chosen


def whole_lines(path: Path) -> list[str]:
    """The lines of *path* with their ends; one that a kill has cut off is left out, a missing file has none."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return text[: text.rfind("\n") + 1].splitlines(keepends=True)
