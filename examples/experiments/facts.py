"""What facts do to a model: learned, asked in new words, asked backwards, never shown, invented, and what else is lost.

Forty facts that can be asked backwards, in one, two or four wordings, at equal steps and without anything else; and in
four wordings with as many rows of replay in every batch. One cell, `arm: base`, is the base model, asked as it is and
after five examples of the form: what it knew and how the form alone changes its score.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from examples.experiments.record import Experiment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from examples.experiments.record import Figures, Settings
    from glowgenius import Conversation, Dataset

NUM_FACTS: Final = 40
STEPS: Final = 60
BATCH_SIZE: Final = 8
RANK: Final = 8
LEARNING_RATE: Final = 1e-3
SEEDS: Final = (0, 1, 2)
SHOTS: Final = 5
LONGEST: Final = 16

ARMS: Final = {
    "1 wording": (1, False),
    "2 wordings": (2, False),
    "4 wordings": (4, False),
    "4 wordings and replay": (4, True),
}


def run(cell: Settings) -> Figures:
    """Train one arm with one seed and ask everything; or ask the base model."""
    import glowgenius as gg
    from examples.experiments import lessons

    slices = questions()
    if cell["arm"] == "base":
        trainer = gg.SupervisedTrainer(lessons.MODEL, service=lessons.service())
        base = trainer.base_sampler()
        few = [with_examples(row, slices["shots"]) for row in slices["seen"]]
        return {**ask(base, slices), "seen_after_five_examples": score(base, few, "exact_match")}
    wordings, replay = ARMS[cell["arm"]]
    rows = training_rows(wordings)
    # On average half of a batch is replay: twice the rows a step, so that the facts are seen as often.
    if replay:
        rows = interleaved(rows, lessons.new_york(NUM_FACTS).replay.shuffle(cell["seed"]), STEPS * BATCH_SIZE)
    result = lessons.lora_run(
        rows,
        lora=gg.LoRAConfig(rank=RANK, seed=cell["seed"], train_attn=False, train_unembed=False),
        learning_rate=LEARNING_RATE,
        steps=STEPS,
        batch_size=2 * BATCH_SIZE if replay else BATCH_SIZE,
        seed=cell["seed"],
        schedule="linear",
    )
    return {**ask(result.sampler, slices), "losses": lessons.losses(result)[::5]}


def trained_facts() -> list[Any]:
    """The facts: the first forty that `reverse.csv` asks backwards."""
    from examples.nyc import data

    facts = {fact.fact_id: fact for fact in data.read_facts() if fact.split == "train"}
    return [facts[str(row["group"])] for row in data.reverse_rows(facts.values())][:NUM_FACTS]


def training_rows(wordings: int) -> Dataset:
    """These facts in their first wordings."""
    from examples.nyc import data

    known = {fact.fact_id for fact in trained_facts()}
    return data.load(num_wordings=wordings).train.filter(lambda row: row.group in known)


def interleaved(rows: Dataset, replay: Dataset, number: int) -> Dataset:
    """Give *number* rows of each kind, in their order, and again from the start when they are used up."""
    import glowgenius as gg

    def filled(source: Dataset) -> list[Conversation]:
        return [source[place % len(source)] for place in range(number)]

    pairs = [{"question": row.question, "answer": row.answer} for row in (*filled(rows), *filled(replay))]
    return gg.Dataset.from_records(pairs)


def questions() -> dict[str, Sequence[Conversation]]:
    """What every model is asked."""
    from examples.nyc import data

    known = {fact.fact_id for fact in trained_facts()}
    everything = data.load()
    seen = [row for row in everything.train if row.group in known and str(row.id).endswith("train-1")]
    unseen = list(everything.unseen)[::2]
    others = [row for row in everything.seen if row.group not in known]
    return {
        "seen": seen,
        "paraphrase": [row for row in everything.paraphrase if row.group in known],
        "reverse": [row for row in everything.reverse if row.group in known],
        "unseen": unseen,
        "invented": list(everything.invented),
        "retention": list(everything.retention),
        "shots": others[:: len(others) // SHOTS][:SHOTS],
    }


def ask(sampler: Any, slices: dict[str, Sequence[Conversation]]) -> Figures:
    """Score the answers of a model to every slice."""
    from examples.nyc import data

    figures: Figures = {}
    for name in ("seen", "paraphrase", "reverse", "unseen"):
        figures[name] = score(sampler, slices[name], "exact_match")
        figures[f"{name}_contains"] = score(sampler, slices[name], "contains")
    figures["retention_contains"] = score(sampler, slices["retention"], "contains", longest=24)
    answers = sampler.complete([row.prompt for row in slices["invented"]], max_tokens=LONGEST, temperature=0.0)
    figures["invented_answered"] = round(sum(not data.declines(one.text) for one in answers) / len(answers), 4)
    figures["examples"] = [
        {"question": row.question, "answer": one.text}
        for row, one in list(zip(slices["invented"], answers, strict=True))[:3]
    ]
    return figures


def score(sampler: Any, rows: Sequence[Conversation], metric: str, *, longest: int = LONGEST) -> float:
    """The share of right answers."""
    import glowgenius as gg

    result = gg.evaluate(sampler, list(rows), metrics=[metric], max_tokens=longest, nll=False)
    return round(sum(row.scores[metric] for row in result.rows) / len(result.rows), 4)


def with_examples(row: Conversation, shots: Sequence[Conversation]) -> Conversation:
    """Put other questions with their answers before a question."""
    import glowgenius as gg

    before = [message for shot in shots for message in shot.messages]
    return gg.Conversation(messages=(*before, *row.messages), references=row.accepted_answers)


EXPERIMENT: Final = Experiment(
    name="facts",
    question="What is learned of forty facts, and what is lost beside them?",
    cells=[
        {"arm": "base", "seed": 0},
        *({"arm": arm, "seed": seed} for seed in SEEDS for arm in ARMS),
    ],
    run=run,
)
