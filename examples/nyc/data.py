"""The New York data set: facts and wordings on disk, slices in memory.

The facts are rows of ``facts.csv``, their wordings are in ``wordings.json``, and the questions that have nothing to do
with New York are in ``control.jsonl`` and ``replay.jsonl``. This module joins them; ``build.py`` makes the last two.

    from nyc.data import load

    slices = load()
    print(len(slices.train), slices.train[0].question)

``DATASHEET.md`` says where the facts come from and what the set cannot show.
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from glowgenius import Dataset

HERE: Final = Path(__file__).resolve().parent

NUM_TRAIN_WORDINGS: Final = 4

Tier = Literal["core", "all"]


@dataclass(frozen=True, kw_only=True)
class Fact:
    """One fact of New York: a subject, a relation, and the one right answer."""

    fact_id: str
    """Stable name, `relation-subject`; the `group` of every row made from this fact."""
    category: str
    """What a reader would look under, as "parks and squares"."""
    relation: str
    """Which wordings of `wordings.json` ask for it; "single" when the fact has wordings of its own."""
    subject: str
    """As it stands in the middle of a sentence, article included: "the Flatiron Building"."""
    answer: str
    """A short phrase, or a year."""
    aliases: tuple[str, ...]
    """Other ways to write the same answer, accepted in the evaluation and never trained."""
    split: str
    """`train` or `unseen`; an unseen fact is in no training row."""
    tier: str
    """`core` (loaded by default) or `extended` (the larger set for longer runs)."""
    cluster: str
    """Facts whose subjects share a name are in one cluster; no cluster is in both splits."""
    visitor: bool
    """Whether a visitor or a resident would ask this."""
    guessable: bool
    """Whether a question shares a name with the answer, as in "Who is Bryant Park named after?"."""
    stability: str
    """`stable` (cannot change) or `dated` (true on `as_of`, may change)."""
    as_of: str
    """The day on which the fact was written down, ISO 8601."""
    source: str
    """A page on which a reader can look the fact up."""
    second_source: str
    """A second page or table that says the same, or empty."""
    verified_on: str
    """The day on which we read the fact in a stored copy of the second source, or empty."""

    @property
    def accepted(self) -> tuple[str, ...]:
        """The answer and its aliases."""
        return (self.answer, *self.aliases)


@dataclass(frozen=True, kw_only=True)
class Wordings:
    """The ways one fact is asked for."""

    train: tuple[str, ...]
    """Four questions to train on."""
    held_out: tuple[str, ...]
    """Questions of another syntax, never trained on."""


@dataclass(frozen=True, kw_only=True)
class NYCData:
    """The slices of the data set, each a `glowgenius.Dataset`."""

    train: Dataset
    """Every trained fact in its four training wordings."""
    seen: Dataset
    """Every trained fact in one of the wordings it was trained with."""
    paraphrase: Dataset
    """Every trained fact in a wording that is in no training row."""
    unseen: Dataset
    """Facts that are in no training row: what the model does when it cannot know."""
    control: Dataset
    """General questions which the base model answers: what training costs."""
    replay: Dataset
    """Other general prompts with the base model's own answers, to mix into training."""
    baselines: Mapping[str, float]
    """Exact match of a guesser that answers each New York slice and reads no subject; see `relation_baseline`."""

    @property
    def evaluation_slices(self) -> dict[str, Dataset]:
        """The four slices on which base and tuned model are compared."""
        return {"seen": self.seen, "paraphrase": self.paraphrase, "unseen": self.unseen, "control": self.control}


def load(tier: Tier = "core", num_facts: int | None = None) -> NYCData:
    """Read the data set.

    Args:
        tier: `core` for the facts a laptop learns in minutes, `all` for these and the extended ones.
        num_facts: How many facts to train, taken evenly from the file, so from every category; all of them if None.

    Returns:
        The slices. They are the same rows in the same order on every machine.
    """
    from glowgenius import Dataset

    facts = [fact for fact in read_facts() if tier == "all" or fact.tier == "core"]
    wordings = read_wordings(facts)
    trained = evenly([fact for fact in facts if fact.split == "train"], num_facts)
    unseen = [fact for fact in facts if fact.split == "unseen"]

    train_rows = [
        _row(fact, f"train-{number}", question)
        for fact in trained
        for number, question in enumerate(wordings[fact.fact_id].train, start=1)
    ]
    # The wording moves on with every fact, so that `seen` asks in all four ways and not four times in the easiest.
    seen_rows = [
        _row(fact, "seen", wordings[fact.fact_id].train[position % NUM_TRAIN_WORDINGS])
        for position, fact in enumerate(trained)
    ]
    return NYCData(
        train=Dataset.from_records(train_rows),
        seen=Dataset.from_records(seen_rows),
        paraphrase=Dataset.from_records(held_out_rows(trained, wordings)),
        unseen=Dataset.from_records(held_out_rows(unseen, wordings)),
        control=Dataset.from_file(HERE / "control.jsonl"),
        replay=Dataset.from_file(HERE / "replay.jsonl"),
        baselines={
            "seen": relation_baseline(trained, trained),
            "paraphrase": relation_baseline(trained, trained),
            "unseen": relation_baseline(trained, unseen),
        },
    )


def evenly(facts: Sequence[Fact], number: int | None) -> list[Fact]:
    """Take `number` facts at equal distances, in their order; all of them if it is None or larger."""
    if number is None or number >= len(facts):
        return list(facts)
    return [facts[position * len(facts) // number] for position in range(number)]


def read_facts(path: Path = HERE / "facts.csv") -> list[Fact]:
    """Read `facts.csv`, in its order."""
    with path.open(encoding="utf-8", newline="") as file:
        return [_fact(row) for row in csv.DictReader(file)]


def read_wordings(facts: Iterable[Fact], path: Path = HERE / "wordings.json") -> dict[str, Wordings]:
    """Write out the questions of each fact: its own wordings if it has some, else those of its relation."""
    templates: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return {
        fact.fact_id: _fill(templates["facts"].get(fact.fact_id) or templates["relations"][fact.relation], fact.subject)
        for fact in facts
    }


def held_out_rows(facts: Iterable[Fact], wordings: Mapping[str, Wordings]) -> list[dict[str, object]]:
    """Make one row per fact, in its first held-out wording."""
    return [_row(fact, "held-out", wordings[fact.fact_id].held_out[0]) for fact in facts]


def relation_baseline(known: Sequence[Fact], asked: Sequence[Fact]) -> float:
    """Score a guesser that knows the relation and the trained answers, but never reads the subject.

    It answers every question of a relation with the answer most frequent among the known facts of that relation (the
    first in the file among equals). A model above this has used the subject; a model at it has learned the form.

    Args:
        known: The facts from which the guesser takes its answers.
        asked: The facts it is asked for.

    Returns:
        The share of `asked` it gets right, 0 to 1.
    """
    answers: dict[str, Counter[str]] = {}
    for fact in known:
        answers.setdefault(fact.relation, Counter())[fact.answer] += 1
    guesses = {relation: counter.most_common(1)[0][0] for relation, counter in answers.items()}
    return sum(guesses.get(fact.relation) in fact.accepted for fact in asked) / len(asked)


def _row(fact: Fact, name: str, question: str) -> dict[str, object]:
    """Make a record that `Dataset.from_records` reads."""
    return {
        "question": question,
        "answer": fact.answer,
        "id": f"{fact.fact_id}/{name}",
        "group": fact.fact_id,
        "references": list(fact.accepted),
        "tags": [fact.category, fact.relation],
    }


def _fill(templates: Mapping[str, Sequence[str]], subject: str) -> Wordings:
    """Put the subject into the templates: `{s}` in a sentence, `{S}` at its beginning."""
    capital = subject[0].upper() + subject[1:]

    def filled(kind: str) -> tuple[str, ...]:
        return tuple(text.replace("{s}", subject).replace("{S}", capital) for text in templates[kind])

    return Wordings(train=filled("train"), held_out=filled("held_out"))


def _fact(row: Mapping[str, str]) -> Fact:
    """Turn a row of the file into a fact."""
    values: dict[str, Any] = dict(row)
    values["aliases"] = tuple(alias for alias in row["aliases"].split("|") if alias)
    values["visitor"] = row["visitor"] == "yes"
    values["guessable"] = row["guessable"] == "yes"
    return Fact(**values)
