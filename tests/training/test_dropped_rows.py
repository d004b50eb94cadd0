"""A run that failed because of a row goes on without it, and is the same run in everything else."""

from __future__ import annotations

import json

import numpy as np
import pytest

from glowgenius.batching.order import batches
from glowgenius.cli.common import in_shell
from glowgenius.data.dataset import Dataset
from glowgenius.errors import CheckpointError, ConfigError, NothingToTrainError, Problem, RequestRejectedError
from glowgenius.testing import ScriptedService
from glowgenius.training.checkpoints import CheckpointRecord
from glowgenius.training.config import TrainingConfig
from glowgenius.training.rows import count_left_out, empty_places, prepare
from glowgenius.training.schedule import make_plan
from tests.support.killing import Killed
from tests.support.training import RENDERER, TOKENIZER, TRAIN, Recorder, config, trainer, updates

BAD = 7
"""Whatever step it is in by then, no batch of TRAIN is this row alone."""

SETTINGS = {"batch_size": 4, "num_epochs": 3, "save_every": 2}


def service(**settings):
    return ScriptedService(tokenizer=TOKENIZER, **settings)


def train(engine, folder, *, data=TRAIN, resume=None, dropped=(), callbacks=(), **settings):
    run = trainer(engine, callbacks=callbacks, output_dir=folder, **{**SETTINGS, **settings})
    return run.train(data, resume_from_checkpoint=resume, dropped_rows=dropped)


def failed(folder, **settings):
    """A service whose run in *folder* has failed at step 5, behind the checkpoint of step 4, and the error."""
    engine = service(fail_on={"forward_backward": {5: RequestRejectedError("datum refused")}})
    with pytest.raises(RequestRejectedError) as caught:
        train(engine, folder, **settings)
    return engine, caught.value


def weights_of(engine, result):
    return engine.checkpoints[result.final_checkpoint.state_path].model.parameters


def test_a_run_goes_on_without_the_row_and_all_others_keep_their_places(tmp_path):
    engine, _ = failed(tmp_path)
    before = (tmp_path / "metrics.jsonl").read_text().splitlines()[:4]
    seen = Recorder()
    result = train(engine, tmp_path, resume=True, dropped=[BAD], callbacks=[seen])
    assert seen.events[0].header[-1] == "dropped: row 7, by dropped_rows; 9 rows are left"
    assert seen.events[0].header[0].startswith("engine:")
    assert any("9 = 3 epochs × 3 batches of 4 rows, the last of them 2 rows" in line for line in seen.events[0].header)
    assert (tmp_path / "metrics.jsonl").read_text().splitlines()[:4] == before
    whole = [one for epoch in range(3) for one in batches(10, 4, seed=0, epoch=epoch)]
    counts = {event.step: event.num_rows for event in seen.events if type(event).__name__ == "StepEnd"}
    assert counts == {n: len([row for row in whole[n - 1] if row != BAD]) for n in range(5, 10)}
    assert [int(row["step"]) for row in result.history] == list(range(1, 10))
    assert json.loads((tmp_path / "config.json").read_text())["dropped_rows"] == {"7": 1}


@pytest.mark.parametrize("split", [False, True])
def test_the_order_of_the_others_is_what_it_was(split):
    rows = tuple(row for row in range(10) for _ in range(3 if split and row == BAD else 1) if row != BAD)
    places = empty_places(rows, {BAD: 3 if split else 1})
    total = len(rows) + len(places)
    settings = TrainingConfig(batch_size=4, num_epochs=3)
    plan = make_plan(settings, num_rows=total, learning_rate=0.5, left_out=places)
    whole = make_plan(settings, num_rows=total, learning_rate=0.5)
    owner = [row for row in range(10) for _ in range(3 if split and row == BAD else 1)]
    for number in range(1, whole.total_steps + 1):
        expected = [owner[place] for place in whole.step(number).rows if owner[place] != BAD]
        assert [rows[place] for place in plan.step(number).rows] == expected
        assert plan.step(number).learning_rate == whole.step(number).learning_rate


def test_the_run_remembers_the_row_and_a_kill_in_between_changes_nothing(tmp_path):
    engine, _ = failed(tmp_path / "once")
    once = train(engine, tmp_path / "once", resume=True, dropped=[BAD])
    killed, _ = failed(tmp_path / "twice")

    def die(event):
        if event.step == 5:
            raise Killed

    with pytest.raises(Killed):
        train(killed, tmp_path / "twice", resume=True, dropped=[BAD], callbacks=[Recorder(on_step_end=die)])
    seen = Recorder()
    twice = train(killed, tmp_path / "twice", resume=True, callbacks=[seen])
    assert seen.events[0].header[-1] == "dropped: row 7, by dropped_rows; 9 rows are left"
    assert twice.history == once.history
    assert np.array_equal(weights_of(killed, twice), weights_of(engine, once))
    assert updates(killed)[-5:] == updates(engine)[-5:]
    assert train(killed, tmp_path / "twice", resume=True, dropped=[BAD]).history == once.history


def test_the_record_remembers_where_the_settings_are_lost(tmp_path):
    engine, _ = failed(tmp_path)
    train(engine, tmp_path, resume=True, dropped=[BAD])
    (tmp_path / "config.json").unlink()
    seen = Recorder()
    train(engine, tmp_path, resume=True, callbacks=[seen], num_epochs=4)
    assert seen.events[0].header[-1] == "dropped: row 7, by dropped_rows; 9 rows are left"


def test_a_run_without_a_checkpoint_starts_anew_without_the_row(tmp_path):
    engine, _ = failed(tmp_path, save_every=None)
    seen = Recorder()
    train(engine, tmp_path, resume=True, dropped=[BAD], callbacks=[seen], save_every=None)
    assert sum(event.num_rows for event in seen.events if type(event).__name__ == "StepEnd") == 27


def test_the_error_names_the_rows_of_the_step_and_its_advice_works(tmp_path):
    engine, error = failed(tmp_path)
    rows = sorted(batches(10, 4, seed=0, epoch=1)[1])
    named = ", ".join(f"row {row}" for row in rows)
    [note] = error.__notes__
    assert note == (
        f"step 5 had the rows {named}; where one of them was refused, go on without it, naming that one: train(..., "
        f"resume_from_checkpoint=True, dropped_rows=['row {rows[0]}'])"
    )
    assert in_shell(note).endswith(f"naming that one: --resume --drop-row 'row {rows[0]}'")
    result = train(engine, tmp_path, resume=True, dropped=[f"row {rows[0]}"])
    assert result.final_checkpoint.step == 9


def test_the_row_that_the_engine_names_by_its_place_in_the_request_is_named_in_the_data_set(tmp_path):
    engine = service(fail_on={"forward_backward": {5: RequestRejectedError("datum 2: 900 tokens are too long")}})
    with pytest.raises(RequestRejectedError) as caught:
        train(engine, tmp_path)
    row = batches(10, 4, seed=0, epoch=1)[1][2]
    which, advice = caught.value.__notes__
    assert which == f"datum 2 is row {row}"
    assert f"dropped_rows=['row {row}']" in advice
    train(engine, tmp_path, resume=True, dropped=[f"row {row}"])


def test_a_step_without_rows_is_refused_and_its_error_does_not_advise_it(tmp_path):
    engine, error = failed(tmp_path, batch_size=1)
    row = batches(10, 1, seed=0, epoch=0)[4][0]
    assert error.__notes__ == [
        f"step 5 had the rows row {row}; where one of them was refused, leave it out of the data and begin anew"
    ]
    with pytest.raises(ConfigError) as caught:
        train(engine, tmp_path, resume=True, dropped=[row], batch_size=1)
    assert str(caught.value) == (
        "dropped_rows: step 5 would have no row left, and no update can be made of none; leave the rows out of the "
        "data, and begin anew in another output_dir"
    )


def test_rows_are_named_as_errors_name_them(tmp_path):
    path = tmp_path / "rows.jsonl"
    lines = [{"id": f"r{n}", "question": f"Q{n}?", "answer": f"A{n}"} for n in range(10)]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    data = Dataset.from_file(path)
    for number, name in enumerate([f"{path}:8", "r7", "7", "row 7", 7]):
        folder = tmp_path / str(number)
        engine, _ = failed(folder, data=data)
        seen = Recorder()
        train(engine, folder, data=data, resume=True, dropped=[name], callbacks=[seen])
        assert seen.events[0].header[-1] == f"dropped: row 7 ({path}:8), by dropped_rows; 9 rows are left"


@pytest.mark.parametrize("name", ["rows.jsonl:99", 10, -1, True, None, 1.5])
def test_what_names_no_row_is_refused_with_what_does(tmp_path, name):
    engine, _ = failed(tmp_path)
    with pytest.raises(ConfigError) as caught:
        train(engine, tmp_path, resume=True, dropped=[name])
    assert str(caught.value) == (
        f"dropped_rows: there is no row {name!r} among the 10 rows of the training data; accepted is a row's place as "
        "errors print it ('train.jsonl:17' or 'row 16'), its id, or its 0-based number"
    )


def test_a_name_of_several_rows_is_refused(tmp_path):
    data = Dataset.from_records(
        [{"id": "3" if n == 5 else f"r{n}", "question": f"Q{n}?", "answer": "A"} for n in range(10)]
    )
    engine, _ = failed(tmp_path, data=data)
    with pytest.raises(ConfigError) as caught:
        train(engine, tmp_path, data=data, resume=True, dropped=["3"])
    assert str(caught.value) == (
        "dropped_rows: '3' names several rows: row 3 (row 3), row 5 (row 5); write the one that is meant as 'row N'"
    )


def test_it_needs_a_run_that_goes_on(tmp_path):
    for resume in (None, True):
        with pytest.raises(ConfigError, match="only with resume_from_checkpoint; to train without these rows from the"):
            train(service(), tmp_path / "new", resume=resume, dropped=[BAD])
    with pytest.raises(ConfigError, match="dropped_rows must be a list, got '7'"):
        train(service(), tmp_path / "new", dropped="7")
    engine, _ = failed(tmp_path / "all")
    with pytest.raises(ConfigError, match="no row is left to train; leave at least one"):
        train(engine, tmp_path / "all", resume=True, dropped=list(range(10)))


def test_a_run_that_has_ended_has_trained_the_row(tmp_path):
    engine = service()
    train(engine, tmp_path)
    with pytest.raises(ConfigError, match="the run ended at step 9 and has trained row 7 already"):
        train(engine, tmp_path, resume=True, dropped=[BAD])


class Failing:
    """A renderer that cannot render one row any more."""

    def __init__(self, row):
        self._row = row

    def __getattr__(self, name):
        return getattr(RENDERER, name)

    def render_rows(self, conversations, train_on):
        for row, found in enumerate(RENDERER.render_rows(conversations, train_on)):
            problem = Problem(found="nothing", accepted="something")
            yield NothingToTrainError("nothing", [problem]) if row == self._row else found


@pytest.mark.parametrize("total", [10, 12])
def test_a_row_that_cannot_be_rendered_keeps_the_places_that_it_had(total):
    rows, problems = prepare(TRAIN, Failing(BAD), config(), name="train", dropped={BAD: None}, total=total)
    assert problems == []
    assert rows.left_out == {BAD: total - 9}
    assert rows.counts.left_out == total - 9
    _, problems = prepare(TRAIN, Failing(BAD), config(), name="train", dropped={3: None}, total=10)
    assert [problem.row for problem in problems] == [BAD]


def test_an_overlong_row_that_is_dropped_is_no_problem():
    long = Dataset.from_records(
        [*({"question": f"Q{n}?", "answer": "A"} for n in range(3)), {"question": "Q?", "answer": "A" * 90}]
    )
    settings = config(max_length=60)
    assert len(prepare(long, RENDERER, settings, name="train")[1]) == 1
    rows, problems = prepare(long, RENDERER, settings, name="train", dropped={3: None}, total=4)
    assert (problems, rows.left_out) == ([], {3: 1})


def test_what_cannot_be_told_is_not_guessed():
    assert count_left_out({1: None, 2: None}, {}, kept=8, total=10) == {1: 1, 2: 1}
    assert count_left_out({1: None, 2: 3}, {}, kept=8, total=13) == {1: 2, 2: 3}
    for total in (None, 7, 12):
        with pytest.raises(ConfigError, match="how many examples the dropped rows 1, 2 had cannot be told"):
            count_left_out({1: None, 2: None}, {}, kept=8, total=total)


@pytest.mark.parametrize("value", [[7], {"x": 1}, {"7": -1}, {"7": True}, {"7": "1"}])
def test_a_record_with_other_dropped_rows_is_damaged(value):
    record = CheckpointRecord(name="000001", step=1, epoch=0, batch=1, total_steps=2)
    assert "dropped_rows" not in record.to_json()
    with pytest.raises(CheckpointError, match="dropped_rows="):
        CheckpointRecord.from_json({**record.to_json(), "dropped_rows": value}, "checkpoints.jsonl:1")
