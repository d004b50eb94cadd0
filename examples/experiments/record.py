"""One cell of an experiment is one run with one seed; what it measured is kept, so that no cell is run twice."""

from __future__ import annotations

import json
import os
import platform
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from multiprocessing import get_context
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

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
    guess: float = 60.0
    """Processor seconds of a cell, for the estimate until one like it is recorded."""
    smoke: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Constants of the script, made so small that a cell shows only that it runs."""

    @property
    def path(self) -> Path:
        """Where the results are."""
        return RESULTS / f"{self.name}.json"

    def missing(self, seed: int | None = None) -> list[Settings]:
        """The cells that are not recorded yet (only those of one seed, if it is given), in their order."""
        done = [row["cell"] for row in self.rows()]
        return [cell for cell in self.cells if cell not in done and seed in {None, cell.get("seed", seed)}]

    def rows(self) -> list[Any]:
        """What is recorded."""
        return recorded(self.name) if self.path.exists() else []

    def estimate(self, seed: int | None = None) -> float:
        """Seconds of one idle core that the missing cells take, going by recorded cells that differ in the seed."""
        rows = self.rows()

        def seconds(cell: Settings) -> float:
            alike = [
                row["cpu_seconds"] or row["wall_seconds"]
                for row in rows
                if without_seed(row["cell"]) == without_seed(cell)
            ]
            return mean(alike) if alike else self.guess

        return sum(map(seconds, self.missing(seed)))

    def run_missing(self, say: Callable[[str], None] = print, *, seed: int | None = None, jobs: int = 1) -> None:
        """Run what is missing (only of one seed, if it is given), and write the results after every cell.

        Each of several *jobs* is a process of its own, and only this one writes.
        """
        missing = self.missing(seed)
        if not missing:
            say(f"{self.name}: nothing is missing")
            return
        minutes = self.estimate(seed) / 60 / jobs
        say(f"{self.name}: {len(missing)} cells, about {minutes:.0f} min where {jobs} cores are idle")
        if jobs == 1:
            for cell in missing:
                say(f"{self.name}: {describe(cell)} …")
                write(self, [*self.rows(), measure(self, cell)])
            return
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            waiting = {pool.submit(measure, self, cell): cell for cell in missing}
            try:
                for done in as_completed(waiting):
                    write(self, [*self.rows(), done.result()])
                    say(f"{self.name}: {describe(waiting[done])} is recorded")
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def try_out(self, say: Callable[[str], None] = print) -> None:
        """Run one cell of each kind at toy size, and record nothing."""
        script = sys.modules[self.run.__module__]
        before = {name: getattr(script, name) for name in self.smoke}
        # Numbers are degrees of the same thing; words, and which settings there are, make another kind.
        kinds = {
            tuple(key if isinstance(value, float | int) else value for key, value in cell.items()): cell
            for cell in reversed(self.cells)
        }
        try:
            for name, value in self.smoke.items():
                setattr(script, name, value)
            for cell in kinds.values():
                row = measure(self, cell)
                say(f"{self.name}: {describe(cell)}: {row['cpu_seconds']} s: {json.dumps(row['figures'])}")
        finally:
            for name, value in before.items():
                setattr(script, name, value)


def measure(experiment: Experiment, cell: Settings) -> dict[str, Any]:
    """Run one cell: its figures, what they took, and what they were measured with."""
    started, used = time.monotonic(), processor_seconds()
    figures = experiment.run(cell)
    return {
        "cell": cell,
        "figures": figures,
        "wall_seconds": round(time.monotonic() - started, 1),
        "cpu_seconds": round(processor_seconds() - used, 1),
        "recorded": datetime.now(UTC).strftime("%Y-%m-%d"),
        **versions(),
    }


def processor_seconds() -> float:
    """Of this process and of those that it waited for."""
    return sum(os.times()[:4])


def without_seed(cell: Settings) -> Settings:
    """What a cell has in common with its repetitions."""
    return {key: value for key, value in cell.items() if key != "seed"}


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
