"""Which learning rate suits LoRA, and which the training of every weight: two curves over a grid.

24 facts in one wording, the same batches and steps; what decides is the loss on the held-out wordings of these facts,
chosen beforehand. The grid is half a decade, so a ratio of the two best rates is known to half a decade at most.

Each run also says what it cost: how surprising the base model's own answers to other questions became. So the same runs
show learning against forgetting, for both methods at every rate. The cell `method: base` is where all of them begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import Experiment

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from examples.experiments.record import Figures, Settings
    from examples.nyc.data import NYCData
    from glowgenius import Conversation

LORA_RATES: Final = (3e-4, 1e-3, 3e-3, 1e-2)
FULL_RATES: Final = (3e-5, 1e-4, 3e-4, 1e-3)
SEEDS: Final = (0, 1, 2)
NUM_FACTS: Final = 24
STEPS: Final = 30
BATCH_SIZE: Final = 4
RANK: Final = 8


def run(cell: Settings) -> Figures:
    """Train once and measure the held-out wordings, and what became of other answers."""
    import glowgenius as gg
    from examples.experiments import lessons

    rows = lessons.new_york(NUM_FACTS, num_wordings=1)
    if cell["method"] == "base":
        return measured(rows, lambda asked: lessons.mean_nll(lessons.base_sampler(lessons.short_renderer()), asked))
    settings: dict[str, Any] = {
        "learning_rate": cell["learning_rate"],
        "steps": STEPS,
        "batch_size": BATCH_SIZE,
        "seed": cell["seed"],
    }
    if cell["method"] == "full":
        model = lessons.FullModel()
        losses, seconds = lessons.timed(lambda: model.train(rows.train, **settings))
        found = measured(rows, model.nll)
    else:
        lora = gg.LoRAConfig(rank=RANK, seed=cell["seed"], train_unembed=False)
        renderer = lessons.short_renderer()
        result, seconds = lessons.timed(lambda: lessons.lora_run(rows.train, lora=lora, renderer=renderer, **settings))
        losses, found = lessons.losses(result), measured(rows, lambda asked: lessons.mean_nll(result.sampler, asked))
    return {
        **found,
        "last_10_train_loss": round(sum(losses[-10:]) / 10, 4),
        "train_cpu_seconds": round(seconds, 1),
        "losses": losses,
    }


def measured(rows: NYCData, nll: Callable[[Sequence[Conversation]], float]) -> Figures:
    """What was learned and what moved, both in nats per token."""
    from examples.experiments import lessons

    _, own = lessons.own_answers()
    return {
        "held_out_wording_nll": round(nll(rows.paraphrase), 4),
        "own_answers_nll": round(nll(own), 4),
    }


EXPERIMENT: Final = Experiment(
    name="learning_rate",
    question="Where is the best learning rate of LoRA and of full fine-tuning?",
    cells=[
        {"method": "base", "learning_rate": 0.0, "seed": 0},
        *(
            {"method": method, "learning_rate": rate, "seed": seed}
            for seed in SEEDS
            for method, rates in (("lora", LORA_RATES), ("full", FULL_RATES))
            for rate in rates
        ),
    ],
    run=run,
    guess=60,
    smoke={"NUM_FACTS": 4, "STEPS": 2},
)
