"""`glowgenius compare`: base against tuned on the same questions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from glowgenius.cli.common import (
    AnswerLengthOption,
    JSONOption,
    QuestionsArgument,
    RunFolderArgument,
    StepOption,
    metrics,
    print_json,
    progress,
    say,
    verb,
)
from glowgenius.cli.settings import Options, label_of, questions_of, takes

if TYPE_CHECKING:
    from glowgenius.evaluation.slices import SliceComparison

_SHOWN: Final = 10
"""How many answers of a kind are printed."""


@verb
@takes("data")
def compare(
    run: RunFolderArgument,
    data: QuestionsArgument = None,
    *,
    metric: Annotated[
        str, typer.Option(autocompletion=metrics, help="What decides whether an answer is right.")
    ] = "exact_match",
    step: StepOption = None,
    max_tokens: AnswerLengthOption = 32,
    report: Annotated[Path | None, typer.Option(help="Write the comparison into this HTML file as well.")] = None,
    options: Options,
    as_json: JSONOption = False,
) -> int:
    """Ask the base and the tuned model of RUN the same questions: fixed, broken, and whether that can be luck.

    The comparison is kept in the folder of the run, and the page of the run shows it.

    Example: `glowgenius compare runs/nyc test.jsonl --report comparison.html`
    """
    from glowgenius.evaluation.compare import compare as ask_both
    from glowgenius.reporting.run_page import write_report
    from glowgenius.reporting.saved_run import open_run

    opened = open_run(run)
    opened.checkpoint(step)
    questions = questions_of(opened, data, options)
    comparison = ask_both(
        opened.base_sampler(),
        opened.sampler(step),
        questions,
        metric=metric,
        max_tokens=max_tokens,
        on_progress=progress("answers of base and tuned"),
    )
    opened.keep_comparison(comparison, label_of(opened, data, step))
    opened.report()
    if report is not None:
        page = write_report(report, comparison=comparison, header={"run": str(run), "base model": opened.base_model})
        say(f"written: {page}", as_json=True)
    if as_json:
        slices = comparison.details().items()
        print_json({name: {**part, "answers": _answers(comparison[name])} for name, part in slices})
    else:
        say(comparison, as_json=False)
        for part in comparison.slices.values():
            _show(part)
    return 0


def _answers(part: SliceComparison) -> list[dict[str, Any]]:
    """Every question with both answers, in the order of the data."""
    pairs = [*part.fixed, *part.broken, *part.both_right, *part.both_wrong]
    right = {pair.base.index: (pair in part.broken or pair in part.both_right) for pair in pairs}
    tuned = {pair.base.index: (pair in part.fixed or pair in part.both_right) for pair in pairs}
    return [
        {
            "question": pair.question,
            "reference": pair.accepted[0],
            "base": pair.base.prediction,
            "tuned": pair.tuned.prediction,
            "base_correct": right[pair.base.index],
            "tuned_correct": tuned[pair.base.index],
            "trained": pair.tuned.trained,
        }
        for pair in sorted(pairs, key=lambda pair: pair.base.index)
    ]


def _show(part: SliceComparison) -> None:
    """Some answers of each kind, those that changed first."""
    for kind in ("broken", "fixed", "both_wrong", "both_right"):
        pairs = getattr(part, kind)
        if pairs:
            more = f", the first {_SHOWN}" if len(pairs) > _SHOWN else ""
            say(f"\n{part.name}, {kind.replace('_', ' ')} ({len(pairs)}{more}):", as_json=False)
        for pair in pairs[:_SHOWN]:
            say(f"  {pair.question}", as_json=False)
            for name, text in (("base", pair.base.prediction), ("tuned", pair.tuned.prediction)):
                say(f"    {name:>8}: {text or '(nothing)'}", as_json=False)
            say(f"    {'accepted':>8}: {' / '.join(pair.accepted)}", as_json=False)
