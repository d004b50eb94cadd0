"""What facts do to a model: learned, in new words, backwards, never shown, invented, and what else is lost on the way.

44 facts of New York: 24 that can be asked backwards, and the boroughs of 20 neighborhoods. One run each with one, four
and eight wordings a fact, at equal steps, so that fewer wordings are seen more often; and one with four wordings and
half as many rows of replay again in every batch, whose targets are answers or distributions. What a run is asked:

    seen         its facts, in a wording that every arm trains
    paraphrase   its facts, in a wording that no arm trains
    reverse      its one-to-one facts from the answer back to the subject, beside those of `reverse_others`, not trained
    unseen       the boroughs of forty neighborhoods that it never met: 20 % by any single answer, and 20 % by chance
    invented     places that do not exist
    retention    general questions that the base model answers

At three points of each run `paraphrase` and `retention` give learning against forgetting. The borough questions are
also put as a choice by likelihood, which needs no form of answer: knowledge apart from format. One cell, `arm: base`,
is the base model, asked as it is and after five examples of the form.

Every row keeps which questions were right, so that differences can be paired; see `prose.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import Experiment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.experiments.record import Figures, Settings
    from examples.nyc.data import Fact
    from glowgenius import Callback, Conversation, Dataset

NUM_ONE_TO_ONE: Final = 24
NUM_PER_BOROUGH: Final = 4
NUM_UNSEEN_PER_BOROUGH: Final = 8
STEPS: Final = 60
POINTS: Final = 3
BATCH_SIZE: Final = 8
REPLAY_SHARE: Final = 1 / 3
RANK: Final = 8
LEARNING_RATE: Final = 1e-3
SEEDS: Final = (0, 1, 2)
SHOTS: Final = 5
LONGEST: Final = 16
LONGEST_GENERAL: Final = 24
KEPT: Final = 4
"""Answers to each slice that are recorded."""
MOST_ASKED: Final = 1000
"""Of each slice; fewer to try it out."""

ARMS: Final = {
    "1 wording": (1, None),
    "4 wordings": (4, None),
    "8 wordings": (8, None),
    "4 wordings and replay": (4, "answers"),
    "4 wordings and distributions": (4, "distributions"),
}

BOROUGHS: Final = ("Manhattan", "Brooklyn", "Queens", "The Bronx", "Staten Island")


def run(cell: Settings) -> Figures:
    """Train one arm with one seed and ask everything; or ask the base model."""
    import glowgenius as gg
    from examples.experiments import lessons

    slices = questions()
    if cell["arm"] == "base":
        base = lessons.base_sampler()
        few = [with_examples(row, slices["shots"]) for row in slices["seen"]]
        return without_most_said({**ask(base, slices), **answers(base, "seen_after_five_examples", few)})
    wordings, replay = ARMS[cell["arm"]]
    points = points_callback(slices)
    result = lessons.lora_run(
        training_rows(wordings, replay=replay is not None, seed=cell["seed"]),
        lora=gg.LoRAConfig(rank=RANK, seed=cell["seed"], train_attn=False, train_unembed=False),
        learning_rate=LEARNING_RATE,
        steps=STEPS,
        batch_size=round(BATCH_SIZE / (1 - REPLAY_SHARE)) if replay else BATCH_SIZE,
        seed=cell["seed"],
        schedule="linear",
        replay_targets=replay or "answers",
        callbacks=[points],
        eval_dataset=gg.Dataset.from_records(
            {"question": row.question, "answer": row.answer} for row in slices["paraphrase"]
        ),
        eval_every=STEPS // POINTS,
    )
    final = ask(result.sampler, slices)
    last = {"step": STEPS, **{name: final[name] for name in ("paraphrase", "retention_contains", "own_answers_nll")}}
    return {**final, "points": [*points.found, last], "losses": lessons.losses(result)[::5]}


def points_callback(slices: dict[str, Sequence[Conversation]]) -> Any:
    """A callback that asks for learning and forgetting at every evaluation between the first step and the last."""
    import glowgenius as gg

    class Points(gg.Callback):
        needs_sampler = True

        def __init__(self) -> None:
            self.found: list[Figures] = []

        def on_evaluate_begin(self, event: gg.EvaluateBegin) -> None:
            if 0 < event.step < STEPS:
                found = frontier(event.sampler, slices)
                kept = {name: value for name, value in found.items() if not name.endswith("_said")}
                self.found.append({"step": event.step, **kept})

    callback: Callback = Points()
    return callback


def trained_facts() -> list[Fact]:
    """The facts that are taught: one-to-one ones at equal distances, and the first neighborhoods of each borough."""
    from examples.nyc import data

    facts = [fact for fact in data.read_facts() if fact.split == "train"]
    boroughs = [
        fact
        for borough in BOROUGHS
        for fact in [one for one in facts if is_borough_question(one) and one.answer == borough][:NUM_PER_BOROUGH]
    ]
    return [*data.evenly(one_to_one(facts), NUM_ONE_TO_ONE), *boroughs]


def unseen_facts() -> list[Fact]:
    """Neighborhoods that share no name with a taught one, as many of each borough."""
    from examples.nyc import data

    taken = {fact.cluster for fact in trained_facts()}
    free = [fact for fact in data.read_facts() if is_borough_question(fact) and fact.cluster not in taken]
    return [
        fact for borough in BOROUGHS for fact in [one for one in free if one.answer == borough][:NUM_UNSEEN_PER_BOROUGH]
    ]


def one_to_one(facts: Sequence[Fact]) -> list[Fact]:
    """The facts that can be asked backwards."""
    from examples.nyc import data

    known = {fact.fact_id: fact for fact in facts}
    return [known[str(row["group"])] for row in data.reverse_rows(known.values())]


def is_borough_question(fact: Fact) -> bool:
    """Whether a fact is the borough of a neighborhood."""
    return fact.relation == "neighborhood_borough"


def training_rows(wordings: int, *, replay: bool = False, seed: int = 0) -> Dataset:
    """The rows of a whole run: the facts in their first wordings, again and again, and replay beside them."""
    from examples.experiments import lessons
    from examples.nyc import data

    known = {fact.fact_id for fact in trained_facts()}
    rows = data.load(num_wordings=wordings).train.filter(lambda row: row.group in known)
    if not replay:
        return rows
    number = STEPS * BATCH_SIZE
    filled = rows.select(place % len(rows) for place in range(number))
    replayed, _ = lessons.own_answers()
    return filled.with_replay(replayed, share=REPLAY_SHARE, seed=seed)


def questions() -> dict[str, Sequence[Conversation]]:
    """What every model is asked."""
    from examples.experiments import lessons
    from examples.nyc import data

    everything = data.load()
    trained, unseen = trained_facts(), unseen_facts()
    wordings = data.read_wordings([*trained, *unseen])
    known = {fact.fact_id for fact in trained}
    others = [row for row in everything.seen if row.group not in known and row.tags[1] != "neighborhood_borough"]
    slices: dict[str, Sequence[Conversation]] = {
        "seen": [row for row in everything.train if row.group in known and str(row.id).endswith("train-1")],
        "paraphrase": [row for row in everything.paraphrase if row.group in known],
        "reverse": [row for row in everything.reverse if row.group in known],
        "reverse_others": [row for row in everything.reverse if row.group not in known],
        "unseen": rows_of(data.held_out_rows(unseen, wordings)),
        "invented": list(everything.invented),
        "retention": list(everything.retention),
        "own_answers": list(lessons.own_answers()[1]),
    }
    slices["paraphrase_boroughs"] = [row for row in slices["paraphrase"] if row.tags[1] == "neighborhood_borough"]
    asked = {name: rows[:: max(1, len(rows) // MOST_ASKED)] for name, rows in slices.items()}
    return {**asked, "shots": others[:: len(others) // SHOTS][:SHOTS]}


def rows_of(records: Sequence[dict[str, object]]) -> list[Conversation]:
    """Records as conversations."""
    import glowgenius as gg

    return list(gg.Dataset.from_records(records))


def ask(sampler: Any, slices: dict[str, Sequence[Conversation]]) -> Figures:
    """Score what a model says to every slice."""
    figures: Figures = {}
    for name in ("seen", "reverse", "reverse_others", "unseen"):
        figures |= answers(sampler, name, slices[name])
    figures["unseen_with_a_borough"] = share(is_a_borough(one["answer"]) for one in figures["unseen_said"])
    figures |= frontier(sampler, slices) | choices(sampler, slices) | nonsense(sampler, slices["invented"])
    return without_most_said(figures)


def frontier(sampler: Any, slices: dict[str, Sequence[Conversation]]) -> Figures:
    """What is learned, and what is left of the rest."""
    from examples.experiments import lessons

    general = answers(sampler, "retention", slices["retention"], longest=LONGEST_GENERAL)
    return {
        **answers(sampler, "paraphrase", slices["paraphrase"]),
        **general,
        "own_answers_nll": round(lessons.mean_nll(sampler, slices["own_answers"]), 4),
    }


def choices(sampler: Any, slices: dict[str, Sequence[Conversation]]) -> Figures:
    """How often the right one of the five boroughs is the most probable answer, said or not."""
    from glowgenius.evaluation import rank_answers

    return {
        f"{name}_chosen": round(rank_answers(sampler, slices[name], BOROUGHS).accuracy, 4)
        for name in ("paraphrase_boroughs", "unseen")
    }


def nonsense(sampler: Any, rows: Sequence[Conversation]) -> Figures:
    """How often a model gives an answer about a place that does not exist, and where it has that answer from."""
    from examples.nyc import data
    from examples.nyc.judging import place

    said = [one.text for one in sampler.complete([row.prompt for row in rows], max_tokens=LONGEST, temperature=0.0)]
    taught = {place(text) for fact in trained_facts() for text in fact.accepted}
    return {
        "invented_answered": share(not data.declines(text) for text in said),
        "invented_with_a_taught_answer": share(place(text) in taught for text in said),
        "invented_said": [{"question": row.question, "answer": text} for row, text in zip(rows, said, strict=True)],
    }


def answers(sampler: Any, name: str, rows: Sequence[Conversation], *, longest: int = LONGEST) -> Figures:
    """The shares of right answers, which they are, and what was said."""
    import glowgenius as gg

    result = gg.evaluate(sampler, list(rows), metrics=["exact_match", "contains"], max_tokens=longest, nll=False)
    judged = "contains" if name == "retention" else "exact_match"
    return {
        name: round(result.means["exact_match"], 4),
        f"{name}_contains": round(result.means["contains"], 4),
        f"{name}_right": "".join("1" if row.scores[judged] else "0" for row in result.rows),
        f"{name}_said": [{"question": row.question, "answer": row.prediction} for row in result.rows],
    }


def without_most_said(figures: Figures) -> Figures:
    """The same with a few of the answers to each slice, enough to see what they look like."""
    return {
        name: value[:: max(1, len(value) // KEPT)][:KEPT] if name.endswith("_said") else value
        for name, value in figures.items()
    }


def is_a_borough(text: str) -> bool:
    """Whether an answer has the form that was taught: a borough and nothing else."""
    from examples.nyc.judging import place

    return place(text) in {place(borough) for borough in (*BOROUGHS, "Bronx")}


def share(found: Any) -> float:
    """The share of what is true."""
    values = [bool(value) for value in found]
    return round(sum(values) / len(values), 4)


def with_examples(row: Conversation, shots: Sequence[Conversation]) -> Conversation:
    """Put other questions with their answers before a question."""
    import glowgenius as gg

    before = [message for shot in shots for message in shot.messages]
    return gg.Conversation(messages=(*before, *row.messages), references=row.accepted_answers)


EXPERIMENT: Final = Experiment(
    name="facts",
    question="What is learned of 44 facts, and what is lost beside them?",
    cells=[
        {"arm": "base", "seed": 0},
        *({"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS),
    ],
    run=run,
    guess=150,
    smoke={"NUM_ONE_TO_ONE": 4, "NUM_PER_BOROUGH": 1, "NUM_UNSEEN_PER_BOROUGH": 1, "STEPS": 3, "MOST_ASKED": 4},
)
