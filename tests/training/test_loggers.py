"""What `CSVLogger`, `SampleLogger` and `JSONLLogger` leave behind, whole, and after a resume."""

from __future__ import annotations

import csv
import io
import json

import pytest

from glowgenius.data.message import Message
from glowgenius.errors import ConfigError, ServiceUnavailableError
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.loggers import CSVLogger, JSONLLogger, SampleLogger
from glowgenius.training.requests import LogMetrics
from tests.support.killing import Killed
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, Recorder, trainer

ANSWERS = {"Q1?": "A1", "E0?": "wrong", "Where?": "Here", "long?": "x" * 100}


def scripted(**script):
    script = {"loss": lambda updates: 4.0 / (updates + 1), "answers": ANSWERS, **script}
    return ScriptedService(tokenizer=TOKENIZER, **script)


def run(*callbacks, service=None, held_out=HELD_OUT, resume=None, **settings):
    settings = {"lookahead": 0, **settings}
    made = trainer(scripted() if service is None else service, callbacks=callbacks, **settings)
    return made.train(TRAIN, held_out, resume_from_checkpoint=resume)


def die_at(step):
    def die(event):
        if event.step == step:
            raise Killed

    return Recorder(on_step_end=die)


# --- CSV ---


def test_the_table_has_a_row_per_step_and_a_column_per_metric(tmp_path):
    run(CSVLogger(tmp_path / "new" / "m.csv"), max_steps=2)
    assert (tmp_path / "new" / "m.csv").read_text() == (
        "step,eval/loss,epoch,train/loss,learning_rate,tokens/trained,tokens/input\n"
        "0,4.0,,,,,\n"
        "1,,1,4.0,0.5,12,100\n"
        "2,1.3333333730697632,1,2.0,0.25,12,100\n"
    )


def test_it_holds_what_metrics_jsonl_holds(tmp_path):
    measured = Recorder(on_step_end=lambda event: LogMetrics({"mine": event.step / 3}))
    run(CSVLogger(), measured, output_dir=tmp_path, eval_every=2)
    with (tmp_path / "metrics.csv").open() as file:
        table = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
    assert table == [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert table[9]["mine"] == 3.0


def test_a_loss_that_is_not_a_number_is_written_as_nan(tmp_path):
    service = scripted(loss=lambda _: float("nan"))
    run(CSVLogger(tmp_path / "m.csv"), service=service, max_steps=1, held_out=None, stop_on_nan=False)
    assert (tmp_path / "m.csv").read_text().splitlines()[1].startswith("1,1,nan,")


def test_another_run_is_not_written_over(tmp_path):
    run(CSVLogger(tmp_path / "m.csv"), max_steps=1)
    before = (tmp_path / "m.csv").read_text()
    with pytest.raises(ConfigError) as raised:
        run(CSVLogger(tmp_path / "m.csv"), max_steps=1)
    assert str(raised.value) == (
        f"CSVLogger: '{tmp_path}/m.csv' holds another run already; name another file, delete this one, or go on with "
        "that run: train(..., resume_from_checkpoint=True)"
    )
    assert (tmp_path / "m.csv").read_text() == before


def test_it_needs_somewhere_to_write(tmp_path):
    with pytest.raises(ConfigError) as raised:
        run(CSVLogger(), max_steps=1)
    assert str(raised.value) == (
        "CSVLogger has nowhere to write: give it a path, or set TrainingConfig.output_dir, where it writes metrics.csv"
    )
    with pytest.raises(ConfigError) as raised:
        run(CSVLogger(tmp_path), max_steps=1)
    assert str(raised.value) == f"CSVLogger: '{tmp_path}' is a folder; name a file"
    assert [repr(CSVLogger()), repr(CSVLogger("a.csv"))] == ["CSVLogger()", "CSVLogger('a.csv')"]


@pytest.mark.parametrize("lookahead", [0, 2])
def test_after_a_resume_there_is_one_row_per_step(tmp_path, lookahead):
    settings = {"save_every": 2, "eval_every": 2, "lookahead": lookahead}
    run(CSVLogger(), output_dir=tmp_path / "whole", **settings)
    service = scripted()
    cut = {"output_dir": tmp_path / "cut", "service": service, **settings}
    with pytest.raises(Killed):
        run(CSVLogger(), die_at(6), **cut)
    # A kill in the middle of a write.
    with (tmp_path / "cut" / "metrics.csv").open("a") as file:
        file.write("6,3.1")
    run(CSVLogger(), resume=True, **cut)
    assert (tmp_path / "cut" / "metrics.csv").read_text() == (tmp_path / "whole" / "metrics.csv").read_text()


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_its_files_anew(tmp_path):
    service = scripted()
    loggers = lambda: (CSVLogger(), SampleLogger(["Where?"], show=False), JSONLLogger(tmp_path / "cut" / "e.jsonl"))  # noqa: E731
    with pytest.raises(Killed):
        run(*loggers(), die_at(2), service=service, output_dir=tmp_path / "cut")
    run(*loggers(), service=service, output_dir=tmp_path / "cut", resume=True)
    run(CSVLogger(), SampleLogger(["Where?"], show=False), output_dir=tmp_path / "whole")
    for name in ("metrics.csv", "samples.jsonl"):
        assert (tmp_path / "cut" / name).read_text() == (tmp_path / "whole" / name).read_text()
    events = [json.loads(line)["event"] for line in (tmp_path / "cut" / "e.jsonl").read_text().splitlines()]
    assert (events[:2], events.count("StepEnd"), events[-1]) == (["TrainFailed", "TrainBegin"], 9, "TrainEnd")


# --- samples ---


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_questions_are_asked_at_every_evaluation(tmp_path):
    out = io.StringIO()
    asked = ["Where?", (Message("system", "Be brief."), Message("user", "Q1?")), HELD_OUT[0]]
    run(SampleLogger(asked, file=out), output_dir=tmp_path, max_steps=2)
    system = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q1?"}]
    expected = [
        {"step": step, **record}
        for step in (0, 2)
        for record in (
            {"index": 0, "prompt": "Where?", "answer": "Here", "stop_reason": "stop"},
            {"index": 1, "prompt": system, "answer": "A1", "stop_reason": "stop"},
            {"index": 2, "prompt": "E0?", "answer": "wrong", "expected": "A0", "stop_reason": "stop"},
        )
    ]
    assert lines_of(tmp_path / "samples.jsonl") == expected
    assert out.getvalue() == "".join(
        f"samples at step {step}:\n"
        "  Where?\n    Here\n"
        '  [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Q1?"}]\n    A1\n'
        "  E0?\n    wrong\n    expected: A0\n"
        for step in (0, 2)
    )


def test_an_answer_that_is_cut_off_says_so(capsys):
    run(SampleLogger(["long?"], max_tokens=3), max_steps=1)
    assert capsys.readouterr().out.splitlines()[:3] == [
        "samples at step 0:",
        "  long?",
        "    xxx … (cut off at max_tokens)",
    ]


def test_it_can_be_silent_and_without_a_file(capsys, tmp_path):
    run(SampleLogger(["Where?"], show=False), max_steps=1)
    assert capsys.readouterr().out == ""
    run(SampleLogger(["Where?"], path=tmp_path / "s.jsonl", show=False), max_steps=1)
    assert [line["step"] for line in lines_of(tmp_path / "s.jsonl")] == [0, 1]


def test_samples_of_a_resumed_run_are_there_once(tmp_path):
    settings = {"save_every": 2, "eval_every": 1}
    run(SampleLogger(["Where?"], show=False), output_dir=tmp_path / "whole", **settings)
    service = scripted()
    cut = {"output_dir": tmp_path / "cut", "service": service, **settings}
    with pytest.raises(Killed):
        run(SampleLogger(["Where?"], show=False), die_at(6), **cut)
    run(SampleLogger(["Where?"], show=False), resume=True, **cut)
    assert lines_of(tmp_path / "cut" / "samples.jsonl") == lines_of(tmp_path / "whole" / "samples.jsonl")


def test_it_needs_an_evaluation():
    with pytest.raises(ConfigError) as raised:
        run(SampleLogger(["Where?"]), held_out=None)
    assert str(raised.value) == (
        "SampleLogger asks its questions at every evaluation, but there is no evaluation set; "
        "train(..., eval_dataset=...), or take the callback out"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("Where?",), "SampleLogger.questions must be a list of questions, at least one, got 'Where?' (str)"),
        (([],), "SampleLogger.questions must be a list of questions, at least one, got [] (list)"),
    ],
)
def test_bad_questions(arguments, message):
    with pytest.raises(ConfigError) as raised:
        SampleLogger(*arguments)
    assert str(raised.value) == message


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [("max_tokens", 0, "an integer ≥ 1"), ("temperature", -1, "a number ≥ 0"), ("seed", True, "an integer ≥ 0")],
)
def test_bad_settings(name, value, rule):
    with pytest.raises(ConfigError) as raised:
        SampleLogger(["Where?"], **{name: value})
    assert str(raised.value) == f"SampleLogger.{name} must be {rule}, got {value!r} ({type(value).__name__})"


# --- events ---


def told(path):
    return [line for line in lines_of(path) if line["event"] not in ("TrainBegin", "TrainFailed")]


@pytest.mark.parametrize("killed_at", [5, 6, 7])
@pytest.mark.parametrize("save_every", [2, "epoch"])
def test_events_of_a_resumed_run_are_there_once(tmp_path, save_every, killed_at):
    settings = {"save_every": save_every, "eval_every": 2}
    run(JSONLLogger(tmp_path / "whole.jsonl"), output_dir=tmp_path / "whole", **settings)
    service = scripted()
    log = JSONLLogger(tmp_path / "cut.jsonl")
    cut = {"output_dir": tmp_path / "cut", "service": service, **settings}
    with pytest.raises(Killed):
        run(log, die_at(killed_at), **cut)
    run(log, resume=True, **cut)
    paths = [str(tmp_path / "cut"), str(tmp_path / "whole")]
    cut_text = json.dumps(told(tmp_path / "cut.jsonl")).replace(paths[0], paths[1]).replace("train:1", "train:0")
    assert json.loads(cut_text) == told(tmp_path / "whole.jsonl")


def test_a_resume_leaves_the_runs_before_alone(tmp_path):
    path = tmp_path / "e.jsonl"
    run(JSONLLogger(path), max_steps=1)
    first = path.read_text()
    service = scripted(fail_on={"optim_step": {3: ConnectionError("gone")}})
    settings = {"service": service, "output_dir": tmp_path / "run", "save_every": 1, "max_steps": 4, "max_restarts": 0}
    with pytest.raises(ServiceUnavailableError):
        run(JSONLLogger(path), **settings)
    run(JSONLLogger(path), resume=True, **settings)
    assert path.read_text().startswith(first)
    rest = [json.loads(line) for line in path.read_text()[len(first) :].splitlines()]
    assert [line["step"] for line in rest if line["event"] == "StepEnd"] == [1, 2, 3, 4]
    assert [line["event"] for line in rest if line["event"].startswith("Train")] == [
        "TrainBegin",
        "TrainFailed",
        "TrainBegin",
        "TrainEnd",
    ]


# --- what was written before a run had begun ---


def all_of(folder):
    return CSVLogger(), JSONLLogger(folder / "events.jsonl"), SampleLogger(["Q1?"], show=False)


@pytest.mark.parametrize("resume", [None, True])
def test_a_failure_before_the_run_begins_locks_nothing(tmp_path, resume):
    failing = scripted(fail_on={"create_lora_training_client": {1: ServiceUnavailableError("away")}})
    with pytest.raises(ServiceUnavailableError):
        run(*all_of(tmp_path), service=failing, output_dir=tmp_path, max_restarts=0)
    assert (tmp_path / "metrics.csv").read_text() == "step\n"
    assert not (tmp_path / "config.json").exists()
    run(*all_of(tmp_path), output_dir=tmp_path, resume=resume)
    assert len((tmp_path / "metrics.csv").read_text().splitlines()) == 11


@pytest.mark.parametrize("resume", [None, True])
def test_a_run_that_was_killed_before_its_first_row_can_be_begun_again(tmp_path, resume):
    def die(_):
        raise Killed

    with pytest.raises(Killed):
        run(*all_of(tmp_path), Recorder(on_evaluate_end=die), output_dir=tmp_path)
    assert (tmp_path / "samples.jsonl").read_text()
    run(*all_of(tmp_path), output_dir=tmp_path, resume=resume)
    assert [json.loads(line)["step"] for line in (tmp_path / "samples.jsonl").read_text().splitlines()] == [0, 9]


def test_a_file_of_the_users_own_in_a_new_folder_is_left_alone(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,mine\n1,2\n")
    for resume in (None, True):
        with pytest.raises(ConfigError, match="holds another run already"):
            run(CSVLogger(), output_dir=tmp_path, resume=resume)
    assert (tmp_path / "metrics.csv").read_text() == "step,mine\n1,2\n"
