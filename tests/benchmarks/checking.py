"""How long and how much memory it takes to read and check many short rows.

usage: python -m tests.benchmarks.checking [--rows 1000000] [--exact] [--keep FILE]

Writes a file of question/answer rows about numbered places (with 1 duplicate, 1 contradiction and 1 near duplicate in
a thousand), reads it, checks it, and prints seconds, CPU seconds and the peak of the resident memory after each part.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import tempfile
import time
from pathlib import Path

KINDS = ("park", "bridge", "museum", "station", "library", "garden", "theatre", "market")
NAMES = ("Abel", "Bleecker", "Clinton", "Delancey", "Essex", "Fulton", "Greene", "Houston", "Irving", "Jane", "Kent")
ASKED = (
    "Which borough is {} in?",
    "In which part of New York City does one find {}?",
    "Where in the city would you go to see {}?",
    "Name the borough that {} belongs to.",
)
BOROUGHS = ("Manhattan", "Brooklyn", "Queens", "The Bronx", "Staten Island")


def write_rows(path: Path, count: int, seed: int = 0) -> None:
    """Rows with four wordings a place, some of them spoilt on purpose."""
    rng = random.Random(seed)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            place = f"the {rng.choice(NAMES)} {rng.choice(NAMES)} {rng.choice(KINDS)} number {number // 4}"
            asked, answer = ASKED[number % 4].format(place), rng.choice(BOROUGHS)
            row = {"id": f"row-{number}", "question": asked, "answer": answer, "group": f"place-{number // 4}"}
            text = json.dumps(row)
            file.write(f"{text}\n")
            if number % 1000 == 0:
                file.write(f"{text}\n")
                spoilt = (
                    {**row, "answer": "Hoboken"} if number % 2000 else {**row, "question": asked.replace("the ", "th ")}
                )
                file.write(json.dumps(spoilt) + "\n")


def main() -> None:
    """Run the parts and print what each took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows to write (default: 1,000,000)")
    parser.add_argument("--exact", action="store_true", help="without near duplicates")
    parser.add_argument("--keep", type=Path, help="write the file here and leave it there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = arguments.keep or Path(folder) / "rows.jsonl"
        write_rows(path, arguments.rows)
        print(f"{path.stat().st_size / 1e6:.0f} MB of rows written")
        run(path, near=not arguments.exact)


def run(path: Path, *, near: bool) -> None:
    """Read and check one file."""
    import glowgenius as gg

    began = (time.perf_counter(), time.process_time())

    def say(part: str) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        wall, cpu = time.perf_counter() - began[0], time.process_time() - began[1]
        print(f"{part:<12} {wall:8.1f} s  {cpu:8.1f} s of CPU  {peak:8.0f} MiB at the most")

    dataset = gg.Dataset.from_file(path)
    say("read")
    report = dataset.check(near=near)
    say("checked")
    print(report)


if __name__ == "__main__":
    main()
