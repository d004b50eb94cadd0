"""What is sent in which order, and what is reported in which order: whole journals and whole sequences of events."""

from __future__ import annotations

import numpy as np
import pytest

from glowgenius.batching.shift import shift
from glowgenius.engines.datum import mean_loss, to_data
from glowgenius.engines.tinker_types import ForwardBackwardOutput, OptimStepResponse, TensorData, completed
from glowgenius.errors import ConfigError, EngineError, TrainingError
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.base import Callback
from glowgenius.training.events import EvaluateEnd, StepEnd
from glowgenius.training.requests import LogMetrics, RunEvaluation, SaveCheckpoint, StopTraining
from tests.support.training import (
    HELD_OUT,
    RENDERER,
    TOKENIZER,
    TRAIN,
    Recorder,
    kinds,
    trainer,
    updates,
)


def run(*callbacks, service=None, held_out=HELD_OUT, **settings):
    service = ScriptedService(tokenizer=TOKENIZER) if service is None else service
    result = trainer(service, callbacks=callbacks, **settings).train(TRAIN, held_out)
    return result, service


@pytest.mark.parametrize("lookahead", [0, 1, 2, 9])
def test_the_journal_is_the_same_for_every_lookahead(lookahead):
    """Checkpoints and evaluations of step n stand directly behind its update, before anything of step n+1."""
    _, service = run(lookahead=lookahead, num_epochs=2, save_every=2, eval_every="epoch")
    assert kinds(service) == [
        "create_lora_training_client",
        "evaluate",
        "step",
        "step",
        "state 000002",
        "step",
        "weights 000003",
        "evaluate",
        "step",
        "state 000004",
        "step",
        "step",
        "state 000006",
        "weights 000006",
        "evaluate",
    ]


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_a_checkpoint_of_step_n_holds_n_updates(lookahead):
    result, service = run(lookahead=lookahead, save_every=1, eval_every=2)
    saved = {record.step: record for record in result.checkpoints}
    assert sorted(saved) == list(range(1, 10))
    for step, record in saved.items():
        assert service.checkpoints[record.state_path].model.updates == step
        assert service.checkpoints[record.state_path].user_metadata == {
            "step": str(step),
            "epoch": str(step // 3),
            "batch": str(step % 3),
        }
        assert (record.epoch, record.batch, record.name) == (step // 3, step % 3, f"{step:06d}")
        if record.sampler_path is not None:
            assert service.checkpoints[record.sampler_path].model.updates == step
    assert [step for step, record in saved.items() if record.sampler_path] == [2, 4, 6, 8, 9]
    assert [step for step, record in saved.items() if record.final] == [9]


class Waiting:
    """Wraps a training client and notes the order in which its futures are made and waited for."""

    def __init__(self, client, log):
        self._client, self._log = client, log

    def __getattr__(self, name):
        method = getattr(self._client, name)
        if name not in ("forward_backward", "optim_step", "forward"):
            return method

        def call(*args):
            self._log.append(f"send {name}")
            return Noted(method(*args), name, self._log)

        return call


class Noted:
    def __init__(self, future, name, log):
        self._future, self._name, self._log = future, name, log

    def result(self, timeout=None):
        self._log.append(f"wait {self._name}")
        return self._future.result(timeout)


class WaitingService:
    def __init__(self, log):
        self._service, self._log = ScriptedService(tokenizer=TOKENIZER), log

    def create_lora_training_client(self, *args, **kwargs):
        future = self._service.create_lora_training_client(*args, **kwargs)
        client = Waiting(future.result(), self._log)
        return type("Ready", (), {"result": lambda self: client})()


@pytest.mark.parametrize(
    ("lookahead", "expected"),
    [
        (0, ["send 1", "wait 1", "send 2", "wait 2", "send 3", "wait 3"]),
        (1, ["send 1", "send 2", "wait 1", "send 3", "wait 2", "wait 3"]),
        (2, ["send 1", "send 2", "send 3", "wait 1", "wait 2", "wait 3"]),
    ],
)
def test_so_many_steps_are_sent_ahead(lookahead, expected):
    log = []
    run(service=WaitingService(log), held_out=None, lookahead=lookahead, max_steps=3)
    told, counts = [], {"send": 0, "wait": 0}
    for first, second in zip(log[::2], log[1::2], strict=True):
        word = first.split()[0]
        assert (first, second) == (f"{word} forward_backward", f"{word} optim_step")
        counts[word] += 1
        told.append(f"{word} {counts[word]}")
    assert told == expected


GOLDEN = """
TrainBegin
EvaluateBegin 0 · EvaluateEnd 0 · StepLogged 0
EpochBegin
StepBegin 1 · StepEnd 1 · StepLogged 1
StepBegin 2 · StepEnd 2 · EvaluateBegin 2 · EvaluateEnd 2 · CheckpointSaved 2 · StepLogged 2
StepBegin 3 · StepEnd 3 · EpochEnd 3 · CheckpointSaved 3 · StepLogged 3
EpochBegin
StepBegin 4 · StepEnd 4 · EvaluateBegin 4 · EvaluateEnd 4 · CheckpointSaved 4 · StepLogged 4
StepBegin 5 · StepEnd 5 · StepLogged 5
StepBegin 6 · StepEnd 6 · EvaluateBegin 6 · EvaluateEnd 6 · EpochEnd 6 · CheckpointSaved 6 · StepLogged 6
TrainEnd 6
"""


def told(recorder):
    return [f"{type(event).__name__} {getattr(event, 'step', '')}".strip() for event in recorder.events]


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_the_events_of_a_run(lookahead):
    """Evaluation every second step, a state at the end of each epoch: the same order for every lookahead."""
    recorder = Recorder()
    run(recorder, lookahead=lookahead, num_epochs=2, eval_every=2, save_every="epoch")
    assert told(recorder) == GOLDEN.replace("\n", " · ").strip(" ·").split(" · ")


def test_an_epoch_that_max_steps_cuts_off_does_not_end():
    recorder = Recorder()
    result, _ = run(recorder, held_out=None, max_steps=4)
    assert result.stop_reason == "max_steps"
    assert recorder.names.count("EpochBegin") == 2
    assert recorder.names.count("EpochEnd") == 1


def test_what_the_events_say():
    recorder = Recorder()
    result, _ = run(recorder, num_epochs=1, eval_every=2)
    heard = {name: [event for event in recorder.events if type(event).__name__ == name] for name in recorder.names}
    steps = heard["StepEnd"]
    assert [(event.step, event.epoch, event.num_rows, event.total_steps) for event in steps] == [
        (1, 1, 4, 3),
        (2, 1, 4, 3),
        (3, 1, 2, 3),
    ]
    assert [event.learning_rate for event in steps] == pytest.approx([0.5, 1 / 3, 1 / 6])
    assert tuple(event.loss for event in steps) == result.history.train_loss
    tokens = [event.trained_tokens for event in steps]
    (epoch,) = heard["EpochEnd"]
    weighted = sum(event.loss * event.trained_tokens for event in steps) / sum(tokens)
    assert (epoch.epoch, epoch.step, epoch.loss) == (1, 3, pytest.approx(weighted))
    assert [(event.step, event.metrics["eval/loss"]) for event in heard["EvaluateEnd"]] == list(
        result.history.series("eval_loss")
    )
    assert [event.num_rows for event in heard["EvaluateBegin"]] == [3, 3, 3]
    begin, end = heard["TrainBegin"][0], heard["TrainEnd"][0]
    assert (begin.start_step, begin.total_steps, begin.steps_per_epoch, begin.engine) == (0, 3, 3, "ScriptedService")
    assert (end.step, end.stop_reason, end.trained_tokens) == (3, "completed", sum(tokens))


def test_the_rows():
    result, _ = run(num_epochs=1)
    names = ["step", "epoch", "train/loss", "learning_rate", "tokens/trained", "tokens/input"]
    assert [list(row) for row in result.history] == [["step", "eval/loss"], names, names, [*names, "eval/loss"]]
    assert [row["step"] for row in result.history] == [0, 1, 2, 3]
    rendered = [RENDERER.render(row) for row in TRAIN]
    assert sum(row["tokens/trained"] for row in result.history[1:]) == sum(row.num_trained for row in rendered)
    assert sum(row["tokens/input"] for row in result.history[1:]) == sum(len(row) - 1 for row in rendered)


def test_every_request_is_weighted_to_one_so_that_a_sum_is_a_mean():
    _, service = run(held_out=HELD_OUT, eval_every=1)
    requests = [*service.operations("forward_backward"), *service.operations("forward")]
    assert [operation.weight_sum for operation in requests] == pytest.approx([1.0] * len(requests), rel=1e-6)


def test_every_row_is_visited_once_an_epoch():
    _, service = run(held_out=None)
    rows = [operation.num_data for operation in service.operations("forward_backward")]
    assert rows == [4, 4, 2] * 3


def test_the_optimizer_gets_every_setting():
    _, service = run(
        held_out=None,
        num_epochs=1,
        lr_schedule="constant",
        learning_rate=0.01,
        beta1=0.8,
        beta2=0.9,
        eps=1e-6,
        weight_decay=0.1,
        grad_clip_norm=1.5,
    )
    for operation in service.operations("optim_step"):
        assert operation.adam_params.model_dump() == {
            "learning_rate": 0.01,
            "beta1": 0.8,
            "beta2": 0.9,
            "eps": 1e-6,
            "weight_decay": 0.1,
            "grad_clip_norm": 1.5,
        }
    _, service = run(held_out=None, max_steps=1)
    assert service.operations("optim_step")[0].adam_params.grad_clip_norm == 0.0
    assert service.operations("optim_step")[0].adam_params.eps == 1e-8


def test_evaluation_is_at_the_beginning_and_at_the_end_without_asking():
    result, _ = run()
    assert [step for step, _ in result.history.series("eval_loss")] == [0, 9]


def test_without_a_metric_for_best_no_weights_of_evaluated_steps_are_kept():
    result, service = run(eval_every=2, metric_for_best=None)
    assert [operation.name for operation in service.operations("save_weights_for_sampler")] == ["000009"]
    assert result.best_step is None
    assert result.best_checkpoint is None


# --- requests ---


def at(step, answer):
    return lambda event: answer if event.step == step else None


@pytest.mark.parametrize(("lookahead", "saved"), [(0, 2), (1, 3), (2, 4)])
def test_a_save_that_is_asked_for_carries_the_number_of_the_updates_in_it(lookahead, saved):
    result, service = run(Recorder(on_step_end=at(2, SaveCheckpoint())), held_out=None, lookahead=lookahead)
    assert [record.step for record in result.checkpoints] == [saved, 9]
    assert service.checkpoints[result.checkpoints[0].state_path].model.updates == saved


@pytest.mark.parametrize(("lookahead", "evaluated"), [(0, 2), (1, 3), (2, 4)])
def test_an_evaluation_that_is_asked_for(lookahead, evaluated):
    result, service = run(Recorder(on_step_end=at(2, RunEvaluation())), lookahead=lookahead)
    assert [step for step, _ in result.history.series("eval_loss")] == [0, evaluated, 9]
    assert len(service.operations("forward")) == 3


@pytest.mark.parametrize(
    "hook", ["on_step_begin", "on_evaluate_begin", "on_evaluate_end", "on_epoch_end", "on_checkpoint_saved"]
)
@pytest.mark.parametrize("lookahead", [0, 1])
def test_requests_are_served_at_every_moment(hook, lookahead):
    """At lookahead 0 even what is asked for in the last moment of a step is about that very step."""
    recorder = Recorder(**{hook: at(3, SaveCheckpoint()), "on_step_end": at(3, RunEvaluation())})
    result, service = run(recorder, lookahead=lookahead, eval_every=3, save_every=3)
    steps = {step for step, _ in result.history.series("eval_loss")}
    saved = {record.step for record in result.checkpoints if record.state_path}
    assert steps == {0, 3, 6, 9} | ({4} if lookahead else set())
    assert saved == {3, 6, 9} | ({4} if lookahead else set())
    for record in result.checkpoints:
        if record.state_path:
            assert service.checkpoints[record.state_path].model.updates == record.step


def test_asking_at_the_end_of_a_step_is_still_about_that_step_without_lookahead():
    recorder = Recorder(on_epoch_end=at(3, RunEvaluation()), on_checkpoint_saved=at(3, RunEvaluation()))
    result, service = run(recorder, lookahead=0, save_every=3)
    assert [step for step, _ in result.history.series("eval_loss")] == [0, 3, 9]
    assert kinds(service)[1:8] == ["evaluate", "step", "step", "step", "state 000003", "weights 000003", "evaluate"]
    names = [name for name in recorder.names if name in ("EpochEnd", "EvaluateEnd", "CheckpointSaved", "StepEnd")]
    assert names[1:8] == ["StepEnd", "StepEnd", "StepEnd", "EpochEnd", "EvaluateEnd", "CheckpointSaved", "StepEnd"]
    assert result.checkpoints[0].sampler_path is not None


def test_evaluating_when_told_about_a_checkpoint_tells_of_the_weights_that_are_kept_with_it():
    recorder = Recorder(on_checkpoint_saved=at(3, RunEvaluation()))
    result, _ = run(recorder, lookahead=0, save_every=3)
    saves = [
        (event.step, event.sampler_path is not None) for event in recorder.events if hasattr(event, "sampler_path")
    ]
    assert saves[:2] == [(3, False), (3, True)]
    assert [step for step, _ in result.history.series("eval_loss")] == [0, 3, 9]


@pytest.mark.parametrize(("lookahead", "last"), [(0, 4), (1, 5), (2, 6)])
def test_stopping_takes_effect_behind_what_is_submitted(lookahead, last):
    recorder = Recorder(on_step_end=at(4, StopTraining("enough")))
    result, service = run(recorder, lookahead=lookahead)
    assert (result.stop_reason, result.final_checkpoint.step, result.history.last["step"]) == ("enough", last, last)
    assert len(service.operations("optim_step")) == last
    assert kinds(service)[-3:] == [f"state 00000{last}", f"weights 00000{last}", "evaluate"]
    assert [step for step, _ in result.history.series("eval_loss")] == [0, last]
    assert result.final_checkpoint.final


def test_everyone_sees_the_event_at_which_one_stops_and_the_first_reason_counts():
    log = []
    first = Recorder("A", log, on_step_end=at(2, StopTraining("first")))
    second = Recorder("B", log, on_step_end=at(2, StopTraining("second")))
    result, _ = run(first, second, lookahead=0)
    assert result.stop_reason == "first"
    assert [event for _, event in log[::2]] == [event for _, event in log[1::2]]


@pytest.mark.parametrize("hook", ["on_checkpoint_saved", "on_epoch_end", "on_evaluate_end"])
def test_stopping_in_the_last_moment_of_a_step_keeps_and_evaluates_it(hook):
    result, service = run(Recorder(**{hook: at(3, StopTraining("now"))}), lookahead=0, save_every=3, eval_every=3)
    final = result.final_checkpoint
    assert (final.step, final.final, len(service.operations("optim_step"))) == (3, True, 3)
    assert service.checkpoints[final.sampler_path].model.updates == 3
    assert [step for step, _ in result.history.series("eval_loss")] == [0, 3]


def test_stopping_before_the_first_update_is_no_run():
    with pytest.raises(TrainingError) as raised:
        run(Recorder(on_evaluate_end=at(0, StopTraining("at once"))), lookahead=0)
    assert str(raised.value) == "a callback stopped the run before its first update: at once"


def test_stopping_at_the_last_step_changes_only_the_reason():
    result, service = run(Recorder(on_evaluate_end=at(9, StopTraining("late"))))
    assert (result.stop_reason, len(service.operations("save_state"))) == ("late", 1)


def test_the_weights_of_another_step_can_be_asked_for():
    stop = StopTraining("enough", use_step=2)
    result, _ = run(Recorder(on_evaluate_end=at(4, stop)), eval_every=2)
    assert (result.sampler_step, result.sampler.client.updates) == (2, 2)
    result, _ = run(Recorder(on_evaluate_end=at(4, StopTraining("enough", use_step=4))), eval_every=2)
    assert (result.sampler_step, result.sampler.client.updates) == (4, 4)


def test_weights_that_were_not_kept_cannot_be_asked_for():
    with pytest.raises(ConfigError) as raised:
        run(Recorder(on_step_end=at(4, StopTraining("enough", use_step=3))))
    assert str(raised.value) == (
        "StopTraining(use_step=3): the weights of that step were not kept; those of evaluated steps are, with an "
        "eval_dataset and metric_for_best set"
    )


def test_an_evaluation_without_anything_to_evaluate_cannot_be_asked_for():
    with pytest.raises(ConfigError) as raised:
        run(Recorder(on_step_end=at(1, RunEvaluation())), held_out=None)
    assert str(raised.value) == "a callback asked for RunEvaluation(), but train() was given no eval_dataset"


# --- figures of callbacks ---


class Judge(Callback):
    """Samples from the weights that are evaluated."""

    needs_sampler = True

    def __init__(self):
        self.updates = []

    def on_evaluate_begin(self, event):
        self.updates.append((event.step, event.sampler.client.updates, event.sampler.name))
        return LogMetrics({"eval_exact_match": event.step / 10})


@pytest.mark.parametrize("lookahead", [0, 1, 2])
def test_a_callback_samples_from_exactly_the_weights_that_are_evaluated(lookahead):
    judge, recorder = Judge(), Recorder()
    result, service = run(judge, recorder, eval_every=4, lookahead=lookahead, metric_for_best="eval_exact_match")
    assert judge.updates == [(0, 0, "step 0"), (4, 4, "step 4"), (8, 8, "step 8"), (9, 9, "step 9")]
    assert result.history.series("eval_exact_match") == ((0, 0.0), (4, 0.4), (8, 0.8), (9, 0.9))
    ends = [event for event in recorder.events if isinstance(event, EvaluateEnd)]
    assert [list(event.metrics) for event in ends] == [["eval/loss", "eval/exact_match"]] * 4
    assert [event.is_best for event in ends] == [False, True, True, True]
    assert (result.best_step, result.best_checkpoint.step) == (9, 9)
    assert kinds(service)[1:3] == ["snapshot", "evaluate"]
    assert len(service.operations("save_weights_and_get_sampling_client")) == 4


def test_without_such_a_callback_no_snapshot_is_made():
    recorder = Recorder()
    _, service = run(recorder)
    assert service.operations("save_weights_and_get_sampling_client") == ()
    assert [event.sampler for event in recorder.events if hasattr(event, "sampler")] == [None, None]


def test_figures_are_part_of_the_row():
    result, _ = run(
        Recorder(
            on_step_end=lambda event: LogMetrics({"norm": event.step * 2}),
            on_epoch_end=at(3, LogMetrics({"eval_x": 1})),
        )
    )
    assert result.history.series("norm") == tuple((step, 2.0 * step) for step in range(1, 10))
    assert result.history.series("eval/x") == ((3, 1.0),)


def test_figures_may_come_as_late_as_the_checkpoint():
    result, _ = run(Recorder(on_checkpoint_saved=at(3, LogMetrics({"size": 7}))), save_every=3)
    assert result.history.series("size") == ((3, 7.0),)


def test_an_evaluation_alone_is_no_checkpoint():
    recorder = Recorder(on_epoch_end=at(3, RunEvaluation()))
    result, _ = run(recorder, lookahead=0, metric_for_best=None)
    assert [step for step, _ in result.history.series("eval_loss")] == [0, 3, 9]
    assert [record.step for record in result.checkpoints] == [9]
    assert recorder.names.count("CheckpointSaved") == 1


def test_what_the_trainer_measures_itself_is_not_overwritten():
    with pytest.raises(ConfigError) as raised:
        run(Recorder(on_step_end=lambda _: LogMetrics({"train_loss": 0.0})))
    assert str(raised.value) == "LogMetrics['train/loss'] is measured by the trainer itself; choose another name"


def test_a_metric_for_best_that_nobody_measures_is_said_before_the_first_update():
    recorder = Recorder()
    with pytest.raises(ConfigError) as raised:
        run(recorder, metric_for_best="eval_f1", lookahead=0)
    assert str(raised.value) == (
        "metric_for_best='eval_f1' is not measured at an evaluation; measured are: eval/loss. A callback adds others "
        "by returning LogMetrics from on_evaluate_begin, as AnswerEvaluation does"
    )
    assert recorder.names == ["TrainBegin", "EvaluateBegin", "TrainFailed"]


def test_the_best_step_is_the_one_with_the_lowest_loss_after_an_update():
    curve = [9.0, 5.0, 4.0, 3.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    recorder = Recorder()
    result, service = run(
        recorder, service=ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: curve[updates]), eval_every=2
    )
    ends = [(event.step, event.is_best) for event in recorder.events if isinstance(event, EvaluateEnd)]
    assert ends == [(0, False), (2, True), (4, True), (6, False), (8, False), (9, False)]
    assert result.best_step == 4
    assert service.checkpoints[result.best_checkpoint.sampler_path].model.updates == 4
    assert result.best_sampler.client.updates == 4
    assert (result.sampler_step, result.sampler.client.updates) == (9, 9)
    assert result.history.train_loss == pytest.approx(curve[:9])


# --- the loss ---

EXAMPLES = [shift(RENDERER.render(row)) for row in TRAIN[:2]]


def output(logprobs, metrics=None):
    records = [{"logprobs": TensorData.from_numpy(np.array(row, dtype=np.float32))} for row in logprobs]
    return ForwardBackwardOutput(loss_fn_output_type="x", loss_fn_outputs=records, metrics=metrics or {})


def test_the_loss_is_the_mean_over_trained_tokens_by_the_raw_masks():
    rows = [-np.arange(len(example), dtype=np.float32) for example in EXAMPLES]
    trained = [-row[example.weights > 0] for row, example in zip(rows, EXAMPLES, strict=True)]
    expected = np.concatenate(trained).mean()
    assert mean_loss(output(rows), EXAMPLES) == pytest.approx(expected)
    # Where nothing is trained an engine may say anything.
    for row, example in zip(rows, EXAMPLES, strict=True):
        row[example.weights == 0] = np.nan
    assert mean_loss(output(rows), EXAMPLES) == pytest.approx(expected)


def test_without_log_probabilities_the_sum_stands_for_the_mean():
    bare = ForwardBackwardOutput(loss_fn_output_type="x", loss_fn_outputs=[{}, {}], metrics={"loss:sum": 1.25})
    assert mean_loss(bare, EXAMPLES) == 1.25


def test_an_engine_that_says_nothing_is_an_error():
    bare = ForwardBackwardOutput(loss_fn_output_type="x", loss_fn_outputs=[], metrics={"other:sum": 1.0})
    with pytest.raises(EngineError) as raised:
        mean_loss(bare, EXAMPLES)
    assert str(raised.value) == (
        "the engine answered with neither log-probabilities nor 'loss:sum', so that the loss is unknown; it gave: "
        "other:sum"
    )
    with pytest.raises(EngineError, match="it gave: nothing"):
        mean_loss(ForwardBackwardOutput(loss_fn_output_type="x", loss_fn_outputs=[]), EXAMPLES)
    with pytest.raises(EngineError) as raised:
        mean_loss(output([[0.0], [0.0]]), EXAMPLES)
    assert str(raised.value) == (
        f"the engine answered with log-probabilities of shape [1] for an example of {len(EXAMPLES[0])} targets"
    )


def test_a_step_learns_the_same_whatever_the_lengths_in_its_batch():
    """The gradient of a batch is that of the mean over its trained tokens: the same rows twice change nothing."""
    once, twice = to_data(EXAMPLES), to_data([*EXAMPLES, *EXAMPLES])
    ratio = once[0].loss_fn_inputs["weights"].to_numpy() / twice[0].loss_fn_inputs["weights"].to_numpy().clip(1e-9)
    assert set(np.round(ratio, 5)) == {0.0, 2.0}


def test_figures_of_the_engine_about_an_update_are_kept(monkeypatch):
    from glowgenius.testing.scripted_service import ScriptedTrainingClient

    plain = ScriptedTrainingClient.optim_step

    def optim_step(self, optim_params):
        plain(self, optim_params)
        return completed(OptimStepResponse(metrics={"grad_norm": 0.5}))

    monkeypatch.setattr(ScriptedTrainingClient, "optim_step", optim_step)
    recorder = Recorder()
    result, _ = run(recorder, max_steps=2)
    assert result.history.series("optimizer/grad_norm") == ((1, 0.5), (2, 0.5))
    assert [event.metrics for event in recorder.events if isinstance(event, StepEnd)] == [
        {"optimizer/grad_norm": 0.5}
    ] * 2


def test_two_runs_with_one_seed_are_the_same_and_another_seed_is_not():
    first, service = run()
    again, other = run()
    assert first.history == again.history
    assert updates(service) == updates(other)
    different, third = run(seed=1)
    assert updates(third) != updates(service)
    assert different.history != first.history
