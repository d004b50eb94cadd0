"""How much a rank can hold: random codes learned by adapters of growing rank on a small frozen network.

Every row is a name of four digits and a code of eight random ones, "0417:83920517": 8 · log2(10) = 26.6 bits that
nothing but memory can give. The base is a two-layer Llama of 32 channels that was first trained in full on *other*
codes, as a base model knows how sentences go and not these facts. Then it is frozen, and an adapter is trained until
the rate is 0.

The bits held are the bits in the codes minus the bits that the model still needs to guess them: Σ (26.6 - loss / ln 2).
New York would not show this: its facts together are far below what rank 1 of a real model can hold.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import Experiment

if TYPE_CHECKING:
    from examples.experiments.record import Figures, Settings

NUM_CODES: Final = 192
DIGITS: Final = 8
NAME_DIGITS: Final = 4
BITS: Final = DIGITS * math.log2(10)

HIDDEN: Final = 32
BASE_STEPS: Final = 60
STEPS: Final = 600
ALPHA: Final = 32.0

RANKS: Final = (1, 2, 4, 8)
SEEDS: Final = (0, 1, 2)


def run(cell: Settings) -> Figures:
    """Train an adapter of one rank on one set of codes."""
    import torch

    torch.manual_seed(cell["seed"])
    network = base_network(cell["seed"])
    layers = adapt(network, cell["rank"], cell["seed"])
    parameters = [parameter for layer in layers for parameter in (layer.a, layer.b)]
    tokens = codes(cell["seed"], NUM_CODES)
    held = [0.0]
    optimizer = torch.optim.AdamW(parameters, lr=cell["learning_rate"], betas=(0.9, 0.95), weight_decay=0.0)
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = cell["learning_rate"] * (1 - step / STEPS)
        loss = code_loss(network, tokens)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if (step + 1) % 100 == 0:
            with torch.no_grad():
                held.append(NUM_CODES * (BITS - float(code_loss(network, tokens)) * DIGITS / math.log(2)))
    with torch.no_grad():
        recalled = float((predictions(network, tokens) == tokens[:, -DIGITS:]).all(dim=1).float().mean())
    trained = sum(parameter.numel() for parameter in parameters)
    return {
        "trained_parameters": trained,
        "bits_to_learn": round(NUM_CODES * BITS),
        "bits_held": round(held[-1]),
        "bits_per_parameter": round(held[-1] / trained, 3),
        "codes_recalled": round(recalled, 4),
        "bits_held_every_100_steps": [round(value) for value in held],
    }


def codes(seed: int, number: int) -> Any:
    """Draw names without repetition and their codes, one token a digit, `[number, names + 1 + digits]`."""
    import torch

    draw = random.Random(f"codes {seed}")  # noqa: S311 - no secret, and the same on every machine
    names = draw.sample(range(10**NAME_DIGITS), number)
    rows = [f"{name:0{NAME_DIGITS}d}" + ":" + "".join(draw.choices("0123456789", k=DIGITS)) for name in names]
    return torch.tensor([["0123456789:".index(letter) for letter in row] for row in rows])


def base_network(seed: int) -> Any:
    """Train a small Llama in full on codes that are not asked for later, and freeze it."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=11,
        hidden_size=HIDDEN,
        intermediate_size=3 * HIDDEN,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=32,
    )
    network = LlamaForCausalLM(config)
    others = codes(seed + 1000, NUM_CODES)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.0)
    for _ in range(BASE_STEPS):
        loss = code_loss(network, others)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.requires_grad_(requires_grad=False)
    return network


def adapt(network: Any, rank: int, seed: int) -> list[Any]:
    """Put W + (alpha / rank) · B · A in the place of every linear layer of attention and MLP."""
    import torch

    class Adapted(torch.nn.Module):
        def __init__(self, base: Any, generator: Any) -> None:
            super().__init__()
            self.base = base
            bound = 1 / math.sqrt(base.in_features)
            drawn = torch.empty(rank, base.in_features).uniform_(-bound, bound, generator=generator)
            self.a = torch.nn.Parameter(drawn)
            self.b = torch.nn.Parameter(torch.zeros(base.out_features, rank))

        def forward(self, x: Any) -> Any:
            return self.base(x) + (x @ self.a.T) @ self.b.T * (ALPHA / rank)

    generator = torch.Generator().manual_seed(seed)
    layers: list[Any] = []
    for name, module in list(network.named_modules()):
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
            parent, _, child = name.rpartition(".")
            layers.append(Adapted(module, generator))
            setattr(network.get_submodule(parent), child, layers[-1])
    return layers


def code_loss(network: Any, tokens: Any) -> Any:
    """The mean loss of the digits of the codes, in nats; names and colons are given."""
    import torch

    logits = network(input_ids=tokens[:, :-1]).logits[:, -DIGITS:]
    return torch.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), tokens[:, -DIGITS:].reshape(-1))


def predictions(network: Any, tokens: Any) -> Any:
    """The most probable digit at each place, given the right ones before it."""
    return network(input_ids=tokens[:, :-1]).logits[:, -DIGITS:].argmax(dim=-1)


EXPERIMENT: Final = Experiment(
    name="capacity",
    question="How many bits does an adapter of each rank hold?",
    cells=[{"rank": rank, "learning_rate": 3e-3, "seed": seed} for seed in SEEDS for rank in RANKS],
    run=run,
    guess=35,
    smoke={"NUM_CODES": 8, "BASE_STEPS": 10, "STEPS": 100},
)
