"""What it costs to have the library: installed distributions, their size on disk, and the seconds of an import.

usage: python tests/benchmarks/footprint.py [--json FILE] [REQUIREMENT=MODULE ...]

Each requirement is installed into a fresh virtual environment of its own by pip. Without arguments: this checkout, its
extra `local`, and the libraries that it is compared with. Import times are the fastest of five fresh processes, in CPU
seconds, so that other work on the machine counts little; the interpreter's own start is taken off.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

DEFAULT = (
    f"{ROOT}=glowgenius",
    f"{ROOT}[local]=glowgenius.local",
    "tinker-cookbook==0.5.8=tinker_cookbook.supervised.train",
    "trl peft torch<2.14=trl.trainer.sft_trainer",
)
"""What is compared: a requirement as pip takes it (several separated by spaces), and what its users import first.

The cookbook is held at a version, as pip otherwise tries every one of them.
"""

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


def measure(requirement: str, module: str) -> dict[str, object]:
    """Install, count, weigh and import."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "environment"
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        python = folder / "bin" / "python"
        size_before = size_of(folder)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *requirement.split()], check=True)
        listed = subprocess.run(
            [str(python), "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True
        )
        names = {item["name"]: item["version"] for item in json.loads(listed.stdout)}
        without = {name: version for name, version in names.items() if name not in {"pip", "setuptools"}}
        return {
            "requirement": requirement.replace(str(ROOT), "glowgenius"),
            "module": module,
            "distributions": len(without),
            "megabytes": round((size_of(folder) - size_before) / 1e6),
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
    parser.add_argument("--json", type=Path, help="write the figures there, too")
    options = parser.parse_args()
    rows = []
    for item in options.what:
        requirement, _, module = item.rpartition("=")
        rows.append(measure(requirement, module))
        row = rows[-1]
        print(
            f"{row['requirement']:<28} {row['distributions']:>4} distributions {row['megabytes']:>6} MB   "
            f"import {row['module']}: {row['import_cpu_seconds']:.3f} s",
            flush=True,
        )
    if options.json:
        facts = {"python": platform.python_version(), "system": platform.platform(terse=True), "rows": rows}
        options.json.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
