"""`glowgenius evaluate`: how well a model answers."""

from __future__ import annotations

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
def evaluate(
    run: RunFolderArgument,
    data: QuestionsArgument = None,
    *,
    base: Annotated[bool, typer.Option("--base", help="Ask the base model instead of the tuned one.")] = False,
    step: StepOption = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(autocompletion=words.metrics, help="What is measured; may be given several times."),
    ] = None,
    max_tokens: AnswerLengthOption = 32,
    as_json: JSONOption = False,
) -> int:
    """Ask the model of RUN every question of DATA, and score its answers.

    Example: `glowgenius evaluate runs/nyc test.jsonl --metric exact_match`
    """
    from glowgenius.evaluation.evaluate import evaluate as ask

    opened = open_run(run, step)
    questions = opened.questions(data)
    metrics = tuple(metric or ("exact_match", "contains", "token_f1"))
    result = ask(opened.base() if base else opened.tuned(), questions, metrics, max_tokens=max_tokens)
    if as_json:
        print_json(result.to_dict())
    else:
        say(result, as_json=False)
    return 0
