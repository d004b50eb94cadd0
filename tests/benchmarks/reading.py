"""How much memory and time it takes to read a large file of rows: `.jsonl` and `.json`, each in a process of its own.

    python -m tests.benchmarks.reading [--size 1000] [--folder FOLDER]

*size* is in megabytes. The file is made first, in a folder that is removed afterwards. Three figures for each kind:

- reading alone: the rows go by and none is kept; what is held is the row at hand and the part of the file it came with;
- `Dataset.from_file`: every row is kept, as a data set does by nature;
- as a comparison, `json.load` of the same `.json` file.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

MEGABYTE = 1_000_000


def make(path: Path, size: int) -> int:
    """Rows of about 500 bytes, as many as fill *size* megabytes; how many there are."""
    array = path.suffix == ".json"
    filler = "The park lies between the bridge and the avenue, and the train stops there. " * 5
    rows = written = 0
    with path.open("w", encoding="utf-8") as file:
        file.write("[\n" if array else "")
        while written < size * MEGABYTE:
            row = json.dumps(
                {"question": f"Which borough is place {rows} in?", "answer": f"{filler}{rows}", "id": rows}
            )
            written += file.write(f",\n{row}" if array and rows else row if array else f"{row}\n")
            rows += 1
        file.write("\n]\n" if array else "")
    return rows


def read(path: str) -> int:
    from glowgenius.data.raw_rows import Renaming
    from glowgenius.data.readers import file_rows

    return sum(1 for _ in file_rows(path, Renaming(None)))


def keep(path: str) -> int:
    from glowgenius import Dataset

    return len(Dataset.from_file(path))


def load(path: str) -> int:
    with Path(path).open(encoding="utf-8") as file:
        return len(json.load(file))


WAYS: dict[str, Callable[[str], int]] = {"reading": read, "Dataset.from_file": keep, "json.load": load}


def measure(way: str, path: str) -> None:
    start = time.process_time()
    rows = WAYS[way](path)
    spent = time.process_time() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"{Path(path).suffix:7} {way:18} {rows:10,} rows {spent:7.1f} CPU s {peak:8,.0f} MiB at most", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=1000)
    parser.add_argument("--folder", default=None)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--file")
    settings = parser.parse_args()
    if settings.way:
        measure(settings.way, settings.file)
        return
    with tempfile.TemporaryDirectory(dir=settings.folder) as folder:
        for suffix, ways in ((".jsonl", ("reading", "Dataset.from_file")), (".json", tuple(WAYS))):
            path = Path(folder) / f"rows{suffix}"
            make(path, settings.size)
            for way in ways:
                command = [sys.executable, "-m", "tests.benchmarks.reading", "--way", way, "--file", str(path)]
                subprocess.run(command, check=True)
            path.unlink()


if __name__ == "__main__":
    main()
