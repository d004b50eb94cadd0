"""Check the New York facts against each other: who shares a name with whom, and which answers a question gives away.

    python -m examples.nyc.checks      # lists what is wrong in facts.csv; exit 1 if anything is

Two columns of `facts.csv` are not opinions but follow from the others, and this says how: `cluster`, so that no name is
in a training row and in an unseen question at once ("Astoria" would give away "Astoria Boulevard"), and `guessable`.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import TYPE_CHECKING, Final

from examples.nyc.data import words

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from examples.nyc.data import Fact, Wordings

GENERIC_WORDS: Final = """
    a airport am american and animals art as at avenue bakery ballpark baseball battle bay beach black bombing
    booth borough boroughs boulevard branch bridge broadway bronx brooklyn building bus by capture castle
    cemetery center church city college cottage county cube day dedication disaster discount downtown dutch
    east english famous fare ferry field finish fire first five food for fort foundation fountain free from
    garden gardens giants gift going great hall heights high hill hills historic home hotel house in
    inauguration interior into island its known last leader library line little main mainland manhattan
    mansion map market mayor memorial monument museum music musical national new newspaper north of old on
    one open original oversaw parade park parkway party pay pedestal place plan poem portrait purchase
    queens red river s school science sculpture seal ship show society south square st stadium start state
    staten station stations statue street subway tap tavern tennis terminal the theater theatre three ticket
    to tomb tournament toward tower towers train tunnel two under union united university uptown us village
    wall war west which who with woman work world york
"""
"""Words that name no place by themselves: kinds of things, directions, boroughs, and what questions are made of."""

GENERIC: Final = frozenset(GENERIC_WORDS.split())

BOROUGHS: Final = frozenset({"bronx", "brooklyn", "manhattan", "queens", "staten"})


def main() -> int:
    """Print every problem of the facts on disk."""
    from examples.nyc.data import read_facts, read_wordings

    facts = read_facts()
    found = problems(facts, read_wordings(facts))
    for problem in found:
        print(problem)
    return 1 if found else 0


def problems(facts: Sequence[Fact], wordings: Mapping[str, Wordings]) -> list[str]:
    """List what is wrong: columns that do not follow, names in both splits, questions with two answers."""
    found = [
        f"{fact.fact_id}: guessable is {fact.guessable}, by its questions it is {not fact.guessable}"
        for fact in facts
        if fact.guessable != is_guessable(fact, wordings[fact.fact_id])
    ]
    for group in name_groups(facts):
        ids = ", ".join(fact.fact_id for fact in group)
        if len({fact.cluster for fact in group}) > 1:
            found.append(f"these share a name and are not in one cluster: {ids}")
        if len({fact.split for fact in group}) > 1:
            found.append(f"these share a name, and some are trained and some unseen: {ids}")
    answers: dict[str, set[str]] = defaultdict(set)
    for fact in facts:
        for question in (*wordings[fact.fact_id].every, *wordings[fact.fact_id].held_out):
            answers[question].add(fact.answer)
    found += [f"{question!r} has two answers: {sorted(both)}" for question, both in answers.items() if len(both) > 1]
    return found


def name_groups(facts: Iterable[Fact]) -> list[list[Fact]]:
    """Group the facts whose subjects are connected by shared names, one after the other."""
    groups: list[tuple[set[str], list[Fact]]] = []
    for fact in facts:
        own = names(fact.subject) or {fact.subject.lower()}
        linked = [group for group in groups if group[0] & own]
        groups = [group for group in groups if not group[0] & own]
        members = [member for group in linked for member in group[1]]
        groups.append((own.union(*(group[0] for group in linked)), [*members, fact]))
    return [members for _, members in groups]


def is_guessable(fact: Fact, wordings: Wordings) -> bool:
    """Say whether a question contains an accepted answer, or a name of the answer."""
    questions = [*wordings.every, *wordings.held_out]
    if any(contains(question, answer) for question in questions for answer in fact.accepted):
        return True
    # "Manhattan and Brooklyn": boroughs are no names among subjects, but the Brooklyn Bridge gives away half of its.
    boroughs = BOROUGHS & set(words(fact.answer)) & set(words(fact.subject))
    return bool(boroughs) or any(names(fact.answer) & names(question) for question in questions)


def names(text: str) -> set[str]:
    """Take the words that name something in particular."""
    return {word for word in words(text) if word not in GENERIC}


def contains(text: str, phrase: str) -> bool:
    """Say whether the phrase occurs in the text as whole words, whatever its case, accents and punctuation."""
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


if __name__ == "__main__":
    sys.exit(main())
