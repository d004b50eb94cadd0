"""What a metric cannot judge is said before a question is asked."""

from __future__ import annotations

import logging

import pytest

from glowgenius.data.message import Conversation
from glowgenius.evaluation import METRICS, AnswerEvaluation, EvaluationResult, compare, evaluate
from glowgenius.evaluation.judgeable import judging_warnings
from tests.support.answers import ScriptedModel
from tests.support.training import HELD_OUT, TRAIN, trainer

DEFAULT = ("exact_match", "contains", "token_f1")


def rows(*answers, question="Question {}?"):
    accepted = [(answer,) if isinstance(answer, str) else answer for answer in answers]
    return [
        Conversation.from_question(question.format(number), found[0], references=found)
        for number, found in enumerate(accepted)
    ]


def said(dataset, *names):
    return judging_warnings(dataset, {name: METRICS[name] for name in names or DEFAULT})


def test_plain_answers_call_for_no_word():
    assert said(rows("Brooklyn", "Queens", ("The Bronx", "Bronx"), "1931", "the A train", "It opened, at last.")) == ()


def test_contradicting_references():
    found = said(rows("Queens", "Brooklyn", question="Where is it?"))
    assert found == (
        (
            "1 question is asked more than once with different accepted answers, such as 'Where is it?' in row 0 and "
            "row 1 ('Queens' and 'Brooklyn'): no model is right on all of them; give these rows the same references, "
            "or keep one"
        ),
    )
    assert said(rows(("Queens", "QN"), ("QN", "Queens"), question="Where is it?")) == ()


def test_a_place_in_a_file_is_named(tmp_path):
    from glowgenius import Dataset

    path = tmp_path / "rows.jsonl"
    path.write_text('{"question": "Q?", "answer": "one"}\n{"question": "Q?", "answer": "two"}\n', encoding="utf-8")
    (found,) = said(Dataset.from_file(path))
    assert f"in {path}:1 and {path}:2" in found


@pytest.mark.parametrize(
    ("answer", "metric"),
    [
        ('{"a": 1}', "json"),
        ("[1, 2]", "json"),
        ("print(name)", "strict"),
        ("x > 5", "strict"),
        ("<p>", "strict"),
        ("&&", "strict"),
        ("if a:\n    b", "strict"),
        ("10 km", "number"),
        ("-5", "number"),
        ("1,200", "number"),
        ("$5", "number"),
        ("42", "number"),
    ],
)
def test_references_that_another_metric_is_made_for(answer, metric):
    (found,) = said(rows("Queens", answer))
    assert found.startswith("1 of 2 references ")
    assert repr(answer) in found
    assert found.endswith(f"judge them by the metric {metric!r}")
    assert said(rows("Queens", answer), "exact_match", metric) == ()  # the advice works


def test_broken_json_is_named_beside_any_metric():
    (found,) = said(rows('{"a": 1}', '{"a": 1'), "exact_match", "json", "strict")
    assert found.startswith("json scores 0 on 1 of 2 rows whatever the answer, because no reference is JSON")
    assert """'{"a": 1' in row 1""" in found


@pytest.mark.parametrize(("metric", "what"), [("json", "JSON"), ("number", "a number")])
def test_references_that_a_metric_cannot_read(metric, what):
    assert said(rows("Queens", "Brooklyn"), metric) == (
        (
            f"{metric} scores 0 on 2 of 2 rows whatever the answer, because no reference is {what}, such as 'Queens' "
            f"in row 0; correct the references, or judge these rows by 'exact_match'"
        ),
    )


@pytest.mark.parametrize(
    ("answers", "metric", "expected"),
    [
        (
            ("CO", "Co"),
            "exact_match",
            "exact_match takes 'Co' for 'CO': if they are different answers, judge them by 'strict'",
        ),
        (
            ("not_spam", "not spam"),
            "label",
            "label takes 'not spam' for 'not_spam': if they are different answers, judge them by 'strict'",
        ),
        (
            ("Queens", "Queens Village"),
            "contains",
            "contains takes 'Queens Village' for 'Queens': if they are different answers, judge them by 'exact_match'",
        ),
    ],
)
def test_answers_that_a_metric_takes_for_each_other(answers, metric, expected):
    assert said(rows(*answers), metric) == (expected,)
    assert said(rows(answers), metric) == ()  # both accepted by one row


def test_a_metric_that_decides_nothing_is_not_warned_of_beside_the_one_that_tells_them_apart():
    asked = rows("Queens", "Queens and Brooklyn")
    measured = {name: METRICS[name] for name in ("exact_match", "contains")}
    assert judging_warnings(asked, measured) == judging_warnings(asked, measured, decides="exact_match") == ()
    (warning,) = judging_warnings(asked, measured, decides="contains")
    assert warning.startswith("contains takes 'Queens and Brooklyn' for 'Queens'")
    assert judging_warnings(asked, {"contains": METRICS["contains"]}) == (warning,)
    model = ScriptedModel("scripted", lambda question: "Queens")
    told = compare(model, model, asked, metric="contains")
    assert told.slices["all"].base.warnings == (warning,)
    assert "note: contains takes" in str(told)


def test_warnings_are_logged_before_the_first_question_and_kept(caplog):
    class Model(ScriptedModel):
        def complete(self, prompts, **settings):
            assert "JSON" in caplog.text
            return super().complete(prompts, **settings)

    model = Model("scripted", lambda question: "{}")
    with caplog.at_level(logging.WARNING, "glowgenius"):
        result = evaluate(model, rows("{}"), ("exact_match",))
        assert len(caplog.records) == 1
        compared = compare(model, model, rows("{}"))
    assert len(caplog.records) == 2  # once, not for each side
    assert all(record.levelno == logging.WARNING for record in caplog.records)
    (warning,) = result.warnings
    assert f"  warning: {warning}" in str(result).splitlines()
    assert EvaluationResult.from_dict(result.to_dict()) == result
    assert "note: 1 of 1 references are JSON" in str(compared)


def test_answers_that_are_no_json_are_counted():
    model = ScriptedModel("scripted", {"Question 0?": '{"a": 1}', "Question 1?": '{"a": 1', "Question 2?": "a: 1"})
    asked = rows('{"a": 1}', '{"a": 1}', '{"a": 1}')
    result = evaluate(model, asked, ("json",), nll=False)
    assert result.num_invalid == 2
    assert "  2 of 3 answers are not valid JSON" in str(result).splitlines()
    assert result.to_dict()["invalid_json"] == 2
    assert "2 of 3 answers of tuned are not valid JSON" in str(compare(model, model, asked, metric="json"))
    assert evaluate(model, asked, ("exact_match",), nll=False).num_invalid is None


def test_a_run_says_them_before_its_first_question(caplog):
    with caplog.at_level(logging.WARNING, "glowgenius"):
        trainer(callbacks=[AnswerEvaluation(rows("{}"))]).train(TRAIN, HELD_OUT)
    assert sum("references are JSON" in record.getMessage() for record in caplog.records) == 1
