"""A run that was killed and resumed is the run that was not: same batches, same rates, same weights, same rows."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from glowgenius.errors import CheckpointError, ConfigError, ResumeMismatchError
from glowgenius.lora.config import LoRAConfig
from glowgenius.rendering import QuestionAnswerRenderer
from glowgenius.testing import ScriptedService
from glowgenius.training.config import TrainingConfig
from glowgenius.training.requests import StopTraining
from glowgenius.training.trainer import SupervisedTrainer
from tests.support.killing import Killed, MortalService
from tests.support.resuming import ROWS, SETTINGS, STEPS, Counting, train, weights_of
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, Recorder, config, trainer, updates


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    """Many runs: nothing here depends on when the disk has written."""
    monkeypatch.setattr(os, "fsync", lambda _: None)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    result = train(ScriptedService(tokenizer=TOKENIZER), folder)
    return {"history": result.history, "metrics": (folder / "metrics.jsonl").read_text()}


def killed_after(folder, step, service, **settings):
    def die(event):
        if event.step == step:
            raise Killed

    with pytest.raises(Killed):
        train(service, folder, callbacks=[Recorder(on_step_end=die)], **settings)


def test_the_header_says_where_it_goes_on(tmp_path):
    service, recorder = ScriptedService(tokenizer=TOKENIZER), Recorder()
    killed_after(tmp_path, 4, service)
    train(service, tmp_path, resume=True, callbacks=[recorder])
    begin = recorder.events[0]
    assert begin.start_step == 2
    assert begin.header[-1] == "resume: from step 2, at tinker://scripted:train:0/weights/000002"
    assert recorder.names[1:3] == ["StepBegin", "StepEnd"]


def test_without_a_checkpoint_the_run_starts_anew_and_says_so(uninterrupted, tmp_path):
    service, recorder = ScriptedService(tokenizer=TOKENIZER), Recorder()
    killed_after(tmp_path, 2, service)
    result = train(service, tmp_path, resume=True, callbacks=[recorder])
    assert recorder.events[0].header[-1] == "resume: the run had no checkpoint yet, so it starts anew"
    assert result.history == uninterrupted["history"]


def test_a_folder_with_settings_alone_has_a_run_to_start_anew(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    result = train(ScriptedService(tokenizer=TOKENIZER), tmp_path, resume=True)
    assert result.history.last["step"] == STEPS


@pytest.mark.parametrize("made", [True, False])
def test_a_script_that_always_resumes_begins_where_there_is_nothing(uninterrupted, tmp_path, made):
    folder, recorder = tmp_path / "new", Recorder()
    if made:
        folder.mkdir()
    result = train(ScriptedService(tokenizer=TOKENIZER), folder, resume=True, callbacks=[recorder])
    assert recorder.events[0].header[-1] == f"resume: there is no run in '{folder}' yet, so it starts anew"
    assert not recorder.events[0].resumed
    assert result.history == uninterrupted["history"]


def test_an_earlier_checkpoint_can_be_named(uninterrupted, tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    first = train(service, tmp_path)
    earlier = next(record for record in first.checkpoints if record.step == 4)
    again = train(service, tmp_path, resume=earlier.state_path)
    assert again.history == uninterrupted["history"]
    assert (tmp_path / "metrics.jsonl").read_text() == uninterrupted["metrics"]
    steps = [json.loads(line)["step"] for line in (tmp_path / "checkpoints.jsonl").read_text().splitlines()]
    assert steps == [2, 3, 4, 6]


def test_the_folder_of_another_run_can_be_named(uninterrupted, tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    killed_after(tmp_path / "old", 5, service)
    result = train(service, tmp_path / "new", resume=tmp_path / "old")
    assert result.history == uninterrupted["history"]
    assert (tmp_path / "new" / "metrics.jsonl").read_text() == uninterrupted["metrics"]
    with pytest.raises(ConfigError, match="holds a run already"):
        train(service, tmp_path / "new", resume=tmp_path / "old")


@pytest.mark.parametrize(
    ("longer", "rates"),
    [({"num_epochs": 3}, ("0.0335", "0.125")), ({"max_steps": 8, "num_epochs": 9}, ("0.0335", "0.0732"))],
)
def test_a_finished_run_can_be_made_longer(tmp_path, longer, rates):
    service, recorder = ScriptedService(tokenizer=TOKENIZER), Recorder()
    first = train(service, tmp_path)
    more = train(service, tmp_path, resume=True, callbacks=[recorder], **longer)
    total = longer.get("max_steps", 9)
    assert recorder.events[0].header[-1] == (
        f"resume: the run was to have 6 steps and now has {total}; the steps so far followed the cosine schedule of 6, "
        f"the others follow that of {total}: the learning rate was {rates[0]} at step 6 and is {rates[1]} at step 7"
    )
    assert [f"{row['learning_rate']:.3g}" for row in more.history[6:8]] == list(rates)
    assert [row["step"] for row in more.history] == list(range(total + 1))
    assert more.history[:7].rows == first.history.rows
    assert [record.final for record in more.checkpoints] == [False] * (len(more.checkpoints) - 1) + [True]
    assert service.checkpoints[more.final_checkpoint.state_path].model.updates == total


def test_with_a_constant_rate_the_longer_run_is_the_one_that_was_long_from_the_beginning(tmp_path):
    settings = {"lr_schedule": "constant", "warmup_steps": 2}
    long, service, recorder = ScriptedService(tokenizer=TOKENIZER), ScriptedService(tokenizer=TOKENIZER), Recorder()
    whole = train(long, None, num_epochs=4, **settings)
    train(service, tmp_path, num_epochs=1, **settings)
    more = train(service, tmp_path, resume=True, callbacks=[recorder], num_epochs=4, **settings)
    assert recorder.events[0].header[-1] == (
        "resume: the run was to have 3 steps and now has 12; a constant learning rate is the same either way"
    )
    assert updates(service) == updates(long)
    assert np.array_equal(weights_of(service, more), weights_of(long, whole))


def test_a_finished_run_is_given_back(tmp_path):
    """Killed behind its last checkpoint, or started again by a script that always resumes."""
    service, recorder = ScriptedService(tokenizer=TOKENIZER), Recorder()
    first = train(service, tmp_path)
    again = train(service, tmp_path, resume=True, callbacks=[recorder])
    assert recorder.names == ["TrainBegin", "TrainEnd"]
    assert recorder.events[0].header[-1] == (
        "resume: the run is complete, it ended at step 6; nothing is left to train"
    )
    assert len(service.operations("optim_step")) == STEPS
    assert (again.history, again.checkpoints) == (first.history, first.checkpoints)
    assert (again.best_step, again.stop_reason) == (first.best_step, "completed")


def test_a_run_that_a_callback_has_ended_stays_ended_until_it_is_made_longer(tmp_path):
    service, recorder = ScriptedService(tokenizer=TOKENIZER), Recorder()
    stop = Recorder(on_evaluate_end=lambda event: StopTraining("enough", use_step=3) if event.step == 3 else None)
    train(service, tmp_path, callbacks=[stop])
    again = train(service, tmp_path, resume=True, callbacks=[recorder])
    assert recorder.events[0].header[-1] == (
        "resume: the run is complete, it ended at step 4 (enough); nothing is left to train"
    )
    assert (again.stop_reason, again.final_checkpoint.step, again.sampler_step) == ("enough", 4, 3)
    longer = train(service, tmp_path, resume=True, num_epochs=3)
    assert (longer.stop_reason, longer.final_checkpoint.step) == ("completed", 9)
    assert [record.step for record in longer.checkpoints if record.final] == [9]


def test_a_run_made_shorter_than_it_is_has_nothing_left(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    train(service, tmp_path)
    with pytest.raises(ConfigError) as raised:
        train(service, tmp_path, resume=True, max_steps=5)
    assert str(raised.value) == (
        "there is nothing left to train: the checkpoint has 6 updates, and the run is to have 5; raise num_epochs or "
        "max_steps to go on"
    )


def test_how_often_is_evaluated_and_saved_may_change(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    killed_after(tmp_path, 4, service)
    result = train(service, tmp_path, resume=True, eval_every=None, save_every=1, lookahead=0, metric_for_best=None)
    assert [record.step for record in result.checkpoints] == [2, 3, 4, 5, 6]


def test_the_best_step_is_one_whose_weights_were_kept(tmp_path):
    curve = [9.0, 5.0, 4.0, 1.0, 3.0, 2.5, 2.0]
    service = ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: curve[updates])
    killed_after(tmp_path, 5, service, metric_for_best=None)
    result = train(service, tmp_path, resume=True)
    assert (result.history.best()["step"], result.best_step) == (3, 6)


def mismatch(
    tmp_path, *, rows=ROWS, held_out=HELD_OUT, renderer=RENDERER, base_model="scripted", lora=None, **settings
):
    service = ScriptedService(tokenizer=TOKENIZER)
    killed_after(tmp_path, 4, service)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    run = trainer(
        service,
        renderer=renderer,
        base_model=base_model,
        lora=lora,
        output_dir=tmp_path,
        **{**SETTINGS, **settings},
    )
    with pytest.raises(ResumeMismatchError) as raised:
        run.train(rows, held_out, resume_from_checkpoint=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before
    head, *lines, tail, _ = [*str(raised.value).split("\n"), ""]
    state = json.loads((tmp_path / "checkpoints.jsonl").read_text().splitlines()[0])["state_path"]
    assert head == "cannot go on from the checkpoint of step 2, as these have changed since it was saved:"
    assert tail == (
        "Put them back as they were, or start anew in another output_dir. Only eval_every, lookahead, max_restarts, "
        "max_steps, metric_for_best, num_epochs, save_every, save_top_k, stop_on_nan may change. To train its weights "
        f"on other data, begin a new run: train(..., initial_weights={state!r})"
    )
    return [line.strip() for line in lines]


def test_changed_settings_are_all_named(tmp_path):
    assert mismatch(tmp_path, batch_size=3, learning_rate=0.25, seed=1, num_epochs=5) == [
        "config.batch_size: 2 then, 3 now",
        "config.learning_rate: 0.5 then, 0.25 now",
        "config.seed: 0 then, 1 now",
    ]


def test_changed_data_is_named(tmp_path):
    old, new = ROWS.fingerprint[:12], TRAIN.fingerprint[:12]
    assert mismatch(tmp_path, rows=TRAIN) == [f"the training data: fingerprint {old}… then, fingerprint {new}… now"]


def test_changed_evaluation_data_is_named(tmp_path):
    old = HELD_OUT.fingerprint[:12]
    assert mismatch(tmp_path, held_out=None, eval_every=None) == [
        f"the evaluation data: fingerprint {old}… then, none now"
    ]


def test_a_changed_renderer_is_named(tmp_path):
    renderer = QuestionAnswerRenderer(TOKENIZER)
    assert mismatch(tmp_path, renderer=renderer) == [
        (
            f"the renderer (template, vocabulary or settings): fingerprint {RENDERER.fingerprint[:12]}… then, "
            f"fingerprint {renderer.fingerprint[:12]}… now"
        )
    ]


def test_a_changed_model_and_adapter_are_named(tmp_path):
    assert mismatch(tmp_path, base_model="other", lora=LoRAConfig(rank=8, train_unembed=False)) == [
        "base_model: 'scripted' then, 'other' now",
        "lora.rank: 32 then, 8 now",
        "lora.train_unembed: True then, False now",
    ]


def test_the_state_of_a_callback_that_is_gone_is_not_dropped_silently(tmp_path):
    service, recorder = ScriptedService(tokenizer=TOKENIZER), Recorder()
    with pytest.raises(Killed):
        train(MortalService(service, at_call=14), tmp_path, callbacks=[Counting()])
    train(service, tmp_path, resume=True, callbacks=[recorder])
    assert recorder.events[0].header[-1] == (
        "warning: the checkpoint holds the state of a callback 'Counting', which is not among the callbacks"
    )


def test_resuming_needs_a_folder(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(ConfigError) as raised:
        train(service, None, resume=True)
    assert str(raised.value) == (
        "resume_from_checkpoint=True looks in output_dir, which is None; name the run's folder there"
    )
    with pytest.raises(CheckpointError) as raised:
        train(service, tmp_path / "empty", resume="tinker://x")
    assert str(raised.value) == f"there is no run in '{tmp_path}/empty' to go on with"
    with pytest.raises(CheckpointError) as raised:
        train(service, None, resume="tinker://x")
    assert str(raised.value) == "resume_from_checkpoint='tinker://x' is not the folder of a run, and output_dir is None"


def test_an_unknown_checkpoint_lists_the_known_ones(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    killed_after(tmp_path, 5, service)
    with pytest.raises(CheckpointError) as raised:
        train(service, tmp_path, resume="tinker://x")
    assert str(raised.value) == (
        "resume_from_checkpoint='tinker://x' is neither the folder of a run nor a checkpoint of the run in "
        f"'{tmp_path}'; its checkpoints: tinker://scripted:train:0/weights/000002, "
        "tinker://scripted:train:0/weights/000004"
    )


def test_false_is_no_resume(tmp_path):
    result = train(ScriptedService(tokenizer=TOKENIZER), tmp_path, resume=False)
    assert result.history.last["step"] == STEPS


def test_a_run_of_the_cookbook_is_not_taken_for_ours(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "checkpoints.jsonl").write_text(
        '{"name": "000006", "batch": 6, "epoch": 0, "state_path": "tinker://x"}\n'
    )
    with pytest.raises(CheckpointError) as raised:
        train(ScriptedService(tokenizer=TOKENIZER), tmp_path, resume=True)
    assert str(raised.value) == (
        f"{tmp_path}/checkpoints.jsonl:1: a checkpoint without step, total_steps, identity cannot be resumed from; it "
        "was not written by glowgenius. Its weights can be taken over with train(..., initial_weights=its state_path)"
    )


def test_a_broken_line_is_named(tmp_path):
    service = ScriptedService(tokenizer=TOKENIZER)
    killed_after(tmp_path, 5, service)
    text = (tmp_path / "metrics.jsonl").read_text()
    (tmp_path / "metrics.jsonl").write_text("{broken\n" + text)
    with pytest.raises(CheckpointError) as raised:
        train(service, tmp_path, resume=True)
    assert str(raised.value).startswith(f"{tmp_path}/metrics.jsonl:1: not a line of JSON: ")


def test_a_client_that_was_given_cannot_resume(tmp_path):
    client = ScriptedService(tokenizer=TOKENIZER).create_lora_training_client("m").result()
    run = SupervisedTrainer.from_client(client, renderer=RENDERER, config=config(output_dir=tmp_path))
    with pytest.raises(ConfigError) as raised:
        run.train(TRAIN, resume_from_checkpoint=True)
    assert str(raised.value) == (
        "a trainer made from a client cannot resume, as a client cannot be wound back; make the trainer with "
        "base_model and service instead"
    )


def test_by_default_no_more_than_an_epoch_is_made_again(tmp_path):
    """Killed in its second epoch, a run without a word about saving goes on from the end of the first."""
    service = ScriptedService(tokenizer=TOKENIZER)
    settings = TrainingConfig(batch_size=4, learning_rate=0.5, lookahead=0, output_dir=tmp_path)

    def made(*callbacks):
        return SupervisedTrainer("scripted", service=service, renderer=RENDERER, config=settings, callbacks=callbacks)

    def dies(event):
        if event.step == 5:
            raise KeyError("killed")

    with pytest.raises(KeyError):
        made(Recorder(on_step_end=dies)).train(TRAIN)
    assert len(service.operations("optim_step")) == 5
    result = made().train(TRAIN, resume_from_checkpoint=True)
    assert result.final_checkpoint.step == 9
    assert len(service.operations("optim_step")) == 5 + 6
    assert [record.step for record in result.checkpoints] == [3, 6, 9]


def test_a_template_that_writes_the_day_goes_on_with_the_day_of_its_run(tmp_path, monkeypatch):
    from datetime import date

    from glowgenius.rendering import ChatTemplateRenderer, chat_template
    from tests.support.chat_tokenizers import CHATML, bpe_tokenizer

    tokenizer = bpe_tokenizer("{{ strftime_now('%Y-%m-%d') }}" + CHATML)

    class Day(date):
        @classmethod
        def today(cls):
            return days[0]

    def run(folder, days_now, resume=None, today=None, **settings):
        days[:] = [days_now]
        made = SupervisedTrainer(
            "m",
            service=service,
            renderer=ChatTemplateRenderer(tokenizer, today=today),
            config=config(output_dir=folder, save_every=1, num_epochs=1, **settings),
        )
        return made.train(TRAIN, resume_from_checkpoint=resume), made

    monkeypatch.setattr(chat_template, "date", Day)
    days, service = [date(2026, 1, 2)], ScriptedService(tokenizer=tokenizer)
    first, _ = run(tmp_path / "run", date(2026, 1, 2), max_steps=1)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["day"] == "2026-01-02"
    again, made = run(tmp_path / "run", date(2026, 1, 3), resume=True, max_steps=2)
    assert made.renderer.day == date(2026, 1, 2)
    assert len(again.history) > len(first.history)
    with pytest.raises(
        ResumeMismatchError, match=r"the day in every prompt: 2026-01-02 then, 2026-01-05 now \(renderer="
    ):
        run(tmp_path / "run", date(2026, 1, 4), resume=True, today=date(2026, 1, 5), max_steps=3)
    # The advice works.
    run(tmp_path / "run", date(2026, 1, 4), resume=True, today=date(2026, 1, 2), max_steps=3)
