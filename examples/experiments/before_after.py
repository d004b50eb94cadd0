"""The example itself, `python examples/nyc_qa.py` as it comes, with three seeds: base against tuned on four slices.

    python -m examples.experiments.before_after runs/nyc_qa    # records a run that is there already, instead of again

A cell is a whole run of the example; the record says with which settings and rows it was made.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import Experiment, describe, versions, write

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.experiments.record import Figures, Settings

EXAMPLE: Final = Path(__file__).resolve().parents[1] / "nyc_qa.py"
SEEDS: Final = (0, 1, 2)
EXTRA: Final[tuple[str, ...]] = ()
"""Options beside the seed; none, but for trying it out."""


def run(cell: Settings) -> Figures:
    """Run the example with one seed."""
    with tempfile.TemporaryDirectory() as directory:
        output = Path(directory) / "run"
        command = [sys.executable, str(EXAMPLE), "--seed", str(cell["seed"]), "--output-dir", str(output), *EXTRA]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own script
        return figures(output)


def figures(output: Path) -> Figures:
    """What a run folder of the example says: its figures, and the settings that they belong to."""
    found: Figures = json.loads((output / "results.json").read_text(encoding="utf-8"))
    config: dict[str, Any] = json.loads((output / "config.json").read_text(encoding="utf-8"))
    settings = {name: value for name, value in config["training"].items() if name != "output_dir"}
    return {**found, "settings": settings, "fingerprints": config["fingerprints"], "rows": config["rows"]}


def main(arguments: Sequence[str] | None = None) -> int:
    """Record runs that are there already."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("runs", nargs="+", type=Path, help="run folders of examples/nyc_qa.py, default settings")
    for output in parser.parse_args(arguments).runs:
        found = figures(output)
        cell = {"seed": found["lora"]["seed"]}
        others = [row for row in EXPERIMENT.rows() if row["cell"] != cell]
        day = datetime.fromtimestamp((output / "results.json").stat().st_mtime, UTC).strftime("%Y-%m-%d")
        seconds = {"wall_seconds": found["train_seconds"], "cpu_seconds": found["train_seconds"]}
        row = {"cell": cell, "figures": found, **seconds, "recorded": day, **versions()}
        write(EXPERIMENT, [*others, row])
        print(f"{EXPERIMENT.name}: {describe(cell)} is recorded from {output}")
    return 0


EXPERIMENT: Final = Experiment(
    name="before_after",
    question="What does the example change, with its default settings?",
    cells=[{"seed": seed} for seed in SEEDS],
    run=run,
    guess=600,
    smoke={"EXTRA": ("--quick", "--num-facts", "4", "--num-epochs", "1")},
)


if __name__ == "__main__":
    sys.exit(main())
