"""`glowgenius report`: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glowgenius.cli.common import JSONOption, RunFolderArgument, print_json, say, verb
from glowgenius.cli.runs import open_run, require_run


@verb
def report(
    run: RunFolderArgument,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page; by default report.html in the folder.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--compare", help="Questions to ask both models, so that the page compares them.")
    ] = None,
    as_json: JSONOption = False,
) -> int:
    """Write the page of a run: settings, masks, curves, and a comparison where questions are given.

    Example: `glowgenius report runs/nyc --compare test.jsonl`
    """
    from glowgenius.evaluation.compare import compare
    from glowgenius.reporting.run import write_run_report

    require_run(run)
    comparison = None
    if data is not None:
        opened = open_run(run)
        comparison = compare(opened.base(), opened.tuned(), opened.questions(data))
    page = write_run_report(run, output, comparison=comparison)
    if as_json:
        print_json({"report": str(page)})
    else:
        say(f"written: {page}", as_json=False)
    return 0
