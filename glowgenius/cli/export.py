"""`glowgenius export`: the adapter of a run, for `peft`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glowgenius.cli.common import JSONOption, RunFolderArgument, StepOption, print_json, say, verb
from glowgenius.cli.runs import open_run


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
    from glowgenius.training.adapter_export import export_adapter

    opened = open_run(run, step)
    record = opened.record
    target = export_adapter(
        directory,
        sampler_path=opened.sampler_path,
        state_path=record.state_path,
        step=record.step,
        base_model=opened.base_model,
        service=opened.service if "://" in opened.sampler_path else None,
        settings=opened.settings,
        rows=opened.folder.rows(),
    )
    if as_json:
        print_json({"adapter": str(target), "step": record.step})
    else:
        say(f"written: {target} (step {record.step})", as_json=False)
    return 0
