"""`glowgenius sweep`: which rank and which learning rate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glowgenius.cli.common import (
    DEFAULT_MODEL,
    DataFile,
    EngineOption,
    JSONOption,
    ModelOption,
    in_shell,
    print_json,
    say,
    verb,
)
from glowgenius.cli.settings import Options, read_rows, takes, training_config

_OWN = ("learning_rate", "seed", "output_dir", "metric_for_best")
"""Settings that differ from run to run of a sweep, or have a meaning of their own there."""


@verb
@takes("data", "training", without=_OWN)
def sweep(
    data: DataFile,
    *,
    rank: Annotated[list[int], typer.Option(help="A rank of the grid; may be given several times.")],
    learning_rate: Annotated[list[float], typer.Option(help="A rate of the grid; may be given several times.")],
    seed: Annotated[list[int] | None, typer.Option(help="A seed; three tell luck from effect.")] = None,
    test_size: Annotated[float, typer.Option(help="The share of DATA that is held out to judge by.")] = 0.2,
    model: ModelOption = DEFAULT_MODEL,
    engine: EngineOption = "auto",
    metric: Annotated[str | None, typer.Option(help="What decides, such as nll, exact_match or eval_loss.")] = None,
    output_dir: Annotated[Path | None, typer.Option("--output-dir", "-o", help="Folder of the sweep.")] = None,
    options: Options,
    as_json: JSONOption = False,
) -> int:
    """Train every rank with every learning rate, and compare them on rows that none has seen.

    The same command goes on where it was interrupted.

    Example: `glowgenius sweep train.jsonl --rank 4 --rank 16 --learning-rate 1e-4 --learning-rate 1e-3`
    """
    from glowgenius.experiments.sweep import sweep as run_grid
    from glowgenius.training.connection import connect

    rows, held = read_rows(data, options).train_test_split(test_size, seed=0)
    folder = output_dir or Path("runs") / f"sweep-{data.name.split('.')[0]}"
    result = run_grid(
        model,
        rows,
        held,
        ranks=rank,
        learning_rates=learning_rate,
        seeds=seed or [0],
        config=training_config(options),
        service=connect(engine),
        metric=metric,
        output_dir=folder.expanduser(),
        say=lambda line: say(in_shell(line), as_json=as_json),
    )
    if as_json:
        print_json(result.to_dict())
    else:
        say(result, as_json=False)
    return 0
