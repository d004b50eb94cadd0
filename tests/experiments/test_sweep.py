from __future__ import annotations

import json
import math
import re

import pytest

from glowgenius.errors import ConfigError, EngineError, PreflightError, RequestRejectedError, ResumeMismatchError
from glowgenius.experiments import Cell, sweep
from glowgenius.experiments.cell import divergence
from glowgenius.lora.config import LoRAConfig
from glowgenius.testing import ScriptedService
from glowgenius.training.callbacks.base import on
from glowgenius.training.events import StepEnd
from glowgenius.training.history import History
from glowgenius.training.run_folder import RunFolder
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, config, questions

RIGHT = {f"E{row}?": f"A{row}" for row in range(3)}
WRONG = dict.fromkeys(RIGHT, "no idea")


def service(**settings):
    chosen = {
        "answers": RIGHT,
        "base_answers": WRONG,
        "tokenizer": TOKENIZER,
        "loss": lambda n: 3 / (n + 1),
        **settings,
    }
    return ScriptedService(**chosen)


def run(folder, *, on_service=None, train=TRAIN, held=HELD_OUT, settings=None, **arguments):
    chosen = {"ranks": [2, 4], "learning_rates": [0.01, 0.1], "say": None, **arguments}
    return sweep(
        "scripted",
        train,
        held,
        service=on_service or service(),
        renderer=RENDERER,
        config=config(num_epochs=1, **(settings or {})),
        output_dir=folder,
        **chosen,
    )


def test_every_cell_is_a_run_with_a_folder_of_its_own(tmp_path):
    made, said = service(), []
    found = run(tmp_path, on_service=made, seeds=[3, 5], say=said.append)
    assert [(cell.cell.rank, cell.cell.learning_rate, cell.cell.seed) for cell in found.cells] == [
        (rank, rate, seed) for rank in (2, 4) for rate in (0.01, 0.1) for seed in (3, 5)
    ]
    assert len(made.operations("create_lora_training_client")) == 8
    folder = tmp_path / "rank-4_rate-0.1_seed-5"
    assert {path.name for path in folder.iterdir()} == {
        ".lock",
        ".owner",
        "answers.json",
        "cell.json",
        "checkpoints.jsonl",
        "config.json",
        "held_out.jsonl",
        "metrics.jsonl",
        "preview.json",
        "report.html",
        "result.json",
        "trained.json",
    }
    settings = json.loads((folder / "config.json").read_text())
    assert (settings["lora"]["rank"], settings["lora"]["seed"]) == (4, 5)
    assert (settings["training"]["learning_rate"], settings["training"]["seed"]) == (0.1, 5)
    best = found.best()
    assert (best.rank, best.learning_rate, best.standing) == (2, 0.01, "best")
    assert found.output_dir == tmp_path
    assert found.cells[0].base_loss == 3.0
    assert (
        found.cells[0].eval_loss == found.cells[0].train_loss * 3 / 4 == 0.75
    )  # after 3 updates, and before the third
    assert found.cells[0].trained_tokens == sum(
        row["tokens/trained"] for row in RunFolder(folder).rows() if row["step"]
    )
    assert found.metrics == ("exact_match", "contains", "nll", "eval_loss", "train_loss")
    assert found.base_value("exact_match") == 0
    assert found.best("exact_match").value == 1
    assert said[0] == (
        "engine: ScriptedService, because service= was given; 8 runs: 2 ranks × 2 learning rates × 2 seeds, "
        f"kept in {tmp_path}"
    )
    assert said[1] == "asking the base model"
    assert re.fullmatch(
        r"1 of 8: rank 2, learning rate 0\.01, seed 3: nll 0\.75 nats, \d+ s; about \d+ s left", said[2]
    )
    assert said[-1] == "8 of 8: rank 4, learning rate 0.1, seed 5: nll 0.75 nats, 0 s"


def test_finished_cells_are_not_trained_again_and_a_grid_may_grow(tmp_path):
    first = run(tmp_path)
    made, said = service(), []
    again = run(tmp_path, on_service=made, say=said.append)
    assert made.journal == ()
    assert [cell.to_dict() for cell in again.cells] == [cell.to_dict() for cell in first.cells]
    assert again.to_dict() == first.to_dict()
    assert said[1] == "1 of 4: rank 2, learning rate 0.01, seed 0: nll 0.75 nats, finished before"
    grown = run(tmp_path, on_service=made, ranks=[2, 4, 8])
    assert [operation.name for operation in made.operations("create_lora_training_client")] == ["scripted"] * 2
    assert grown.ranks == (2, 4, 8)


def test_an_interrupted_cell_goes_on_from_its_checkpoint(tmp_path):
    made = service(fail_on={"forward_backward": {6: RequestRejectedError("gone")}})
    with pytest.raises(EngineError):
        run(tmp_path, on_service=made, settings={"save_every": 1, "lookahead": 0, "max_restarts": 0})
    assert [path.name for path in sorted(tmp_path.glob("*/cell.json"))] == ["cell.json"]
    found = run(tmp_path, on_service=made, settings={"save_every": 1, "lookahead": 0, "max_restarts": 0})
    assert len(made.operations("create_training_client_from_state_with_optimizer")) == 1
    # 3 steps of the first cell, 2 of the second and the one that failed, its last, and 3 + 3.
    assert len(made.operations("forward_backward")) == 3 + 3 + 1 + 6
    assert [cell.steps for cell in found.cells] == [3] * 4


def test_a_cell_that_ended_while_it_was_asked_is_only_asked_again(tmp_path):
    # The base model answers 3 questions, the first cell the next 3.
    made = service(fail_on={"sample": {8: ConnectionError("gone")}})
    with pytest.raises(EngineError):
        run(tmp_path, on_service=made)
    run(tmp_path, on_service=made)
    assert len(made.operations("create_lora_training_client")) == 4


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train": questions(9)}, "the training data is another"),
        ({"held": questions(4, prefix="E"), "questions": HELD_OUT}, "the evaluation data is another"),
        ({"questions": {"all": HELD_OUT[:2]}}, "the questions 'all' are others"),
        ({"settings": {"batch_size": 5}}, "config.batch_size was 4 and is 5"),
        ({"lora": LoRAConfig(train_attn=False)}, "lora.train_attn was True and is False"),
        ({"max_tokens": 9}, "max_tokens was 32 and is 9"),
    ],
)
def test_cells_of_another_sweep_are_refused(tmp_path, change, told):
    run(tmp_path, ranks=[2], learning_rates=[0.1])
    made = service(answers=RIGHT | {"E3?": "A3"}, base_answers=WRONG | {"E3?": ""})
    with pytest.raises(ResumeMismatchError) as error:
        run(tmp_path, on_service=made, **change)
    assert str(error.value) == (
        f"the cells in {str(tmp_path)!r} belong to another sweep: {told}. Ranks, learning rates and seeds may be "
        "added; for anything else choose another output_dir"
    )
    assert made.journal == ()


def test_settings_that_change_nothing_may_change(tmp_path):
    run(tmp_path)
    made = service()
    run(tmp_path, on_service=made, settings={"lookahead": 3, "save_every": 2, "eval_every": 2}, flat_within=0.1)
    assert made.journal == ()


def test_the_folder_of_a_single_run_is_refused(tmp_path):
    (tmp_path / "metrics.jsonl").write_text("{}\n")
    with pytest.raises(ConfigError) as error:
        run(tmp_path)
    assert str(error.value) == f"output_dir={str(tmp_path)!r} holds a single run; give a sweep a folder of its own"


def test_a_loss_that_is_no_number_ends_its_run(tmp_path):
    made = service(loss=lambda n: math.nan if n >= 1 else 3.0)
    found = run(tmp_path, on_service=made, settings={"lookahead": 0})
    assert {cell.diverged for cell in found.cells} == {"the training loss is nan at step 2"}
    assert [cell.steps for cell in found.cells] == [2] * 4
    assert {cell.answers == {} for cell in found.cells} == {True}
    assert {point.standing for point in found.points()} == {"diverged"}
    assert found.findings() == (
        "Every run diverged: try lower learning rates.",
        (
            "4 of 4 runs diverged: learning rate 0.01 with rank 2 and 4; learning rate 0.1 with rank 2 and 4. For "
            "rank 2 and learning rate 0.01, seed 0: the training loss is nan at step 2."
        ),
    )
    assert math.isnan(run(tmp_path).cells[0].train_loss)


def test_a_loss_above_the_base_counts_as_diverged_and_is_still_asked(tmp_path):
    found = run(tmp_path, on_service=service(loss=lambda n: 1.0 + n), learning_rates=[0.1])
    assert found.cells[0].diverged == "the held-out loss ended at 4, over 0.5 nats above the 1 that it began with"
    assert found.cells[0].answers["all"].means["exact_match"] == 1
    without = run(None, on_service=service(loss=lambda n: 1.0 + n), held=None, questions=HELD_OUT)
    assert without.cells[0].diverged == "the training loss ended at 3, over 0.5 nats above the 1 that it began with"


def test_without_a_folder_nothing_is_kept(tmp_path):
    found = run(None)
    assert found.output_dir is None
    assert found.best("exact_match").value == 1
    assert list(tmp_path.iterdir()) == []


def test_questions_by_slice(tmp_path):
    found = run(tmp_path, questions={"one": HELD_OUT, "two": HELD_OUT[:2]}, metric="two/exact_match")
    assert found.metric == "two/exact_match"
    assert found.metrics[:3] == ("one/exact_match", "one/contains", "one/nll")
    assert len(found.cells[0].values("one/nll")) == 3
    assert found.groups_of("two/nll") == (("row", 0), ("row", 1))
    assert json.loads((tmp_path / "base.json").read_text()).keys() == {"one", "two"}


def test_nothing_need_be_asked():
    made = service()
    found = run(None, on_service=made, questions=())
    assert made.operations("sample") == ()
    assert (found.metric, found.metrics) == ("eval_loss", ("eval_loss", "train_loss"))
    assert found.best().value == 0.75
    assert found.best().interval is None
    alone = run(None, held=None)
    assert (alone.metric, alone.metrics) == ("train_loss", ("train_loss",))


def test_callbacks_are_made_for_each_cell():
    steps = []

    def callbacks(cell):
        assert isinstance(cell, Cell)
        return [on(StepEnd, lambda event: steps.append((cell.rank, event.step)))]

    run(None, callbacks=callbacks, learning_rates=[0.1])
    assert steps == [(rank, step) for rank in (2, 4) for step in (1, 2, 3)]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ranks": []}, "ranks of sweep() must be at least one number, each once, got none"),
        ({"ranks": [2, 2]}, "ranks of sweep() must be at least one number, each once, got 2 twice"),
        ({"ranks": 8}, "ranks of sweep() must be a list of numbers, got 8"),
        ({"seeds": "01"}, "seeds of sweep() must be a list of numbers, got '01'"),
        ({"ranks": [0]}, "Cell.rank must be an integer ≥ 1, got 0 (int)"),
        ({"seeds": [-1]}, "Cell.seed must be an integer ≥ 0, got -1 (int)"),
        ({"learning_rates": [-0.1]}, "Cell.learning_rate must be a number > 0, got -0.1 (float)"),
        (
            {"learning_rates": ["auto"]},
            "learning_rates of sweep() must be numbers, got 'auto'; suggest_learning_rate(model).value is one",
        ),
        ({"flat_within": -1}, "flat_within of sweep() must be a number ≥ 0, got -1"),
        (
            {"metric": "exact_mach"},
            (
                "metric of sweep() must be one of 'nll', 'exact_match', 'contains', 'eval_loss', 'train_loss', "
                "got 'exact_mach' (did you mean 'exact_match'?)"
            ),
        ),
        (
            {"metric": "token_f1"},
            (
                "metric of sweep() must be one of 'nll', 'exact_match', 'contains', 'eval_loss', 'train_loss', "
                "got 'token_f1'; add it by metrics=(…, 'token_f1')"
            ),
        ),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_sent(arguments, message):
    made = service()
    with pytest.raises(ConfigError) as error:
        run(None, on_service=made, **arguments)
    assert str(error.value) == message
    assert made.journal == ()


def test_what_a_run_would_refuse_is_refused_before_the_first():
    made = service()
    with pytest.raises(PreflightError):
        run(None, on_service=made, settings={"max_length": 2})
    assert made.journal == ()


@pytest.mark.parametrize(
    ("before", "after", "told"), [(0.5, 0.505, False), (0.01, 0.3, False), (2.0, 2.4, False), (2.0, 2.6, True)]
)
def test_a_loss_that_rose_by_little_has_not_diverged(before, after, told):
    history = History([{"step": 0, "eval/loss": before}, {"step": 1, "train/loss": 1.0, "eval/loss": after}])
    assert (divergence(history) is not None) is told
