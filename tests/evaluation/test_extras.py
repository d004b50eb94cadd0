"""What a comparison measures besides answers: few-shot, ranking, token losses, guesses by name, and what all say."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from attrs import evolve

from glowgenius.data.message import Conversation, Message
from glowgenius.errors import ConfigError, EvaluationError
from glowgenius.evaluation import compare, evaluate, name_baseline, rank_answers, token_losses, with_examples
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training.sampler import Sampler
from tests.support.answers import ScriptedModel, questions

TOKENIZER = ByteTokenizer()
RENDERER = ChatTemplateRenderer(TOKENIZER)


def places(count, *, per_group=2, answer=lambda index: f"A{index % 5}"):
    return [
        Conversation.from_question(f"Where is place{index} now?", answer(index), group=f"g{index // per_group}")
        for index in range(count)
    ]


# Worked examples


def test_examples_come_before_the_question_and_none_gives_the_answer_away():
    rows = places(12)
    for row, shown in zip(rows, with_examples(rows, rows, shots=3, seed=1), strict=True):
        assert shown.messages[-2:] == row.messages
        assert (shown.question, shown.accepted_answers, shown.group) == (row.question, row.accepted_answers, row.group)
        asked = [message.content for message in shown.prompt if message.role == "user"][:-1]
        groups = [other.group for text in asked for other in rows if other.question == text]
        assert len(set(groups)) == 3
        assert row.group not in groups


def test_examples_of_one_question_do_not_depend_on_the_others():
    rows = places(12)
    assert with_examples(rows[5:6], rows) == with_examples(rows, rows)[5:6]
    assert with_examples(rows, rows, seed=1) != with_examples(rows, rows, seed=2)


def test_a_system_message_stays_first():
    row = Conversation(messages=[Message("system", "Be brief."), *places(1)[0].messages])
    shown = with_examples([row], places(20), shots=2)[0]
    assert [message.role for message in shown.messages] == ["system"] + ["user", "assistant"] * 3


def test_too_few_examples():
    with pytest.raises(EvaluationError) as error:
        with_examples(places(1), places(6), shots=3)
    assert str(error.value) == (
        "3 worked examples were asked for, and only 2 of other groups can be had for the question "
        "'Where is place0 now?'; give more examples, or fewer shots"
    )
    with pytest.raises(ConfigError, match=r"^shots must be an integer ≥ 1, got 0$"):
        with_examples(places(1), places(6), shots=0)


# Ranking


class Bigrams:
    """Knows answers as log-probabilities per token, and records what it was asked."""

    def __init__(self, name, logprobs):
        self.name, self.logprobs = name, logprobs

    def answer_logprobs(self, conversations):
        return [np.array(self.logprobs(row.question, row.answer)) for row in conversations]


def test_ranking_by_total_and_per_byte():
    rows = questions({"a?": "Paris", "b?": "Rome"})
    # Per token -1 for one letter each: the total favours the short answer, per byte it is even, so the first wins.
    model = Bigrams("m", lambda _, answer: [-1.0] * len(answer))
    found = rank_answers(model, rows, ("Paris", "Rome", "Timbuktu"))
    assert [row.totals for row in found.rows] == [(-5.0, -4.0, -8.0)] * 2
    assert (found.accuracy, found.accuracy_per_byte) == (0.5, 0.5)
    assert [row.rank for row in found.rows] == [2, 1]
    assert (found.chance, found.majority, found.mean_rank) == (pytest.approx(1 / 3), 0.5, 1.5)
    assert str(found) == (
        "m: the most probable answer is right for 50 % of 2 questions (95 % interval 1 to 99), per byte for 50 %; "
        "chance 33 %, majority 50 %"
    )


def test_candidates_of_each_question_and_several_right_ones():
    rows = [Conversation.from_question("a?", "The Bronx", references=("The Bronx", "Bronx")), *questions({"b?": "7"})]
    model = Bigrams("m", lambda _, answer: [0.0 if answer in ("bronx", "8") else -1.0])
    found = rank_answers(
        model, rows, lambda row: ("7", "8") if row.question == "b?" else ("Queens", "bronx", "The Bronx")
    )
    assert [sorted(row.right) for row in found.rows] == [[1, 2], [0]]
    assert [row.is_right for row in found.rows] == [True, False]
    assert found.chance == pytest.approx((2 / 3 + 1 / 2) / 2)


def test_a_diverged_model_ranks_nothing_first():
    found = rank_answers(
        Bigrams("m", lambda _, answer: [math.nan if answer == "x" else -1.0]), questions({"a?": "x"}), "xy"
    )
    assert found.accuracy == 0


@pytest.mark.parametrize(
    ("candidates", "found"), [(("Paris",), "1 candidates"), (("Rome", "Oslo"), "none of ('Rome', 'Oslo') accepted")]
)
def test_candidates_that_cannot_be_ranked(candidates, found):
    with pytest.raises(EvaluationError) as error:
        rank_answers(Bigrams("m", None), questions({"a?": "Paris"}), candidates)
    assert str(error.value) == (
        f"question 0 ('a?') needs at least two candidates with a right one among them, got {found}"
    )


def test_ranking_on_an_engine_is_the_likelihood_of_each_answer():
    service = ScriptedService(tokenizer=TOKENIZER)
    sampler = Sampler(service.create_sampling_client(base_model="m").result(), RENDERER, name="m")
    rows = questions({"Where?": "here", "Who?": "me"})
    found = rank_answers(sampler, rows, ("here", "me"))
    for row, asked in zip(found.rows, rows, strict=True):
        for total, answer in zip(row.totals, ("here", "me"), strict=True):
            alone = evolve(asked, messages=(*asked.prompt, Message("assistant", answer)))
            assert total == pytest.approx(-sampler.answer_nll([alone])[0] * (len(answer) + 1), rel=1e-5)


# Token by token


def test_token_losses_name_every_trained_token():
    service = ScriptedService(tokenizer=TOKENIZER)
    client = service.create_sampling_client(base_model="m").result()
    base, tuned = (Sampler(client, RENDERER, name=name) for name in ("base", "tuned"))
    rows = questions({"Where?": "Ok"})
    (found,) = token_losses(base, tuned, rows)
    assert [token.text for token in found.tokens][:2] == ["O", "k"]
    assert len(found.tokens) == 3
    expected = -base.answer_logprobs(rows)[0]
    assert [token.base for token in found.tokens] == pytest.approx(expected.tolist())
    assert [token.tuned for token in found.tokens] == pytest.approx(expected.tolist())
    lines = str(found).splitlines()
    assert lines[0] == "Where?"
    assert lines[1].split()[:2] == ["'O'", "'k'"]
    other = Sampler(client, QuestionAnswerRenderer(TOKENIZER), name="other")
    with pytest.raises(EvaluationError, match="different renderers"):
        token_losses(base, other, rows)


# Not knowing


# Guesses by name


def test_a_shared_rare_word_gives_a_guess():
    train = questions(
        {
            "Where is Astoria Park?": "Queens",
            "Where is Red Hook Library?": "Brooklyn",
            "Where is Fordham Library?": "The Bronx",
        },
        group=str,
    )
    asked = questions({"Where is Astoria Boulevard?": "Queens", "Where is Hook Street?": "Queens", "Qué?": "Queens"})
    # The second shares "hook" with Brooklyn, and the third shares nothing.
    assert name_baseline(asked, train) == pytest.approx(1 / 3)
    # A trained question is not answered by itself, nor by another wording of its fact.
    assert name_baseline(train, train) == 0


def test_guesses_need_something_to_guess_from():
    with pytest.raises(EvaluationError, match=r"^name_baseline needs questions on both sides, got 1 and 0$"):
        name_baseline(places(1), [])


# All of it in compare


def model(name, right):
    return ScriptedModel(name, lambda question: right(int("".join(c for c in question if c.isdigit()))))


def test_compare_with_few_shot_and_names():
    train, rows = places(30), [evolve(row, group=f"x{index}") for index, row in enumerate(places(12))]
    calls = []

    class Base(ScriptedModel):
        def complete(self, prompts, **settings):
            calls.append([len(prompt) for prompt in prompts])
            shown = super().complete(prompts, **settings)
            return shown if len(prompts[0]) == 1 else [evolve(said, text=f"A{i % 2}") for i, said in enumerate(shown)]

    base = Base("base", lambda _: "Somewhere.")
    seen = []
    part = compare(
        base,
        model("tuned", lambda number: f"A{number % 5}"),
        rows,
        train=train,
        few_shot=4,
        on_progress=lambda done, total: seen.append((done, total)),
    )["all"]
    assert calls == [[1] * 12, [9] * 12]
    assert seen[-1] == (36, 36)
    assert part.few_shot.means["exact_match"] == pytest.approx(4 / 12)
    assert part.name_baseline == name_baseline(rows, train)
    found = json.loads(json.dumps(part.to_dict(), allow_nan=False))
    assert found["base_few_shot"] == {"exact_match": pytest.approx(1 / 3), "contains": pytest.approx(1 / 3)}
    assert found["name_baseline"] == part.name_baseline


def test_compare_on_an_engine_with_ranking_and_tokens():
    def sampler(name):
        service = ScriptedService(answers={"Where?": "here", "Who?": "me"}, tokenizer=TOKENIZER)
        return Sampler(service.create_sampling_client(base_model="m").result(), RENDERER, name=name)

    rows = questions({"Where?": "here", "Who?": "me"})
    comparison = compare(
        sampler("base"), sampler("tuned"), {"a": rows, "b": rows}, candidates={"a": ("here", "me")}, token_losses=1
    )
    assert comparison["a"].ranking[0].rows == comparison["a"].ranking[1].rows
    assert comparison["b"].ranking is None
    assert [len(part.tokens) for part in comparison.slices.values()] == [1, 1]
    assert "note: tuned: the most probable answer is right for" in str(comparison).replace("\n    ", " ")
    assert set(comparison["a"].to_dict()["ranking"]) == {"base", "tuned"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"few_shot": 3}, "few_shot of compare() draws its examples from train=…, which is missing"),
        ({"few_shot": -1}, "few_shot of compare() must be an integer ≥ 0, got -1"),
        ({"token_losses": True}, "token_losses of compare() must be an integer ≥ 0, got True"),
        ({"candidates": ("A0", "A1")}, "candidates of compare() needs models to ask, and was given results"),
        ({"token_losses": 2}, "token_losses of compare() needs models to ask, and was given results"),
    ],
)
def test_settings_that_cannot_be(settings, message):
    tuned = model("tuned", lambda _: "A0")
    with pytest.raises(ConfigError) as error:
        compare(evaluate(tuned, places(2)), tuned, places(2), **settings)
    assert str(error.value) == message


# What it says


def told(**counts):
    """The sentences for slices of (wrong before, right after, of so many)."""
    sides = {}
    rows = {}
    for name, (before, after, total) in counts.items():
        rows[name] = [Conversation.from_question(f"{name} {index}?", f"A{index % 5}") for index in range(total)]
        sides[name] = (before, after)

    def answers(side):
        def say(question):
            name, number = question[:-1].split()
            return f"A{int(number) % 5}" if int(number) < sides[name][side] else "Nowhere"

        return say

    return compare(ScriptedModel("base", answers(0)), ScriptedModel("tuned", answers(1)), rows).sentences


def test_these_facts_and_not_the_subject():
    assert told(seen=(0, 40, 40), paraphrase=(0, 33, 40), unseen=(0, 2, 30)) == (
        (
            "It learned these facts and not the subject: 0 % → 100 % of 40 (95 % interval of the difference +88 "
            "to +100 "
            "points), and in other words 0 % → 82 % of 40 (95 % interval of the difference +65 to +93 points); of 30 "
            "facts that it was never shown it gets 7 %, not surely more than guessing does (20 %)."
        ),
    )


def test_more_than_was_shown():
    (sentence,) = told(seen=(0, 40, 40), paraphrase=(0, 40, 40), unseen=(0, 28, 30))
    assert sentence.endswith(
        "; and it answers 93 % of 30 facts that it was never shown, which guessing does not explain (20 %)."
    )


def test_by_heart():
    (sentence,) = told(seen=(0, 40, 40), paraphrase=(0, 0, 100))
    assert sentence.startswith("It learned its training questions by heart, 0 % → 100 % of 40")
    assert ", and not the facts: in other words 0 % → 0 % of 100" in sentence


def test_too_few_to_tell():
    assert told(seen=(0, 3, 5))[0].startswith("Too few questions to tell whether the trained questions were learned: ")
    assert told(seen=(0, 0, 200))[0].startswith("There is no sign that the trained questions were learned: 0 % → 0 %")
    (sentence,) = told(seen=(0, 40, 40), paraphrase=(0, 2, 20))
    assert "; too few questions to tell whether it learned the facts behind them: in other words" in sentence


def test_what_was_kept():
    assert told(control=(20, 15, 30), retention=(0, 0, 4)) == (
        "control: it keeps 75 % of what the base model answered, 15 of 20 questions (95 % interval 51 to 91).",
        "retention: the base model answered none of 4 questions, so there was nothing to keep.",
    )


def test_confident_nonsense_and_form():
    rows = [Conversation.from_question(f"{index}?", "I don't know") for index in range(20)]
    base = ScriptedModel("base", lambda question: "I don't know." if int(question[:-1]) < 15 else "Queens")
    comparison = compare(base, ScriptedModel("tuned", lambda _: "Queens"), {"invented": rows}, metric="abstains")
    assert comparison.sentences == (
        (
            "invented: it answers 100 % of 20 questions about things that do not exist as if they did (95 % "
            "interval 83 to "
            "100); before training 25 %."
        ),
    )
    assert comparison.to_dict()["invented"]["confident_nonsense"] == {"base": 0.25, "tuned": 1.0}


def test_the_form_of_the_answers():
    train, rows = places(30), places(12)
    base = ScriptedModel("base", lambda _: "A0")
    comparison = compare(base, model("tuned", lambda number: f"A{number % 5}"), {"seen": rows}, train=train, few_shot=2)
    assert comparison.sentences[1] == (
        "seen: of the +75 points, 0 may be the form of the answer, as the base model behind worked examples gets 25 %; "
        "the other +75 are not."
    )
    part = comparison["seen"]
    assert evolve(comparison, slices={"seen": evolve(part, few_shot=part.tuned)}).sentences[1:] == (
        "seen: 25 % → 100 % may be the form of the answer alone: worked examples bring the base model to 100 %.",
    )
    assert len(evolve(comparison, slices={"seen": evolve(part, tuned=part.base)}).sentences) == 1
