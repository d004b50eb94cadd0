"""A run is opened from its folder in Python, with whatever the command line can do with it."""

from __future__ import annotations

import copy
import pickle
import shutil

import pytest

import glowgenius as gg
from glowgenius.errors import AuthenticationError, CheckpointError, ConfigError, ModelNotFoundError
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training.callbacks.base import Callback
from tests.support.tiny_models import write_tiny_model
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, trainer


def scripted():
    return ScriptedService(tokenizer=TOKENIZER, answers={"?": "an answer"})


class Run:
    """A finished run over a scripted service, and how to open it."""

    def __init__(self, folder, **settings):
        self.service = scripted()
        self.trainer = trainer(self.service, output_dir=folder, eval_every=3, save_every=3, **settings)
        self.result = self.trainer.train(TRAIN, HELD_OUT)
        self.folder = folder

    def open(self, **more):
        return gg.open_run(self.folder, **{"service": self.service, "renderer": RENDERER, **more})


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Run(tmp_path_factory.mktemp("runs") / "run")


def test_the_folder_says_what_the_result_said(made):
    run, result = made.open(), made.result
    assert run.history == result.history
    assert [record.step for record in run.checkpoints] == [record.step for record in result.checkpoints]
    assert (run.config, run.lora, run.base_model) == (made.trainer.config, made.trainer.lora, "scripted")
    assert (run.best_step, run.checkpoint().step) == (result.best_step, result.sampler_step)
    assert (run.status, run.engine, run.held_out) == ("completed", "ScriptedService", HELD_OUT)
    assert run.settings["rows"]["train"]["rows"] == len(TRAIN)
    assert run.outcome["stop_reason"] == "completed"
    assert run.trained.known([*TRAIN[:1], *HELD_OUT[:1]])[0] == "exactly"
    assert repr(run) == f"Run({str(made.folder)!r}, base_model='scripted', steps=9, status='completed')"


@pytest.mark.parametrize(("step", "taken"), [(None, 9), ("last", 9), (3, 3), ("best", None)])
def test_the_weights_of_each_step_answer(made, step, taken):
    run = made.open()
    sampler = run.sampler(step)
    taken = taken or made.result.best_step
    assert sampler.generate("Q0?") == made.result._sampler_of(taken, "there").generate("Q0?")
    assert sampler is run.sampler(step)
    assert (sampler.name, sampler.trained.num_rows) == ("tuned", len(TRAIN))
    assert run.base_sampler().name == "base"


def test_both_models_are_compared_and_the_folder_keeps_the_comparison(tmp_path):
    run = Run(tmp_path / "run").open()
    assert run.comparison is None
    found = gg.compare(run.base_sampler(), run.sampler(), run.held_out)
    page = run.report(comparison=found)
    assert page == tmp_path / "run" / "report.html"
    assert run.comparison.to_record() == found.to_record()
    run.keep_comparison(found, "again")
    assert len(run.comparison.slices) == 2
    assert run.report(tmp_path / "other.html").is_file()


def test_a_run_is_a_path_and_travels(made):
    run = made.open()
    assert gg.open_run(run).history == run.history
    assert copy.copy(run) is copy.deepcopy(run) is run
    again = pickle.loads(pickle.dumps(gg.open_run(made.folder)))  # noqa: S301
    assert again.history == run.history
    with pytest.raises(gg.GlowGeniusError, match="may hold an API key"):
        pickle.dumps(run)
    with run as entered:
        first = entered.sampler()
    assert run.sampler() is not first


def test_what_is_no_run_names_the_runs_nearby(made):
    with pytest.raises(ConfigError) as raised:
        gg.open_run(made.folder.parent / "rum")
    place = str(made.folder.parent / "rum")
    assert str(raised.value) == f"{place!r} does not exist; there is {made.folder} (did you mean {str(made.folder)!r}?)"
    with pytest.raises(ConfigError, match=r"open_run takes the folder of a run, got None \(NoneType\)"):
        gg.open_run(None)


@pytest.mark.parametrize(
    ("step", "error", "message"),
    [
        (4, CheckpointError, "has no weights of step 4 to sample from; it has those of: 3, 6, 9"),
        ("bets", ConfigError, "'best' or 'last', got 'bets' (str) (did you mean 'best'?)"),
        (True, ConfigError, "'best' or 'last', got True (bool)"),
    ],
)
def test_a_step_that_is_none_says_which_there_are(made, step, error, message):
    for use in (made.open().sampler, made.open().checkpoint, made.open().weights_path):
        with pytest.raises(error) as raised:
            use(step)
        assert message in str(raised.value)


def test_a_run_without_an_evaluation_has_no_best_step(tmp_path):
    service = scripted()
    trainer(service, output_dir=tmp_path).train(TRAIN)
    run = gg.open_run(tmp_path, service=service, renderer=RENDERER)
    assert run.held_out is None
    assert run.best_step is None
    with pytest.raises(ConfigError, match="has no best step: it takes an eval_dataset"):
        run.sampler("best")


class Killed(Callback):
    """Ends the run like a crash."""

    def __init__(self, step):
        self.step = step

    def on_step_end(self, event):
        if event.step == self.step:
            raise RuntimeError("boom")


@pytest.mark.parametrize(("step", "kept"), [(2, None), (8, 6)])
def test_an_unfinished_run_opens_and_answers_with_what_it_saved(tmp_path, caplog, step, kept):
    service = scripted()
    with pytest.raises(RuntimeError, match="boom"):
        trainer(service, callbacks=[Killed(step)], output_dir=tmp_path, save_every=3, eval_every=3).train(
            TRAIN, HELD_OUT
        )
    run = gg.open_run(tmp_path, service=service, renderer=RENDERER)
    assert run.status == "failed"
    if kept is None:
        with pytest.raises(CheckpointError) as raised:
            run.sampler()
        told = f"the run in {str(tmp_path)!r} has no weights to sample from; it has those of: none: it is not finished"
        assert str(raised.value).startswith(f"{told} (failed at step ")
        assert str(raised.value).endswith("go on with it, train(..., resume_from_checkpoint=True)")
        return
    assert run.sampler().generate("Q0?")
    assert f"these are the weights of step {kept}" in caplog.text
    assert run.best_step in (3, 6)


def test_a_service_of_ones_own_is_asked_for(made):
    with pytest.raises(ConfigError) as raised:
        made.open(service=None).sampler()
    assert str(raised.value) == (
        f"the run in {str(made.folder)!r} was trained on a service of its own (ScriptedService); pass it, as in "
        f"open_run({str(made.folder)!r}, service=...)"
    )


def test_a_renderer_of_ones_own_is_asked_for_and_checked(made):
    with pytest.raises(ModelNotFoundError) as absent:
        made.open(renderer=None).sampler()
    assert f"open_run({str(made.folder)!r}, renderer=...)" in str(absent.value)
    with pytest.raises(CheckpointError, match="was trained with another renderer than the one that was given"):
        made.open(renderer=QuestionAnswerRenderer(TOKENIZER)).sampler()
    with pytest.raises(ConfigError, match="a renderer must be a glowgenius Renderer"):
        made.open(renderer="chat").sampler()
    assert made.open(renderer=ChatTemplateRenderer(ByteTokenizer())).sampler().generate("Q0?")


def test_weights_on_tinker_need_a_key(tmp_path, monkeypatch):
    for name in ("TINKER_API_KEY", "TINKER_CREDENTIAL_CMD", "TINKER_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    run = Run(tmp_path / "run").open(service=None)
    run._settings["engine"] = "tinker"
    with pytest.raises(AuthenticationError) as raised:
        run.sampler()
    assert str(raised.value).startswith(
        f"the weights of the run in {str(run.path)!r} are on Tinker, and opening them takes an API key (TINKER_API_KEY"
    )


# --- on the local engine: no key, nothing given ---


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    pytest.importorskip("torch", reason="not installed: torch; pip install '.[local]'")
    folder = tmp_path_factory.mktemp("local")
    model = write_tiny_model(folder / "model")
    made = gg.SupervisedTrainer(
        str(model),
        lora=gg.LoRAConfig(rank=2),
        service=gg.connect("local", checkpoint_directory=folder / "run" / "checkpoints"),
        config=gg.TrainingConfig(max_steps=2, batch_size=4, learning_rate=0.02, output_dir=folder / "run"),
    )
    return made, made.train(TRAIN, HELD_OUT), folder


def test_a_local_run_needs_nothing_but_its_folder(local, tmp_path):
    made, result, folder = local
    shutil.copytree(folder / "run", tmp_path / "copy")
    for place in (folder / "run", tmp_path / "copy"):
        run = gg.open_run(place)
        assert run.sampler().complete(["Q0?"], max_tokens=4) == result.sampler.complete(["Q0?"], max_tokens=4)
        assert run.base_sampler().complete(["Q0?"], max_tokens=4) == made.base_sampler().complete(["Q0?"], max_tokens=4)
        assert (run.save_adapter(tmp_path / f"adapter {place.name}") / "adapter_config.json").is_file()


def test_a_base_model_that_was_moved_is_asked_for_and_checked(local, tmp_path):
    _, result, folder = local
    expected = result.sampler.complete(["Q0?"], max_tokens=4)
    moved = (folder / "model").rename(tmp_path / "moved")
    try:
        with pytest.raises(ModelNotFoundError) as raised:
            gg.open_run(folder / "run").sampler()
        assert f"open_run({str(folder / 'run')!r}, base_model=...)" in str(raised.value)
        run = gg.open_run(folder / "run", base_model=str(moved))
        assert run.sampler().complete(["Q0?"], max_tokens=4) == expected
        assert run.base_sampler().generate("Q0?", max_tokens=4) is not None
        other = write_tiny_model(tmp_path / "other", seed=3)
        with pytest.raises(CheckpointError, match="has other weights than"):
            gg.open_run(folder / "run", base_model=str(other)).sampler()
    finally:
        moved.rename(folder / "model")


def test_a_question_answer_renderer_is_made_again(local, tmp_path):
    made, _, folder = local
    renderer = QuestionAnswerRenderer(made.renderer.tokenizer)
    gg.SupervisedTrainer(
        str(folder / "model"),
        lora=gg.LoRAConfig(rank=2),
        renderer=renderer,
        service=gg.connect("local", checkpoint_directory=tmp_path / "run" / "checkpoints"),
        config=gg.TrainingConfig(max_steps=1, batch_size=4, learning_rate=0.02, output_dir=tmp_path / "run"),
    ).train(TRAIN)
    assert gg.open_run(tmp_path / "run").renderer.fingerprint == renderer.fingerprint
