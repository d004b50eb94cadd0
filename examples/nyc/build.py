"""Make `control.jsonl`, `retention.jsonl` and `replay.jsonl` from the base model.

    python -m examples.nyc.build              # all three files, a few minutes on one core
    python -m examples.nyc.build --check      # only compares what would be written with what is there

The files are the base model's work, so they are frozen: a run of the example reads them and never makes them again.
*Control* questions are the candidates that the base model answers, taken in turn from groups of one form. *Retention*
questions are others that it answers: whoever tunes how much is forgotten looks at these, so that the control questions
are asked of settings that were not chosen by them. *Replay* rows are other prompts with the base model's own answer, so
that training on them asks the model to stay as it is; none contains an answer to a question of control or retention.
"""

from __future__ import annotations

import argparse
import csv
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from examples.nyc.checks import contains
from examples.nyc.data import words

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HERE: Final = Path(__file__).resolve().parent

BASE_MODEL: Final = "smollm2-135m-instruct"
NUM_CONTROL: Final = 60

CONTROL_TOKENS: Final = 24
"""A control answer is read this far, as the example reads it."""
REPLAY_TOKENS: Final = 40
"""A replay answer that has not ended after this many tokens is cut back to its last whole sentence (the base talks
on and on); one without a whole sentence is left out, for training on it would teach to stop in the middle."""

NEW_YORK_WORDS: Final = ("new york", "nyc", "manhattan", "brooklyn", "queens", "bronx", "staten", "harlem", "broadway")

Row = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Build the files, or with `--check` say whether they are what this script would write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="compare, write nothing; exit 1 if a file differs")
    options = parser.parse_args(arguments)

    candidates = read_csv("control_candidates.csv")
    asked = [row["question"] for row in candidates]
    answer, rounded = base_model_answers("float32"), base_model_answers("bfloat16")
    control = choose_control(candidates, answer(asked, CONTROL_TOKENS), rounded(asked, CONTROL_TOKENS))
    # Left out are prompts whose answer we read and found false, or empty of sense.
    prompts = [row for row in read_csv("replay_prompts.csv") if row["left_out"] == "no"]
    others = read_csv("retention_candidates.csv")
    retention = choose_retention(others, answer([row["question"] for row in others], CONTROL_TOKENS), control)
    asked = [*control, *retention]
    replay = choose_replay(prompts, answer([row["question"] for row in prompts], REPLAY_TOKENS), asked)
    print(
        f"control: {len(control)} of {len(candidates)} candidates; replay: {len(replay)} of {len(prompts)} prompts; "
        f"retention: {len(retention)} of {len(others)} candidates"
    )

    same = True
    for name, rows in (("control.jsonl", control), ("retention.jsonl", retention), ("replay.jsonl", replay)):
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        if options.check:
            same &= text == (HERE / name).read_text(encoding="utf-8")
        else:
            (HERE / name).write_text(text, encoding="utf-8")
    if not same:
        print("one of the files is not what this script writes from the base model here", file=sys.stderr)
    return 0 if same else 1


def base_model_answers(precision: str) -> Callable[[list[str], int], list[tuple[str, bool]]]:
    """Load the base model and return what asks it, greedily: prompts in, (answer, whether it ended by itself) out."""
    from glowgenius import Message, SupervisedTrainer
    from glowgenius.local import ServiceClient

    sampler = SupervisedTrainer(BASE_MODEL, service=ServiceClient(dtype=precision)).base_sampler()

    def answer(prompts: list[str], max_tokens: int) -> list[tuple[str, bool]]:
        completions = sampler.complete(
            [(Message("user", prompt),) for prompt in prompts], max_tokens=max_tokens, temperature=0.0
        )
        return [(completion.text.strip(), completion.stop_reason == "stop") for completion in completions]

    return answer


def choose_control(candidates: Sequence[dict[str, str]], *answers: Sequence[tuple[str, bool]]) -> list[Row]:
    """Take the candidates that the base model answers each time it was asked, evenly from all forms of question.

    It is asked in float32 and in bfloat16: the engine takes the one the machine is good at, and a small model's answer
    can turn on the rounding. Round-robin over the forms, so that no form (as capitals) dominates.
    """
    by_form: dict[str, list[Row]] = defaultdict(list)
    for row, *tries in zip(candidates, *answers, strict=True):
        accepted = accepted_answers(row)
        if all(any(contains(text, name) for name in accepted) for text, _ in tries):
            by_form[form(row["question"])].append(known_question(row, "control"))
    chosen: list[Row] = []
    round_number = 0
    while len(chosen) < NUM_CONTROL and any(len(rows) > round_number for rows in by_form.values()):
        chosen += [rows[round_number] for rows in by_form.values() if len(rows) > round_number]
        round_number += 1
    return sorted(chosen[:NUM_CONTROL], key=lambda row: str(row["id"]))


def known_question(row: dict[str, str], tag: str) -> Row:
    """Make the record of a question whose answer the base model knows."""
    return {
        "question": row["question"],
        "answer": row["answer"],
        "id": row["candidate_id"],
        "group": row["candidate_id"],
        "references": accepted_answers(row),
        "tags": [tag],
    }


def choose_retention(
    candidates: Sequence[dict[str, str]], answers: Sequence[tuple[str, bool]], control: Sequence[Row]
) -> list[Row]:
    """Take the candidates that the base model answers and that are not asked in control."""
    asked = {words_of(row["question"]) for row in control}
    return [
        known_question(row, "retention")
        for row, (text, _) in zip(candidates, answers, strict=True)
        if words_of(row["question"]) not in asked and any(contains(text, name) for name in accepted_answers(row))
    ]


def words_of(text: str) -> tuple[str, ...]:
    """Take the words of a text, to compare texts whatever their case and punctuation."""
    return tuple(words(text))


def choose_replay(
    prompts: Sequence[dict[str, str]], answers: Sequence[tuple[str, bool]], asked: Sequence[Row]
) -> list[Row]:
    """Take the prompts that share no answer with a question that is *asked*, with the first sentence of the base model.

    How an answer begins is the habit to be kept; the rest would take twice the tokens.
    """
    taken = {name for row in asked for name in accepted_answers(row)}
    questions = {words_of(row["question"]) for row in asked}
    rows: list[Row] = []
    for row, (spoken, ended) in zip(prompts, answers, strict=True):
        text = spoken if ended else whole_sentences(spoken)
        both = f"{row['question']} {text}"
        if (
            not text
            or is_loop(text)
            or words_of(row["question"]) in questions
            or any(contains(both, name) for name in (*taken, *NEW_YORK_WORDS))
        ):
            continue
        rows.append(
            {
                "question": row["question"],
                "answer": first_sentence(text),
                "id": row["prompt_id"],
                "group": row["prompt_id"],
                "tags": ["replay", row["topic"], f"answered by {BASE_MODEL}"],
            }
        )
    return rows


def whole_sentences(text: str) -> str:
    """Cut a text back to where its last sentence ends; empty if none does.

    A list is no sentence: "1." ends with a point and says nothing, so a text with a line break is given up.
    """
    if "\n" in text:
        return ""
    ends = sentence_ends(text)
    return text[: ends[-1]] if ends else ""


def first_sentence(text: str) -> str:
    """Cut a text behind its first sentence; all of it if it has no whole one."""
    ends = sentence_ends(text)
    return text[: ends[0]] if ends else text


def sentence_ends(text: str) -> list[int]:
    """Find where the sentences of a text end: a point behind a small letter, so that "D.C." and "3.5" end none."""
    return [match.end() for match in re.finditer(r"(?<=[a-z)\"])[.!?](?=\s|$)", text)]


def is_loop(text: str) -> bool:
    """Say whether the model has begun to repeat itself: some three words in a row occur twice."""
    spoken = words(text)
    triples = list(zip(spoken, spoken[1:], spoken[2:], strict=False))
    return len(set(triples)) < len(triples)


def form(question: str) -> str:
    """Reduce a question to its opening, the part that a fine-tuned model could learn as a habit.

    Two words say the form ("who wrote", "how many"), but half of all begin with "what is": there it takes four.
    """
    opening = words(question)
    return " ".join(opening[: 4 if opening[:2] == ["what", "is"] else 2])


def accepted_answers(row: Row) -> list[str]:
    """List the answers that count as right, of a candidate or of a finished row."""
    if "references" in row:
        return list(row["references"])
    return [row["answer"], *(name for name in row["aliases"].split("|") if name)]


def read_csv(name: str) -> list[dict[str, str]]:
    """Read a table beside this script."""
    with (HERE / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    raise SystemExit(main())
