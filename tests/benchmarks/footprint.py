"""What it costs to have the library: installed distributions, their size on disk, and the seconds of an import.

    python -m tests.benchmarks.footprint

Each requirement is installed into a fresh virtual environment of its own by pip. Without arguments: this checkout, its
extra `local`, and the libraries that it is compared with; the figures are recorded and put on `docs/comparison.md`.
Import times are the fastest of five fresh processes, in CPU seconds, so that other work on the machine counts little;
the interpreter's own start is taken off.

PyTorch is held below 2.14 for everybody, and is counted apart, as its builds differ by gigabytes. pip takes the build
that it finds first: for the CPU one, set `PIP_INDEX_URL` and `PIP_EXTRA_INDEX_URL` as for any other installation.
Takes about 5 minutes and 4 GB.
"""

from __future__ import annotations

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.benchmarks import page

ROOT = Path(__file__).resolve().parents[2]

DEFAULT = (
    f"{ROOT}=glowgenius",
    f"{ROOT}[local]=glowgenius.local",
    "tinker-cookbook==0.5.8 torch<2.14=tinker_cookbook.supervised.train",
    "trl==1.16.0 peft torch<2.14=trl.trainer.sft_trainer",
)
"""What is compared: a requirement as pip takes it (several separated by spaces), and what its users import first.

The others are held at a version, as pip tries one after the other else. The cookbook 0.6.1 needs tml-renderers 0.4.1,
which PyPI had nothing for Python 3.11 when this was measured; 0.5.8 is the newest that could be installed.
"""

TORCH = re.compile(r"(torch|functorch|torchgen|nvidia|triton|cuda)\b")
"""Folders in which PyTorch and what only its CUDA builds need are installed."""

TIMER = "import resource; {code}; used = resource.getrusage(resource.RUSAGE_SELF); print(used.ru_utime + used.ru_stime)"

REPEATS = 5


def seconds(python: Path, code: str) -> float:
    """CPU seconds of the fastest of some fresh interpreters that run *code*."""
    runs = []
    for _ in range(REPEATS):
        command = [str(python), "-c", TIMER.format(code=code)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tempfile.gettempdir())
        runs.append(float(done.stdout.split()[-1]))
    return min(runs)


def measure(requirement: str, module: str) -> dict[str, Any]:
    """Install, count, weigh and import."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "environment"
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = folder / "bin" / "python"
        before = size_of(folder)
        subprocess.run([str(python), "-m", "pip", "install", "-qq", *requirement.split()], check=True)
        listed = subprocess.run(
            [str(python), "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
        )
        names = {item["name"]: item["version"] for item in json.loads(listed.stdout)}
        without = {name: version for name, version in names.items() if name not in {"pip", "setuptools"}}
        torch = sum(size_of(found) for found in folder.glob("lib/python*/site-packages/*") if TORCH.match(found.name))
        return {
            "requirement": requirement.replace(str(ROOT), "glowgenius"),
            "module": module,
            "distributions": len(without),
            "megabytes": round((size_of(folder) - before) / 1e6),
            "megabytes_of_torch": round(torch / 1e6),
            "import_cpu_seconds": round(seconds(python, f"import {module}") - seconds(python, "pass"), 3),
            "versions": {name: without[name] for name in ("tinker", "transformers", "torch") if name in without},
        }


def size_of(folder: Path) -> int:
    """Bytes of every file below *folder*, compiled ones left out: they are written by the first import."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc")


def main() -> None:
    """Measure what the command line asks for, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", default=DEFAULT, metavar="REQUIREMENT=MODULE")
    parser.add_argument("--output", type=Path, default=page.RESULTS, help="the folder of footprint.json")
    options = parser.parse_args()
    rows = []
    for item in options.what:
        requirement, _, module = item.rpartition("=")
        rows.append(measure(requirement, module))
        print(rows[-1], flush=True)
    results = {
        "command": " ".join(["python -m tests.benchmarks.footprint", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
        "rows": rows,
    }
    (options.output / "footprint.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page.update()


if __name__ == "__main__":
    main()
