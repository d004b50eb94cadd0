"""Whether the rank shows in the first steps: with B · A scaled by alpha / rank, and by alpha / sqrt(rank).

Same rows, same batches, same learning rate, ranks from 1 to 256. With 1/r every direction of the adapter gets a share
of the step that shrinks as their number grows, so that the sum is the same; with 1/sqrt(r) it grows.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from examples.experiments.record import Experiment

if TYPE_CHECKING:
    from examples.experiments.record import Figures, Settings

RANKS: Final = (1, 8, 64, 256)
SEEDS: Final = (0, 1, 2)
ALPHA: Final = 32.0
STEPS: Final = 10


def run(cell: Settings) -> Figures:
    """Take ten steps with one rank and one scaling."""
    import glowgenius as gg
    from examples.experiments import lessons

    rank = cell["rank"]
    # The engine multiplies by alpha / rank; alpha · sqrt(rank) there is alpha / sqrt(rank) in effect.
    alpha = ALPHA if cell["scaling"] == "1/r" else ALPHA * math.sqrt(rank)
    result = lessons.lora_run(
        lessons.new_york(24, num_wordings=2).train,
        lora=gg.LoRAConfig(rank=rank, alpha=alpha, seed=cell["seed"], train_unembed=False),
        learning_rate=cell["learning_rate"],
        steps=STEPS,
        batch_size=8,
        seed=cell["seed"],
        renderer=lessons.short_renderer(),
    )
    return {"losses": lessons.losses(result)}


EXPERIMENT: Final = Experiment(
    name="rank_early",
    question="Does the rank show in the first ten steps?",
    cells=[
        {"rank": rank, "scaling": scaling, "learning_rate": 1e-3, "seed": seed}
        for seed in SEEDS
        for scaling in ("1/r", "1/sqrt(r)")
        for rank in RANKS
        if scaling == "1/r" or rank > 1  # at rank 1 they are the same
    ],
    run=run,
    guess=20,
    smoke={"STEPS": 1},
)
