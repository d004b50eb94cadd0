"""The page that every run with a folder gets, and that of a sweep."""

from __future__ import annotations

import json

import pytest

import glowgenius
from glowgenius.errors import CheckpointError, ConfigError, RequestRejectedError
from glowgenius.evaluation import AnswerEvaluation, compare
from glowgenius.experiments import sweep
from glowgenius.reporting import write_report, write_run_report
from glowgenius.reporting.report import diagnose
from glowgenius.reporting.run_page import keep_comparison, kept_comparison
from glowgenius.testing import ScriptedService
from glowgenius.training import result as pages
from glowgenius.training.prices import Price, PriceTable
from glowgenius.training.trainer import SupervisedTrainer
from tests.reporting.test_report import check
from tests.support.answers import ScriptedModel
from tests.support.answers import questions as asked
from tests.support.sweeps import cell, result
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, config, questions, trainer

EVIL = "<script>alert(1)</script>"
FACTS = {f"E{row}?": f"A{row}" for row in range(3)}


def service():
    return ScriptedService(answers=FACTS, base_answers=dict.fromkeys(FACTS, "no idea"), tokenizer=TOKENIZER)


def test_a_plain_run_gets_a_page_with_its_facts_and_masks(tmp_path):
    rows = questions(9) + questions(1, prefix=EVIL)
    trainer(output_dir=tmp_path / "mine").train(rows, HELD_OUT)
    text = check(tmp_path / "mine" / "report.html")
    for part in (
        "Training run mine",
        "completed",
        "scripted",
        "10 in, 10 used",
        f"fingerprint {rows.fingerprint[:12]}…",
        "renderer",
        "stop token",
        "9 updates; below 20",
    ):
        assert part in text
    assert json.loads((tmp_path / "mine" / "config.json").read_text())["rows"]["train"]["used"] == 10


def test_rows_that_are_markup_are_shown_as_text(tmp_path):
    trainer(output_dir=tmp_path).train(questions(3, prefix=EVIL))
    text = check(tmp_path / "report.html")
    assert f"{EVIL}0?" in text


def test_answers_of_the_first_and_the_last_evaluation_are_compared(tmp_path):
    trainer(service(), callbacks=[AnswerEvaluation(HELD_OUT)], output_dir=tmp_path, eval_every=3).train(TRAIN, HELD_OUT)
    text = check(tmp_path / "report.html")
    assert "3 fixed, 0 broken, 0 same: too few questions to tell, as 3 questions are fewer than 10: +100 points" in text
    assert "no idea" in text


def test_an_interrupted_run_says_so_on_its_page(tmp_path):
    broken = ScriptedService(tokenizer=TOKENIZER, fail_on={"forward_backward": {2: RequestRejectedError("gone")}})
    with pytest.raises(Exception, match="gone"):
        trainer(broken, output_dir=tmp_path).train(TRAIN)
    text = check(tmp_path / "report.html")
    assert "The run failed at step 1: " in text


def test_a_page_that_cannot_be_written_fails_no_run(tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(pages, "_PAGES", ("glowgenius.no_such_module", "write"))
    trainer(output_dir=tmp_path).train(TRAIN)
    assert not (tmp_path / "report.html").exists()
    assert [record.getMessage() for record in caplog.records if record.getMessage().startswith("the page")] == [
        "the page of the run could not be written: ModuleNotFoundError: No module named 'glowgenius.no_such_module'"
    ]


def test_a_page_can_be_made_again_elsewhere(tmp_path):
    trainer(output_dir=tmp_path / "run").train(TRAIN)
    page = write_report(tmp_path / "page.html", run=tmp_path / "run")
    assert page.read_bytes() == (tmp_path / "run" / "report.html").read_bytes()


def test_what_was_compared_afterwards_takes_its_place_on_the_page(tmp_path):
    made = trainer(service(), callbacks=[AnswerEvaluation(HELD_OUT)], output_dir=tmp_path, eval_every=3)
    tuned = made.train(TRAIN, HELD_OUT).sampler
    found = compare(made.base_sampler(), tuned, {"afterwards": HELD_OUT})
    text = check(write_report(run=tmp_path, comparison=found, header={"trained parameters": "7 of 9"}))
    assert "trained parameters 7 of 9" in text
    assert "afterwards : 3 fixed, 0 broken, 0 same" in text
    assert "all : 3 fixed" not in text
    assert f"fingerprint {TRAIN.fingerprint[:12]}…" in text


def test_the_cost_is_on_the_page_where_a_price_is_known(tmp_path):
    price = Price(prefill=1.0, sample=10.0, train=1e6, date="2026-11-24", source="here")
    made = SupervisedTrainer(
        "scripted",
        service=ScriptedService(tokenizer=TOKENIZER),
        renderer=RENDERER,
        config=config(num_epochs=1, output_dir=tmp_path / "priced"),
        prices=PriceTable(models={"scripted": price}),
    )
    result = made.train(TRAIN)
    assert result.cost.usd > 1
    assert f"cost ${result.cost.usd:.2f}, at prices of 2026-11-24 " in check(tmp_path / "priced" / "report.html")
    trainer(output_dir=tmp_path / "unknown").train(TRAIN)
    reason = json.loads((tmp_path / "unknown" / "result.json").read_text())["cost"]["estimate"]["reason"]
    assert f"cost {reason} " in check(tmp_path / "unknown" / "report.html")


def test_no_run_and_a_broken_one(tmp_path):
    with pytest.raises(ConfigError) as error:
        write_report(run=tmp_path)
    assert str(error.value) == f"there is no run in {str(tmp_path)!r}: it has no config.json"
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: not JSON"):
        write_report(run=tmp_path)


def test_the_earlier_name_of_the_report_of_a_run_works_and_names_the_new_one(tmp_path):
    trainer(output_dir=tmp_path).train(TRAIN)
    for function in (glowgenius.write_run_report, write_run_report):
        with pytest.warns(DeprecationWarning, match=r"is write_report\(path, run=folder\) now"):
            page = function(tmp_path, tmp_path / "old.html")
        assert page.read_bytes() == (tmp_path / "report.html").read_bytes()


def test_what_the_report_of_a_run_shows_by_itself_is_not_given_as_well(tmp_path):
    with pytest.raises(ConfigError, match="takes no history, previews: it shows those of the run"):
        write_report(run=tmp_path, history=[{"step": 1}], previews=[])
    with pytest.raises(ConfigError, match="needs the name of a file, or run= with the folder of a run"):
        write_report(header={"a": 1})
    trainer(output_dir=tmp_path / "run").train(TRAIN)
    page = write_report(run=glowgenius.open_run(tmp_path / "run"), warnings=["Look here."], title="Mine")
    text = check(page)
    assert page == tmp_path / "run" / "report.html"
    assert "Look here." in text
    assert "Mine" in text


def test_the_page_of_a_sweep(tmp_path):
    found = result(
        [cell(rank, rate, [1.0] * 30, seed=seed) for rank in (2, 8) for rate in (0.1, 0.3) for seed in (0, 1)]
    )
    text = check(write_report(tmp_path / "sweep.html", sweep=found, header={"by": EVIL}))
    for sentence in found.findings():
        assert sentence in text
    assert "rank 8, learning rate 0.3, seed 1" in text
    assert "The same by nll" in text
    assert EVIL in text


def test_a_sweep_writes_its_page(tmp_path):
    sweep(
        "scripted",
        TRAIN,
        HELD_OUT,
        ranks=[2],
        learning_rates=[0.01],
        service=service(),
        renderer=RENDERER,
        config=config(num_epochs=1),
        output_dir=tmp_path,
        say=None,
    )
    assert "Sweep of rank and learning rate" in check(tmp_path / "report.html")
    assert "Training run" in check(tmp_path / "rank-2_rate-0.01_seed-0" / "report.html")


# Diagnosis


def rows(train, held=None, rate=1e-3):
    held = held or {}
    history = [{"step": 0, **({"eval/loss": held[0]} if 0 in held else {})}]
    for step, loss in enumerate(train, 1):
        row = {"step": step, "train/loss": loss, "learning_rate": rate}
        history.append(row | ({"eval/loss": held[step]} if step in held else {}))
    return history


FALLING = [3.0 / step for step in range(1, 61)]


@pytest.mark.parametrize(
    ("history", "suggested", "told"),
    [
        (rows(FALLING, {0: 3.0, 20: 1.0, 60: 0.5}), None, []),
        (
            rows(FALLING, {0: 3.0, 20: 1.0, 40: 1.2, 60: 1.5}),
            None,
            [
                (
                    "The held-out loss rose from 1 at step 20 to 1.5 at step 60 while the training loss fell "
                    "from 0.201 to "
                    "0.0542: overfitting from step 20 on. result.best_sampler has the weights of step 20."
                )
            ],
        ),
        (
            rows(FALLING, {0: 3.0, 60: 4.0}),
            None,
            [
                (
                    "The held-out loss was never below the 3 of step 0 and ended at 4: what was trained does "
                    "not help on "
                    "these rows, or the learning rate is too high."
                )
            ],
        ),
        (
            rows([3.0] * 10 + [1.0] * 20 + [9.0] * 30, {0: 3.0, 30: 1.0, 60: 9.0}),
            None,
            [
                (
                    "The held-out loss rose from 1 at step 30 to 9 at step 60, and the training loss with it (1 → "
                    "9): the run "
                    "is unstable, a lower learning rate may help."
                ),
                (
                    "The training loss barely moved: 3 in the first steps and 9 in the last of 60. The peak "
                    "learning rate was "
                    "0.001."
                ),
            ],
        ),
        (
            rows([3.0, 2.99] * 20, rate=1e-6),
            5e-4,
            [
                (
                    "The training loss barely moved: 3 in the first steps and 3 in the last of 40. The peak "
                    "learning rate was "
                    "1e-06, which is 500 times lower than the 0.0005 that is suggested for this model."
                )
            ],
        ),
        (
            rows([3.0] * 10 + [0.001] * 30, {0: 3.0, 40: 0.9}),
            None,
            [
                (
                    "The training rows are known by heart: their loss is 0.001, first below 0.02 at step 11, "
                    "while that of "
                    "the held-out rows is 0.9. More passes over these rows have nothing left to teach."
                )
            ],
        ),
        (
            rows([3.0, 1.0]),
            None,
            [
                (
                    "The run made 2 updates; below 20 the warm-up and the decay of the learning rate decide "
                    "more than its "
                    "peak."
                )
            ],
        ),
        ([], None, []),
    ],
)
def test_the_diagnosis(history, suggested, told):
    assert diagnose(history, suggested=suggested) == told


@pytest.mark.parametrize(
    ("base_cut", "tuned_cut", "told"),
    [
        (
            range(15, 20),
            range(5),
            (
                "all: 25 % of the tuned model's answers hit max_tokens=4, and 25 % of the base model's hit "
                "max_tokens=4: "
                "training has not clearly changed that, so raise max_tokens before you judge the answers."
            ),
        ),
        (
            (),
            range(14),
            (
                "all: 70 % of the tuned model's answers hit max_tokens=4, and 0 % of the base model's hit "
                "max_tokens=4: "
                "training made more of them run on: it has not learned to stop, or its answers need more room."
            ),
        ),
        (
            range(20),
            range(3),
            (
                "all: 15 % of the tuned model's answers hit max_tokens=4, and 100 % of the base model's hit "
                "max_tokens=4: "
                "fewer run on than before training; raise max_tokens to see the rest."
            ),
        ),
        (range(20), range(1), None),
    ],
)
def test_answers_that_run_on_are_told_of_both_models(base_cut, tuned_cut, told):
    rows = asked({f"Question {number}?": "Yes" for number in range(20)})
    base, tuned = (
        ScriptedModel(name, {row.question: "Yes" + "…" * (index in cut) for index, row in enumerate(rows)}, longest=3)
        for name, cut in (("base", base_cut), ("tuned", tuned_cut))
    )
    found = diagnose([], compare(base, tuned, rows, max_tokens=4))
    assert [sentence for sentence in found if "max_tokens" in sentence] == ([] if told is None else [told])


def test_a_comparison_belongs_to_the_folder_and_a_page_made_again_has_it(tmp_path):
    """Whoever makes the page again, with or without the comparison at hand."""
    folder = tmp_path / "run"
    made = trainer(output_dir=folder)
    result = made.train(TRAIN, HELD_OUT)
    comparison = compare(made.base_sampler(), result.sampler, {"asked": [*HELD_OUT, *TRAIN[:2]]})
    write_report(run=folder, comparison=comparison)
    page = (folder / "report.html").read_bytes()
    assert b"2 of the 5 questions were trained" in page
    write_report(run=folder)
    assert (folder / "report.html").read_bytes() == page
    assert str(kept_comparison(folder)) == str(comparison)


def test_comparisons_on_several_files_are_all_on_the_page(tmp_path):
    folder = tmp_path / "run"
    made = trainer(output_dir=folder)
    result = made.train(TRAIN, HELD_OUT)
    for label, rows in (("a.jsonl", HELD_OUT), ("b.jsonl", TRAIN[:2]), ("b.jsonl", TRAIN[:3])):
        keep_comparison(folder, compare(made.base_sampler(), result.sampler, rows), label)
    kept = kept_comparison(folder)
    assert {name: part.n for name, part in kept.slices.items()} == {"a.jsonl": 3, "b.jsonl": 3}
    text = check(write_report(run=folder))
    assert "a.jsonl" in text
    assert "b.jsonl" in text


@pytest.mark.parametrize("text", ["{", "[]", '{"comparisons": [{"label": "a"}]}', "{}"])
def test_a_damaged_comparison_is_refused_by_name(tmp_path, text):
    trainer(output_dir=tmp_path / "run").train(TRAIN)
    (tmp_path / "run" / "comparison.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"comparison\.json"):
        write_report(run=tmp_path / "run")
