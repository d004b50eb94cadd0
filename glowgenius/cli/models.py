"""`glowgenius models`: base models that are known here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from glowgenius._output import columns
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
    for name in [*SHORT_NAMES, *sorted(set(KNOWN_MODELS) - set(SHORT_NAMES))]:
        short = {"hub_name": SHORT_NAMES[name].hub_name} if name in SHORT_NAMES else {}
        rate, count = suggest_learning_rate(name).value, lora.parameter_count(name)
        engine = "local" if short else "any"
        found.append({"name": name, **short, "engine": engine, "learning_rate": rate, "lora_parameters": count})
    if as_json:
        print_json({"rank": rank, "models": found})
        return 0
    head = ["model", f"LoRA parameters at rank {rank}", "learning rate"]
    figures = [[model["name"], f"{model['lora_parameters']:,}", f"{model['learning_rate']:.2e}"] for model in found]
    for line, model in zip(columns([head, *figures], gap=3), [{"engine": "any"}, *found], strict=True):
        here = "   for this machine, without a hub" if model["engine"] == "local" else ""
        say(f"{line}{here}", as_json=False)
    return 0
