"""`glowgenius compare`: base against tuned on the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from glowgenius.cli import words
from glowgenius.cli.common import (
    AnswerLengthOption,
    JSONOption,
    QuestionsArgument,
    RunFolderArgument,
    StepOption,
    print_json,
    say,
    verb,
)
from glowgenius.cli.runs import open_run


@verb
def compare(
    run: RunFolderArgument,
    data: QuestionsArgument = None,
    *,
    metric: Annotated[
        str, typer.Option(autocompletion=words.metrics, help="What decides whether an answer is right.")
    ] = "exact_match",
    step: StepOption = None,
    max_tokens: AnswerLengthOption = 32,
    report: Annotated[Path | None, typer.Option(help="Write the comparison into this HTML file as well.")] = None,
    as_json: JSONOption = False,
) -> int:
    """Ask the base and the tuned model of RUN the same questions: fixed, broken, and whether that can be luck.

    Example: `glowgenius compare runs/nyc test.jsonl --report comparison.html`
    """
    from glowgenius.evaluation.compare import compare as ask_both
    from glowgenius.reporting.report import write_report

    opened = open_run(run, step)
    questions = opened.questions(data)
    comparison = ask_both(opened.base(), opened.tuned(), questions, metric=metric, max_tokens=max_tokens)
    if report is not None:
        write_report(report, comparison=comparison, header={"run": str(run), "base model": opened.base_model})
        say(f"written: {report}", as_json=True)
    if as_json:
        print_json(comparison.to_dict())
    else:
        say(comparison, as_json=False)
    return 0
