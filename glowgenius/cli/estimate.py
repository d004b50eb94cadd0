"""`glowgenius estimate`: what a run would cost, before anything is sent."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

from glowgenius.cli.common import DataFile, JSONOption, in_shell, print_json, say, verb
from glowgenius.cli.settings import Options, make_trainer, rows_of, takes

if TYPE_CHECKING:
    from glowgenius.training.cost import CostEstimate


@verb
@takes("run", "lora", "training", "data", without=("drop_row",))
def estimate(data: DataFile, *, options: Options, as_json: JSONOption = False) -> int:
    """Say what `glowgenius train` with the same options would send, and what that costs. Nothing is sent.

    Every row is rendered and checked as before a run. Needs the tokenizer of the model, and neither torch nor a key:
    --engine tinker says the price for which there is no key yet. With --resume it is the price of the whole run.

    Example: `glowgenius estimate train.jsonl --model Qwen/Qwen3-8B --engine tinker`
    """
    from glowgenius.training.connection import which_engine

    chosen, reason = which_engine(options["engine"], os.environ)
    if options["output_dir"] is not None:
        options["output_dir"] = options["output_dir"].expanduser()
    rows, held = rows_of(data, options, as_json=as_json)
    trainer = make_trainer(options, held, service=None, callbacks=[])
    report = trainer.preflight(rows, held, engine=chosen)
    cost = cast("CostEstimate", report.cost)
    if as_json:
        steps = {"steps": report.total_steps, "engine": chosen, "model": trainer.base_model}
        print_json({**steps, **cost.to_json()})
        return 0
    say(f"engine: {chosen}, because {reason}", as_json=False, prose=True)
    say(in_shell("\n".join(report.lines()[1:])), as_json=False, prose=True)
    if cost.free:  # else it is on the page already
        say(cost, as_json=False, prose=True)
    return 0
