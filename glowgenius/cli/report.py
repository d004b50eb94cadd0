"""`glowgenius report`: a run on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glowgenius.cli.common import JSONOption, RunFolderArgument, print_json, say, verb
from glowgenius.cli.runs import open_run


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
    """Write the page of a run: settings, curves, and a comparison where questions are given.

    Example: `glowgenius report runs/nyc --compare test.jsonl`
    """
    from glowgenius.evaluation.compare import compare
    from glowgenius.reporting.report import write_report

    opened = open_run(run)
    comparison = None
    if data is not None:
        comparison = compare(opened.base(), opened.tuned(), opened.questions(data))
    settings = opened.settings
    facts = {"base model": opened.base_model, "engine": settings.get("engine"), "rank": settings.get("lora_rank")}
    header = {name: value for name, value in {**facts, **opened.result}.items() if value is not None}
    rows = [dict(row) for row in opened.folder.rows()]
    page = write_report(
        output or run / "report.html", comparison=comparison, history=rows, header=header, title=f"Run {run.name}"
    )
    if as_json:
        print_json({"report": str(page)})
    else:
        say(f"written: {page}", as_json=False)
    return 0
