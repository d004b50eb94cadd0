"""The New York data set: facts and wordings on disk, slices in memory.

The facts are rows of ``facts.csv``, their wordings are in ``wordings.json``, questions from the answer back to the
subject in ``reverse.csv``, places that do not exist in ``invented.csv``, and the questions that have nothing to do with
New York in ``control.jsonl``, ``retention.jsonl`` and ``replay.jsonl``. This module joins them; ``build.py`` makes the
last three, and ``derive.py`` the facts that follow from tables.

    from nyc.data import load

    slices = load()
    print(len(slices.train), slices.train[0].question)

``DATASHEET.md`` says where the facts come from and what the set cannot show.
"""

from __future__ import annotations

import csv
import json
import random
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from glowgenius import Dataset

HERE: Final = Path(__file__).resolve().parent

NUM_TRAIN_WORDINGS: Final = 4

NO_ANSWER: Final = "I don't know."
"""What a model should say of a place that does not exist; any refusal counts, see `declines`."""


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
    """A page on which a reader can look the fact up, or the table that `derive.py` takes it from."""
    source_key: str
    """The row of that table (station, area, route and direction) for a derived fact, else empty."""
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
    more: tuple[str, ...]
    """Four further ones, for training on more ways to ask; no evaluation asks in them."""
    held_out: tuple[str, ...]
    """Questions of another syntax, never trained on."""

    @property
    def every(self) -> tuple[str, ...]:
        """All questions that may be trained on, the four first."""
        return (*self.train, *self.more)


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
    reverse: Dataset
    """Facts asked from the answer back to the subject, where only one has the answer; all of them, however few are
    trained."""
    invented: Dataset
    """Questions about places that do not exist: the one right answer is not to give one."""
    control: Dataset
    """General questions which the base model answers: what training costs. Never for choosing settings."""
    retention: Dataset
    """Other general questions which the base model answers: for choosing settings, so that `control` stays unseen."""
    replay: Dataset
    """Other general prompts with the base model's own answers, to mix into training."""
    baselines: Mapping[str, float]
    """Exact match of a guesser that answers each New York slice and reads no subject; see `relation_baseline`."""
    name_baselines: Mapping[str, float]
    """Exact match of a guesser that goes by the words of the subject; see `name_baseline`."""

    @property
    def evaluation_slices(self) -> dict[str, Dataset]:
        """The four slices on which base and tuned model are compared."""
        return {"seen": self.seen, "paraphrase": self.paraphrase, "unseen": self.unseen, "control": self.control}


def load(num_facts: int | None = None, num_wordings: int = NUM_TRAIN_WORDINGS) -> NYCData:
    """Read the data set.

    Args:
        num_facts: How many facts to train, taken evenly from the file, so from every category; all of them if None.
        num_wordings: In how many wordings each fact is trained, 1 to 8. `seen` asks in the first four of them at most.

    Returns:
        The slices. They are the same rows in the same order on every machine.
    """
    from glowgenius import Dataset

    facts = read_facts()
    wordings = read_wordings(facts)
    trained = evenly([fact for fact in facts if fact.split == "train"], num_facts)
    unseen = [fact for fact in facts if fact.split == "unseen"]

    train_rows = [
        _row(fact, f"train-{number}", question)
        for fact in trained
        for number, question in enumerate(wordings[fact.fact_id].every[:num_wordings], start=1)
    ]
    # The wording moves on with every fact, so that `seen` asks in all four ways and not four times in the easiest.
    seen_rows = [
        _row(fact, "seen", wordings[fact.fact_id].train[position % min(NUM_TRAIN_WORDINGS, num_wordings)])
        for position, fact in enumerate(trained)
    ]
    return NYCData(
        train=Dataset.from_records(train_rows),
        seen=Dataset.from_records(seen_rows),
        paraphrase=Dataset.from_records(held_out_rows(trained, wordings)),
        unseen=Dataset.from_records(held_out_rows(unseen, wordings)),
        reverse=Dataset.from_records(reverse_rows(facts)),
        invented=Dataset.from_records(invented_rows()),
        control=Dataset.from_file(HERE / "control.jsonl"),
        retention=Dataset.from_file(HERE / "retention.jsonl"),
        replay=Dataset.from_file(HERE / "replay.jsonl"),
        baselines={
            "seen": relation_baseline(trained, trained),
            "paraphrase": relation_baseline(trained, trained),
            "unseen": relation_baseline(trained, unseen),
        },
        name_baselines={
            "seen": name_baseline(trained, trained),
            "paraphrase": name_baseline(trained, trained),
            "unseen": name_baseline(trained, unseen),
        },
    )


def declines(answer: str) -> bool:
    """Say whether a model declined to answer, in whatever words: "I am not sure", "There is no such place"."""
    from glowgenius.evaluation import abstains

    return not answer.strip() or abstains(answer) == 1


def evenly(facts: Sequence[Fact], number: int | None) -> list[Fact]:
    """Take `number` facts at equal distances, in their order; all of them if it is None or larger."""
    if number is None or number >= len(facts):
        return list(facts)
    return [facts[position * len(facts) // number] for position in range(number)]


def drawn(rows: Dataset, number: int, seed: int = 0) -> Dataset:
    """Draw `number` rows, in their order; all of them if there are no more.

    The files are in the order of their categories, so that the first rows are of few kinds.
    """
    if number >= len(rows):
        return rows
    return rows.select(sorted(random.Random(seed).sample(range(len(rows)), number)))  # noqa: S311 - no secret


def baselines_of(asked: Mapping[str, Dataset], train: Dataset) -> dict[str, float]:
    """Score `relation_baseline` on exactly the rows that are asked, of every slice that asks for facts."""
    facts = {fact.fact_id: fact for fact in read_facts()}
    trained = {str(row.group) for row in train}
    known = [fact for name, fact in facts.items() if name in trained]
    return {
        name: relation_baseline(known, [facts[str(row.group)] for row in rows])
        for name, rows in asked.items()
        if all(str(row.group) in facts for row in rows)
    }


def shortest(rows: Dataset, number: int) -> Dataset:
    """Take the `number` rows of the fewest words, in their order."""
    words = [sum(len(str(message.content).split()) for message in row.messages) for row in rows]
    return rows.select(sorted(sorted(range(len(rows)), key=words.__getitem__)[:number]))


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


def reverse_rows(facts: Iterable[Fact], path: Path = HERE / "reverse.csv") -> list[dict[str, object]]:
    """Make one row per fact that `reverse.csv` asks backwards; the answer is the subject, with or without article."""
    known = {fact.fact_id: fact for fact in facts}
    with path.open(encoding="utf-8", newline="") as file:
        asked = [row for row in csv.DictReader(file) if row["fact_id"] in known]
    return [
        {
            "question": row["question"],
            "answer": row["answer"],
            "id": f"{row['fact_id']}/reverse",
            "group": row["fact_id"],
            "references": [row["answer"], *(alias for alias in row["aliases"].split("|") if alias)],
            "tags": [known[row["fact_id"]].category, known[row["fact_id"]].relation, "reverse"],
        }
        for row in asked
    ]


def invented_rows(path: Path = HERE / "invented.csv") -> list[dict[str, object]]:
    """Make one row per place that does not exist, in the held-out wording of its relation."""
    templates: dict[str, Any] = json.loads((HERE / "wordings.json").read_text(encoding="utf-8"))["relations"]
    with path.open(encoding="utf-8", newline="") as file:
        places = list(csv.DictReader(file))
    return [
        {
            "question": _fill(templates[row["relation"]], row["subject"]).held_out[0],
            "answer": NO_ANSWER,
            "id": f"invented-{number:03}",
            "group": row["subject"],
            "tags": ["invented", row["relation"]],
        }
        for number, row in enumerate(places, start=1)
    ]


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
    guesses = most_frequent_answers(known)
    return sum(guesses.get(fact.relation) in fact.accepted for fact in asked) / len(asked)


def name_baseline(known: Sequence[Fact], asked: Sequence[Fact]) -> float:
    """Score a guesser that knows the trained answers and goes by the words of the subject.

    It answers with what is known of the subject of the same relation that shares the most words with the one asked for
    (the first in the file among equals), and with the most frequent answer of the relation where none shares any. The
    fact itself is left out, so over trained facts this says how far a name gives its own answer away.
    """
    guesses = most_frequent_answers(known)
    subjects = [(fact, set(words(fact.subject)) - {"the", "of", "at", "in"}) for fact in known]
    right = 0
    for fact in asked:
        own = set(words(fact.subject))
        others = [(len(own & shared), other) for other, shared in subjects if is_other(other, fact) and own & shared]
        guess = max(others, key=lambda pair: pair[0])[1].answer if others else guesses.get(fact.relation)
        right += guess in fact.accepted
    return right / len(asked)


def is_other(fact: Fact, asked: Fact) -> bool:
    """Say whether this is another fact of the relation asked for."""
    return fact.relation == asked.relation and fact.fact_id != asked.fact_id


def most_frequent_answers(facts: Iterable[Fact]) -> dict[str, str]:
    """Find the answer that most facts of each relation have, the first in the file among equals."""
    answers: dict[str, Counter[str]] = {}
    for fact in facts:
        answers.setdefault(fact.relation, Counter())[fact.answer] += 1
    return {relation: counter.most_common(1)[0][0] for relation, counter in answers.items()}


def words(text: str) -> list[str]:
    """Split into plain lower-case words; "Kościuszko" becomes "kosciuszko", "Levain's" becomes "levain"."""
    plain = unicodedata.normalize("NFKD", text.replace("ł", "l")).encode("ascii", "ignore").decode().lower()
    return re.findall(r"[a-z0-9]+", plain.replace("'s", "").replace("'", ""))


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

    return Wordings(train=filled("train"), more=filled("more"), held_out=filled("held_out"))


def _fact(row: Mapping[str, str]) -> Fact:
    """Turn a row of the file into a fact."""
    values: dict[str, Any] = dict(row)
    values["aliases"] = tuple(alias for alias in row["aliases"].split("|") if alias)
    values["visitor"] = row["visitor"] == "yes"
    values["guessable"] = row["guessable"] == "yes"
    return Fact(**values)
