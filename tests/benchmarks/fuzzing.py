"""Any bytes into every reader: they are read, or refused with an error of ours, in bounded time, and no row is lost.

usage: python -m tests.benchmarks.fuzzing [--inputs 1000000] [--seed 0] [--suffix .jsonl]

Each input starts from a good file of some format or from fragments, is damaged in a few places (bytes flipped, cut,
doubled, swapped, spliced in from other files), and read under every suffix in turn. A reader that raises anything but
`DatasetError` fails the run and the input is kept; so does one that takes over ten seconds, or that returns fewer rows
than an undamaged file has. Prints how many inputs of each kind were read and refused, and the seconds.
"""

from __future__ import annotations

import argparse
import collections
import csv
import gzip
import io
import json
import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path

import glowgenius as gg

ROWS = [
    {"question": "Where is the Met?", "answer": "Manhattan", "id": "met", "tags": ["museum"], "weight": 0.5},
    {"question": "Où est « Citi Field » ? 🏟", "answer": "Queens", "references": ["Queens", "queens"], "group": "citi"},
    {"question": 'Which "island"?', "answer": "Coney\nIsland", "metadata": {"deep": [1, {"x": None}]}},
]
CALL = {"type": "function", "function": {"name": "f", "arguments": {}}}
CHATS = [
    {
        "messages": [
            {"role": "system", "content": "Be short."},
            {"role": "user", "content": "Q"},
            {"role": "assistant", "content": [{"type": "text", "text": "A"}], "weight": 1},
        ]
    },
    {
        "messages": [
            {"role": "user", "content": "Q"},
            {"role": "assistant", "tool_calls": [CALL]},
            {"role": "tool", "content": "1"},
            {"role": "assistant", "content": "A"},
        ],
        "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
    },
]
OTHERS = [
    [{"instruction": "I", "input": "x", "output": "O", "history": [["q", "a"]]}],
    [{"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}], "system": "S"}],
    [{"prompt": "P", "completion": "C"}, {"prompt": "P2", "completion": "C2", "split": "test"}],
    [{"input": "I", "output": "O", "colour": "red", "tools": '[{"name": "f"}]'}],
]
PIECES = (
    *(b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b"\n", b"\r", b"\r\n", b"\t", b" ", b"\x00", b"\xff"),
    *(b"\xf0\x9f", b"\xef\xbb\xbf", b"NaN", b"-Infinity", b"1e999", b"-", b"0x1", b"true", b"null", b'"data"'),
    *(b'"\\ud800"', b"\\u0000", b"question", b"answer", b"messages", b"role", b"content", b"anser"),
    *(b"9" * 400, b"[" * 400, b'{"a":' * 300, b"\xe2\x80\xa8", b"\x1f\x8b", b"PAR1", b"\xff\xfe", b'""'),
    b"question,answer\n",
)
SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".jsonl.gz", ".parquet")
SHARE = {".parquet": 0.02, ".jsonl.gz": 0.08}
LIMIT = 10


def whole_files() -> dict[str, list[tuple[bytes, int]]]:
    """Good files by suffix, and how many rows each has."""
    found: dict[str, list[tuple[bytes, int]]] = {suffix: [] for suffix in SUFFIXES}
    for rows in (ROWS, CHATS, *OTHERS):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        found[".jsonl"].append((text, len(rows)))
        found[".jsonl.gz"].append((gzip.compress(text), len(rows)))
        found[".json"] += [
            (json.dumps(rows, indent=1).encode(), len(rows)),
            (json.dumps({"data": rows}).encode(), len(rows)),
        ]
        columns = list(dict.fromkeys(column for row in rows for column in row))
        for suffix, delimiter in ((".csv", ","), (".tsv", "\t")):
            file = io.StringIO(newline="")
            table = csv.writer(file, delimiter=delimiter)
            table.writerow(columns)
            table.writerows([[cell(row.get(column)) for column in columns] for row in rows])
            found[suffix].append((file.getvalue().encode(), len(rows)))
        found[".parquet"].append((parquet(rows), len(rows)))
    return found


def cell(value: object) -> str:
    """A value as the cell of a table."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def parquet(rows: list[dict[str, object]]) -> bytes:
    """The rows as a Parquet file; what is no text as JSON text, so that one type fits all rows."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = io.BytesIO()
    plain = [{"question": str(row), "answer": "A"} for row in rows]
    pq.write_table(pa.Table.from_pylist(plain), sink)
    return sink.getvalue()


def damaged(data: bytes, others: list[bytes], rng: random.Random) -> bytes:
    """The bytes with one to four changes."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        at = rng.randint(0, len(changed))
        end = min(len(changed), at + rng.randint(0, 20))
        kind = rng.randrange(7)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            changed[at:at] = rng.choice(PIECES)
        elif kind == 2:
            del changed[at:end]
        elif kind == 3:
            del changed[at:]
        elif kind == 4:
            changed[at:at] = changed[at:end]
        elif kind == 5:
            other = rng.choice(others)
            start = rng.randint(0, len(other))
            changed[at:end] = other[start : start + rng.randint(0, 40)]
        else:
            changed[at:end] = bytes(rng.randrange(256) for _ in range(rng.randint(0, 4)))
    return bytes(changed)


class TooSlowError(Exception):
    """One input took longer than the limit."""


def stop(*_: object) -> None:
    """What the alarm calls."""
    raise TooSlowError


def one(path: Path, data: bytes, rows: int | None) -> bool:
    """Read one input; whether it could be read. Anything but that or a `DatasetError` is an error of the run."""
    path.write_bytes(data)
    signal.alarm(LIMIT)
    try:
        dataset = gg.Dataset.from_file(path)
    except gg.errors.DatasetError as error:
        if not error.problems or not str(error).encode():
            raise AssertionError("an error without problems") from error
        if rows is not None:
            raise AssertionError("a good file was refused") from error
        return False
    finally:
        signal.alarm(0)
    if not dataset or (rows is not None and len(dataset) != rows):
        raise AssertionError(f"{len(dataset)} rows of {rows}")
    lost_rows(path, data, dataset)
    return True


def lost_rows(path: Path, data: bytes, dataset: gg.Dataset) -> None:
    """Count the rows of a file of lines in another way: every line that is not blank is one."""
    if path.suffix == ".jsonl":
        lines = sum(bool(line.strip()) for line in data.removeprefix(b"\xef\xbb\xbf").decode().split("\n"))
        if lines != len(dataset):
            raise AssertionError(f"{lines} lines, {len(dataset)} rows")


def main() -> int:
    """Run the inputs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=1_000_000, help="how many inputs (default: 1,000,000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs (default: 0)")
    parser.add_argument("--start", type=int, default=0, help="make, but do not read, the inputs before this one")
    parser.add_argument("--suffix", choices=SUFFIXES, help="one reader only")
    arguments = parser.parse_args()
    rng, files = random.Random(arguments.seed), whole_files()
    weights = [SHARE.get(suffix, 1.0) * (arguments.suffix in (None, suffix)) for suffix in SUFFIXES]
    counts: collections.Counter[tuple[str, str]] = collections.Counter()
    signal.signal(signal.SIGALRM, stop)
    began, used = time.perf_counter(), time.process_time()
    # In memory where there is such a place: a million small files should not wear a disk.
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108 - a file system in memory
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for number in range(arguments.inputs):
            (suffix,) = rng.choices(SUFFIXES, weights)
            data, rows = rng.choice(files[suffix])
            whole = number % 100 == 0
            if not whole:
                data = damaged(data, [other for other, _ in files[suffix]], rng)
            if number < arguments.start:
                continue
            try:
                read = one(Path(folder) / f"rows{suffix}", data, rows if whole else None)
            except BaseException:
                kept = Path(f"fuzz-{arguments.seed}-{number}{suffix}").absolute()
                kept.write_bytes(data)
                print(f"input {number} is kept as {kept}", file=sys.stderr)
                raise
            counts[suffix, "read" if read else "refused"] += 1
    wall, cpu = time.perf_counter() - began, time.process_time() - used
    for suffix in SUFFIXES:
        print(f"{suffix:<10} read {counts[suffix, 'read']:>8,}  refused {counts[suffix, 'refused']:>8,}")
    done = arguments.inputs - arguments.start
    print(f"{done:,} inputs, {wall:.0f} s, {cpu:.0f} s of CPU: no other exception, no hang, no row lost")
    return 0


if __name__ == "__main__":
    sys.exit(main())
