"""`glowgenius estimate`: what a run would cost, before anything is sent."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer

from glowgenius.cli.common import DataFile, EngineOption, FormatOption, JSONOption, print_json, say, verb
from glowgenius.cli.settings import (
    BaseModelOption,
    BatchOption,
    EpochsOption,
    EvalEveryOption,
    EvalOption,
    MaxLengthOption,
    MaxStepsOption,
    OverflowOption,
    TestSizeOption,
    base_model,
    number,
    split,
)

if TYPE_CHECKING:
    from glowgenius.training.cost import CostEstimate


@verb
def estimate(
    data: DataFile,
    *,
    eval_data: EvalOption = None,
    test_size: TestSizeOption = 0.1,
    model: BaseModelOption = None,
    engine: EngineOption = "auto",
    num_epochs: EpochsOption = 3,
    batch_size: BatchOption = 16,
    max_steps: MaxStepsOption = None,
    max_length: MaxLengthOption = None,
    on_overflow: OverflowOption = "error",
    eval_every: EvalEveryOption = None,
    seed: Annotated[int, typer.Option(help="Seed of the split, as for train.")] = 0,
    prices: Annotated[Path | None, typer.Option(help="A price table of your own, as JSON.")] = None,
    format: FormatOption = None,  # noqa: A002 - the name of the option
    as_json: JSONOption = False,
) -> int:
    """Say what `glowgenius train` with the same options would send, and what that costs. Nothing is sent.

    Every row is rendered and checked as before a run. Needs the tokenizer of the model, and neither torch nor a key:
    --engine tinker says the price for which there is no key yet.

    Example: `glowgenius estimate train.jsonl --model Qwen/Qwen3-8B --engine tinker`
    """
    from glowgenius.data.dataset import Dataset
    from glowgenius.training.config import TrainingConfig
    from glowgenius.training.connection import which_engine
    from glowgenius.training.trainer import SupervisedTrainer

    chosen, reason = which_engine(engine, os.environ)
    rows, held = split(Dataset.from_file(data, format=format), eval_data, test_size, seed, as_json=as_json)
    config: Any = TrainingConfig(
        num_epochs=num_epochs,
        max_steps=max_steps,
        batch_size=batch_size,
        max_length=max_length,
        on_overflow=on_overflow,  # type: ignore[arg-type]  # another word is refused there
        eval_every=number(eval_every),
        seed=seed,
    )
    trainer = SupervisedTrainer(base_model(model, engine), config=config, prices=prices)
    report = trainer.preflight(rows, held, engine=chosen)
    cost = cast("CostEstimate", report.cost)
    if as_json:
        steps = {"steps": report.total_steps, "engine": chosen, "model": trainer.base_model}
        print_json({**steps, **cost.to_json()})
        return 0
    say(f"engine: {chosen}, because {reason}", as_json=False, prose=True)
    say("\n".join(report.lines()[1:]), as_json=False, prose=True)
    if cost.free:  # else it is on the page already
        say(cost, as_json=False, prose=True)
    return 0
