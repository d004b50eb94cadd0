"""Each tracker through its own library, without a network: what was sent is read back with the library's own reader."""

from __future__ import annotations

import importlib
import importlib.util
import json
import logging
import os
import struct

import pytest

from glowgenius.errors import ConfigError, MissingDependencyError
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.trackers import (
    MLflowLogger,
    TensorBoardLogger,
    Tracker,
    TrackioLogger,
    WandbLogger,
    flat,
)
from tests.support.killing import Killed
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, Recorder, trainer


def needs(*modules):
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}; pip install '.[test]'")


# What the libraries say about themselves is not ours to mend.
pytestmark = [pytest.mark.filterwarnings("ignore::Warning")]


def scripted(**script):
    return ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: 4.0 / (updates + 1), **script)


def run(*callbacks, service=None, resume=None, **settings):
    settings = {"lookahead": 0, "eval_every": 3, "save_every": 2, **settings}
    made = trainer(scripted() if service is None else service, callbacks=callbacks, **settings)
    return made.train(TRAIN, HELD_OUT, resume_from_checkpoint=resume)


def killed_and_resumed(make, folder, killed_at=5):
    """A run whose process ends after the rows of some steps behind the last checkpoint have been sent."""
    service = scripted()

    def die(event):
        if event.step == killed_at:
            raise Killed

    settings = {"service": service, "output_dir": folder}
    with pytest.raises(Killed):
        run(make(), Recorder(on_step_logged=die), **settings)
    return run(make(), resume=True, **settings)


def rows_of(result):
    """step → row, in the precision of TensorBoard and above."""
    return {int(row["step"]): {name: value for name, value in row.items() if name != "step"} for row in result.history}


# --- what all of them have in common ---


class Kept(Tracker):
    """Keeps what it is given, and fails as told."""

    MODULE, EXTRA = "json", "json"

    def __init__(self, target="here", *, fails=""):
        super().__init__(target)
        self.fails, self.log = fails, []

    def _note(self, what, *more):
        if what == self.fails:
            raise RuntimeError("no route, key tml-secretsecretsecret")
        self.log.append((what, *more))

    def _open_run(self, event):
        self._note("open", self._run_id)
        self._run_id = "run-7"

    def _send(self, step, metrics):
        self._note("send", step)

    def _close_run(self, ending):
        self._note("close", ending)


def test_a_run_is_opened_once_fed_row_by_row_and_closed():
    kept = Kept()
    run(kept, max_steps=3)
    assert kept.log == [("open", None), *[("send", step) for step in range(4)], ("close", "completed")]
    assert (repr(kept), kept.state_key, kept.state_dict()) == ("Kept('here')", "Kept[here]", {"run": "run-7"})


@pytest.mark.parametrize("fails", ["open", "send", "close"])
def test_a_failing_tracker_is_said_once_and_stops_nothing(fails, caplog):
    with caplog.at_level(logging.WARNING, logger="glowgenius.training"):
        result = run(Kept(fails=fails), max_steps=3)
    assert result.final_checkpoint.step == 3
    [record] = caplog.records
    assert record.getMessage().startswith(
        "Kept('here') has failed and is left out from here on; the run goes on: RuntimeError: no route, key "
    )
    assert "secretsecret" not in record.getMessage()


def test_a_resumed_run_goes_on_in_the_same_run(tmp_path):
    made = []

    def make():
        made.append(Kept())
        return made[-1]

    killed_and_resumed(make, tmp_path)
    assert made[1].log[:2] == [("open", "run-7"), ("send", 5)]


@pytest.mark.parametrize(("error", "ending"), [(KeyboardInterrupt, "interrupted"), (ValueError, "failed")])
def test_how_it_ended_is_handed_on(error, ending):
    def fail(event):
        if event.step == 2:
            raise error

    kept = Kept()
    with pytest.raises(error):
        run(kept, Recorder(on_step_end=fail))
    assert kept.log[-1] == ("close", ending)


def test_settings_are_flat():
    assert flat({"a": 1, "b": {"c": None, "d": {"e": [1, 2]}}}) == {"a": "1", "b.c": "None", "b.d.e": "[1, 2]"}


def test_without_the_library_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(Kept, "MODULE", "no_such_tracker")
    with pytest.raises(MissingDependencyError) as raised:
        Kept()
    assert str(raised.value) == (
        "Kept needs the package 'no_such_tracker', which is not installed. Install it with: "
        "pip install 'glowgenius[json]'"
    )


# --- TensorBoard ---


def scalars(folder):
    accumulator = importlib.import_module("tensorboard.backend.event_processing.event_accumulator")
    events = accumulator.EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    rows = {}
    for tag in events.Tags()["scalars"]:
        for event in events.Scalars(tag):
            assert tag not in rows.setdefault(event.step, {})
            rows[event.step][tag] = event.value
    return rows


@needs("tensorboard")
def test_tensorboard_reads_every_row_back(tmp_path):
    result = run(TensorBoardLogger(tmp_path / "tb"))
    expected = {step: pytest.approx(row, rel=1e-6) for step, row in rows_of(result).items()}
    assert scalars(tmp_path / "tb") == expected


@needs("tensorboard")
def test_tensorboard_shows_each_step_of_a_resumed_run_once(tmp_path):
    result = killed_and_resumed(TensorBoardLogger, tmp_path / "run")
    expected = {step: pytest.approx(row, rel=1e-6) for step, row in rows_of(result).items()}
    assert scalars(tmp_path / "run" / "tensorboard") == expected


@needs("tensorboard")
def test_tensorboard_needs_a_folder(tmp_path):
    with pytest.raises(ConfigError) as raised:
        run(TensorBoardLogger())
    assert str(raised.value) == (
        "TensorBoardLogger has nowhere to write: give it a directory, or set TrainingConfig.output_dir, where it "
        "writes tensorboard/"
    )


# --- Weights & Biases ---

BLOCK = 32768


def wandb_records(path):
    """The records of a `.wandb` file, which is a log in LevelDB's format behind a header of 7 bytes."""
    internal = importlib.import_module("wandb.proto.wandb_internal_pb2")
    data, place, parts, records = path.read_bytes(), 7, b"", []
    while place + 7 <= len(data):
        if BLOCK - place % BLOCK < 7:
            place += BLOCK - place % BLOCK
            continue
        length, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        parts += data[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            record = internal.Record()
            record.ParseFromString(parts)
            records.append(record)
            parts = b""
    return records


def wandb_rows(path):
    rows = {}
    for record in wandb_records(path):
        if record.WhichOneof("record_type") == "history":
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in record.history.item}
            step = items.pop("_step")
            rows[step] = {name: value for name, value in items.items() if not name.startswith("_")}
    return rows


@pytest.fixture
def _quiet_wandb(monkeypatch, tmp_path):
    for name in ("DIR", "CACHE_DIR", "CONFIG_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb-home"))
    monkeypatch.setenv("WANDB_SILENT", "true")
    (tmp_path / "wandb-home").mkdir()


@needs("wandb")
@pytest.mark.usefixtures("_quiet_wandb")
def test_wandb_keeps_every_row_offline(tmp_path):
    result = run(WandbLogger("nyc", name="first", mode="offline", tags=["a"]), output_dir=tmp_path / "run")
    [path] = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    assert wandb_rows(path) == rows_of(result)
    [begun] = [record.run for record in wandb_records(path) if record.WhichOneof("record_type") == "run"][:1]
    assert (begun.project, begun.display_name, list(begun.tags)) == ("nyc", "first", ["a"])
    config = {item.key: json.loads(item.value_json) for item in begun.config.update}
    assert (config["model_name"], config["training"]["batch_size"]) == ("scripted", 4)


@needs("wandb")
@pytest.mark.usefixtures("_quiet_wandb")
def test_wandb_goes_on_with_the_run_of_the_checkpoint(tmp_path):
    result = killed_and_resumed(lambda: WandbLogger(mode="offline"), tmp_path / "run")
    paths = sorted((tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb"), key=os.path.getmtime)
    assert len({path.name for path in paths}) == 1  # the id of the run
    assert {**wandb_rows(paths[0]), **wandb_rows(paths[-1])} == rows_of(result)


@needs("wandb")
def test_wandb_modes():
    with pytest.raises(ConfigError) as raised:
        WandbLogger(mode="ofline")
    assert str(raised.value) == (
        "WandbLogger.mode must be None or one of 'online', 'offline', 'disabled', got 'ofline' (str) "
        "(did you mean 'offline'?)"
    )


# --- MLflow ---


def mlflow_rows(uri, experiment):
    client = importlib.import_module("mlflow").MlflowClient(tracking_uri=uri)
    [found] = client.search_runs([client.get_experiment_by_name(experiment).experiment_id])
    rows = {}
    for name in found.data.metrics:
        for point in client.get_metric_history(found.info.run_id, name):
            assert name not in rows.setdefault(point.step, {})
            rows[point.step][name] = point.value
    return found, rows


@needs("mlflow", "sqlalchemy", "alembic")
def test_mlflow_has_every_row_once_after_a_resume(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    result = killed_and_resumed(lambda: MLflowLogger("nyc", name="first", tracking_uri=uri), tmp_path / "run")
    found, rows = mlflow_rows(uri, "nyc")
    assert rows == rows_of(result)
    assert (found.info.run_name, found.info.status) == ("first", "FINISHED")
    assert (found.data.params["model_name"], found.data.params["training.batch_size"]) == ("scripted", "4")


@needs("mlflow", "sqlalchemy", "alembic")
def test_mlflow_that_cannot_be_reached_stops_nothing(caplog, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with caplog.at_level(logging.WARNING, logger="glowgenius.training"):
        assert run(MLflowLogger(tracking_uri="http://127.0.0.1:9"), max_steps=2).final_checkpoint.step == 2
    told = [record.getMessage() for record in caplog.records if "MLflow" in record.getMessage()]
    assert len(told) == 1
    assert told[0].startswith("MLflowLogger('glowgenius') has failed and is left out from here on; the run goes on: ")


# --- Trackio ---


@needs("trackio")
def test_trackio_has_every_row_once_after_a_resume(tmp_path):
    # It decides where to write when it is imported, so the home of the session is used.
    result = killed_and_resumed(lambda: TrackioLogger("nyc"), tmp_path / "run")
    storage = importlib.import_module("trackio.sqlite_storage").SQLiteStorage
    [name] = storage.get_runs("nyc")
    logs = storage.get_logs("nyc", name)
    assert [log["step"] for log in logs] == list(range(10))
    rows = {log["step"]: {key: log[key] for key in log if key not in ("step", "timestamp")} for log in logs}
    assert rows == rows_of(result)
    assert storage.get_run_config("nyc", name)["model_name"] == "scripted"
