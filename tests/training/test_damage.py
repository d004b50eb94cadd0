"""Every file of a run folder is damaged in many ways: the run comes out as if whole, or the file is named."""

from __future__ import annotations

import json
import os
import random
import shutil

import pytest

from glowgenius import open_run
from glowgenius.errors import GlowGeniusError
from glowgenius.evaluation.callback import AnswerEvaluation
from glowgenius.reporting.run_page import write_report
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.loggers import CSVLogger, JSONLLogger, SampleLogger
from tests.support.killing import Killed
from tests.support.resuming import STEPS, train
from tests.support.training import HELD_OUT, TOKENIZER, Recorder

SEPARATORS = "one\x0btwo\x0cthree\x1cfour\x1dfive\x1esix\x85seven\u2028eight\u2029nine"
"""All that `str.splitlines` divides at, but for the ends of lines."""

FILES = (
    ".holder.json",
    ".lock",
    ".owner",
    "answers/000003.json",
    "checkpoints.jsonl",
    "config.json",
    "events.jsonl",
    "metrics.csv",
    "metrics.jsonl",
    "preview.json",
    "report.html",
    "result.json",
    "samples.jsonl",
)


@pytest.fixture(autouse=True)
def _no_fsync(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)


def loggers(folder):
    return [
        CSVLogger(),
        JSONLLogger(folder / "events.jsonl"),
        SampleLogger(["long?"], show=False),
        AnswerEvaluation(HELD_OUT),
    ]


def scripted():
    return ScriptedService(tokenizer=TOKENIZER, answers={"?": SEPARATORS})


def go_on(service, folder, *, resume=True, end=None):
    """What a run comes to: what it has measured, where its weights end, and what its own files say."""

    def die(event):
        if event.step == end:
            raise Killed

    callbacks = [*loggers(folder), Recorder(on_step_end=die)]
    result = train(service, folder, resume=resume, save_every=1, callbacks=callbacks)
    lines = (folder / "metrics.csv").read_text(encoding="utf-8")
    history = [{name: value for name, value in row.items() if name != "cost/cumulative_usd"} for row in result.history]
    parameters = service.checkpoints[result.final_checkpoint.state_path].model.parameters
    return history, parameters.tolist(), result.best_step, [record.step for record in result.checkpoints], lines


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return go_on(scripted(), tmp_path_factory.mktemp("whole"), resume=None)


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    """A run that was resumed once and killed twice: every file is there."""
    folder, service = tmp_path_factory.mktemp("broken") / "run", scripted()
    with pytest.raises(Killed):
        go_on(service, folder, resume=None, end=3)
    finished = folder.with_name("finished")
    shutil.copytree(folder, finished)
    go_on(service, finished)
    with pytest.raises(Killed):
        go_on(service, folder, end=5)
    for name in ("result.json", "report.html"):
        shutil.copyfile(finished / name, folder / name)
    (folder / ".holder.json").write_text("{}")
    return folder, finished, service


def damages(content, chosen):
    """Ways in which a file is damaged, each with a name."""
    lines = content.split(b"\n")
    yield "emptied", b""
    yield "zeros", b"\0" * len(content)
    yield "zeros at its end", content[: len(content) // 2] + b"\0" * (len(content) - len(content) // 2)
    yield "not UTF-8", b"\xff\xfe" + content
    yield "another type", b"[1, 2]\n"
    yield "a number", b"5\n"
    yield "null", b"null\n"
    yield "an empty object", b"{}\n"
    yield "nested too deeply", b"[" * 100_000 + b"\n"
    for _ in range(6):
        cut = chosen.randrange(len(content) + 1)
        yield f"cut at byte {cut}", content[:cut]
        place = chosen.randrange(len(content)) if content else 0
        flipped = bytearray(content)
        flipped[place : place + 1] = bytes([flipped[place] ^ (1 << chosen.randrange(8))]) if content else b""
        yield f"a bit of byte {place}", bytes(flipped)
        number = chosen.randrange(len(lines))
        yield f"without line {number + 1}", b"\n".join(lines[:number] + lines[number + 1 :])
        yield f"line {number + 1} twice", b"\n".join([*lines[: number + 1], *lines[number:]])
        yield f"line {number + 1} cut", b"\n".join([*lines[:number], lines[number][:-3], *lines[number + 1 :]])
    try:
        values = [json.loads(line) for line in lines if line]
    except ValueError:
        return
    for row, value in enumerate(values):
        if isinstance(value, dict) and row in {0, len(values) - 1}:
            for name in value:
                for other in (None, -1, "x", [], {}, 10**30):
                    changed = [*values[:row], {**value, name: other}, *values[row + 1 :]]
                    yield f"{name}={other!r}", b"".join(json.dumps(each).encode() + b"\n" for each in changed)


def some(ways, count):
    """The first nine, and a sample of the others."""
    ways = list(ways)
    return [*ways[:9], *random.Random(0).sample(ways[9:], min(count, len(ways)) - 9)]


def outcome(work):
    """What *work* gives, or the text of our own error."""
    try:
        return work(), None
    except GlowGeniusError as error:
        return None, str(error)


@pytest.mark.parametrize("name", FILES)
def test_a_damaged_file_is_made_good_or_named(whole, broken, tmp_path, name):
    folder, _, service = broken
    content = (folder / name).read_bytes()
    refused = 0
    for number, (way, damaged) in enumerate(some(damages(content, random.Random(name)), 24)):
        copy = tmp_path / str(number)
        shutil.copytree(folder, copy)
        (copy / name).write_bytes(damaged)
        found, error = outcome(lambda: go_on(service, copy))  # noqa: B023 - called at once
        assert found == whole if error is None else name.split("/")[-1] in error, (way, error)
        refused += error is not None
        shutil.rmtree(copy)
    believed = {"metrics.jsonl", "checkpoints.jsonl", "answers/000003.json"}
    assert (refused > 0) == (name in believed)


@pytest.mark.parametrize("name", FILES)
def test_a_finished_run_with_a_damaged_file_is_opened_or_refused_by_name(broken, tmp_path, name):
    _, finished, _ = broken
    if not (finished / name).exists():
        return
    page = tmp_path / "page.html"

    def opened(folder):
        run = open_run(folder)
        write_report(page, run=folder)
        return run.base_model, run.checkpoint().step, run.weights_path(), page.stat().st_size > 0

    whole = opened(finished)
    for number, (way, damaged) in enumerate(some(damages((finished / name).read_bytes(), random.Random(name)), 40)):
        copy = tmp_path / str(number)
        shutil.copytree(finished, copy)
        (copy / name).write_bytes(damaged)
        found, error = outcome(lambda: opened(copy))  # noqa: B023 - called at once
        named = error is not None and (name.split("/")[-1] in error or "no weights of step" in error)
        assert found == whole if error is None else named, (way, error)
        shutil.rmtree(copy)


def test_a_record_that_was_moved_by_one_step_is_refused(broken, tmp_path):
    folder, _, service = broken
    shutil.copytree(folder, tmp_path / "run")
    file = tmp_path / "run" / "checkpoints.jsonl"
    *lines, last = file.read_text(encoding="utf-8").splitlines()
    record = json.loads(last)
    edited = {**record, "step": record["step"] + 1, "name": f"{record['step'] + 1:06d}"}
    file.write_text("".join(line + "\n" for line in [*lines, json.dumps(edited)]), encoding="utf-8")
    with pytest.raises(GlowGeniusError) as raised:
        go_on(service, tmp_path / "run")
    assert str(raised.value) == (
        f"{file}:{len(lines) + 1}: the line is not as it was written, or one before it is missing: its digest is "
        "another; restore the file from a copy, or begin anew in another output_dir"
    )


def test_damaged_rows_name_the_checkpoint_that_can_be_gone_on_from(whole, broken, tmp_path):
    folder, _, service = broken
    shutil.copytree(folder, tmp_path / "run")
    file = tmp_path / "run" / "metrics.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    file.write_text("".join([*lines[:3], *lines[4:]]), encoding="utf-8")
    with pytest.raises(GlowGeniusError) as raised:
        go_on(service, tmp_path / "run")
    told, _, path = str(raised.value).rpartition("resume_from_checkpoint=")
    assert told == (
        f"{file}:4: not the row of step 3; restore the file from a copy, or begin anew in another output_dir, or go on "
        "from step 2, up to which the rows are whole: "
    )
    assert go_on(service, tmp_path / "run", resume=path.strip("'")) == whole


def test_what_is_damaged_in_a_log_is_kept_aside(broken, tmp_path, caplog):
    folder, _, service = broken
    copy = tmp_path / "run"
    shutil.copytree(folder, copy)
    damaged = b"{broken\n" + (copy / "events.jsonl").read_bytes()
    (copy / "events.jsonl").write_bytes(damaged)
    go_on(service, copy)
    assert (copy / "events.jsonl.damaged").read_bytes() == damaged
    assert caplog.messages[-1] == (
        f"JSONLLogger: {copy}/events.jsonl is damaged in line 1; the run goes on without, and the whole file is kept "
        f"as {copy}/events.jsonl.damaged"
    )


def test_samples_with_every_separator_are_one_line(broken):
    _, finished, _ = broken
    lines = (finished / "samples.jsonl").read_bytes().split(b"\n")[:-1]
    assert [json.loads(line)["step"] for line in lines] == [0, 3, STEPS]
    assert {json.loads(line)["answer"] for line in lines} == {SEPARATORS}
