"""What is known to be wrong before the first request is said before the first request, all of it."""

from __future__ import annotations

import json

import attrs
import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.data.message import Conversation, Message
from glowgenius.errors import (
    ConfigError,
)
from glowgenius.lora.config import LoRAConfig
from glowgenius.rendering import ChatTemplateRenderer
from glowgenius.testing import ScriptedService
from glowgenius.training.prices import Price, PriceTable
from glowgenius.training.run_identity import peak_rate
from glowgenius.training.trainer import SupervisedTrainer
from tests.support.chat_tokenizers import family_tokenizer
from tests.support.preflight import ABOUT, LENGTHS, SHORT, FakeTinkerService, check, refused
from tests.support.training import HELD_OUT, RENDERER, TRAIN, config, questions, trainer

SERVING = (
    "vLLM refuses an adapter of the unembedding for most models, and earlier SGLang for all; to load it there, train "
    "with LoRAConfig(train_unembed=False), or export the merged model"
)


def test_an_adapter_that_servers_refuse_is_named_before_the_run():
    assert trainer(lora=LoRAConfig()).preflight(TRAIN).serving == (SERVING,)
    assert trainer(lora=LoRAConfig(train_unembed=False)).preflight(TRAIN).serving == ()


def test_the_report_of_a_run_that_can_begin():
    report = check(TRAIN, HELD_OUT, warmup_steps=2)
    tokens, trained = sum(LENGTHS) - 10, sum(RENDERER.render(row).num_trained for row in TRAIN)
    held = [RENDERER.render(row) for row in HELD_OUT]
    scored, read = sum(row.num_trained for row in held), sum(map(len, held)) - 3
    assert str(report) == "\n".join(
        [
            *ABOUT,
            f"train rows: 10 of 10 used; {trained} of {tokens} tokens trained per epoch; longest {max(LENGTHS)} tokens",
            f"eval rows: 3 of 3 used; {scored} of {read} tokens scored; longest {max(map(len, held))} tokens",
            "steps: 9 = 3 epochs × 3 batches of 4 rows, the last of them 2 rows",
            "learning rate: 0.5, linear after 2 steps of warm-up (as configured)",
            "loss: mean over the trained tokens of a step, in nats per token",
            f"serving: {SERVING}",
            f"warning: {SHORT}",
        ]
    )
    assert (report.total_steps, report.steps_per_epoch, report.train.used) == (9, 3, 10)


@pytest.mark.parametrize(
    ("rows", "settings", "line"),
    [
        (8, {"batch_size": 4, "num_epochs": 1}, "steps: 2 = 1 epoch × 2 batches of 4 rows"),
        (9, {"batch_size": 4, "num_epochs": 1}, "steps: 3 = 1 epoch × 3 batches of 4 rows, the last of them 1 row"),
        (3, {"batch_size": 16}, "steps: 3 = 3 epochs × 1 batch of 3 rows, fewer than batch_size=16"),
        (8, {"max_steps": 5}, "steps: 6 = 3 epochs × 2 batches of 4 rows; max_steps=5 ends the run earlier"),
        (8, {"max_steps": 6}, "steps: 6 = 3 epochs × 2 batches of 4 rows"),
        (1, {"batch_size": 1, "num_epochs": 1}, "steps: 1 = 1 epoch × 1 batch of 1 row"),
    ],
)
def test_the_steps_are_said(rows, settings, line):
    assert check(questions(rows), **settings).lines()[4] == line


def test_where_the_learning_rate_comes_from():
    value, source = peak_rate(config(learning_rate="auto"), "Qwen/Qwen3-8B")
    assert value > 0
    assert source.startswith("auto: ")
    assert peak_rate(config(learning_rate=1), "anything") == (1.0, "as configured")


def test_rows_over_the_limit_are_all_listed():
    limit = LENGTHS[0] - 1
    lines = refused(questions(2), questions(1, prefix="E"), max_length=limit)
    remedy = "raise max_length, shorten the row, or on_overflow='drop' or 'truncate'"
    assert lines == [
        f"row 0: train: {limit + 1} tokens, 1 too many → {remedy}",
        f"row 1: train: {limit + 1} tokens, 1 too many → {remedy}",
        f"row 0: eval: {limit + 1} tokens, 1 too many → {remedy}",
    ]


def test_rows_from_a_file_are_named_by_their_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        '{"question": "short?", "answer": "yes", "id": "a"}\n\n{"question": "' + "long " * 20 + '", "answer": "no"}\n'
    )
    (line,) = refused(Dataset.from_file(path), max_length=60, num_epochs=1, batch_size=1)
    assert line.startswith(f"{path}:3: ")


def test_dropped_and_truncated_rows_are_counted():
    rows = Dataset.from_records([{"question": "Q?" * size, "answer": "A"} for size in (1, 30, 1)])
    assert (
        check(rows, max_length=40, on_overflow="drop")
        .lines()[3]
        .startswith("train rows: 2 of 3 used (1 dropped as too long); ")
    )
    report = check(rows, max_length=40, on_overflow="truncate")
    assert (report.train.used, report.train.truncated, report.train.longest) == (3, 1, 40)
    assert report.lines()[3].startswith("train rows: 3 of 3 used (1 truncated); ")


def test_answers_that_are_cut_are_counted_and_warned_of():
    rows = Dataset.from_records([{"question": "Q?", "answer": "A" * size} for size in (1, 60, 1)])
    report = check(rows, max_length=50, on_overflow="truncate_answers")
    assert report.lines()[3].startswith("train rows: 3 of 3 used (1 truncated, 1 of these in an answer); ")
    assert report.warnings[-2] == (
        "in 1 of 3 train rows the token that ends the answer is not trained, so the model will not learn to stop"
    )


def test_rows_divided_by_turn_are_said():
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user", "assistant")]
    rows = Dataset.from_records([{"messages": turns}, {"messages": turns[:2]}])
    report = check(
        rows,
        renderer=ChatTemplateRenderer(family_tokenizer("thinking")),
        train_on="all_assistant_messages",
        batch_size=2,
        num_epochs=1,
    )
    assert (report.train.rows, report.train.examples, report.train.used) == (2, 3, 3)
    assert report.lines()[3].startswith("train rows: 3 of 3 examples, into which 2 rows are divided by turn, used; ")
    assert report.lines()[4] == "assistant turns: 3 of 3 trained (all_assistant_messages)"
    assert report.lines()[5] == "steps: 2 = 1 epoch × 2 batches of 2 examples, the last of them 1 example"


def test_dropping_every_row_is_no_run():
    assert refused(questions(2), max_length=5, on_overflow="drop") == [
        "train: all 2 rows are over max_length=5 → at least one row that can be used"
    ]


def test_no_rows_are_no_run():
    assert refused(Dataset(), Dataset()) == [
        "train: no rows → at least one row that can be used",
        "eval: no rows → at least one row that can be used",
    ]


def test_rows_without_anything_to_train_are_listed_with_everything_else():
    rows = Dataset([*TRAIN[:1], Conversation.from_question("Q?", "A", id="x")])
    lines = refused(rows, train_on="customized", eval_every=2)
    assert lines == [
        (
            "config.eval_every: 2, but there is no eval_dataset, so no evaluation would ever happen → train(..., "
            "eval_dataset=...), or eval_every=None"
        ),
        "row 0: train: messages: no message has a weight above 0 → give the messages to train a weight",
        "row 1 (id 'x'): train: messages: no message has a weight above 0 → give the messages to train a weight",
    ]


def test_an_evaluation_that_never_fires():
    assert refused(eval_every="epoch") == [
        (
            "config.eval_every: 'epoch', but there is no eval_dataset, so no evaluation would ever happen → train(..., "
            "eval_dataset=...), or eval_every=None"
        )
    ]


def test_a_warm_up_longer_than_the_run():
    assert refused(warmup_steps=9) == [
        "config.warmup_steps: 9, but the run has 9 steps, so the learning rate would never reach its peak → at most 8"
    ]
    check(warmup_steps=8)


def test_the_price_is_on_the_page_where_there_is_one():
    price = Price(prefill=1, sample=1, train=10, date="2026-11-24", source="made up")
    run = SupervisedTrainer(
        "scripted",
        service=ScriptedService(),
        renderer=RENDERER,
        config=config(max_steps=3),
        prices=PriceTable(models={"scripted": price}),
    )
    report = run.preflight(TRAIN)
    tokens = sum(LENGTHS) - 10
    assert report.lines()[-1] == (
        f"cost: about ${tokens / 1e5:.4f} ({tokens} tokens trained ${tokens / 1e5:.4f}, 0 read in 0 evaluations "
        "$0.00; prices of 2026-11-24)"
    )
    assert report.cost.usd == pytest.approx(tokens / 1e5)
    assert not [line for line in check().lines() if line.startswith("cost")]
    assert check().cost.usd is None
    assert [line for line in trainer(FakeTinkerService()).preflight(TRAIN).lines() if line.startswith("cost")]


def test_the_report_as_json():
    report = check(TRAIN, HELD_OUT)
    found = json.loads(json.dumps(report.to_json()))
    assert (found["total_steps"], found["train"]["used"], found["evaluation"]["used"]) == (9, 10, 3)
    assert (found["engine"], found["about"], found["warnings"]) == ("ScriptedService", [*ABOUT], [SHORT])
    assert found["cost"] == report.cost.to_json()
    assert set(found) == {field.name for field in attrs.fields(type(report))}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("rows.jsonl", "train must be a Dataset, got str; make one with Dataset.from_file(...)"),
        ([{"question": "q"}], "train must be a Dataset, got list; make one with Dataset.from_records(...)"),
    ],
)
def test_what_is_no_data_set(rows, message):
    with pytest.raises(ConfigError) as raised:
        trainer().train(rows)
    assert str(raised.value) == message


def test_conversations_are_a_data_set():
    assert check([*TRAIN]).train.used == 10
    message = Conversation(messages=[Message("user", "q"), Message("assistant", "a")])
    assert check((message,)).train.used == 1
