from __future__ import annotations

import json

import pytest

from glowgenius.errors import ConfigError, EvaluationError
from glowgenius.evaluation import AnswerEvaluation, EvaluationResult
from glowgenius.evaluation.callback import answer_files, read_answers
from glowgenius.testing import ScriptedService
from glowgenius.training import EarlyStopping
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, trainer

FACTS = {f"E{row}?": f"A{row}" for row in range(3)}


def service(**settings):
    """Wrong before the first update, two of three right afterwards."""
    learned = {**FACTS, "E2?": "no idea"}
    return ScriptedService(
        answers=learned, base_answers=dict.fromkeys(FACTS, "no idea"), tokenizer=TOKENIZER, **settings
    )


def run(callback, *more, on_service=None, resume=None, **settings):
    chosen = {"num_epochs": 2, "eval_every": 2, **settings}
    made = trainer(on_service or service(), callbacks=[callback, *more], **chosen)
    return made.train(TRAIN, HELD_OUT, resume_from_checkpoint=resume)


def test_real_answers_are_measured_at_step_0_at_every_evaluation_and_at_the_last(tmp_path):
    callback = AnswerEvaluation(HELD_OUT, metrics=("exact_match", "token_f1"))
    result = run(callback, output_dir=tmp_path, eval_every=4)
    expected = ((0, 0.0), (4, pytest.approx(2 / 3)), (6, pytest.approx(2 / 3)))
    assert result.history.series("eval_exact_match") == expected
    assert result.history.series("eval/token_f1") == expected
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "eval/exact_match" in row] == [0, 4, 6]
    assert [step for step, _ in answer_files(tmp_path / "answers")] == [0, 4, 6] == list(callback.results)
    assert read_answers(tmp_path / "answers" / "000004.json") == callback.results[4]
    assert [row.prediction for row in callback.results[6]["all"].rows] == ["A0", "A1", "no idea"]


@pytest.mark.parametrize("name", ["exact_match", "eval_exact_match", "eval/exact_match"])
def test_the_best_step_can_go_by_it(name):
    result = run(AnswerEvaluation(HELD_OUT), metric_for_best=name)
    assert result.best_step == 2


@pytest.mark.parametrize("name", ["exact_match", "eval_exact_match", "eval/exact_match"])
def test_early_stopping_can_go_by_it(name):
    result = run(AnswerEvaluation(HELD_OUT), EarlyStopping(name, patience=1), num_epochs=9)
    assert result.stop_reason.startswith("eval/exact_match has not improved")
    assert result.history.series(name) == result.history.series("eval/exact_match") != ()


def test_slices_have_names_of_their_own():
    callback = AnswerEvaluation({"one": HELD_OUT, "two": HELD_OUT[2:]}, metrics=("exact_match",), nll=True)
    history = run(callback).history
    assert set(history.metrics) >= {"eval/one/exact_match", "eval/two/exact_match", "eval/one/nll", "eval/two/nll"}
    assert history.last["eval/two/exact_match"] == 0


def test_a_resumed_run_keeps_the_answers_up_to_where_it_goes_on(tmp_path):
    made = service()
    run(AnswerEvaluation(HELD_OUT), on_service=made, output_dir=tmp_path, max_steps=4)
    (tmp_path / "answers" / "000005.json").write_text("{}")
    callback = AnswerEvaluation(HELD_OUT)
    run(callback, on_service=made, output_dir=tmp_path, resume=True)
    assert [step for step, _ in answer_files(tmp_path / "answers")] == [0, 2, 4, 6] == list(callback.results)
    assert isinstance(callback.results[0]["all"], EvaluationResult)


def test_without_an_evaluation_set_it_would_never_ask():
    with pytest.raises(ConfigError) as error:
        trainer(callbacks=[AnswerEvaluation(HELD_OUT)]).train(TRAIN)
    assert str(error.value).startswith(
        "AnswerEvaluation asks its questions at every evaluation, but there is no evaluation set; "
        "train(..., eval_dataset=...), or take the callback out"
    )


@pytest.mark.parametrize("dataset", [[], {}, {"one": HELD_OUT, "two": []}])
def test_nothing_to_ask(dataset):
    with pytest.raises(EvaluationError) as error:
        AnswerEvaluation(dataset)
    assert str(error.value) == "AnswerEvaluation has nothing to ask: a data set is empty"


def test_a_misspelt_metric_is_refused_at_once():
    with pytest.raises(ConfigError, match=r"unknown metric 'exact_mach' \(did you mean 'exact_match'\?\)"):
        AnswerEvaluation(HELD_OUT, metrics=("exact_mach",))


def test_a_broken_file_of_answers_is_named(tmp_path):
    (tmp_path / "000000.json").write_text("[1]")
    with pytest.raises(EvaluationError, match="not a file of answers"):
        read_answers(tmp_path / "000000.json")
