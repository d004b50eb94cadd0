"""`glowgenius report`: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glowgenius.cli.common import JSONOption, RunFolderArgument, print_json, progress, say, verb
from glowgenius.cli.settings import Options, label_of, questions_of, takes


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
    from glowgenius.reporting.saved_run import open_run

    opened = open_run(run)
    if data is not None:
        questions = questions_of(opened, data, options)
        comparison = compare(
            opened.base_sampler(), opened.sampler(), questions, on_progress=progress("answers of base and tuned")
        )
        opened.keep_comparison(comparison, label_of(opened, data))
    page = opened.report(None if output is None else output.expanduser())
    if as_json:
        print_json({"report": str(page)})
    else:
        say(f"written: {page}", as_json=False)
    return 0
