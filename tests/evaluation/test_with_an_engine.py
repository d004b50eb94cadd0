"""The same, over a real `Sampler`: render, ask a service, parse, score, write."""

from __future__ import annotations

import pytest

from glowgenius.data.message import Conversation
from glowgenius.evaluation import compare, evaluate
from glowgenius.rendering import ChatTemplateRenderer
from glowgenius.reporting import write_report
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training.sampler import Sampler

TOKENIZER = ByteTokenizer()
FACTS = {f"Question {index}?": f"Answer {index}" for index in range(12)}
ROWS = [Conversation.from_question(question, answer) for question, answer in FACTS.items()]


def sampler(name, answers):
    service = ScriptedService(answers=answers, tokenizer=TOKENIZER)
    client = service.create_sampling_client(base_model="m").result()
    return Sampler(client, ChatTemplateRenderer(TOKENIZER), name=name)


@pytest.fixture(scope="module")
def models():
    return sampler("base", dict.fromkeys(FACTS, "I do not know")), sampler("tuned", FACTS)


def test_evaluate(models):
    result = evaluate(models[1], ROWS)
    assert result.name == "tuned"
    assert [row.prediction for row in result.rows] == list(FACTS.values())
    assert [row.stop_reason for row in result.rows] == ["stop"] * 12
    assert dict(result.means) == {
        "exact_match": 1.0,
        "contains": 1.0,
        "token_f1": 1.0,
        "nll": pytest.approx(sum(models[1].answer_nll(ROWS)) / 12),
    }


def test_answers_that_are_too_long_are_counted(models):
    assert evaluate(models[0], ROWS, max_tokens=4, nll=False).num_truncated == 12


def test_compare_and_report(models, tmp_path):
    comparison = compare(*models, ROWS)
    assert comparison["all"].verdict.startswith("12 fixed, 0 broken, 0 same: better by 100 points (95 % interval +")
    page = write_report(tmp_path / "report.html", comparison=comparison).read_text(encoding="utf-8")
    assert "Answer 11" in page
