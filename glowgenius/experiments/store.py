"""The folder of a sweep: what it is about, the base model's answers, and a run folder for each cell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, cast, final

from glowgenius.data.files import write_lines
from glowgenius.errors import CheckpointError, ConfigError, ResumeMismatchError
from glowgenius.evaluation.result import EvaluationResult
from glowgenius.experiments.cell import Cell, SweepCell
from glowgenius.training.config import changed

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from glowgenius.typing import JSON

SWEEP, CELL, ANSWERS, BASE = "sweep.json", "cell.json", "answers.json", "base.json"
"""The files beside those of the runs."""

_WORDS: Final = {
    "train": "the training data",
    "eval": "the evaluation data",
    "renderer": "the renderer (template, vocabulary or settings)",
}


@final
class SweepFolder:
    """Reads and writes what a sweep keeps.

    Args:
        path: The folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        """The folder."""

    def claim(self, identity: Mapping[str, JSON]) -> None:
        """Write what the sweep is about, or see that it is the same as before.

        Raises:
            ConfigError: The folder holds something else.
            ResumeMismatchError: The cells that are there were made with other settings or data.
        """
        if self.path.exists() and not self.path.is_dir():
            raise ConfigError(f"output_dir={str(self.path)!r} is a file; give the name of a folder")
        found = self._read(self.path / SWEEP)
        if found is None:
            if (self.path / "metrics.jsonl").exists():
                raise ConfigError(f"output_dir={str(self.path)!r} holds a single run; give a sweep a folder of its own")
            _write(self.path / SWEEP, dict(identity))
            return
        told = [line for name, (was, now) in changed(found, identity).items() for line in _told(name, was, now)]
        if told:
            raise ResumeMismatchError(
                f"the cells in {str(self.path)!r} belong to another sweep: {'; '.join(told)}. Ranks, learning rates "
                "and seeds may be added; for anything else choose another output_dir"
            )

    def run_folder(self, cell: Cell) -> Path:
        """Where the run of *cell* is kept."""
        return self.path / cell.name

    def base(self) -> dict[str, EvaluationResult] | None:
        """What the base model answered, if it was asked already."""
        return self._answers(self.path / BASE)

    def keep_base(self, answers: Mapping[str, EvaluationResult]) -> None:
        """Write the base model's answers."""
        _write(self.path / BASE, {part: result.to_dict() for part, result in answers.items()})

    def cell(self, cell: Cell) -> SweepCell | None:
        """A finished cell, or None."""
        values = self._read(self.run_folder(cell) / CELL)
        answers = self._answers(self.run_folder(cell) / ANSWERS)
        return None if values is None else SweepCell.from_dict(values, answers or {})

    def keep(self, found: SweepCell) -> None:
        """Write a cell; it counts as finished once `cell.json` is there."""
        folder = self.run_folder(found.cell)
        _write(folder / ANSWERS, {part: result.to_dict() for part, result in found.answers.items()})
        _write(folder / CELL, found.to_dict())

    def _answers(self, path: Path) -> dict[str, EvaluationResult] | None:
        values = self._read(path)
        return None if values is None else {part: EvaluationResult.from_dict(found) for part, found in values.items()}

    def _read(self, path: Path) -> dict[str, Any] | None:
        try:
            return cast("dict[str, Any]", json.loads(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise CheckpointError(f"{path}: not JSON: {error}; delete the file, and it is made again") from error


def _told(name: str, was: JSON, now: JSON) -> list[str]:
    if isinstance(was, dict) and isinstance(now, dict):
        return [line for key, (old, new) in changed(was, now).items() for line in _told(f"{name}.{key}", old, new)]
    if name in _WORDS:
        return [f"{_WORDS[name]} is another"]
    if name.startswith("questions."):
        return [f"the questions {name.partition('.')[2]!r} are others"]
    return [f"{name} was {was!r} and is {now!r}"]


def _write(path: Path, values: Mapping[str, Any]) -> None:
    """Write JSON whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_lines(path, [json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False)])
