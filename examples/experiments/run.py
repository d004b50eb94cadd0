"""Run the experiments that are not recorded yet, one cell after the other.

    python -m examples.experiments.run                     # everything that is missing
    python -m examples.experiments.run rank_early capacity
    python -m examples.experiments.run --seed 0            # only the first seed of each
    python -m examples.experiments.run --jobs 2            # two cells at a time, each on a core of its own
    python -m examples.experiments.run --smoke facts       # at toy size, to see that it runs; records nothing
    python -m examples.experiments.run --again capacity    # forget what is recorded of it, and run it again
    python -m examples.experiments.run --list

It may be stopped at any time: what is finished is kept, and the next call goes on. How long the missing cells will
take is said first. Everything here runs on a laptop's processor. `efficiency` measures seconds: run it alone, on a
machine that does nothing else.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING

from examples.experiments import before_after, capacity, efficiency, facts, frozen, learning_rate, rank_early

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.experiments.record import Experiment

EXPERIMENTS: dict[str, Experiment] = {
    module.EXPERIMENT.name: module.EXPERIMENT
    for module in (frozen, efficiency, rank_early, capacity, facts, learning_rate, before_after)
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, or list what there is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(EXPERIMENTS)}; all if none is named")
    parser.add_argument("--seed", type=int, help="run only the cells of this seed")
    parser.add_argument("--jobs", type=int, default=1, help="how many cells at a time (1)")
    parser.add_argument("--smoke", action="store_true", help="toy sizes, to see that it runs; nothing is recorded")
    parser.add_argument("--again", action="store_true", help="forget the recorded results of these first")
    parser.add_argument("--list", action="store_true", help="say what there is and what is missing")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.names if name not in EXPERIMENTS]:
        parser.error(f"no experiment is called {', '.join(unknown)}; there are {', '.join(EXPERIMENTS)}")
    chosen = [EXPERIMENTS[name] for name in options.names] or list(EXPERIMENTS.values())
    for experiment in chosen:
        if options.list:
            done = len(experiment.cells) - len(experiment.missing())
            rest = f"{experiment.estimate() / 60:4.0f} min to go"
            print(f"{experiment.name:<14} {done:>3} of {len(experiment.cells):>3} cells  {rest}  {experiment.question}")
            continue
        if options.smoke:
            experiment.try_out(say)
            continue
        if options.again:
            experiment.path.unlink(missing_ok=True)
        experiment.run_missing(say, seed=options.seed, jobs=options.jobs)
    return 0


def say(text: str) -> None:
    """Print at once, also into a file."""
    print(text, flush=True)


if __name__ == "__main__":
    # Two threads that wait for each other by spinning make a busy machine slower than one; set before torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    sys.exit(main())
