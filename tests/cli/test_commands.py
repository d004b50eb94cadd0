"""Every verb as a user types it: what it prints, what it writes, and what it ends with."""

from __future__ import annotations

import inspect
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import attrs
import pytest

pytest.importorskip("typer", reason="not installed: typer; pip install '.[cli]'")
import typer
from typer.testing import CliRunner

from glowgenius.cli import common
from glowgenius.cli.app import VERBS, app
from glowgenius.cli.estimate import estimate
from glowgenius.cli.settings import split
from glowgenius.cli.sweep import sweep
from glowgenius.cli.train import train
from glowgenius.data.dataset import Dataset
from glowgenius.lora.config import LoRAConfig
from glowgenius.training.config import TrainingConfig
from glowgenius.training.requests import Terminated
from glowgenius.training.sampler import prompt_tokens
from glowgenius.training.trainer import SupervisedTrainer
from tests.support.source import ROOT
from tests.support.tiny_models import write_tiny_model

ROWS = [
    {"question": f"{word}{row}?", "answer": f"A{row}", "group": f"g{row}"}
    for row in range(10)
    for word in ("Q", "What ")
]


def call(*arguments, code=0, **more):
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], **more)
    assert result.exit_code == code, (result.output, result.exception)
    return result


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    pytest.importorskip("torch", reason="not installed: torch; pip install '.[local]'")
    return write_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def trained(model, data, tmp_path_factory):
    """A run that `glowgenius train` has made."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    options = ("--model", model, "--rank", 4, "--max-steps", 4, "--batch-size", 4, "--learning-rate", "0.02")
    call("train", data, *options, "--save-every", 2, "-o", folder)
    return folder


# --- help and usage ---


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb_shows_an_example_and_json(verb):
    text = call(verb, "--help", env={"COLUMNS": "200", "TERM": "dumb"}).output
    assert f"glowgenius {verb}" in text.split("Example", 1)[1]
    assert "--json" in text


def test_wrong_usage_ends_with_2():
    call("check", "--no-such-option", code=2)
    call("no-such-verb", code=2)
    call("train", code=2)
    assert call("--version").output.startswith("glowgenius ")


def test_a_setting_that_is_not_valid_is_wrong_usage(data):
    result = call("train", data, "--batch-size", "0", "--engine", "local", code=2)
    assert result.stderr == "error: --batch-size must be an integer ≥ 1, got 0 (int)\n"
    assert "Traceback" not in result.output


def test_a_run_that_is_none(tmp_path):
    empty, model = tmp_path / "empty", tmp_path / "model"
    for folder in (empty, model):
        folder.mkdir()
    (model / "config.json").write_text('{"model_type": "llama"}')
    for verb in ("evaluate", "compare", "chat", "report"):
        wrong = f"error: '{empty}' is not the folder of a run: there is no config.json in it\n"
        assert call(verb, empty, code=2).stderr == wrong
        wrong = f"error: '{model}' is not the folder of a run: config.json in it is not one of a run\n"
        assert call(verb, model, code=2).stderr == wrong


def test_a_run_that_is_none_beside_one_that_is(tmp_path):
    (tmp_path / "boroughs").mkdir()
    (tmp_path / "boroughs" / "config.json").write_text('{"model_name": "m"}')
    there = f"there is {tmp_path / 'boroughs'}"
    misspelt = call("chat", tmp_path / "borouhgs", code=2).stderr
    meant = f"(did you mean '{tmp_path / 'boroughs'}'?)"
    assert misspelt == f"error: '{tmp_path / 'borouhgs'}' does not exist; {there} {meant}\n"
    assert f"'{tmp_path}' is not the folder of a run: there is no config.json in it; {there}" in (
        call("report", tmp_path, code=2).stderr
    )


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("est", ["estimate"]),
        ("train --num-e", ["--num-epochs"]),
        ("train --engine ", ["auto", "local", "tinker"]),
        ("estimate --on-overflow tr", ["truncate", "truncate_answers"]),
        ("evaluate run --metric con", ["contains"]),
        ("check --format sh", ["sharegpt"]),
        ("sweep --model sm", ["smollm2-135m-instruct"]),
        ("preview --train-on last_a", ["last_assistant_message", "last_assistant_turn"]),
        ("chat ru", []),  # the shell itself completes names of files and folders
    ],
)
def test_what_the_shell_completes(typed, words):
    line = f"glowgenius {typed}"
    asked = {"_GLOWGENIUS_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    result = CliRunner().invoke(app, [], prog_name="glowgenius", env=asked)
    assert result.stdout.split() == words


# --- check and preview ---


def test_check_says_what_is_there(data):
    assert "20 rows, question/answer, 10 groups" in call("check", data, "--no-near").output
    assert json.loads(call("check", data, "--json", "--no-near").stdout)["ok"] is True


def test_check_ends_with_1_where_there_are_problems(tmp_path):
    path = tmp_path / "two.jsonl"
    path.write_text('{"question": "Q?", "answer": "A"}\n{"question": "Q?", "answer": "B"}\n', encoding="utf-8")
    assert json.loads(call("check", path, "--json", "--no-near", code=1).stdout)["ok"] is False
    path.write_text('{"question": "Q?"}\n', encoding="utf-8")
    assert f"{path}:1: " in call("check", path, code=1).stderr
    assert json.loads(call("check", path, "--json", code=1).stdout)["problems"][0]["line"] == 1


def test_a_console_of_another_encoding_gets_escapes_and_whole_json(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"question": f"Où est {row} → ici?", "answer": f"là {row % 2}"} for row in range(3)]
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, rows[0]]), encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    said = [
        subprocess.run(
            [sys.executable, "-m", "glowgenius", "check", str(path), "--no-near", *more],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        for more in ([], ["--json"])
    ]
    assert [done.stderr for done in said] == ["", ""]
    assert r"O\xf9 est 0 \u2192 ici?" in said[0].stdout
    assert "Où est 0 → ici?" in json.dumps(json.loads(said[1].stdout), ensure_ascii=False)


def test_check_reports_what_cannot_be_read_beside_what_is_wrong_with_the_rest(tmp_path):
    path = tmp_path / "mixed.jsonl"
    path.write_text(
        '{"question": "Q?", "answer": "A"}\n{"question": "Q?", "answr": "B"}\n{"question": "Q?", "answer": "B"}\n',
        encoding="utf-8",
    )
    page = call("check", path, "--no-near", code=1).output
    assert f"{path}: 2 rows, question/answer" in page
    assert "PROBLEM 1 × cannot be read:" in page
    assert f"{path}:2: answr: no column of that name → did you mean 'answer'?" in page
    assert "PROBLEM the same question with different answers" in page
    found = json.loads(call("check", path, "--json", "--no-near", code=1).stdout)
    assert (found["ok"], found["num_rows"], [one["line"] for one in found["problems"]]) == (False, 2, [2])
    assert [one["kind"] for one in found["findings"]] == ["contradiction"]


def test_parts_that_the_rows_name_are_taken(capsys):
    rows = [{"question": f"{at}?", "answer": "A", "split": ("Train", "test", "spare")[at % 3]} for at in range(12)]
    train, held = split(Dataset.from_records(rows), None, 0.1, 0, as_json=False)
    assert ({row.split for row in train}, {row.split for row in held}) == ({"Train"}, {"test"})
    assert capsys.readouterr().out == (
        "evaluation: the 4 rows whose split is 'test'; trained are the 4 whose split is 'Train'; "
        "4 other rows are left out\n"
    )


def test_check_finds_leaks(data):
    found = json.loads(call("check", data, "--against", data, "--json", "--no-near", code=1).stdout)
    assert found["leaks"]["ok"] is False


def test_preview(model, data, tmp_path):
    assert "⟦A0<|im_end|>⟧" in call("preview", data, "--model", model, "--rows", 1).output
    assert json.loads(call("preview", data, "--model", model, "--json").stdout)["rows"]
    call("preview", data, "--model", model, "--html", tmp_path / "p.html")
    page = (tmp_path / "p.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    assert "<mark" in page


def test_estimate_says_tokens_and_price_and_where(model, data, tmp_path):
    options = ("--model", model, "--num-epochs", 2, "--batch-size", 4, "--eval-every", "epoch")
    text = call("estimate", data, *options).output
    assert "evaluation: 2 of 20 rows are held out (--test-size 0.1, seed 0)\n" in text
    assert "engine: local, because no key for Tinker was found" in text
    assert "steps: 10 = 2 epochs × 5 batches of 4 rows, the last of them 2 rows\n" in text
    last = text.splitlines()[-1]
    assert last.startswith("cost: no charge: it runs on this machine (")
    here = json.loads(call("estimate", data, *options, "--json").stdout)
    assert (here["steps"], here["engine"], here["usd"], here["evaluations"]) == (10, "local", 0.0, 3)
    assert f"({here['tokens_trained']:,} tokens trained, {here['tokens_prefilled']:,} read in 3 evaluations)" in last
    table = {"date": "2026-11-24", "models": {str(model): {"prefill": 1, "sample": 2, "train": 3}}}
    (tmp_path / "prices.json").write_text(json.dumps(table), encoding="utf-8")
    there = ("--engine", "tinker", "--prices", tmp_path / "prices.json", "--json")
    priced = json.loads(call("estimate", data, *options, *there).stdout)
    assert priced["usd"] == pytest.approx((3 * here["tokens_trained"] + here["tokens_prefilled"]) / 1e6)
    assert (priced["engine"], priced["priced_at"]) == ("tinker", "2026-11-24")


@pytest.mark.parametrize(
    ("count", "options", "why"),
    [(1, (), "there are too few rows (1) to hold some out"), (20, ("--test-size", 0), "--test-size is 0")],
)
def test_where_no_row_is_held_out_the_reason_is_said(model, tmp_path, count, options, why):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS[:count]), encoding="utf-8")
    text = call("estimate", path, "--model", model, "--batch-size", 1, *options).output
    assert f"evaluation: none, as {why}\n" in text


def test_estimate_counts_what_train_is_going_to_send(model, data, tmp_path):
    options = ("--model", model, "--max-steps", 3, "--batch-size", 4, "--seed", 3)
    told = json.loads(call("estimate", data, *options, "--json").stdout)
    call("train", data, *options, "--rank", 2, "-o", tmp_path / "run")
    cost = json.loads((tmp_path / "run" / "result.json").read_text())["cost"]
    assert [cost[name] for name in ("tokens_trained", "tokens_prefilled")] == [
        told[name] for name in ("tokens_trained", "tokens_prefilled")
    ]


def test_estimate_refuses_what_train_would(data):
    assert call("estimate", data, "--engine", "tinkr", code=2).stderr == (
        "error: connect: engine must be one of 'auto', 'local', 'tinker', got 'tinkr' (did you mean 'tinker'?)\n"
    )
    named = call("estimate", data, code=2, env={"TINKER_API_KEY": "tml-not-a-real-key"})
    assert "error: name the base model: --model Qwen/Qwen3-8B, for example, as the engine is Tinker" in named.stderr


def test_the_date_in_every_prompt_is_chosen_by_an_option(model, data, tmp_path):
    dated = tmp_path / "dated"
    shutil.copytree(model, dated)
    template = "{{ 'Day: ' + strftime_now('%Y-%m-%d') + '. ' }}" + template_of(dated)
    [settings] = dated.glob("chat_template.jinja")
    settings.write_text(template, encoding="utf-8")
    assert "Day: 2026-01-31. " in call("preview", data, "-m", dated, "-n", 1, "--today", "2026-01-31").output
    wrong = call("preview", data, "-m", dated, "--today", "31.1.2026", code=2)
    assert "--today takes a date such as 2026-01-31, got '31.1.2026'" in wrong.output
    folder, settings = tmp_path / "run", ("-m", dated, "--engine", "local", "--num-epochs", 2, "--test-size", 0)
    first = call("train", data, *settings, "-o", folder, "--today", "2026-01-31", "--max-steps", 1)
    assert "writes the date 2026-01-31 into every prompt" in first.output
    other = call("train", data, *settings, "-o", folder, "--resume", "--today", "2026-02-01", "--max-steps", 2, code=1)
    assert "the day in every prompt: 2026-01-31 then, 2026-02-01 now (--today chooses it)" in other.output
    again = call("train", data, *settings, "-o", folder, "--resume", "--today", "2026-01-31", "--max-steps", 2)
    assert "writes the date 2026-01-31" in again.output
    call("train", data, *settings, "-o", folder, "--resume", "--max-steps", 3)


def template_of(folder):
    return (folder / "chat_template.jinja").read_text(encoding="utf-8")


def test_check_preview_and_estimate_need_neither_torch_nor_a_key(data, model):
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from glowgenius.cli.app import app\n"
        f"app(['preview', {str(data)!r}, '--model', {str(model)!r}], standalone_mode=False)"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for verb in ("check", "preview", "estimate"):
        done = subprocess.run(
            [sys.executable, "-c", code.replace("'preview'", repr(verb))],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr


# --- the life of a run ---


def test_train_says_what_it_chose_and_what_comes_next(model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("runs/rows", "runs/rows-2"):
        text = call("train", data, "--model", model, "--rank", 2, "--max-steps", 1).output
        assert "evaluation: 2 of 20 rows are held out (--test-size 0.1, seed 0)\n" in text
        assert "engine: local (on this machine" in text
        assert "because no key for Tinker was found" in text
        assert f"the run is in {folder}. What next:" in text
        assert (tmp_path / folder / "held_out.jsonl").exists()


@pytest.mark.parametrize("folder", ["my runs/it's $HOME `x`", "-o", "a;b & c"])
def test_what_comes_next_can_be_pasted(folder, model, data, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = call("train", data, "--model", model, "--rank", 2, "--max-steps", 1, f"--output-dir={folder}").output
    commands = [line.strip() for line in text.partition("What next:\n")[2].splitlines()]
    verbs = ["compare", "chat", "report", "export"]
    assert [shlex.split(command, comments=True)[:2] for command in commands] == [["glowgenius", verb] for verb in verbs]
    where = {shlex.split(command, comments=True)[2] for command in commands}
    assert [Path(path).resolve() for path in where] == [(tmp_path / folder).resolve()]
    call(*shlex.split(commands[2], comments=True)[1:])
    assert (tmp_path / folder / "report.html").exists()


def test_train_as_json(model, data, tmp_path):
    options = ("--model", model, "--rank", 2, "--max-steps", 2, "--test-size", 0, "-o", tmp_path / "run", "--json")
    found = json.loads(call("train", data, *options).stdout)
    assert (found["steps"], found["stop_reason"], found["last"]["step"]) == (2, "max_steps", 2)


def test_train_on_tinker_needs_a_model(data):
    result = call("train", data, code=2, env={"TINKER_API_KEY": "tml-not-a-real-key"})
    assert result.stderr.startswith("error: name the base model: --model Qwen/Qwen3-8B, for example, as the engine is ")
    assert "not-a-real-key" not in result.output


def test_resume_needs_the_folder(data):
    assert call("train", data, "--resume", code=2).stderr == (
        "error: --resume goes on with the run in --output-dir; name that folder\n"
    )


def test_evaluate_and_compare(trained, tmp_path):
    found = json.loads(call("evaluate", trained, "--json").stdout)
    assert len(found["rows"]) == 2
    page = tmp_path / "comparison.html"
    assert json.loads(call("compare", trained, "--json", "--report", page).stdout)["all"]["n"] == 2
    assert page.exists()
    assert "base" in call("compare", trained).output


def test_report_writes_the_page_from_all_that_the_run_has(trained, tmp_path):
    call("report", trained, "--compare", trained / "held_out.jsonl", "-o", tmp_path / "more.html")
    assert "fixed" in (tmp_path / "more.html").read_text(encoding="utf-8")
    call("report", trained, "-o", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == (tmp_path / "more.html").read_bytes()


def test_chat_answers_what_is_piped_in(trained):
    lines = call("chat", trained, "--max-tokens", 6, input="Q1?\n/reset\nQ1?\n").output.splitlines()
    assert [line[:7] for line in lines] == [" base> ", "tuned> "] * 2
    assert lines[:2] == lines[2:]  # nothing of the first conversation is left


def test_chat_says_what_one_request_says(trained):
    from glowgenius import open_run

    [line] = call("chat", trained, "--tuned-only", "--max-tokens", 9, "--json", input="Q1?\n").stdout.split("\x00")
    [answer] = open_run(trained).sampler().complete(["Q1?"], max_tokens=9)
    assert json.loads(line) == {"question": "Q1?", "tuned": answer.text}


def test_an_older_step_can_be_asked_for(trained):
    result = call("export", trained, trained / "x", "--step", 3, code=1)
    assert "has no weights of step 3 to sample from; it has those of: 4" in result.stderr


def test_a_run_that_was_moved_is_found(trained, tmp_path):
    moved = trained.rename(tmp_path / "moved")
    try:
        call("export", moved, tmp_path / "adapter")
    finally:
        moved.rename(trained)
    assert (tmp_path / "adapter" / "adapter_config.json").exists()


def test_sweep(model, data, tmp_path):
    options = ("--model", model, "--rank", 2, "--learning-rate", 0.01, "--learning-rate", 0.02, "--max-steps", 1)
    found = json.loads(call("sweep", data, *options, "--metric", "eval_loss", "-o", tmp_path, "--json").stdout)
    assert len(found["cells"]) == 2
    wrong = call("sweep", data, *options, "--format", "messages", code=1).output
    assert "in a row read as 'messages' → the columns of 'messages', or --format question/answer" in wrong


# --- about this machine ---


def test_models():
    found = json.loads(call("models", "--rank", 32, "--json").stdout)["models"]
    counts = {model["name"]: model["lora_parameters"] for model in found}
    assert len(counts) == len(found)
    assert counts["Qwen/Qwen3-30B-A3B-Base"] == 494_088_192
    assert counts["smollm2-135m-instruct"] == counts["HuggingFaceTB/SmolLM2-135M-Instruct"] == 11_360_256
    lines = call("models").output.splitlines()
    assert len(lines) == len(found) + 1
    assert lines[1].split()[:3] == ["smollm2-135m-instruct", "11,360,256", "1.00e-03"]


def test_env_clears_the_cache_when_that_is_asked_for(monkeypatch, tmp_path):
    cache = tmp_path / "cache"
    monkeypatch.setenv("GLOWGENIUS_CACHE", str(cache))
    for name in ("models", "own"):
        (cache / name).mkdir(parents=True)
        (cache / name / "file").write_bytes(bytes(2_000_000))
    assert json.loads(call("env", "--json").stdout)["cache"] == [{"path": str(cache / "models"), "bytes": 2_000_000}]
    assert f"cache: 2.0 MB in {cache / 'models'}" in call("env").stdout
    assert "Remove 2.0 MB" in call("env", "--clear-cache", code=1, input="n\n").output
    assert (cache / "models" / "file").is_file()
    assert json.loads(call("env", "--clear-cache", "--yes", "--json").stdout) == {
        "removed": [str(cache / "models")],
        "bytes": 2_000_000,
    }
    assert [part.name for part in cache.iterdir()] == ["own"]


def test_env_never_shows_a_key():
    result = call("env", "--json", env={"TINKER_API_KEY": "tml-not-a-real-key"})
    assert json.loads(result.stdout)["tinker_api_key"] == "set"
    assert "not-a-real-key" not in result.output


@pytest.mark.parametrize(("number", "code"), [(2, 130), (15, 143), (1, 129)])
def test_whoever_is_told_to_end_says_by_what_in_the_exit_code(number, code, capsys):
    @common.verb
    def told():
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    with pytest.raises(typer.Exit) as left:
        told()
    assert left.value.exit_code == code
    by = {2: "", 15: " by SIGTERM", 1: " by SIGHUP"}[number]
    assert capsys.readouterr().err == f"interrupted{by}\n"


# --- options are the settings ---


def options_of(verb):
    return {name: parameter.default for name, parameter in inspect.signature(verb).parameters.items()}


@pytest.mark.parametrize("verb", [train, estimate], ids=["train", "estimate"])
def test_every_setting_is_an_option(verb):
    """A setting that is new in `TrainingConfig` needs an option, and one that is gone takes its own along."""
    settings = {field.name: field.default for field in attrs.fields(TrainingConfig)}
    given = options_of(verb)
    assert settings.keys() - given.keys() == set()
    assert {name: given[name] for name in settings} == settings
    adapter = {field.name: field.default for field in attrs.fields(LoRAConfig)}
    own = adapter.keys() - {"seed", "layers"}
    assert {name: given[name] for name in own} == {name: adapter[name] for name in own}


def test_estimate_takes_what_train_takes():
    # A row is dropped when a run goes on, which is not estimated.
    assert {**options_of(estimate), "drop_row": None} == options_of(train)
    assert set(attrs.fields_dict(TrainingConfig)) - options_of(sweep).keys() == {"metric_for_best"}


def test_every_option_reaches_the_run(model, data, tmp_path):
    options = {
        "--lr-schedule": "cosine", "--warmup-steps": 1, "--beta1": 0.8, "--beta2": 0.9, "--eps": 1e-6,
        "--weight-decay": 0.01, "--grad-clip-norm": 1.5, "--max-length": 99, "--on-overflow": "drop",
        "--train-on": "all_assistant_messages", "--eval-every": 2, "--save-every": "none", "--save-top-k": 2,
        "--metric-for-best": "exact_match", "--seed": 7, "--lookahead": 0, "--max-restarts": 1, "--batch-size": 5,
        "--num-epochs": 2, "--max-steps": 3, "--learning-rate": 0.003, "--rank": 3,
    }  # fmt: skip
    more = ("--no-train-unembed", "--no-train-attn", "--metric", "exact_match", "--report-to", "csv", "--device", "cpu")
    more += ("--report-to", "jsonl", "--patience", 9)
    call("train", data, "--model", model, *[word for pair in options.items() for word in pair], *more, "-o", tmp_path)
    kept = json.loads((tmp_path / "config.json").read_text())
    found = {f"--{name.replace('_', '-')}": value for name, value in {**kept["training"], **kept["lora"]}.items()}
    expected = {**options, "--save-every": None, "--metric-for-best": "eval_exact_match"}
    assert {name: found[name] for name in expected} == expected
    assert (kept["lora"]["train_mlp"], kept["lora"]["train_attn"], kept["lora"]["train_unembed"]) == (
        True,
        False,
        False,
    )
    assert {"events.jsonl", "metrics.csv", "answers", "held_out.jsonl", "trained.json"} <= {
        path.name for path in tmp_path.iterdir()
    }
    assert kept["header"][0].startswith("engine: local (on this machine")
    assert kept["header"][0].endswith(
        "because no key for Tinker was found (TINKER_API_KEY, TINKER_CREDENTIAL_CMD or `tinker auth login`)"
    )


def test_replay_is_trained_beside_the_rows(model, data, tmp_path):
    replay = tmp_path / "replay.jsonl"
    replay.write_text("".join(json.dumps({"question": f"R{row}?", "answer": "B"}) + "\n" for row in range(20)))
    text = call("estimate", data, "--model", model, "--replay", replay, "--replay-share", 0.25).output
    assert "replay: 6 rows to keep what the model knew" in text
    wrong = call("estimate", data, "--model", model, "--replay-share", 0.25, code=2).stderr
    assert wrong == "error: --replay-share is the share of the rows of --replay; name their file\n"


@pytest.mark.parametrize("verb", ["check", "preview", "estimate", "train"])
def test_columns_are_named_on_the_command_line(verb, model, tmp_path):
    path = tmp_path / "ham.csv"
    path.write_text("text,label\n" + "".join(f"Is {row} spam?,{'ham' if row % 2 else 'spam'}\n" for row in range(12)))
    more = () if verb == "check" else ("--model", model)
    more += ("--max-steps", 1, "-o", tmp_path / "run") if verb == "train" else ()
    more += ("--no-near",) if verb == "check" else ()
    call(verb, path, *more, "--columns", "question=text, answer=label")
    wrong = call(verb, path, *more, "--columns", "text", code=2).stderr
    assert wrong == (
        "error: --columns takes pairs of a name here and a name in the file, such as question=text,answer=label, or, "
        """for names with a comma or an equals sign, JSON such as '{"the text, short": "question"}', got 'text'\n"""
    )


def test_an_unknown_tracker(data, tmp_path):
    wrong = call("train", data, "--report-to", "wandbb", "-o", tmp_path / "run", code=2).stderr
    assert wrong == (
        "error: --report-to: unknown tracker 'wandbb' (did you mean 'wandb'?); known: tensorboard, wandb, mlflow, "
        "trackio, csv, jsonl\n"
    )


# --- what goes wrong ---


def test_files_that_cannot_be_written_are_one_line(model, data, tmp_path):
    page = tmp_path / "no" / "such" / "folder" / "x.html"
    call("preview", data, "--model", model, "--html", page)
    assert page.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    blocked = tmp_path / "file"
    blocked.touch()
    wrong = call("preview", data, "--model", model, "--html", blocked / "x.html", code=1)
    assert wrong.stderr.splitlines() == [f"error: '{blocked}' cannot be written: File exists; choose another folder"]
    assert "Traceback" not in wrong.output


def test_a_bug_of_ours_says_that_it_is_one(monkeypatch, trained):
    def broken(*_):
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("glowgenius.reporting.saved_run.require_run", broken)
    said = call("report", trained, code=1).stderr.splitlines()
    assert said[0] == "Traceback (most recent call last):"
    assert said[-2:] == [
        "ZeroDivisionError: division by zero",
        (
            "error: this is a bug in glowgenius, not a mistake of yours; please report it with the lines above and "
            "what `glowgenius env` prints"
        ),
    ]


# --- what was trained is known ---


def test_a_comparison_says_what_was_trained_and_gives_the_parts_apart(trained, tmp_path):
    """The file that was trained on is the commonest thing to compare with, and the worst."""
    every = tmp_path / "all.jsonl"
    every.write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    done = call("compare", trained, every)
    assert "note: 18 of the 20 questions were trained" in done.output
    assert "all: not trained, judged by exact_match" in done.output
    assert "answers of base and tuned: 40 of 40\n" in done.stderr
    found = json.loads(call("compare", trained, every, "--json").stdout)["all"]
    assert {name: found["trained"][name] for name in ("exactly", "nearly", "by_group", "not")} == {
        "exactly": 18, "nearly": 0, "by_group": 0, "not": 2,
    }  # fmt: skip
    assert [found["trained"]["parts"][name]["n"] for name in ("trained", "not_trained")] == [18, 2]
    assert sum(answer["trained"] == "exactly" for answer in found["answers"]) == 18
    assert found["answers"][0].keys() >= {"question", "reference", "base", "tuned", "base_correct", "tuned_correct"}
    assert "none of the 2 questions was trained" in call("evaluate", trained).output
    asked = json.loads(call("evaluate", trained, every, "--json").stdout)
    assert asked["trained"]["exactly"] == 18


def test_making_the_page_again_loses_nothing(trained):
    call("compare", trained)
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "Every changed answer" in page
    call("report", trained)
    assert (trained / "report.html").read_text(encoding="utf-8") == page
    more = trained / "more.jsonl"
    more.write_text(json.dumps({"question": "Once more?", "answer": "Yes"}) + "\n", encoding="utf-8")
    call("report", trained, "--compare", more)
    page = (trained / "report.html").read_text(encoding="utf-8")
    assert "held-out rows" in page
    assert "more.jsonl" in page
    assert "Once more?" in page


def test_a_run_of_the_command_line_is_resumed_with_its_whole_file(model, data, tmp_path):
    """From Python too, although the command line had divided the file."""
    folder = tmp_path / "run"
    options = ("--model", model, "--rank", 2, "--batch-size", 6, "--learning-rate", 0.01, "-o", folder)
    call("train", data, *options, "--max-steps", 2, "--test-size", 0.3)
    again = call("train", data, *options, "--max-steps", 3, "--resume")  # without --test-size
    assert "evaluation: the 6 rows that the run has held out\n" in again.output
    assert "resume: from step 2" in again.output
    config = TrainingConfig(batch_size=6, learning_rate=0.01, max_steps=4, output_dir=folder)
    trainer = SupervisedTrainer(str(model), lora=LoRAConfig(rank=2), config=config)
    result = trainer.train(Dataset.from_file(data), resume_from_checkpoint=True)
    assert (result.final_checkpoint.step, result.history.last["step"]) == (4, 4)
    assert "eval/loss" in result.history.last


def test_a_row_is_dropped_by_name_when_a_run_goes_on(model, data, tmp_path):
    folder = tmp_path / "run"
    options = ("--model", model, "--rank", 2, "--batch-size", 6, "--learning-rate", 0.01, "-o", folder)
    alone = call("train", data, *options, "--drop-row", f"{data}:2", code=2).stderr
    assert "--drop-row goes on with a run that has begun, and so only with --resume;" in alone
    call("train", data, *options, "--max-steps", 1, "--test-size", 0)
    again = call("train", data, *options, "--max-steps", 2, "--test-size", 0, "--resume", "--drop-row", f"{data}:2")
    assert "dropped: row 1" in again.output
    assert json.loads((folder / "config.json").read_text())["dropped_rows"] == {"1": 1}


def test_a_home_folder_is_found(model, data, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    call("train", data, "--model", model, "--rank", 2, "--max-steps", 1, "-o", "~/run")
    assert (tmp_path / "run" / "config.json").exists()
    call("report", "~/run", "-o", "~/page.html")
    call("preview", data, "--model", model, "--html", "~/preview.html")
    assert {"page.html", "preview.html"} <= {path.name for path in tmp_path.iterdir()}
    assert not list(Path.cwd().glob("~*"))


# --- chat ---


def test_lines_that_are_piped_in_are_questions_of_their_own(trained):
    asked = "Q1?\nQ1?\n"
    apart = call("chat", trained, "--max-tokens", 6, "--tuned-only", input=asked).output.splitlines()
    assert apart[0] == apart[1]
    joined = call("chat", trained, "--max-tokens", 6, "--tuned-only", "--conversation", input=asked).output.splitlines()
    assert joined[0] == apart[0]
    assert joined[1] != apart[1]


def test_a_question_that_is_too_long_is_said_and_one_that_leaves_little_room_is_cut_off(trained):
    from glowgenius import open_run

    sampler = open_run(trained).sampler()
    whole = sampler.context_length
    count = next(n for n in range(1, 9 * whole) if len(prompt_tokens(sampler.renderer, "a b " * n)) > whole - 5)
    for question, code in (("a b " * (count + 20), 1), ("a b " * count, 0)):
        result = call("chat", trained, "--tuned-only", input=f"{question}\n", code=code)
        length = len(prompt_tokens(sampler.renderer, question.strip()))
        told = (
            f"error: 'tuned' takes {whole} tokens, and the conversation with this question has {length}: /reset begins "
            "a new one, or ask less at once"
            if code
            else f"'tuned' takes {whole} tokens, and the conversation has reached them: the answer is cut off, and "
            "/reset begins a new one"
        )
        assert told in result.stderr


def test_commands_of_a_chat_do_not_go_to_the_models(trained):
    said = call("chat", trained, "--max-tokens", 6, input="/help\n/resset\n/quit\nQ1?\n").output
    help_ = (
        "Ask something. /help says this, /reset forgets the conversation, /quit or Ctrl-D leaves, Ctrl-C ends an "
        "answer."
    )
    assert said.splitlines() == [help_, f"there is no /resset (did you mean '/reset'?). {help_}"]


@pytest.mark.parametrize("word", ["none", "None", "never", "off"])
def test_none_is_taken_for_a_setting_as_our_advice_writes_it(word):
    # `eval_every=None` in an error of the library reads `--eval-every None` on the command line.
    from glowgenius.cli.settings import training_config

    assert training_config({"eval_every": word, "save_every": word}) == TrainingConfig(eval_every=None, save_every=None)


def test_a_second_stage(model, data, trained, tmp_path):
    common = ["train", data, "--model", model, "--engine", "local", "--max-steps", "1", "-o", tmp_path / "two"]
    more = [*common, "--learning-rate", "0.01", "--initial-weights", trained]
    refused = call(*more, "--rank", "16", code=2)
    assert "Use --rank 4, or say nothing" in refused.stderr
    done = call(*more)
    assert f"initial weights: {trained}, step " in done.stdout


def test_export_takes_every_way_out(trained, tmp_path):
    merged = call("export", trained, "--merged", tmp_path / "merged", "--dtype", "bfloat16", "--json")
    told = json.loads(merged.stdout)
    assert (told["format"], told["dtype"]) == ("merged", "bfloat16")
    assert any(note.startswith("check: 2 of 2") for note in told["notes"])
    assert (tmp_path / "merged" / "model.safetensors").is_file()
    refused = call("export", trained, tmp_path / "served", "--for", "vllm", code=2)
    assert "the adapter changes the unembedding" in refused.stderr
    assert "--no-train-unembed" in refused.stderr
    listed = call("export", trained, "--push-to-hub", "ada/run", "--dry-run")
    assert listed.stdout.startswith("would upload to ada/run (private):")
    twice = call("export", trained, tmp_path / "x", "--merged", tmp_path / "y", code=2)
    assert "are two folders to write into; name one" in twice.stderr
    assert "name the folder to write into" in call("export", trained, code=2).stderr


def test_a_run_that_is_there_already_is_answered_with_options(trained, data, model):
    said = call("train", data, "--model", model, "-o", trained, code=2).stderr
    assert said == (
        f"error: --output-dir {trained} holds a run already (5 rows of metrics, finished). Go on with it: --resume. "
        "Start anew: choose another --output-dir, or delete the folder\n"
    ), said
