"""What every callback of the library keeps to, whichever there are: they are found, not listed."""

from __future__ import annotations

import gc
import importlib
import inspect
import json
import pkgutil
from pathlib import Path
from types import FunctionType, ModuleType

import pytest

import glowgenius
from glowgenius.errors import MissingDependencyError
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.base import Callback, Callbacks, FunctionCallback, deliver, on
from glowgenius.training.events import EVENTS, StepEnd
from glowgenius.training.loop import TrainingLoop
from glowgenius.training.requests import REQUESTS
from glowgenius.training.session import Session
from glowgenius.training.trainer import SupervisedTrainer
from tests.support.events import RESTART, WAIT
from tests.support.killing import Killed
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, Recorder, trainer

# What trackers' libraries say about themselves is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")

MAKERS = {
    "AnswerEvaluation": lambda made, folder: made(TRAIN[1:2]),
    "BudgetGuard": lambda made, folder: made(1000.0),
    "CSVLogger": lambda made, folder: made(folder / "m.csv"),
    "EarlyStopping": lambda made, folder: made(patience=2),
    "FunctionCallback": lambda made, folder: on(StepEnd, print),
    "JSONLLogger": lambda made, folder: made(folder / "e.jsonl"),
    "MLflowLogger": lambda made, folder: made(tracking_uri=(folder / "mlruns").resolve().as_uri()),
    "SampleLogger": lambda made, folder: made(["Q1?"], path=folder / "s.jsonl", show=False),
    "TensorBoardLogger": lambda made, folder: made(folder / "tb"),
    "WandbLogger": lambda made, folder: made(mode="disabled"),
}
"""How to make those that have to be told something; the others are made without arguments."""


def found():
    """Every callback class of the package, apart from what the command line has for itself."""
    for module in pkgutil.walk_packages(glowgenius.__path__, "glowgenius."):
        if module.name.startswith("glowgenius.local") or module.name.endswith("__main__"):
            continue
        importlib.import_module(module.name)
    classes, todo = set(), [Callback]
    while todo:
        todo += (more := todo.pop().__subclasses__())
        classes |= {
            kind for kind in more if kind.__module__.startswith("glowgenius.") and ".cli." not in kind.__module__
        }
    return sorted((kind for kind in classes if not inspect.isabstract(kind)), key=lambda kind: kind.__name__)


CLASSES = found()


@pytest.fixture(params=CLASSES, ids=lambda kind: kind.__name__)
def make(request, tmp_path, monkeypatch):
    """Makes the callback, writing into a folder."""
    monkeypatch.chdir(tmp_path)
    # Whoever watches the cost needs a price.
    table = {"date": "2026-11-24", "models": {"scripted": {"prefill": 1, "sample": 1, "train": 1}}}
    (tmp_path / "prices.json").write_text(json.dumps(table))
    monkeypatch.setenv("GLOWGENIUS_PRICES", str(tmp_path / "prices.json"))
    # A database is set up in ten seconds, files at once; the database is tested with the trackers.
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    name = request.param.__name__
    maker = MAKERS.get(name, lambda made, folder: made())

    def made(folder=tmp_path):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return maker(request.param, folder)
        except MissingDependencyError as error:
            pytest.skip(str(error))

    return made


def scripted(**script):
    # It falls, then rises: whoever is patient has something to remember.
    curve = [9.0, 5.0, 4.0, 3.0, 3.5, 3.2, 3.1, 2.0, 1.0, 0.5]
    return ScriptedService(tokenizer=TOKENIZER, loss=lambda updates: curve[updates], answers={"Q1?": "A1"}, **script)


def run(*callbacks, service=None, resume=None, **settings):
    settings = {"lookahead": 0, "eval_every": 1, "save_every": 2, **settings}
    made = trainer(scripted() if service is None else service, callbacks=callbacks, **settings)
    return made.train(TRAIN, HELD_OUT, resume_from_checkpoint=resume)


class Watcher(Recorder):
    needs_sampler = True


def test_all_of_them_are_found():
    named = {
        "BudgetGuard",
        "CSVLogger",
        "EarlyStopping",
        "JSONLLogger",
        "ProgressBar",
        "SampleLogger",
        "TerminateOnNaN",
    }
    assert named | {"FunctionCallback"} <= {kind.__name__ for kind in CLASSES}


def test_each_is_public():
    internal = {FunctionCallback.__name__}  # made by `on`
    assert {kind.__name__ for kind in CLASSES} - internal <= set(glowgenius.__all__)


def test_every_hook_accepts_every_event_of_a_run(make, capsys):
    recorder = Watcher()
    run(recorder, num_epochs=1)
    with pytest.raises(Exception, match="gone"):
        run(recorder, service=scripted(fail_on={"optim_step": {2: ConnectionError("gone")}}), max_restarts=0)
    recorder.events[-1:-1] = [WAIT, RESTART]
    assert {type(event) for event in recorder.events} == set(EVENTS)
    begin = next(place for place, event in enumerate(recorder.events[1:], 1) if type(event) is type(recorder.events[0]))
    for events in (recorder.events[:begin], recorder.events[begin:]):
        callback = make(Path(f"run{len(events)}"))
        answers = [answer for event in events for answer in deliver(callback, event)]
        assert all(isinstance(answer, REQUESTS) for answer in answers)


def test_it_can_be_told_that_a_run_failed_before_it_began(make):
    recorder = Recorder()
    with pytest.raises(Exception, match="gone"):
        run(recorder, service=scripted(fail_on={"optim_step": {1: ConnectionError("gone")}}), max_restarts=0)
    assert deliver(make(), recorder.events[-1]) == []


def test_its_state_goes_through_json_and_back(make, capsys):
    first = make(Path("same"))
    run(first, max_steps=5)
    states = Callbacks([first]).state()
    second = make(Path("same"))
    Callbacks([second]).load_state(json.loads(json.dumps(states)))
    if type(first).state_dict is not Callback.state_dict:
        assert list(Callbacks([second]).state().values()) == list(states.values()) != []


def comparable(folder):
    """The files of a run but for what names the folder, the session, or the moment."""
    kept = {}
    for path in sorted(folder.glob("*")):
        if path.suffix == ".jsonl" and path.name == "e.jsonl":
            events = [json.loads(line) for line in path.read_text().splitlines()]
            kept[path.name] = [
                event for event in events if event["event"] not in ("TrainBegin", "TrainFailed", "CheckpointSaved")
            ]
        elif path.suffix in (".csv", ".jsonl"):
            kept[path.name] = path.read_text()
    return kept


@pytest.mark.parametrize("killed_at", [3, 5])
def test_a_resumed_run_ends_as_one_that_was_never_interrupted(make, capsys, killed_at):
    whole = run(make(Path("whole")), output_dir="whole-run")

    def die(event):
        if event.step == killed_at:
            raise Killed

    service = scripted()
    with pytest.raises(Killed):
        run(make(Path("cut")), Recorder(on_step_end=die), service=service, output_dir="cut-run")
    resumed = run(make(Path("cut")), service=service, output_dir="cut-run", resume=True)
    assert resumed.history == whole.history
    assert (resumed.stop_reason, resumed.best_step, resumed.sampler_step) == (
        whole.stop_reason,
        whole.best_step,
        whole.sampler_step,
    )
    assert comparable(Path("cut")) == comparable(Path("whole"))


def reachable(root):
    """Everything that *root* holds on to, but for classes, functions and modules, which everything leads to."""
    seen, todo = {}, [root]
    while todo:
        item = todo.pop()
        if id(item) in seen or isinstance(item, type | FunctionType | ModuleType):
            continue
        seen[id(item)] = item
        todo += gc.get_referents(item)
    return seen.values()


def test_it_holds_neither_the_trainer_nor_the_run(make, capsys):
    callback = make()
    run(callback, output_dir="run")
    held = (SupervisedTrainer, TrainingLoop, Session, ScriptedService, Callbacks)
    assert [type(item) for item in reachable(callback) if isinstance(item, held)] == []


def test_the_walk_would_find_a_trainer():
    recorder = Recorder()
    recorder.log.append({"kept": [trainer()]})
    assert any(isinstance(item, SupervisedTrainer) for item in reachable(recorder))


def test_it_can_be_read(make):
    text = repr(make())
    assert " object at 0x" not in text
    assert text.startswith(("on(", f"{type(make()).__name__}("))


def test_it_can_be_used_for_another_run(make, capsys):
    callback = make()
    if type(callback).__name__ in ("CSVLogger", "SampleLogger"):
        pytest.skip("its file belongs to one run, and another one is refused; tested with the loggers")
    first = run(callback, max_steps=6)
    second = run(callback, max_steps=6)
    assert (first.history, first.stop_reason) == (second.history, second.stop_reason)
