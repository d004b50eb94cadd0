"""How often each metric judges otherwise than a careful person, on the pairs of `tests/evaluation/judged_pairs.jsonl`.

    python -m tests.benchmarks.judging            prints the tables
    python -m tests.benchmarks.judging --list     and every pair that a metric judges otherwise
    python -m tests.benchmarks.judging --write    puts the tables into docs/evaluation.md

The verdicts are what a careful person makes of question, references and answer; the metrics see no question.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any, Final

from glowgenius.evaluation.answers import RIGHT
from glowgenius.evaluation.metrics import METRICS
from tests.support.source import ROOT

PAIRS: Final = ROOT / "tests" / "evaluation" / "judged_pairs.jsonl"
PAGE: Final = ROOT / "docs" / "evaluation.md"
BEGIN, END = "<!-- table: python -m tests.benchmarks.judging --write -->", "<!-- end of table -->"
JUDGES: Final = ("exact_match", "strict", "contains", "token_f1", "json", "number", "label")
"""The metrics that say whether an answer is right; `abstains` and `json_valid` say something else."""
MEANT_FOR: Final = {
    "json": ("JSON",),
    "number": ("numbers", "numbers with units"),
    "label": ("labels",),
}
"""The categories of the pairs that a metric is meant for; the others are meant for all."""


def pairs() -> list[dict[str, Any]]:
    """The pairs of the table, in their order."""
    return [json.loads(line) for line in PAIRS.read_text(encoding="utf-8").splitlines()]


def misjudged(metric: str, found: list[dict[str, Any]]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The wrong answers that a metric accepts, and the right ones that it refuses."""
    accepted = [METRICS[metric](pair["answer"], pair["references"]) >= RIGHT for pair in found]
    return (
        [pair for pair, said in zip(found, accepted, strict=True) if said and not pair["right"]],
        [pair for pair, said in zip(found, accepted, strict=True) if not said and pair["right"]],
    )


def tables() -> str:
    """The tables of the page."""
    found = pairs()
    right = sum(pair["right"] for pair in found)
    lines = [
        f"{len(found)} pairs, {right} of them right:",
        "",
        "| metric | pairs of its kind | false accepts | false refusals | of all: false accepts | false refusals |",
        "| --- | --: | --: | --: | --: | --: |",
    ]
    for metric in JUDGES:
        meant = [pair for pair in found if pair["category"] in MEANT_FOR.get(metric, (pair["category"],))]
        counts = [len(part) for chosen in (meant, found) for part in misjudged(metric, chosen)]
        lines.append(f"| `{metric}` | {len(meant)} | {' | '.join(map(str, counts))} |")
    lines += ["", "False accepts and false refusals by kind of pair:", ""]
    lines += ["| kind | right | wrong | " + " | ".join(f"`{metric}`" for metric in JUDGES) + " |"]
    lines += ["| --- | --: | --: |" + " --: |" * len(JUDGES)]
    for category in dict.fromkeys(pair["category"] for pair in found):
        part = [pair for pair in found if pair["category"] == category]
        good = sum(pair["right"] for pair in part)
        cells = [" and ".join(str(len(side)) for side in misjudged(metric, part)) for metric in JUDGES]
        lines.append(f"| {category} | {good} | {len(part) - good} | {' | '.join(cells)} |")
    lines += ["", "What `exact_match` and `contains` accept and a careful person would not:", ""]
    lines += ["| metric | question | reference | answer |", "| --- | --- | --- | --- |"]
    lines += [
        f"| `{metric}` | {pair['question']} | {_cell(' or '.join(pair['references']))} | {_cell(pair['answer'])} |"
        for metric in ("exact_match", "contains")
        for pair in misjudged(metric, found)[0]
    ]
    return "\n".join(lines)


def page_with_tables(text: str) -> str:
    """The page with the tables of this run between its marks."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n\n{END}{after}"


def _cell(text: str) -> str:
    return "`" + text.replace("\n", "⏎").replace("|", "\\|") + "`"


def main() -> int:
    """Print or write the tables."""
    parser = argparse.ArgumentParser(description="How often each metric judges otherwise than a careful person.")
    parser.add_argument("--list", action="store_true", help="print every pair that a metric judges otherwise")
    parser.add_argument("--write", action="store_true", help="put the tables into docs/evaluation.md")
    options = parser.parse_args()
    print(tables())
    if options.list:
        for metric in JUDGES:
            for said, part in zip(("accepts", "refuses"), misjudged(metric, pairs()), strict=True):
                for pair in part:
                    print(f"{metric} {said} {pair['answer']!r} for {pair['references']!r} ({pair['question']})")
    if options.write:
        PAGE.write_text(page_with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
