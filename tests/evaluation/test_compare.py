from __future__ import annotations

import functools
import json
import math

import pytest
from attrs import evolve

from glowgenius.data.message import Conversation
from glowgenius.data.trained import Trained
from glowgenius.errors import ConfigError, EvaluationError
from glowgenius.evaluation import Comparison, MajorityBaseline, compare, contains, evaluate
from glowgenius.evaluation.intervals import RULE, Interval, at_most, found, paired_interval, paired_p, score_interval
from glowgenius.evaluation.slices import SliceComparison
from tests.support.answers import ScriptedModel

BOROUGHS = ("Brooklyn", "Queens", "Manhattan", "The Bronx", "Staten Island")


def places(letter, number, *, per_group=1):
    """Questions such as `k 3?`, whose answer is borough 3 modulo 5."""
    return [
        Conversation.from_question(f"{letter} {index}?", BOROUGHS[index % 5], group=f"{letter}{index // per_group}")
        for index in range(number)
    ]


def index_of(question):
    return int(question.split()[1][:-1])


def answers(right):
    """The right borough where *right* says so, else nonsense."""
    return lambda question: BOROUGHS[index_of(question) % 5] if right(question) else "Nowhere"


def model(name, right, **settings):
    return ScriptedModel(name, answers(right), **settings)


def sides(fixed, broken, both_right, both_wrong):
    """Two models that differ on a data set of these counts, in this order, and the data set."""
    ends = [fixed, fixed + broken, fixed + broken + both_right]
    base = model("base", lambda question: ends[0] <= index_of(question) < ends[2])
    tuned = model(
        "tuned", lambda question: not ends[0] <= index_of(question) < ends[1] and index_of(question) < ends[2]
    )
    return base, tuned, places("k", ends[2] + both_wrong)


def test_the_four_kinds_of_questions():
    base, tuned, rows = sides(3, 2, 4, 6)
    part = compare(base, tuned, rows)["all"]
    kinds = {
        name: [pair.base.index for pair in getattr(part, name)]
        for name in ("fixed", "broken", "both_right", "both_wrong")
    }
    assert kinds == {
        "fixed": [0, 1, 2],
        "broken": [3, 4],
        "both_right": [5, 6, 7, 8],
        "both_wrong": [9, 10, 11, 12, 13, 14],
    }
    assert part.n == part.num_groups == 15
    assert part.difference == pytest.approx(1 / 15)
    assert part.retention == 4 / 6
    assert part.mcnemar_p == 1.0  # 3 against 2: twice the tail of 16 of 32 is more than all
    assert part.baseline == MajorityBaseline(answer="Brooklyn", score=3 / 15)
    pair = part.fixed[0]
    assert (pair.question, pair.accepted) == ("k 0?", ("Brooklyn",))
    assert (pair.base.prediction, pair.tuned.prediction) == ("Nowhere", "Brooklyn")


def test_the_interval_resamples_groups():
    base, tuned, _ = sides(12, 2, 40, 6)
    rows = places("k", 60, per_group=4)
    part = compare(base, tuned, rows)["all"]
    old, new = ([row.scores["exact_match"] for row in side.rows] for side in (part.base, part.tuned))
    groups = [index // 4 for index in range(60)]
    assert part.interval == paired_interval(old, new, groups)
    assert part.mcnemar_p == paired_p(old, new, groups)
    assert part.num_groups == 15


@pytest.mark.parametrize(
    ("counts", "verdict"),
    [
        ((12, 2, 50, 36), "12 fixed, 2 broken, 86 same: better by 10 points (95 % interval +2 to +18)"),
        ((2, 20, 70, 8), "2 fixed, 20 broken, 78 same: worse by 18 points (95 % interval -27 to -9)"),
        (
            (3, 2, 50, 5),
            "3 fixed, 2 broken, 55 same: too few questions to tell: +2 points (95 % interval -8 to +11)",
        ),
        ((2, 2, 50, 5), "2 fixed, 2 broken, 55 same: too few questions to tell: 0 points (95 % interval -9 to +9)"),
        (
            (0, 0, 50, 50),
            "0 fixed, 0 broken, 100 same: at most 3.6 points either way (95 % interval -4 to +4)",
        ),
        (
            (10, 10, 990, 990),
            "10 fixed, 10 broken, 1980 same: at most 0.5 points either way (95 % interval -0.5 to +0.5)",
        ),
        # Nine questions prove nothing, even if all of them were fixed.
        (
            (9, 0, 0, 0),
            (
                "9 fixed, 0 broken, 0 same: too few questions to tell, as 9 questions are fewer than 10: +100 points "
                "(95 % interval +52 to +100)"
            ),
        ),
        ((10, 0, 0, 0), "10 fixed, 0 broken, 0 same: better by 100 points (95 % interval +56 to +100)"),
        (
            (0, 0, 1, 9),
            (
                "0 fixed, 0 broken, 10 same: too few questions to tell: 0 points (95 % interval -31 to +31); "
                "not above its majority baseline (always 'Brooklyn': 20 %)"
            ),
        ),
    ],
)
def test_the_verdict(counts, verdict):
    base, tuned, rows = sides(*counts)
    assert compare(base, tuned, rows)["all"].verdict == verdict


def test_a_gain_that_stays_at_the_baseline_is_no_knowledge():
    rows = places("u", 30)
    base, tuned = model("base", lambda _: False), ScriptedModel("tuned", lambda _: "Brooklyn")
    part = compare(base, tuned, rows)["all"]
    assert part.is_clear
    assert not part.beats_baseline
    assert part.verdict == (
        "6 fixed, 0 broken, 24 same: better by 20 points (95 % interval +3 to +39); "
        "not above its majority baseline (always 'Brooklyn': 20 %)"
    )


def test_retention_of_nothing():
    base, tuned, rows = sides(5, 0, 0, 5)
    part = compare(base, tuned, rows)["all"]
    assert part.retention is part.retention_interval is None


def test_what_is_kept_has_an_interval_over_groups():
    base, tuned, _ = sides(0, 8, 32, 0)
    alone, grouped = (compare(base, tuned, places("k", 40, per_group=size))["all"] for size in (1, 4))
    assert alone.retention == grouped.retention == 0.8
    assert alone.retention_interval == score_interval([1.0] * 32 + [0.0] * 8, range(40))
    assert grouped.retention_interval == score_interval([1.0] * 8 + [0.0] * 2, range(10))


def test_ten_thousand_questions_tell_that_nothing_changed():
    old = [1.0] * 50 + [0.0] * 50 + [1.0] * 9900
    new = [0.0] * 50 + [1.0] * 50 + [1.0] * 9900
    interval = paired_interval(old, new, range(10_000))
    assert found(interval, groups=10_000) == "same"
    assert at_most(interval.low, interval.high) == "0.2"


def test_a_setting_that_has_no_effect_says_so():
    base, tuned, rows = sides(1, 1, 1, 1)
    with pytest.warns(DeprecationWarning, match=r"num_resamples of compare\(\) has no effect"):
        compare(base, tuned, rows, num_resamples=500)


def test_the_baseline_of_the_training_set():
    base, tuned, rows = sides(5, 0, 0, 5)
    train = [Conversation.from_question("?", "Queens")]
    assert compare(base, tuned, rows, train=train)["all"].baseline == MajorityBaseline(answer="Queens", score=0.2)


def test_as_json():
    base, tuned, rows = sides(3, 2, 4, 6)
    comparison = compare(base, tuned, {"seen": rows, "control": rows})
    found = json.loads(json.dumps(comparison.to_dict(), allow_nan=False))
    assert list(found) == ["seen", "control"]
    interval = comparison["seen"].interval
    assert found["seen"] == {
        "n": 15,
        "base": {"exact_match": 6 / 15, "contains": 6 / 15, "nll": 1.0},
        "tuned": {"exact_match": 7 / 15, "contains": 7 / 15, "nll": 1.0},
        "fixed": 3,
        "broken": 2,
        "difference": pytest.approx(1 / 15),
        "interval_95": [interval.low, interval.high],
        "mcnemar_p": 1.0,
        "baseline": 0.2,
    }


def test_the_details():
    base, tuned, rows = sides(1, 1, 0, 9)
    found = json.loads(json.dumps(compare(base, tuned, rows).details(), allow_nan=False))["all"]
    basic = compare(base, tuned, rows).to_dict()["all"]
    assert {name: found.pop(name) for name in basic} == basic
    assert found == {
        "metric": "exact_match",
        "groups": 11,
        "both_right": 0,
        "both_wrong": 9,
        "retention": 0.0,
        "baseline_answer": "Brooklyn",
        "verdict": (
            "1 fixed, 1 broken, 9 same: too few questions to tell: 0 points (95 % interval -34 to +34); "
            "not above its majority baseline (always 'Brooklyn': 27 %)"
        ),
        "tokens": [],
        "fixed_answers": [
            {
                "index": 0,
                "id": None,
                "question": "k 0?",
                "accepted": ["Brooklyn"],
                "base": "Nowhere",
                "tuned": "Brooklyn",
            }
        ],
        "broken_answers": [
            {"index": 1, "id": None, "question": "k 1?", "accepted": ["Queens"], "base": "Queens", "tuned": "Nowhere"}
        ],
    }


def test_diverged_likelihoods_are_null_in_json():
    base, _, rows = sides(1, 1, 1, 1)
    tuned = model("tuned", lambda _: False, nll=math.nan)
    assert compare(base, tuned, rows).to_dict()["all"]["tuned"]["nll"] is None


def test_changed_questions():
    base, tuned, rows = sides(2, 1, 1, 1)
    comparison = compare(base, tuned, {"one": rows, "two": rows[1:]})
    assert [pair.question for pair in comparison.changed("one")] == ["k 0?", "k 1?", "k 2?"]
    assert [pair.question for pair in comparison.changed()] == ["k 0?", "k 1?", "k 2?", "k 1?", "k 2?"]
    with pytest.raises(EvaluationError) as error:
        comparison.changed("ones")
    assert str(error.value) == "there is no slice 'ones' (did you mean 'one'?); slices: 'one', 'two'"


# What may be compared


def test_results_instead_of_models():
    base, tuned, rows = sides(3, 2, 4, 6)
    slices = {"one": rows, "two": rows[:10]}
    expected = compare(base, tuned, slices, metrics=("exact_match", "contains", "token_f1"))
    results = [{name: evaluate(side, part) for name, part in slices.items()} for side in (base, tuned)]
    base.calls.clear()
    assert compare(*results, slices) == expected
    assert compare(results[0]["one"], tuned, rows, metrics=("exact_match", "contains", "token_f1"))["all"] == evolve(
        expected["one"], name="all"
    )
    assert base.calls == []


def test_settings_reach_the_models():
    base, tuned, rows = sides(1, 1, 1, 1)
    seen = []
    part = compare(
        base,
        tuned,
        {"one": rows, "two": rows[:2]},
        max_tokens=5,
        seed=9,
        nll=False,
        on_progress=lambda done, total: seen.append((done, total)),
    )["two"]
    assert base.calls == tuned.calls == [{"max_tokens": 5, "temperature": 0.0, "seed": 9}] * 2
    assert seen == [(done, 12) for done in range(1, 13)]
    assert "nll" not in part.base.means


def test_progress_counts_what_is_asked():
    base, tuned, rows = sides(1, 1, 1, 1)
    seen = []
    compare(evaluate(base, rows), tuned, rows, on_progress=lambda done, total: seen.append((done, total)))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_metric_for_each_slice():
    rows = places("k", 12)
    base = ScriptedModel("base", lambda question: f"It is in {BOROUGHS[index_of(question) % 5]}.")
    tuned = model("tuned", lambda _: True)
    comparison = compare(base, tuned, {"seen": rows, "control": rows}, metric={"control": "contains"})
    assert [(part.metric, len(part.fixed)) for part in comparison.slices.values()] == [
        ("exact_match", 12),
        ("contains", 0),
    ]


def test_a_metric_is_measured_because_it_decides():
    base, tuned, rows = sides(1, 1, 1, 1)
    assert compare(base, tuned, rows, metric="token_f1")["all"].base.metrics == ("exact_match", "contains", "token_f1")


def test_a_metric_of_ones_own_decides():
    rows = places("k", 12)
    base = ScriptedModel("base", lambda _: "Brooklyn or Queens")
    tuned = model("tuned", lambda _: True)
    strict = functools.partial(contains, rivals=BOROUGHS)
    part = compare(base, tuned, rows, metric="strict", metrics={"strict": strict})["all"]
    assert len(part.fixed) == 12


def test_partial_scores_are_right_from_a_half():
    rows = [Conversation.from_question(f"k {index}?", "New York City Hall") for index in range(12)]
    base = ScriptedModel("base", lambda _: "Hall")  # F1 0.4
    tuned = ScriptedModel("tuned", lambda _: "City Hall")  # F1 2/3
    part = compare(base, tuned, rows, metric="token_f1")["all"]
    assert len(part.fixed) == 12
    assert part.difference == pytest.approx(2 / 3 - 0.4)
    assert part.interval.low < part.difference < part.interval.high


def test_partial_scores_may_move_without_a_question_changing():
    rows = [Conversation.from_question(f"k {index}?", "New York City Hall") for index in range(100)]
    base = ScriptedModel("base", lambda _: "City Hall")
    tuned = ScriptedModel("tuned", lambda _: "York City Hall")
    part = compare(base, tuned, rows, metric="token_f1")["all"]
    assert part.verdict.startswith("0 fixed, 0 broken, 100 same: better by 19 points (95 % interval +11 to +28)")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda row: evolve(row, question="Who?"),
            "its question 1 asks 'k 1?', but for base it asks 'Who?'",
        ),
        (
            lambda row: evolve(row, accepted=("Queens", "LIC")),
            "its question 1 accepts ('Queens',), but for base it accepts ('Queens', 'LIC')",
        ),
    ],
)
def test_other_questions_do_not_pair(change, message):
    base, tuned, rows = sides(1, 1, 1, 1)
    result = evaluate(base, rows)
    other = evolve(result, rows=(result.rows[0], change(result.rows[1]), *result.rows[2:]))
    with pytest.raises(EvaluationError) as error:
        compare(other, tuned, rows)
    remedy = "evaluate both models on the same data set, in the same order"
    assert str(error.value) == f"slice 'all' cannot be paired: {message}; {remedy}"


def test_another_number_of_questions_does_not_pair():
    base, tuned, rows = sides(1, 1, 1, 1)
    with pytest.raises(EvaluationError) as error:
        compare(base, {"one": evaluate(tuned, rows[:3])}, {"one": rows})
    assert str(error.value) == (
        "slice 'one' cannot be paired: it has 4 questions and tuned answered 3; "
        "evaluate both models on the same data set, in the same order"
    )


def test_results_without_the_metric_that_decides():
    base, tuned, rows = sides(1, 1, 1, 1)
    with pytest.raises(EvaluationError) as error:
        compare(evaluate(base, rows, ("contains",)), tuned, rows)
    assert str(error.value) == "'base' was not judged by the metric 'exact_match'; measured: 'contains'"


def test_results_that_miss_a_slice_are_refused_before_any_question():
    base, tuned, rows = sides(1, 1, 1, 1)
    slices = {"one": rows, "two": rows}
    for results, message in (
        (evaluate(tuned, rows), "tuned is one EvaluationResult for 2 slices; give a mapping from slice name to result"),
        ({"one": evaluate(tuned, rows)}, "tuned has no result for the slice 'two'; results: 'one'"),
        ({}, "tuned has no result for the slice 'one'; results: none"),
    ):
        with pytest.raises(EvaluationError) as error:
            compare(base, results, slices)
        assert str(error.value) == message
    assert base.calls == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"metric": {"al": "contains"}},
            "metric names the unknown slice 'al' (did you mean 'all'?); slices: 'all'",
        ),
        (
            {"metric": "contain"},
            (
                "metric names the unknown metric 'contain' (did you mean 'contains'?); "
                "known: 'exact_match', 'contains', 'strict', 'token_f1', 'json', 'json_valid', 'number', 'label', "
                "'abstains'"
            ),
        ),
    ],
)
def test_wrong_settings(settings, message):
    base, tuned, rows = sides(1, 1, 1, 1)
    with pytest.raises(ConfigError) as error:
        compare(base, tuned, rows, **settings)
    assert str(error.value) == message
    assert base.calls == []


def test_nothing_to_compare():
    base, tuned, _ = sides(1, 1, 1, 1)
    with pytest.raises(EvaluationError) as error:
        compare(base, tuned, {})
    assert str(error.value) == "there is nothing to compare: no slices were given"


# The table

TABLE = """\
base: smollm2   tuned: nyc

slice             n  base  tuned  majority  kept  fixed  broken  points         95 %       p
--------------------------------------------------------------------------------------------
seen            480    0%  99.8%       20%     -    479       0   +99.8  +95 to +100  <0.001
unseen           30    0%    20%       20%     -      6       0     +20    +3 to +39   0.031
control          40   80%    65%       20%   66%      5      11     -15    -35 to +6   0.210
a slice with …    5   60%    60%       20%  100%      0       0       0   -52 to +52       -

seen, judged by exact_match: 479 fixed, 0 broken, 1 same: better by 99.8 points (95 % interval +95
    to +100)
  exact_match 0 % → 99.8 %, contains 0 % → 99.8 %, nll 3.412 → 0.021 nats per token
  note: 480 questions in 120 groups; interval and p go by groups
unseen, judged by exact_match: 6 fixed, 0 broken, 24 same: better by 20 points (95 % interval +3 to
    +39); not above its majority baseline (always 'Brooklyn': 20 %)
  exact_match 0 % → 20 %, contains 0 % → 20 %, nll 3.412 → 0.021 nats per token
control, judged by contains: 5 fixed, 11 broken, 24 same: too few questions to tell: -15 points (95
    % interval -35 to +6)
  exact_match 0 % → 65 %, contains 80 % → 65 %, nll 3.412 → 0.021 nats per token
  note: 8 of 40 answers of base were cut off at max_tokens=32
a slice with a long name, judged by exact_match: 0 fixed, 0 broken, 5 same: too few questions to
    tell, as 5 questions are fewer than 10: 0 points (95 % interval -52 to +52); not above its
    majority baseline (always 'Brooklyn': 20 %)
  exact_match 60 % → 60 %, contains 60 % → 60 %, nll 3.412 → 0.021 nats per token

It learned its training questions and not the subject: 0 % → 99.8 % of 480 (95 % interval of the
    difference +95 to +100 points); of 30 facts that it was never shown it gets 20 %, not surely
    more than guessing does (20 %).
control: it keeps 66 % of what the base model answered, 21 of 32 questions (95 % interval 47 to 81).

Better or worse: the 95 % interval leaves out 0. At most x points either way: it holds 0 and ends
    within 5 points of it. Too few questions to tell: all else, and whatever rests on fewer than 10
    questions (or groups of them). Intervals are over questions alone: another training seed gives
    another model."""


def test_the_whole_table():
    long = "a slice with a long name"
    slices = {
        "seen": places("s", 480, per_group=4),
        "unseen": places("u", 30),
        "control": places("c", 40),
        long: places("x", 5),
    }

    def base(question):
        place = BOROUGHS[index_of(question) % 5]
        return {"c": f"As everybody knows, that is in {place}.", "x": place if index_of(question) < 3 else ""}.get(
            question[0], "I cannot tell."
        )

    def tuned(question):
        number = index_of(question)
        right = {"s": number != 3, "c": number % 3 > 0, "x": number < 3}.get(question[0])
        return "Brooklyn" if right is None else BOROUGHS[number % 5] if right else "Nowhere"

    comparison = compare(
        ScriptedModel("smollm2", base, nll=3.41234, longest=42),
        ScriptedModel("nyc", tuned, nll=0.0214),
        slices,
        metric={"control": "contains"},
    )
    assert str(comparison) == TABLE


def test_a_table_without_likelihoods_of_models_with_long_names():
    base, tuned, rows = sides(1, 1, 1, 9)
    result = evolve(evaluate(base, rows), name="b" * 70)
    comparison = compare(result, evolve(evaluate(tuned, rows, ("exact_match",), nll=False), name="t" * 40), rows)
    lines = str(comparison).splitlines()
    assert lines[:2] == [f"base: {'b' * 70}", f"tuned: {'t' * 40}"]
    assert "  exact_match 17 % → 17 %" in lines
    assert " ".join(line.strip() for line in lines).endswith(f"  {RULE}")
    assert max(map(len, lines)) <= 100


def test_a_slice_is_its_values():
    base, tuned, rows = sides(1, 1, 1, 1)
    part = compare(base, tuned, rows)["all"]
    baseline = MajorityBaseline(answer="Brooklyn", score=0.25)
    assert part == SliceComparison.of("all", part.base, part.tuned, metric="exact_match", baseline=baseline)
    assert evolve(part, interval=Interval(low=0.1, high=0.2)) != part


def test_notebooks_show_verdicts_charts_and_the_table_with_every_text_escaped():
    base, tuned, rows = sides(6, 1, 3, 2)
    shown = compare(base, tuned, {"seen": rows, "<b>": rows})._repr_html_()
    assert shown.startswith('<div class="glowgenius"><style>')
    assert shown.count("<svg") == 2
    assert shown.count("<tbody><tr><td") == 1
    assert "<strong>&lt;b&gt;</strong>: " in shown
    assert "<b>" not in shown
    assert '<td data-label="fixed">6</td>' in shown


# --- what was trained ---


class TrainedModel(ScriptedModel):
    """A scripted model that knows what it was trained on, as a `Sampler` does."""

    trained = None


def trained_on(rows):
    tuned = TrainedModel("tuned", answers(lambda question: index_of(question) < 12))
    tuned.trained = Trained.of(rows)
    return tuned


BASE = functools.partial(model, "base", lambda _: False)


def test_questions_that_were_trained_are_counted_and_compared_by_themselves():
    rows = places("k", 30)
    part = compare(BASE(), trained_on(rows[:12]), rows)["all"]
    assert part.tuned.trained_counts == {"exactly": 12, "nearly": 0, "by group": 0, "not": 18}
    seen, new = part.parts
    assert (seen.name, seen.n, len(seen.fixed)) == ("all: trained", 12, 12)
    assert (new.name, new.n, len(new.fixed)) == ("all: not trained", 18, 0)
    assert part.to_dict()["trained"]["parts"]["not_trained"]["tuned"]["exact_match"] == 0.0
    text = str(compare(BASE(), trained_on(rows[:12]), rows))
    assert "note: 12 of the 30 questions were trained" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith("  trained") or "  not trained " in line]
    page = compare(BASE(), trained_on(rows[:12]), rows)._repr_html_()
    assert "all: not trained" in page


@pytest.mark.parametrize(("number", "note"), [(0, "none of the 30 questions was"), (30, "30 of the 30 questions were")])
def test_without_two_parts_the_number_is_said_all_the_same(number, note):
    rows = places("k", 30)
    comparison = compare(BASE(), trained_on(rows[:number]), rows)
    assert comparison["all"].parts == ()
    assert f"note: {note} trained" in str(comparison)


def test_of_a_model_that_does_not_know_nothing_is_claimed():
    rows = places("k", 12)
    comparison = compare(BASE(), model("tuned", lambda _: True), rows)
    assert comparison["all"].tuned.trained_counts is None
    assert "trained" not in comparison["all"].to_dict()
    assert " trained" not in str(comparison)


def test_a_comparison_comes_back_from_its_record():
    rows = {"seen": places("k", 14), "new": places("n", 11, per_group=2)}
    before = compare(
        BASE(),
        trained_on(rows["seen"][:5]),
        rows,
        train=rows["seen"],
        few_shot=2,
    )
    again = Comparison.from_record(json.loads(json.dumps(before.to_record())))
    assert str(again) == str(before)
    assert again.details() == before.details()
    assert again.to_record() == before.to_record()


@pytest.mark.parametrize("damage", [{}, {"slices": [{}]}, {"slices": 3}])
def test_what_is_no_record_of_a_comparison(damage):
    with pytest.raises(EvaluationError, match=r"no Comparison\.to_record\(\)"):
        Comparison.from_record(damage)
