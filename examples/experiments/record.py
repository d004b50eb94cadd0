"""One cell of an experiment is one run with one seed; what it measured is kept, so that no cell is run twice."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

RESULTS: Final = Path(__file__).resolve().parent / "results"

PACKAGES: Final = ("torch", "transformers", "tinker", "numpy")

Settings = dict[str, Any]
Figures = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A question, the cells that answer it, and what one cell does."""

    name: str
    """Also of the file with its results."""
    question: str
    """What it is meant to find out."""
    cells: Sequence[Settings]
    """The settings of each run, its seed among them."""
    run: Callable[[Settings], Figures]
    """Takes the settings of a cell, and gives what it measured."""

    @property
    def path(self) -> Path:
        """Where the results are."""
        return RESULTS / f"{self.name}.json"

    def missing(self) -> list[Settings]:
        """The cells that are not recorded yet, in their order."""
        done = [row["cell"] for row in recorded(self.name)] if self.path.exists() else []
        return [cell for cell in self.cells if cell not in done]

    def run_missing(self, say: Callable[[str], None] = print, *, seed: int | None = None) -> None:
        """Run what is missing (only of one seed, if it is given), and write the results after every cell."""
        for cell in self.missing():
            if seed not in {None, cell.get("seed", seed)}:
                continue
            say(f"{self.name}: {describe(cell)} …")
            started, used = time.monotonic(), time.process_time()
            figures = self.run(cell)
            row = {
                "cell": cell,
                "figures": figures,
                "wall_seconds": round(time.monotonic() - started, 1),
                "cpu_seconds": round(time.process_time() - used, 1),
                "recorded": datetime.now(UTC).strftime("%Y-%m-%d"),
                **versions(),
            }
            rows = [*(recorded(self.name) if self.path.exists() else []), row]
            write(self, rows)


def write(experiment: Experiment, rows: Sequence[Any]) -> None:
    """Write all rows of an experiment, in the order of its cells and not in the order in which they were run."""
    ordered = sorted(rows, key=lambda row: place(experiment, row["cell"]))
    content = {
        "experiment": experiment.name,
        "question": experiment.question,
        "script": f"examples/experiments/{experiment.name}.py",
        "rows": ordered,
    }
    experiment.path.parent.mkdir(exist_ok=True)
    temporary = experiment.path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    temporary.replace(experiment.path)


def place(experiment: Experiment, cell: Settings) -> int:
    """Find the place of a cell; one that is no longer asked for comes last."""
    return list(experiment.cells).index(cell) if cell in experiment.cells else len(experiment.cells)


def recorded(name: str, directory: Path = RESULTS) -> list[Any]:
    """Read the rows of an experiment."""
    content: Any = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
    return list(content["rows"])


def select(name: str, **wanted: Any) -> Iterator[Any]:
    """Read the rows whose settings include these."""
    for row in recorded(name):
        if all(row["cell"].get(key) == value for key, value in wanted.items()):
            yield row


def versions() -> dict[str, str]:
    """Say what a figure was measured with."""
    found = {package: metadata.version(package) for package in PACKAGES}
    return {
        "versions": ", ".join(f"{package} {version}" for package, version in found.items()),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
    }


def describe(cell: Settings) -> str:
    """Write settings on one line."""
    return ", ".join(f"{key}={value}" for key, value in cell.items())
