"""Whether the base model stays as it was: every frozen weight hashed before and after, and its logits compared.

Besides: the adapter begins as nothing (B = 0), ends as something, and can be taken off again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import Experiment

if TYPE_CHECKING:
    from examples.experiments.record import Figures, Settings

PROMPT: Final = "Which borough is Yankee Stadium in?"


def run(cell: Settings) -> Figures:
    """Hash, train a few steps, hash again."""
    import torch

    import glowgenius as gg
    from examples.experiments import lessons
    from glowgenius.local.adapter import AdapterSpec
    from glowgenius.local.model import base_model

    rows = lessons.new_york(24)
    model = base_model(lessons.MODEL, "cpu", torch.float32)
    tokens = torch.as_tensor(lessons.short_renderer().render_prompt(rows.seen[0].prompt).tolist())[None]
    before, plain = model.weights_hash(), logits(model, tokens, None)
    spec = AdapterSpec(rank=cell["rank"], seed=cell["seed"], train_unembed=False)
    untrained = logits(model, tokens, model.fresh_adapter(spec))
    result = lessons.lora_run(
        rows.train,
        lora=gg.LoRAConfig(rank=cell["rank"], seed=cell["seed"], train_unembed=False),
        learning_rate=1e-3,
        steps=cell["steps"],
        batch_size=8,
        seed=cell["seed"],
    )
    tuned = result.sampler.generate(PROMPT, max_tokens=8)
    return {
        "base_sha256_before": before,
        "base_sha256_after": model.weights_hash(),
        "largest_logit_difference_of_an_untrained_adapter": float((untrained - plain).abs().max()),
        "largest_logit_difference_with_the_adapter_off": float((logits(model, tokens, None) - plain).abs().max()),
        "tuned_answer": tuned,
        "losses": lessons.losses(result),
    }


def logits(model: Any, tokens: Any, adapter: Any) -> Any:
    """What the network says after a prompt, with an adapter or without."""
    import torch

    with torch.no_grad(), model.using(adapter) as network:
        return network(input_ids=tokens).logits[0, -1].clone()


EXPERIMENT: Final = Experiment(
    name="frozen",
    question="Is the base model untouched by training?",
    cells=[{"rank": 8, "steps": 6, "seed": 0}],
    run=run,
    guess=30,
)
