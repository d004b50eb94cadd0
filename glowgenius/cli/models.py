"""`glowgenius models`: base models that are known here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from glowgenius.cli.common import JSONOption, print_json, say, verb


@verb
def models(
    *,
    rank: Annotated[int, typer.Option(help="The rank that parameters are counted for.")] = 32,
    as_json: JSONOption = False,
) -> int:
    """List the base models that are known, with the size of an adapter and the suggested learning rate.

    Others can be used as well: any hub name or local folder on this machine, whatever the service has on Tinker.

    Example: `glowgenius models --rank 16`
    """
    from glowgenius.lora.config import LoRAConfig
    from glowgenius.lora.known_models import KNOWN_MODELS
    from glowgenius.lora.learning_rate import suggest_learning_rate
    from glowgenius.models.catalog import SHORT_NAMES

    lora = LoRAConfig(rank=rank)
    found: list[dict[str, Any]] = []
    for name, short in SHORT_NAMES.items():
        rate = suggest_learning_rate(name).value
        found.append({"name": name, "hub_name": short.hub_name, "engine": "local", "learning_rate": rate})
    for name in sorted(KNOWN_MODELS):
        rate = suggest_learning_rate(name).value
        count = lora.parameter_count(name)
        found.append({"name": name, "engine": "any", "learning_rate": rate, "lora_parameters": count})
    if as_json:
        print_json({"rank": rank, "models": found})
        return 0
    say(f"{'model':<42} {f'LoRA parameters at rank {rank}':>30} {'learning rate':>14}", as_json=False)
    for model in found:
        size = f"{model['lora_parameters']:,}" if "lora_parameters" in model else "small, on this machine"
        say(f"{model['name']:<42} {size:>30} {model['learning_rate']:>14.2e}", as_json=False)
    return 0
