"""What is known to be wrong before the first request is said before the first request, all of it."""

from __future__ import annotations

from typing import ClassVar

import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.data.message import Conversation, Message
from glowgenius.errors import ConfigError, PreflightError
from glowgenius.lora.config import LoRAConfig
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer
from glowgenius.rendering.example import RenderedExample
from glowgenius.rendering.renderer import Renderer
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training.setup import peak_rate
from tests.support.chat_tokenizers import family_tokenizer
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, config, questions, trainer

LENGTHS = [len(RENDERER.render(row)) for row in TRAIN]


def check(train=TRAIN, held_out=None, **settings):
    service = ScriptedService(tokenizer=TOKENIZER)
    report = trainer(service, **settings).preflight(train, held_out)
    assert service.journal == ()
    return report


def refused(train=TRAIN, held_out=None, **settings):
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(PreflightError) as raised:
        trainer(service, **settings).train(train, held_out)
    assert service.journal == ()
    head, *lines = str(raised.value).split("\n")
    assert head == "the run cannot begin; nothing has been sent yet"
    assert len(raised.value.problems) == len(lines)
    return [line.strip() for line in lines]


def test_the_report_of_a_run_that_can_begin():
    report = check(TRAIN, HELD_OUT, warmup_steps=2)
    tokens, trained = sum(LENGTHS) - 10, sum(RENDERER.render(row).num_trained for row in TRAIN)
    held = [RENDERER.render(row) for row in HELD_OUT]
    scored, read = sum(row.num_trained for row in held), sum(map(len, held)) - 3
    assert str(report) == "\n".join(
        [
            f"train rows: 10 of 10 used; {trained} of {tokens} tokens trained per epoch; longest {max(LENGTHS)} tokens",
            f"eval rows: 3 of 3 used; {scored} of {read} tokens scored; longest {max(map(len, held))} tokens",
            "steps: 9 = 3 epochs × 3 batches of 4 rows, the last of them 2 rows",
            "learning rate: 0.5, linear after 2 steps of warm-up (as configured)",
            "loss: mean over the trained tokens of a step, in nats per token",
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
    assert check(questions(rows), **settings).lines()[1] == line


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
        .lines()[0]
        .startswith("train rows: 2 of 3 used (1 dropped as too long); ")
    )
    report = check(rows, max_length=40, on_overflow="truncate")
    assert (report.train.used, report.train.truncated, report.train.longest) == (3, 1, 40)
    assert report.lines()[0].startswith("train rows: 3 of 3 used (1 truncated); ")


def test_answers_that_are_cut_are_counted_and_warned_of():
    rows = Dataset.from_records([{"question": "Q?", "answer": "A" * size} for size in (1, 60, 1)])
    report = check(rows, max_length=50, on_overflow="truncate_answers")
    assert report.lines()[0].startswith("train rows: 3 of 3 used (1 truncated, 1 of these in an answer); ")
    assert report.warnings[-1] == (
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
    assert report.lines()[0].startswith("train rows: 3 of 3 examples, into which 2 rows are divided by turn, used; ")
    assert report.lines()[1] == "steps: 2 = 1 epoch × 2 batches of 2 examples, the last of them 1 example"


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


BOS = "<|endoftext|>"


class Doubled(Renderer):
    """A renderer whose template and tokenizer both add the BOS."""

    tokenizer: ClassVar = ByteTokenizer(bos_token=BOS)
    stop_sequences, fingerprint, description = (256,), "f", "d"

    def render_messages(self, messages, train_on):
        bos = self.tokenizer.bos_token_id
        return RenderedExample([bos, bos, 65, 256], [0, 0, 1, 1])

    def render_prompt(self, messages):
        raise NotImplementedError

    def parse(self, tokens):
        raise NotImplementedError


def test_a_doubled_bos(tmp_path):
    found = (
        "begins with the BOS token '<|endoftext|>' twice → one BOS: either the chat template or the tokenizer may add "
        "it, not both"
    )
    assert refused(questions(1), renderer=Doubled()) == [f"row 0: train: {found}"]
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nq,a\n")
    assert refused(Dataset.from_file(path), renderer=Doubled()) == [f"{path}:2: {found}"]


class Endless(Doubled):
    """A renderer that trains the answer and not its end."""

    stop_sequences = ("STOP",)

    def render_messages(self, messages, train_on):
        return RenderedExample([66, 65, 257], [0, 1, 0])


def test_an_untrained_stop_is_warned_about():
    warning = (
        "warning: in 2 of 2 train rows the token that ends the answer is not trained, so the model will not learn to "
        "stop"
    )
    endless = Endless()
    assert check(questions(2), renderer=endless).lines()[-1] == warning
    endless.stop_sequences = (257,)
    assert check(questions(2), renderer=endless).lines()[-1] == warning
    endless.stop_sequences = ("A\n",)
    assert check(questions(2), renderer=endless).warnings == ()
    endless.stop_sequences = ("STOP",)
    assert check(questions(2), renderer=endless, train_on="all_messages").warnings == ()


@pytest.mark.parametrize("renderer", [RENDERER, QuestionAnswerRenderer(TOKENIZER)])
def test_our_renderers_train_their_stop(renderer):
    assert check(renderer=renderer).warnings == ()


def test_eval_questions_that_are_trained_are_warned_about():
    held_out = Dataset.from_records([{"question": " q1? ", "answer": "x"}, {"question": "new?", "answer": "y"}])
    (warning,) = check(TRAIN, held_out).warnings
    assert warning == (
        "the questions of 1 of 2 eval rows are also trained (the first: ' q1? '), so the eval loss will flatter; "
        "remove them from one of the two data sets"
    )


def test_a_question_with_two_answers_is_warned_about():
    rows = Dataset.from_records(
        [
            {"question": "Q?", "answer": "A"},
            {"question": "q? ", "answer": "B"},
            {"question": "Q2?", "answer": "same"},
            {"question": "Q2?", "answer": " Same"},
        ]
    )
    assert check(rows).warnings == (
        "1 question of the training data has more than one answer; the model learns to guess among them",
    )
    more = Dataset.from_records([{"question": question, "answer": answer} for question in "QR" for answer in "AB"])
    assert check(more).warnings == (
        "2 questions of the training data have more than one answer; the model learns to guess among them",
    )


def test_parts_that_are_trained_together_are_warned_about():
    rows = [{"question": f"{at}?", "answer": "A", "split": "train" if at else "test"} for at in range(4)]
    (warning,) = check(Dataset.from_records(rows)).warnings
    assert warning == (
        "the column 'split' of the training rows names 2 parts, 'test' (1), 'train' (3), and all of them are trained; "
        "dataset.splits has each part by itself"
    )
    assert check(Dataset.from_records(rows).splits["train"]).warnings == ()


def test_cadences_longer_than_the_run_are_warned_about():
    assert check(TRAIN, HELD_OUT, eval_every=10, save_every=20).warnings == (
        "eval_every=10 is more than the 9 steps of the run, so only the first and the last step are evaluated",
        "save_every=20 is more than the 9 steps of the run, so only the last step is saved",
    )


class FakeTinkerService:
    """Looks like the SDK's by its module; no method is called."""


FakeTinkerService.__module__ = "tinker.lib.public_interfaces.service_client"


def test_tinker_takes_powers_of_two():
    run = trainer(FakeTinkerService(), lora=LoRAConfig(rank=24))
    with pytest.raises(PreflightError) as raised:
        run.preflight(TRAIN)
    assert str(raised.value).split("\n")[1] == "  lora.rank: 24 → a power of two, as Tinker asks for"
    trainer(FakeTinkerService(), lora=LoRAConfig(rank=16)).preflight(TRAIN)
    trainer(lora=LoRAConfig(rank=24)).preflight(TRAIN)


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


def test_a_renderer_that_says_no_more_than_a_sentence_is_located_too():
    class Mute(Doubled):
        def render_messages(self, messages, train_on):
            from glowgenius.errors import RenderingError

            raise RenderingError("not today")

    assert refused(questions(1), renderer=Mute()) == ["row 0: train: not today → see the message"]


def test_the_renderer_is_checked():
    with pytest.raises(ConfigError):
        trainer(renderer=object()).preflight(TRAIN)
    assert isinstance(trainer().renderer, ChatTemplateRenderer)
