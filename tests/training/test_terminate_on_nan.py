"""A loss that is no number ends the run, and the weights before it are what answers."""

from __future__ import annotations

import math

import attrs
import pytest

from glowgenius.errors import TrainingError
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.stopping import TerminateOnNaN
from glowgenius.training.requests import StopTraining
from tests.support.events import STEP_END
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, trainer

NAN, INF = math.nan, math.inf


def run(curve, *, held_out=HELD_OUT, **settings):
    """*curve* is the loss after so many updates."""
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: curve[updates])
    settings = {"eval_every": 2 if held_out else None, "lookahead": 0, **settings}
    return trainer(service, callbacks=[TerminateOnNaN()], **settings).train(TRAIN, held_out)


def test_a_run_of_numbers_is_left_alone():
    assert run([float(10 - step) for step in range(10)]).stop_reason == "completed"


def test_a_training_loss_ends_the_run_and_the_best_weights_answer():
    # Step 6 is the first whose batch is seen by the weights of five updates.
    result = run([9.0, 5.0, 4.0, 3.0, 4.5, *[NAN] * 5])
    assert result.stop_reason == "train/loss is nan at step 6; result.sampler has the weights of step 2"
    assert (result.final_checkpoint.step, result.sampler_step, result.sampler.client.updates) == (6, 2, 2)


@pytest.mark.parametrize(("value", "word"), [(INF, "inf"), (-INF, "-inf")])
def test_an_infinite_loss_is_no_better(value, word):
    event = attrs.evolve(STEP_END, loss=value)
    assert TerminateOnNaN().on_step_end(event) == StopTraining(
        f"train/loss is {word} at step 1; no earlier weights were kept"
    )


def test_an_evaluation_ends_the_run_too():
    result = run([9.0, 5.0, 4.0, 3.0, NAN, 5.0, 5.0, 5.0, 5.0, 5.0])
    assert result.stop_reason == "eval/loss is nan at step 4; result.sampler has the weights of step 2"


def test_without_evaluations_there_are_only_the_last_weights():
    result = run([9.0, NAN, *[5.0] * 8], held_out=None)
    assert result.stop_reason == "train/loss is nan at step 2; no earlier weights were kept"
    assert result.sampler_step == 2


def test_weights_that_are_not_kept_are_not_asked_for():
    result = run([9.0, 5.0, 4.0, 3.0, NAN, *[5.0] * 5], metric_for_best=None)
    assert result.stop_reason == "eval/loss is nan at step 4; no earlier weights were kept"


@pytest.mark.parametrize("lookahead", [1, 2])
def test_steps_under_way_are_still_made(lookahead):
    result = run([9.0, 5.0, 4.0, 3.0, 4.5, *[NAN] * 5], lookahead=lookahead)
    assert (result.final_checkpoint.step, result.sampler_step) == (6 + lookahead, 2)


def test_without_the_callback_the_run_ends_with_an_error_that_says_what_to_do():
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: [9.0, 5.0, 4.0, NAN][min(updates, 3)])
    with pytest.raises(TrainingError) as caught:
        trainer(service, lookahead=0, save_every=2).train(TRAIN)
    assert str(caught.value) == (
        "train/loss is nan at step 4, so nothing that comes after it can be of use; the state of step 2 was saved "
        "before. Try a lower learning_rate, or grad_clip_norm=1.0. TerminateOnNaN() ends such a run without an error "
        "and keeps its best weights, and TrainingConfig(stop_on_nan=False) lets it go on"
    )


def test_an_evaluation_ends_it_with_an_error_too():
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: INF if updates == 2 else 5.0)
    with pytest.raises(TrainingError, match=r"^eval/loss is inf at step 2, .*; no state had been saved before\."):
        trainer(service, eval_every=2, lookahead=0, save_every=None).train(TRAIN, HELD_OUT)


def test_the_run_goes_on_where_that_is_asked_for():
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: NAN if updates == 2 else 5.0)
    assert trainer(service, stop_on_nan=False).train(TRAIN).stop_reason == "completed"
