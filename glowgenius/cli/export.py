"""`glowgenius export`: the adapter of a run, for `peft`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glowgenius.cli.common import JSONOption, RunFolderArgument, StepOption, print_json, say, verb


@verb
def export(
    run: RunFolderArgument,
    directory: Annotated[Path, typer.Argument(metavar="DIRECTORY", help="A folder that is new or empty.")],
    *,
    step: StepOption = None,
    as_json: JSONOption = False,
) -> int:
    """Copy the adapter of RUN in PEFT's format, with a model card; from Tinker it is downloaded.

    Example: `glowgenius export runs/nyc adapter`
    """
    from glowgenius.reporting.saved_run import open_run

    opened = open_run(run)
    trained = opened.checkpoint(step).step
    target = opened.save_adapter(directory, step=step)
    if as_json:
        print_json({"adapter": str(target), "step": trained})
    else:
        say(f"written: {target} (step {trained})", as_json=False)
    return 0
