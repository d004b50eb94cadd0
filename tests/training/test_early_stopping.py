"""Patience by hand-made loss curves."""

from __future__ import annotations

import pytest

from glowgenius.errors import ConfigError
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.callbacks.stopping import EarlyStopping
from glowgenius.training.requests import LogMetrics
from tests.support.killing import Killed
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, Recorder, trainer

CURVE = [9.0, 5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 2.0, 1.0, 0.5]


def run(stopping, curve=CURVE, *, callbacks=(), held_out=HELD_OUT, **settings):
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: curve[updates])
    run = trainer(service, callbacks=[*callbacks, stopping], **{"eval_every": 1, "lookahead": 0, **settings})
    return run.train(TRAIN, held_out)


def test_it_waits_so_long_and_no_longer():
    result = run(EarlyStopping(patience=2))
    assert (result.final_checkpoint.step, result.best_step, result.sampler_step) == (5, 3, 5)
    assert result.stop_reason == "eval/loss has not improved for 2 evaluations; best was 3 at step 3"
    assert run(EarlyStopping(patience=4)).stop_reason == "completed"
    assert (
        run(EarlyStopping(patience=1)).stop_reason
        == "eval/loss has not improved for 1 evaluation; best was 3 at step 3"
    )


def test_an_improvement_has_to_be_large_enough():
    falling = [9.0, 5.0, 4.9, 4.8, 4.7, 3.0, 2.9, 2.8, 2.7, 2.6]
    assert run(EarlyStopping(patience=3, min_delta=0.5), falling).final_checkpoint.step == 4
    assert run(EarlyStopping(patience=4, min_delta=0.5), falling).final_checkpoint.step == 9


def test_the_untrained_adapter_does_not_count():
    rising = [1.0, 5.0, 4.0, 3.0, 2.9, 2.8, 2.7, 2.6, 2.5, 2.4]
    assert run(EarlyStopping(patience=1), rising).stop_reason == "completed"


def test_a_loss_that_is_not_a_number_is_no_improvement():
    result = run(EarlyStopping(patience=2), [9.0, *[float("nan")] * 9], stop_on_nan=False)
    assert result.stop_reason == "eval/loss has not improved for 2 evaluations; best was nothing"
    assert result.best_step is None


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_restoring_the_best_weights(lookahead):
    result = run(EarlyStopping(patience=2, restore_best=True), lookahead=lookahead)
    assert (result.final_checkpoint.step, result.sampler_step) == (5 + lookahead, 3)
    assert result.sampler.client.updates == 3
    assert run(EarlyStopping(restore_best=True, patience=9)).sampler_step == 9


class Judge(Callback):
    def on_evaluate_begin(self, event):
        return LogMetrics({"eval/exact_match": [0.0, 0.1, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5][event.step]})


def test_another_metric_is_good_high():
    result = run(EarlyStopping("eval_exact_match", patience=2, restore_best=True), callbacks=[Judge()])
    assert (result.final_checkpoint.step, result.sampler_step, result.best_step) == (4, 2, 3)
    turned = run(EarlyStopping("eval_exact_match", patience=2, mode="min"), callbacks=[Judge()])
    assert turned.final_checkpoint.step == 3


def test_a_metric_is_found_under_the_name_that_its_callback_gave_it():
    class Plain(Callback):
        def on_evaluate_begin(self, event):
            return LogMetrics({"politeness": [0.0, 0.1, 0.9, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5][event.step]})

    stopping = EarlyStopping("politeness", patience=2, restore_best=True)
    result = run(stopping, callbacks=[Plain()], metric_for_best="politeness")
    assert (result.final_checkpoint.step, result.sampler_step, result.best_step) == (4, 2, 2)
    assert result.history.best("politeness")["step"] == 2


def test_without_eval_every_it_asks_for_an_evaluation_of_every_epoch():
    result = run(EarlyStopping(), eval_every=None)
    assert [step for step, _ in result.history.series("eval_loss")] == [0, 3, 6, 9]
    asked = run(EarlyStopping(), eval_every=None, lookahead=1)
    assert [step for step, _ in asked.history.series("eval_loss")] == [0, 4, 7, 9]
    assert [step for step, _ in run(EarlyStopping(), eval_every=4).history.series("eval_loss")] == [0, 4, 8, 9]


def test_patience_survives_a_resume(tmp_path):
    def die(event):
        if event.step == 5:
            raise Killed

    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: CURVE[updates])
    settings = {"eval_every": 1, "save_every": 1, "lookahead": 0, "output_dir": tmp_path}
    with pytest.raises(Killed):
        trainer(service, callbacks=[EarlyStopping(patience=3), Recorder(on_step_end=die)], **settings).train(
            TRAIN, HELD_OUT
        )
    again = trainer(service, callbacks=[EarlyStopping(patience=3)], **settings)
    result = again.train(TRAIN, HELD_OUT, resume_from_checkpoint=True)
    assert (result.stop_reason, result.final_checkpoint.step) == (
        "eval/loss has not improved for 3 evaluations; best was 3 at step 3",
        6,
    )


def test_it_needs_something_to_watch():
    with pytest.raises(ConfigError) as raised:
        run(EarlyStopping(), held_out=None, eval_every=None)
    assert str(raised.value) == (
        "EarlyStopping watches 'eval/loss', but there is no evaluation set; train(..., eval_dataset=...), or take the "
        "callback out"
    )
    with pytest.raises(ConfigError) as raised:
        run(EarlyStopping("eval_los"))
    assert str(raised.value) == (
        "EarlyStopping watches 'eval/los' (did you mean 'eval/loss'?), which no evaluation measures; measured are: "
        "eval/loss. A callback adds others by returning LogMetrics from on_evaluate_begin, as AnswerEvaluation does"
    )


def test_it_needs_the_weights_that_it_is_to_restore():
    with pytest.raises(ConfigError) as raised:
        run(EarlyStopping(restore_best=True), metric_for_best=None)
    assert str(raised.value) == (
        "EarlyStopping(restore_best=True) needs the weights of evaluated steps, which metric_for_best=None does not "
        "keep; set metric_for_best"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"monitor": "train_loss"},
            (
                "EarlyStopping.monitor must be the name of an evaluation metric, such as 'eval_loss', "
                "got 'train_loss' (str)"
            ),
        ),
        (
            {"monitor": None},
            "EarlyStopping.monitor must be the name of an evaluation metric, such as 'eval_loss', got None (NoneType)",
        ),
        ({"patience": 0}, "EarlyStopping.patience must be an integer ≥ 1, got 0 (int)"),
        ({"min_delta": -1}, "EarlyStopping.min_delta must be a number ≥ 0, got -1 (int)"),
        (
            {"mode": "mni"},
            "EarlyStopping.mode must be one of 'auto', 'min', 'max', got 'mni' (str) (did you mean 'min'?)",
        ),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ConfigError) as raised:
        EarlyStopping(**arguments)
    assert str(raised.value) == message


def test_how_it_is_named():
    assert repr(EarlyStopping(patience=2)) == "EarlyStopping('eval/loss', patience=2)"
    assert EarlyStopping("eval_f1").state_key == "EarlyStopping[eval/f1]"
    names = ("exact_match", "eval_exact_match", "eval/exact_match")
    assert {repr(EarlyStopping(name)) for name in names} == {"EarlyStopping('eval/exact_match', patience=3)"}
