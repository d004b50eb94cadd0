"""`glowgenius report`: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glowgenius.cli.common import JSONOption, RunFolderArgument, print_json, progress, say, verb
from glowgenius.cli.runs import open_run, require_run
from glowgenius.cli.settings import Options, takes


@verb
@takes("data")
def report(
    run: RunFolderArgument,
    *,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The page; by default report.html in the folder.")
    ] = None,
    data: Annotated[
        Path | None, typer.Option("--compare", help="Questions to ask both models, so that the page compares them.")
    ] = None,
    options: Options,
    as_json: JSONOption = False,
) -> int:
    """Write the page of a run from all that its folder has: settings, masks, curves, and comparisons.

    Example: `glowgenius report runs/nyc --compare test.jsonl`
    """
    from glowgenius.evaluation.compare import compare
    from glowgenius.reporting.run import keep_comparison, write_run_report

    require_run(run)
    if data is not None:
        opened = open_run(run)
        questions = opened.questions(data, options)
        comparison = compare(
            opened.base(), opened.tuned(), questions, on_progress=progress("answers of base and tuned")
        )
        keep_comparison(opened.folder.path, comparison, opened.label(data))
    page = write_run_report(run.expanduser(), None if output is None else output.expanduser())
    if as_json:
        print_json({"report": str(page)})
    else:
        say(f"written: {page}", as_json=False)
    return 0
