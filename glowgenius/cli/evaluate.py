"""`glowgenius evaluate`: how well a model answers."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from glowgenius.cli.common import (
    AnswerLengthOption,
    JSONOption,
    QuestionsArgument,
    RunFolderArgument,
    StepOption,
    print_json,
    progress,
    say,
    verb,
)
from glowgenius.cli.common import metrics as words_metrics
from glowgenius.cli.settings import Options, questions_of, takes

_SHOWN: Final = 10
"""How many answers of a kind are printed."""


@verb
@takes("data")
def evaluate(
    run: RunFolderArgument,
    data: QuestionsArgument = None,
    *,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model instead of the tuned one.")] = False,
    step: StepOption = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(autocompletion=words_metrics, help="What is measured; may be given several times."),
    ] = None,
    max_tokens: AnswerLengthOption = 32,
    options: Options,
    as_json: JSONOption = False,
) -> int:
    """Ask the model of RUN every question of DATA, and score its answers.

    Example: `glowgenius evaluate runs/nyc test.jsonl --metric exact_match`
    """
    from glowgenius.evaluation.answers import RIGHT
    from glowgenius.evaluation.evaluate import evaluate as ask
    from glowgenius.reporting.saved_run import open_run

    opened = open_run(run)
    opened.checkpoint(step)
    questions = questions_of(opened, data, options)
    metrics = tuple(metric or ("exact_match", "contains", "token_f1"))
    result = ask(
        opened.base_sampler() if base else opened.sampler(step),
        questions,
        metrics,
        max_tokens=max_tokens,
        on_progress=progress("answers"),
    )
    if as_json:
        print_json(result.to_dict())
        return 0
    say(result, as_json=False)
    wrong = [row for row in result.rows if row.scores[result.metrics[0]] < RIGHT]
    for name, rows in (("wrong", wrong), ("right", [row for row in result.rows if row not in wrong])):
        more = f", the first {_SHOWN}" if len(rows) > _SHOWN else ""
        if rows:
            say(f"\n{name} by {result.metrics[0]} ({len(rows)}{more}):", as_json=False)
        for row in rows[:_SHOWN]:
            accepted = "" if name == "right" else f"   (accepted: {' / '.join(row.accepted)})"
            say(f"  {row.question}\n    {row.prediction or '(nothing)'}{accepted}", as_json=False)
    return 0
