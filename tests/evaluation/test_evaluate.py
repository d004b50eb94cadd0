from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

import pytest
from attrs import evolve

from glowgenius.data.message import Conversation, Message, Source
from glowgenius.errors import ConfigError, EvaluationError
from glowgenius.evaluation import (
    METRICS,
    EvaluationResult,
    EvaluationRow,
    MajorityBaseline,
    compare,
    evaluate,
    majority_baseline,
)
from glowgenius.training.sampler import Completion
from tests.support.answers import Said, ScriptedModel, questions

FACTS = {"Where is Yankee Stadium?": "Bronx", "Which line?": "A", "Which borough has LaGuardia?": "Queens"}
ANSWERS = {"Where is Yankee Stadium?": "bronx", "Which line?": "", "Which borough has LaGuardia?": "It is Queens."}


@pytest.fixture
def model():
    return ScriptedModel("scripted", ANSWERS, nll=0.5)


@pytest.fixture
def dataset():
    return questions(FACTS)


def test_a_row_per_question(model):
    rows = [
        Conversation.from_question("Which line?", "A", id="f1", group="a", tags=("transit",), system="Be brief."),
        Conversation.from_question("Where is Yankee Stadium?", "Highbridge", references=("Bronx", "The Bronx")),
    ]
    result = evaluate(model, rows)
    scores = {"exact_match": 0.0, "contains": 0.0, "token_f1": 0.0}
    assert result == EvaluationResult(
        name="scripted",
        rows=(
            EvaluationRow(
                index=0,
                id="f1",
                group="a",
                tags=("transit",),
                question="Which line?",
                accepted=("A",),
                prediction="",
                stop_reason="stop",
                scores=scores,
                nll=0.5,
            ),
            EvaluationRow(
                index=1,
                question="Where is Yankee Stadium?",
                accepted=("Bronx", "The Bronx"),
                prediction="bronx",
                stop_reason="stop",
                scores=dict.fromkeys(scores, 1.0),
                nll=0.5,
            ),
        ),
        metrics=("exact_match", "contains", "token_f1"),
        max_tokens=32,
        seed=0,
    )


def test_the_means(model, dataset):
    means = evaluate(model, dataset).means
    assert dict(means) == pytest.approx(
        {"exact_match": 1 / 3, "contains": 2 / 3, "token_f1": (1 + 0 + 1 / 2) / 3, "nll": 0.5}
    )


def test_the_model_is_asked_greedily(model, dataset):
    seen = []
    evaluate(model, dataset, max_tokens=7, seed=3, on_progress=lambda done, total: seen.append((done, total)))
    assert model.calls == [{"max_tokens": 7, "temperature": 0.0, "seed": 3}]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_without_likelihoods(model, dataset):
    result = evaluate(model, dataset, ["exact_match"], nll=False)
    assert dict(result.means) == {"exact_match": 1 / 3}
    assert [row.nll for row in result.rows] == [None] * 3


def test_a_metric_of_ones_own(model, dataset):
    result = evaluate(model, dataset, {"short": lambda prediction, accepted: len(prediction) < 6, **METRICS})
    assert result.metrics == ("short", *METRICS)
    assert [row.scores["short"] for row in result.rows] == [1.0, 1.0, 0.0]
    assert all(type(row.scores["short"]) is float for row in result.rows)


@pytest.mark.parametrize("value", [1.5, -0.1, math.nan, None, "1"])
def test_a_metric_outside_its_bounds(model, dataset, value):
    with pytest.raises(EvaluationError) as error:
        evaluate(model, dataset, {"mine": lambda prediction, accepted: value})
    assert str(error.value) == f"the metric 'mine' must give a number from 0 to 1, got {value!r} for row 0"


def test_answers_that_were_cut_off(dataset):
    model = ScriptedModel("scripted", ANSWERS, longest=5)
    result = evaluate(model, dataset)
    assert [row.stop_reason for row in result.rows] == ["stop", "stop", "length"]
    assert result.num_truncated == 1
    assert result.truncated_share == pytest.approx(1 / 3)


def test_the_summary(dataset):
    model = ScriptedModel("scripted", ANSWERS, nll=0.5, longest=5)
    assert str(evaluate(model, dataset, ("exact_match", "contains"))) == (
        "scripted: 3 questions\n"
        "  exact_match   33.3 %   95 % interval 0.8 to 90.6\n"
        "  contains      33.3 %   95 % interval 0.8 to 90.6\n"
        "  nll          0.500 nats per token of the reference answer\n"
        "  1 of 3 answers were cut off at max_tokens=32"
    )


def test_the_summary_of_one_question_without_likelihood(model):
    result = evaluate(model, questions({"Which line?": "A"}), ("contains",), nll=False)
    assert str(result) == "scripted: 1 question\n  contains    0.0 %   95 % interval 0.0 to 97.5"


def test_groups_are_the_sample_of_the_interval(model):
    rows = [Conversation.from_question("Which line?", "A", group=str(index // 2)) for index in range(20)]
    result = evaluate(model, rows)
    assert result.num_clusters == 10
    assert result.interval("contains").high == pytest.approx(0.3085, abs=5e-5)  # Clopper and Pearson, 0 of 10


def test_a_row_without_group_is_alone_even_beside_a_group_of_its_number(model):
    rows = [Conversation.from_question("Which line?", "A", group=group) for group in ("1", None, "1")]
    assert evaluate(model, rows).num_clusters == 2


def test_an_interval_of_an_unmeasured_metric(model, dataset):
    with pytest.raises(EvaluationError) as error:
        evaluate(model, dataset, ("contains",)).interval("contain")
    assert (
        str(error.value)
        == "'scripted' was not judged by the metric 'contain' (did you mean 'contains'?); measured: 'contains'"
    )


def test_as_json(model):
    result = evaluate(model, questions({"Which line?": "A"}), ("contains",))
    assert json.loads(json.dumps(result.to_dict(), allow_nan=False)) == {
        "name": "scripted",
        "n": 1,
        "max_tokens": 32,
        "seed": 0,
        "means": {"contains": 0.0, "nll": 0.5},
        "truncated": 0,
        "rows": [
            {
                "index": 0,
                "id": None,
                "group": None,
                "tags": [],
                "question": "Which line?",
                "accepted": ["A"],
                "prediction": "",
                "stop_reason": "stop",
                "scores": {"contains": 0.0},
                "nll": 0.5,
            }
        ],
    }


@pytest.mark.parametrize("nll", [math.nan, math.inf])
def test_a_model_that_diverged_is_still_reported(dataset, nll):
    result = evaluate(ScriptedModel("diverged", ANSWERS, nll=nll), dataset)
    assert not math.isfinite(result.means["nll"])
    assert result.to_dict()["means"]["nll"] is None
    assert result.to_dict()["rows"][0]["nll"] is None


def test_infinities_and_nans_together(model, dataset):
    rows = evaluate(model, dataset).rows
    mixed = (evolve(rows[0], nll=math.inf), evolve(rows[1], nll=math.nan), rows[2])
    assert math.isnan(evolve(evaluate(model, dataset), rows=mixed).means["nll"])


def test_a_result_survives_pickling(model, dataset):
    result = evaluate(model, dataset)
    copy = pickle.loads(pickle.dumps(result))  # noqa: S301 - our own bytes
    assert copy == result
    assert hash(copy) == hash(result)


def test_a_result_has_rows():
    with pytest.raises(EvaluationError) as error:
        EvaluationResult(name="x", rows=(), metrics=("contains",), max_tokens=1, seed=0)
    assert str(error.value) == "an EvaluationResult needs at least one row, got none"


def test_an_empty_data_set(model):
    with pytest.raises(EvaluationError) as error:
        evaluate(model, [])
    assert str(error.value) == "there is nothing to evaluate: the data set has no rows"


def test_rows_that_accept_nothing(model):
    rows = [
        *questions({"Which line?": "A"}),
        Conversation(
            messages=[Message("user", "Why?"), Message("assistant", " ")], id="w", source=Source("q.jsonl", 7, 6)
        ),
        Conversation.from_question("Why?", "\u200b"),
    ]
    with pytest.raises(EvaluationError) as error:
        evaluate(model, rows)
    assert str(error.value) == (
        "2 of 3 rows cannot be scored\n"
        "  q.jsonl:7 (id 'w'): references: no accepted answer with anything visible in it, in (' ',) → at least one\n"
        "  row 2: references: no accepted answer with anything visible in it, in ('\\u200b',) → at least one"
    )


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("max_tokens", 0, "max_tokens of evaluate() must be an integer ≥ 1, got 0 (int)"),
        ("max_tokens", "32", "max_tokens of evaluate() must be an integer ≥ 1, got '32' (str)"),
        ("seed", -1, "seed of evaluate() must be an integer ≥ 0, got -1 (int)"),
        ("seed", True, "seed of evaluate() must be an integer ≥ 0, got True (bool)"),
    ],
)
def test_settings_out_of_range(model, dataset, setting, value, message):
    with pytest.raises(ConfigError) as error:
        evaluate(model, dataset, **{setting: value})
    assert str(error.value) == message
    assert model.calls == []


class Forgetful:
    """Loses its last answer, or its last likelihood."""

    name = "forgetful"

    def __init__(self, answers, likelihoods):
        self.answers, self.likelihoods = answers, likelihoods

    def complete(self, prompts, **settings):
        return [Said("x")] * self.answers

    def answer_nll(self, conversations):
        return [1.0] * self.likelihoods


@pytest.mark.parametrize(("counts", "method"), [((2, 3), "complete"), ((3, 4), "answer_nll")])
def test_a_model_that_loses_answers(dataset, counts, method):
    with pytest.raises(EvaluationError) as error:
        evaluate(Forgetful(*counts), dataset)
    found = counts[method == "answer_nll"]
    assert str(error.value) == f"'forgetful' gave {found} results to 3 questions in {method}()"


# The majority baseline


def boroughs(*answers):
    return [Conversation.from_question(f"{index}?", answer) for index, answer in enumerate(answers)]


def test_the_majority_baseline_counts_normalised_answers():
    rows = boroughs("Queens", "The Bronx", "the bronx", "The Bronx.", "Queens")
    assert majority_baseline(rows) == MajorityBaseline(answer="The Bronx", score=3 / 5)


def test_the_first_of_equals_wins():
    assert majority_baseline(boroughs("Queens", "Brooklyn")) == MajorityBaseline(answer="Queens", score=1 / 2)


def test_a_row_counts_once_however_many_spellings_it_accepts():
    rows = [
        Conversation.from_question("0?", "5th Ave", references=("🗽", "5 Av", "5th Avenue", "\u200b")),
        *boroughs("Queens", "Queens"),
    ]
    assert majority_baseline(rows).answer == "Queens"


def test_the_majority_of_the_training_set():
    train, held_out = boroughs("Queens", "Queens", "Brooklyn"), boroughs("Brooklyn", "Brooklyn", "Queens")
    assert majority_baseline(held_out, reference=train) == MajorityBaseline(answer="Queens", score=1 / 3)


def test_the_baseline_by_other_metrics():
    rows = boroughs("New York", "New York", "East New York")
    assert majority_baseline(rows, "token_f1").score == pytest.approx((1 + 1 + 0.8) / 3)
    assert majority_baseline(rows, lambda prediction, accepted: 0.25).score == 0.25


def test_no_baseline_without_questions():
    for rows, reference in (([], None), (boroughs("Queens"), [])):
        with pytest.raises(EvaluationError) as error:
            majority_baseline(rows, reference=reference)
        assert str(error.value) == "there is nothing to evaluate: the data set has no rows"
    with pytest.raises(ConfigError) as error:
        majority_baseline(boroughs("Queens"), "exact")
    assert str(error.value).startswith("unknown metric 'exact'")


CALL = {"type": "function", "function": {"name": "tide", "arguments": '{"port": "Leith", "day": 2}'}}
OTHER = {"type": "function", "function": {"name": "tide", "arguments": {"port": "leith", "day": 2}}}


@pytest.mark.parametrize(
    ("said", "calls", "right"),
    [
        ("", [{**CALL, "id": "call_7"}], True),
        ("", [{"type": "function", "function": {"name": "tide", "arguments": {"day": 2, "port": "Leith"}}}], True),
        ("", [OTHER], False),
        ("", [CALL, CALL], False),
        ("", [], False),
        ("I ask.", [CALL], False),
    ],
)
def test_an_answer_that_calls_a_tool_is_judged_by_its_calls(said, calls, right):
    question = {"role": "user", "content": "When is high water?"}
    row = Conversation(messages=[question, {"role": "assistant", "content": "", "tool_calls": [CALL]}])
    answer = Message("assistant", said, tool_calls=calls)

    class Calling:
        name = "calling"

        def complete(self, prompts, **_):
            return [
                Completion(text=answer.content, tokens=(), stop_reason="stop", tool_calls=answer.tool_calls)
                for _ in prompts
            ]

        def answer_nll(self, conversations):
            return [1.0 for _ in conversations]

    result = evaluate(Calling(), [row], metrics=("exact_match", "json"))
    assert result.rows[0].scores == {"exact_match": float(right), "json": float(right)}
    assert row.accepted_answers == ('{"arguments": {"day": 2, "port": "Leith"}, "name": "tide"}',)


def test_what_is_said_beside_a_call_counts_as_well():
    row = Conversation(messages=[{"role": "user", "content": "?"}, Message("assistant", "I ask.", tool_calls=[CALL])])
    assert row.accepted_answers == ('I ask.\n{"arguments": {"day": 2, "port": "Leith"}, "name": "tide"}',)


@pytest.mark.parametrize(
    ("given", "made"),
    [
        ("held_out.jsonl", "got a path; make one with Dataset.from_file(...)"),
        (Path("held_out.jsonl"), "got a path; make one with Dataset.from_file(...)"),
        (
            [{"question": "Q", "answer": "A"}],
            "got a list with an object in it; make one with Dataset.from_records(...)",
        ),
        (["Q"], "make one with Dataset.from_records(...)"),
        ({1, 2}, "got a set; make one with Dataset.from_records(...)"),
        (None, "got a NoneType; make one with Dataset.from_records(...)"),
    ],
)
def test_what_is_no_data_set_is_refused_with_the_way_to_make_one(given, made):
    sampler = ScriptedModel("scripted", {})
    for use in (lambda rows: evaluate(sampler, rows), lambda rows: compare(sampler, sampler, rows)):
        with pytest.raises(ConfigError) as error:
            use(given)
        assert str(error.value).endswith(made)
