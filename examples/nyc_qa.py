"""Teach a small language model New York City, and measure what it learned.

    python examples/nyc_qa.py

needs no key, no GPU and no network: it trains SmolLM2-135M-Instruct with LoRA on this machine, asks the model before
and after training on four sets of questions, and writes `results.json`, `report.html` and the run folder.

    seen         trained facts, in a wording the model was trained with
    paraphrase   trained facts, in a wording it has never met
    unseen       facts of the same kinds that are in no training row
    control      general knowledge that has nothing to do with New York
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from attrs import asdict
from nyc.data import baselines_of, drawn, load, shortest
from nyc.judging import place_match

import glowgenius as gg

if TYPE_CHECKING:
    from collections.abc import Mapping

SLICES = {
    "seen": "trained facts, trained wording",
    "paraphrase": "trained facts, new wording",
    "unseen": "facts it was never shown",
    "control": "general knowledge",
}
METRIC = {"seen": "exact_match", "paraphrase": "exact_match", "unseen": "exact_match", "control": "contains"}
"""The base model answers in sentences, so what it knew is judged by whether the answer is in them."""

QUICK_FACTS = 24
QUICK_WORDINGS = 4
MOST_ASKED = 60
"""Questions of each slice, drawn once: the same for every seed of the training."""
LONGEST_ANSWER = 24
REPLAY_ROWS = 540
"""Of the general questions with the base model's own answers, the shortest: they cost the least time."""


def main() -> int:
    """Train, compare, write everything down."""
    options = parse()
    slices = load(
        num_facts=QUICK_FACTS if options.quick else options.num_facts,
        num_wordings=QUICK_WORDINGS if options.quick else options.num_wordings,
    )
    replay = drawn(slices.replay, QUICK_FACTS) if options.quick else shortest(slices.replay, REPLAY_ROWS)
    most = QUICK_FACTS if options.quick else MOST_ASKED
    asked = {name: drawn(rows, most) for name, rows in slices.evaluation_slices.items()}
    # General questions with the base model's own answers: without them the model forgets how to answer anything
    # else, as it learns that every question is about New York.
    train = slices.train.with_replay(replay)

    output = Path(options.output_dir)
    make_room(output)
    local = options.engine == "local"
    connection = gg.connect(options.engine, checkpoint_directory=output / "checkpoints" if local else None)
    # Adapters on the MLP alone leave more of the rest in place; run with --all-layers to see what the others cost.
    lora = gg.LoRAConfig(
        rank=options.rank, seed=options.seed, train_attn=options.all_layers, train_unembed=options.all_layers
    )
    trainer = gg.SupervisedTrainer(
        base_model=options.base_model,
        lora=lora,
        service=connection.service,
        config=gg.TrainingConfig(
            num_epochs=options.num_epochs,
            batch_size=16,
            learning_rate=options.learning_rate,
            # The first steps are the rough ones, and what they break of the rest is not all repaired later.
            warmup_steps=5 if options.quick else 30,
            # Not the answers alone: how sure the base model was of each token is held, too.
            replay_targets="distributions",
            eval_every=None if options.quick else 100,
            seed=options.seed,
            output_dir=output,
        ),
        callbacks=[gg.ProgressBar()],
    )
    print(connection)
    print("The eval rows ask trained facts in new words, so they share groups with the training rows on purpose.")
    started = time.monotonic()
    result = trainer.train(train, eval_dataset=asked["paraphrase"])
    train_seconds = time.monotonic() - started

    print("\nAsking both models the same questions …", flush=True)
    comparison = gg.compare(
        trainer.base_sampler(),
        result.sampler,
        asked,
        metric=METRIC,
        # Streets, subway letters and articles are a matter of New York, so the example brings the metric for them.
        metrics=("exact_match", "contains", place_match),
        train=slices.train,
        max_tokens=LONGEST_ANSWER,
        seed=options.seed,
        on_progress=progress(),
    )
    counts = lora.parameter_breakdown(options.base_model)
    results: dict[str, Any] = {
        "engine": connection.engine,
        "base_model": options.base_model,
        "lora": asdict(lora),
        "trainable_parameters": counts.total,
        "total_parameters": counts.base_weights,
        "train_rows": len(train),
        "train_seconds": round(train_seconds, 1),
        "slices": comparison.to_dict(),
        "relation_baselines": baselines_of(asked, slices.train),
    }
    (output / "results.json").write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"\n{comparison}\n")
    print(summary(results))
    report = gg.write_report(run=output, comparison=comparison, header=header(results))
    print(f"\nWritten: {output / 'results.json'} and {report}")
    return 0


def make_room(output: Path) -> None:
    """Move the folder of an earlier run aside: a run has a folder of its own, and nothing is written over."""
    if not output.exists():
        return
    number = 1
    while (aside := output.with_name(f"{output.name}.{number}")).exists():
        number += 1
    output.rename(aside)
    print(f"The earlier run is kept in {aside}")


def summary(results: Mapping[str, Any]) -> str:
    """The three questions of the project, answered with the figures of this run."""
    part = results["slices"]
    share = results["trainable_parameters"] / results["total_parameters"]

    def moved(name: str) -> str:
        row, metric = part[name], METRIC[name]
        low, high = row["interval_95"]
        return (
            f"{row['base'][metric]:.0%} → {row['tuned'][metric]:.0%} of {row['n']} "
            f"(difference {row['difference']:+.0%}, 95 % interval {low:+.0%} to {high:+.0%})"
        )

    lines = ["What did supervised learning change?"]
    lines += [f"  {label:<32} {moved(name)}" for name, label in SLICES.items()]
    lines += [
        f"  {reading(part, results['relation_baselines'])}",
        "What did LoRA do?",
        (
            f"  It trained {results['trainable_parameters']:,} numbers beside {results['total_parameters']:,} "
            f"frozen ones ({share:.1%}), rank {results['lora']['rank']}."
        ),
        "What did it take?",
        (
            f"  {results['train_rows']:,} rows and {results['train_seconds']:.0f} s of training on the engine "
            f"{results['engine']!r} with {os.cpu_count()} processor cores."
        ),
    ]
    return "\n".join(lines)


def reading(part: Mapping[str, Any], baselines: Mapping[str, float]) -> str:
    """What the four differences say together, by rule: an interval that leaves out 0 is a change."""
    learned = [name for name in ("seen", "paraphrase") if part[name]["interval_95"][0] > 0]
    guessed = part["unseen"]["tuned"]["exact_match"]
    control = part["control"]
    known = max(round(control["base"]["contains"] * control["n"]), 1)
    kept = (known - control["broken"]) / known
    sentences = {
        (): "It learned none of the facts that this run can tell.",
        ("seen",): "It learned its training questions, and not the facts behind them: new wordings fail.",
        ("paraphrase",): "New wordings improved and trained ones did not, which too few questions can do.",
        ("seen", "paraphrase"): "It learned these facts, also in words it had not met.",
    }
    return (
        f"{sentences[tuple(learned)]} Of facts it was not shown it gets {guessed:.0%}; naming the most frequent answer "
        f"to each kind of question gets {baselines['unseen']:.0%}. It keeps {kept:.0%} of the general knowledge."
    )


def header(results: Mapping[str, Any]) -> dict[str, str]:
    """What the page of the run does not know of itself."""
    return {
        "trained parameters": f"{results['trainable_parameters']:,} of {results['total_parameters']:,}",
        "training time": f"{results['train_seconds']:.0f} s",
    }


def progress() -> Any:
    """A callback that says how far the questions are, on one line in a terminal and every fifth of them elsewhere."""
    last = 0

    def show(done: int, total: int) -> None:
        nonlocal last
        if sys.stdout.isatty():
            print(f"\r  {done} of {total} answers", end="" if done < total else "\n", flush=True)
        elif done * 5 // total > last:
            last = done * 5 // total
            print(f"  {done} of {total} answers", flush=True)

    return show


def parse() -> argparse.Namespace:
    """What was typed."""
    parser = argparse.ArgumentParser(
        description="Teach a small language model New York City, and measure it.", allow_abbrev=False
    )
    parser.add_argument("--engine", choices=["auto", "local", "tinker"], default="local", help="where to train")
    parser.add_argument("--base-model", default="smollm2-135m-instruct", help="a short name, a folder, or a hub name")
    parser.add_argument("--rank", type=int, default=16, help="rank of the adapter")
    parser.add_argument("--all-layers", action="store_true", help="adapt attention and unembedding beside the MLP")
    parser.add_argument("--learning-rate", type=float, default=1e-3, help="peak learning rate")
    parser.add_argument("--num-facts", type=int, default=40, help="how many facts to teach, of 415")
    parser.add_argument("--num-wordings", type=int, default=6, help="in how many wordings each is taught, 1 to 8")
    parser.add_argument("--num-epochs", type=int, default=3, help="passes over the training rows")
    parser.add_argument("--seed", type=int, default=0, help="of the adapter, the order of the rows and the intervals")
    parser.add_argument("--quick", action="store_true", help=f"{QUICK_FACTS} facts only, to see it work")
    parser.add_argument("--output-dir", default="runs/nyc_qa", help="where the run folder goes")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except gg.GlowGeniusError as error:
        sys.exit(f"{type(error).__name__}: {error}")
