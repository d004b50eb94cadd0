"""What a finished run leaves behind in its process: threads, tensors, open files and memory, run after run.

    python -m tests.benchmarks.held [--runs 200] [--rank 32] [--hidden 256]

needs the extra `local`. Whole runs of `SupervisedTrainer` on a random model, each with a service of its own that nobody
closes, a sampled answer, and a saved state; every result is dropped, as a loop of experiments does. Printed: a line
every tenth of the runs. Flat is what it should be.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import threading
from pathlib import Path
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Held:
    """What the process holds after so many runs."""

    runs: int
    threads: int
    tensor_mb: float
    files: int
    resident_mb: float

    def line(self) -> str:
        """The row of a table."""
        return f"{self.runs:6d} {self.threads:8d} {self.tensor_mb:12.2f} {self.files:6d} {self.resident_mb:12.1f}"


HEADER = f"{'runs':>6} {'threads':>8} {'tensors, MB':>12} {'files':>6} {'resident, MB':>12}"


def held(runs: int) -> Held:
    """What is held now, once everything that can be collected has been."""
    import psutil
    import torch

    gc.collect()
    process = psutil.Process()
    # By type: to ask some objects for their class wakes modules that were renamed.
    tensors = [one for one in gc.get_objects() if type(one) in (torch.Tensor, torch.nn.Parameter)]
    storages = {one.untyped_storage().data_ptr(): one.untyped_storage().nbytes() for one in tensors}
    return Held(
        runs=runs,
        threads=threading.active_count(),
        tensor_mb=sum(storages.values()) / 1e6,
        files=process.num_fds() if os.name != "nt" else process.num_handles(),
        resident_mb=process.memory_info().rss / 1e6,
    )


def one_run(model: Path, folder: Path | None, *, rank: int) -> None:
    """A run from its data to an answer, of which nothing is kept."""
    import glowgenius as gg

    rows = gg.Dataset.from_records([{"question": f"What is {n}?", "answer": f"It is {n}."} for n in range(8)])
    config = gg.TrainingConfig(num_epochs=1, batch_size=4, learning_rate=1e-3, output_dir=folder)
    trainer = gg.SupervisedTrainer(str(model), lora=gg.LoRAConfig(rank=rank), config=config)
    result = trainer.train(rows, eval_dataset=rows[:2])
    result.sampler.generate("What is 3?", max_tokens=4)
    trainer.base_sampler().generate("What is 3?", max_tokens=4)


def measure(model: Path, *, runs: int, rank: int, every: int) -> list[Held]:
    """What is held after the first runs, which make ready what is made once, and then after every so many."""
    one_run(model, None, rank=rank)
    one_run(model, None, rank=rank)
    found = [held(2)]
    for number in range(3, runs + 1):
        one_run(model, None, rank=rank)
        if number % every == 0 or number == runs:
            found.append(held(number))
    return found


def main() -> None:
    """Print the table."""
    from tests.support.tiny_models import write_tiny_model

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--runs", 200), ("--rank", 32), ("--hidden", 256)):
        parser.add_argument(name, type=int, default=default)
    asked: Any = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        os.environ["GLOWGENIUS_CACHE"] = str(Path(directory) / "cache")
        model = write_tiny_model(
            Path(directory) / "model", hidden_size=asked.hidden, intermediate_size=3 * asked.hidden, head_dim=64
        )
        print(HEADER)
        for one in measure(model, runs=asked.runs, rank=asked.rank, every=max(1, asked.runs // 10)):
            print(one.line(), flush=True)


if __name__ == "__main__":
    main()
