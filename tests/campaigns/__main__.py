"""Disturb run after run, at random and in every way that is known, and count what it cost.

    python -m tests.campaigns                       # ten minutes; prints the table of docs/reliability.md
    python -m tests.campaigns --minutes 2 --seed 7
    python -m tests.campaigns --only "kill -9"

Each campaign has a share of the time and a generator of its own, so the same seed disturbs the same way; how many runs
there are depends on the machine. Exits with 1 where something was lost, repeated, different or raw, and says what.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

from tests.campaigns.kinds import CAMPAIGNS, Stage, Tally
from tests.campaigns.process import preload


def conduct(names: list[str], *, seconds: float, seed: int, scratch: Path, least: int = 1) -> dict[str, Tally]:
    """Let the campaigns take turns until the time is over, each at least so many times."""
    preload()
    stage = Stage.build(scratch)
    generators = {name: random.Random(f"{seed} {name}") for name in names}
    tallies, spent = {name: Tally() for name in names}, dict.fromkeys(names, 0.0)
    open_names, index = list(names), dict.fromkeys(names, 0)
    ends = time.monotonic() + seconds
    while open_names and (time.monotonic() < ends or min(index[name] for name in open_names) < least):
        behind = [name for name in open_names if index[name] < least]
        name = min(behind or open_names, key=spent.__getitem__)
        began = time.monotonic()
        tally = CAMPAIGNS[name](stage, generators[name], index[name])
        spent[name] += time.monotonic() - began
        index[name] += 1
        if tally is None:
            open_names.remove(name)
            continue
        tallies[name] += tally
        for note in tally.notes:
            sys.stderr.write(f"{name}, run {index[name] - 1}: {note}\n")
    return tallies


def table(tallies: dict[str, Tally]) -> str:
    """The table in Markdown."""
    lines = [
        "| campaign | runs | faults | updates lost | repeated | empty | not identical | raw errors |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, one in [*tallies.items(), ("**all**", sum(tallies.values(), Tally()))]:
        counts = (one.runs, one.faults, one.lost, one.repeated, one.empty, one.different, one.raw)
        lines.append(f"| {name} | " + " | ".join(map(str, counts)) + " |")
    return "\n".join(lines)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0, help="how long it takes")
    parser.add_argument("--seed", type=int, default=0, help="which disturbances")
    parser.add_argument("--runs", type=int, default=1, help="at least so many runs of each")
    parser.add_argument("--only", action="append", choices=sorted(CAMPAIGNS), help="one campaign; may be repeated")
    options = parser.parse_args()
    os.environ["TINKER_TELEMETRY"] = "0"
    with tempfile.TemporaryDirectory() as scratch:
        chosen = options.only or list(CAMPAIGNS)
        tallies = conduct(
            chosen, seconds=options.minutes * 60, seed=options.seed, scratch=Path(scratch), least=options.runs
        )
    sys.stdout.write(table(tallies) + "\n")
    sys.exit(0 if all(tally.clean for tally in tallies.values()) else 1)


if __name__ == "__main__":
    main()
