"""What a step costs: trained numbers, bytes, floating-point operations, and measured seconds and memory.

LoRA and full training take the same batch in fresh processes, so that the peak memory is their own. Larger models are
worked out from their shapes by the same formulas, not measured.

Bytes of training state in float32: weights 4, gradients 4, AdamW's two moments 8 for every *trained* number, and 4 for
a frozen one. Operations ("LoRA Without Regret", 2025): a frozen matrix of N numbers takes 2N multiply-adds a token
(forward, and the gradient of its input) where full training takes 3N; its adapter of P numbers adds 3P.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import Experiment

if TYPE_CHECKING:
    from examples.experiments.record import Figures, Settings

STEPS: Final = 4
WARM_UP: Final = 1
BATCH_SIZE: Final = 8
RANKS: Final = (1, 8, 32, 128)
LARGER: Final = ("meta-llama/Llama-3.1-8B", "Qwen/Qwen3-30B-A3B-Base")


def run(cell: Settings) -> Figures:
    """Count one model at one rank, or measure a method."""
    if "model" in cell:
        return count(cell["model"], cell["rank"])
    child = f"from examples.experiments import efficiency; efficiency.child({cell['method']!r}, {cell['seed']})"
    command = [sys.executable, "-c", child]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout  # noqa: S603 - our own script
    figures: Figures = json.loads(out.splitlines()[-1])
    return figures


def count(model: str, rank: int) -> Figures:
    """Work out what training takes, from the shapes of a model."""
    import glowgenius as gg

    counts = gg.LoRAConfig(rank=rank, train_unembed=False).parameter_breakdown(model)
    trained, frozen = counts.total, counts.base_weights
    return {
        "trained_parameters": trained,
        "adapted_weights": frozen,
        "adapter_file_bytes_float32": 4 * trained,
        "training_state_bytes_full": 16 * frozen,
        "training_state_bytes_lora": 4 * frozen + 16 * trained,
        "operations_lora_over_full": round((2 * frozen + 3 * trained) / (3 * frozen), 4),
    }


def child(method: str, seed: int) -> None:
    """Measure a method in a process of its own, and print the figures as JSON."""
    import resource

    import glowgenius as gg
    from examples.experiments import lessons

    rows = lessons.new_york(24, num_wordings=1).train
    settings: dict[str, Any] = {"learning_rate": 1e-4, "batch_size": BATCH_SIZE, "seed": seed}
    if method == "full":
        model = lessons.FullModel()
        model.train(rows, steps=WARM_UP, **settings)
        _, seconds = lessons.timed(lambda: model.train(rows, steps=STEPS, **settings))
    else:
        lora = gg.LoRAConfig(rank=8, seed=seed, train_unembed=False)
        seconds = lora_seconds(rows, lora, settings)
    print(
        json.dumps(
            {
                "cpu_seconds_per_step": round(seconds / STEPS, 3),
                "peak_memory_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
            }
        )
    )


def lora_seconds(rows: Any, lora: Any, settings: dict[str, Any]) -> float:
    """Processor seconds of the steps alone: from the end of the first to the end of the last."""
    import time

    import glowgenius as gg
    from examples.experiments import lessons

    ends: list[float] = []
    note = gg.on(gg.StepEnd, lambda _: ends.append(time.process_time()))
    renderer = lessons.short_renderer()
    lessons.lora_run(rows, lora=lora, renderer=renderer, steps=WARM_UP + STEPS, callbacks=[note], **settings)
    return ends[-1] - ends[WARM_UP - 1]


EXPERIMENT: Final = Experiment(
    name="efficiency",
    question="What does a step of LoRA cost beside one of full fine-tuning?",
    cells=[
        *({"method": method, "seed": seed} for seed in (0, 1, 2) for method in ("lora", "full")),
        *({"model": "smollm2-135m-instruct", "rank": rank} for rank in RANKS),
        *({"model": model, "rank": 32} for model in LARGER),
    ],
    run=run,
    guess=40,
)
