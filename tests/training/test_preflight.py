"""What is known to be wrong before the first request is said before the first request, all of it."""

from __future__ import annotations

import json
import threading
from typing import ClassVar, final

import attrs
import numpy as np
import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.data.message import Conversation, Message
from glowgenius.engines.offered import OfferQuestion
from glowgenius.engines.tinker_types import GetServerCapabilitiesResponse, SupportedModel
from glowgenius.errors import (
    AuthenticationError,
    ConfigError,
    MissingDependencyError,
    ModelNotFoundError,
    PreflightError,
    RenderingError,
)
from glowgenius.lora.config import LoRAConfig
from glowgenius.rendering import ChatTemplateRenderer, QuestionAnswerRenderer
from glowgenius.rendering.example import RenderedExample
from glowgenius.rendering.renderer import Renderer
from glowgenius.testing import ByteTokenizer, ScriptedService
from glowgenius.training.prices import Price, PriceTable
from glowgenius.training.setup import peak_rate
from glowgenius.training.trainer import SupervisedTrainer
from tests.support.chat_tokenizers import family_tokenizer
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, config, questions, trainer

SHORT = (
    "the run makes 9 updates, which is hardly enough to learn anything: an adapter begins at zero, and its rate falls "
    "to the end; more rows, num_epochs above 3 or batch_size below 4 make more"
)
ABOUT = (
    "engine: ScriptedService, because service= was given",
    "model: scripted, LoRA rank 32 on attention, MLP, unembedding, seed 0",
    f"renderer: {RENDERER.description}",
)
"""The first lines of a page."""

LENGTHS = [len(RENDERER.render(row)) for row in TRAIN]


def check(train=TRAIN, held_out=None, **settings):
    service = ScriptedService(tokenizer=TOKENIZER)
    report = trainer(service, **settings).preflight(train, held_out)
    assert service.journal == ()
    return report


def warned(*args, **settings):
    """The warnings, but for the one that a run of so few rows is short."""
    return tuple(text for text in check(*args, **settings).warnings if "hardly enough to learn" not in text)


def refused(train=TRAIN, held_out=None, **settings):
    service = ScriptedService(tokenizer=TOKENIZER)
    with pytest.raises(PreflightError) as raised:
        trainer(service, **settings).train(train, held_out)
    assert service.journal == ()
    head, *lines = str(raised.value).split("\n")
    assert head == "the run cannot begin; no row has been sent yet"
    assert len(raised.value.problems) == len(lines)
    return [line.strip() for line in lines]


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
    assert report.lines()[4] == "steps: 2 = 1 epoch × 2 batches of 2 examples, the last of them 1 example"


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
        return np.asarray([self.tokenizer.bos_token_id] * 2, dtype=np.int64)

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


class Elsewhere(Doubled):
    """A renderer whose answers are trained behind other tokens than sampling starts from."""

    def render_messages(self, messages, train_on):
        return RenderedExample([66, 67, 65, 256], [0, 0, 1, 1])

    def render_prompt(self, messages):
        return np.asarray([66, 68, 69], dtype=np.int64)


def test_a_prompt_that_is_not_the_beginning_of_its_example(tmp_path):
    found = (
        "it is trained on 'CA<|endoftext|>' where sampling starts from 'DE' (token 1), so that the answer is learned "
        "in a place where it is never asked for → a renderer whose prompt is the beginning of its example"
    )
    assert refused(questions(1), renderer=Elsewhere()) == [f"row 0: train: {found}"]
    path = tmp_path / "rows.csv"
    path.write_text("question,answer\nq,a\n")
    assert refused(Dataset.from_file(path), renderer=Elsewhere()) == [f"{path}:2: {found}"]
    # Where no answer is trained from its beginning, there is nothing to compare.
    assert check(questions(1), renderer=Elsewhere(), train_on="all_tokens").train.used == 1


def test_a_prompt_that_cannot_be_rendered():
    class Speechless(Elsewhere):
        def render_prompt(self, messages):
            raise RenderingError("not today")

    assert refused(questions(1), renderer=Speechless()) == [
        "row 0: train: its prompt cannot be rendered: not today → a renderer that can"
    ]


class Endless(Doubled):
    """A renderer that trains the answer and not its end."""

    stop_sequences = ("STOP",)

    def render_messages(self, messages, train_on):
        return RenderedExample([66, 65, 257], [0, 1, 0])

    def render_prompt(self, messages):
        return np.asarray([66], dtype=np.int64)


def test_an_untrained_stop_is_warned_about():
    warning = (
        "warning: in 2 of 2 train rows the token that ends the answer is not trained, so the model will not learn to "
        "stop"
    )
    endless = Endless()
    assert warning in check(questions(2), renderer=endless).lines()
    endless.stop_sequences = (257,)
    assert warning in check(questions(2), renderer=endless).lines()
    endless.stop_sequences = ("A\n",)
    assert warned(questions(2), renderer=endless) == ()
    endless.stop_sequences = ("STOP",)
    assert warned(questions(2), renderer=endless, train_on="all_messages") == ()


@pytest.mark.parametrize("renderer", [RENDERER, QuestionAnswerRenderer(TOKENIZER)])
def test_our_renderers_train_their_stop(renderer):
    assert warned(renderer=renderer) == ()


def test_eval_questions_that_are_trained_are_warned_about(tmp_path):
    held_out = Dataset.from_records([{"question": " q1? ", "answer": "x"}, {"question": "new?", "answer": "y"}])
    assert warned(TRAIN, held_out) == (
        (
            "the questions of 1 of 2 eval rows are also trained (the first: row 0: ' q1? '), so the eval loss will "
            "flatter; remove them from one of the two data sets"
        ),
    )
    path = tmp_path / "held_out.jsonl"
    path.write_text('\n{"question": "Q\u200b1", "answer": "x", "id": "a"}\n')
    assert warned(TRAIN, Dataset.from_file(path)) == (
        (
            f"the questions of 1 of 1 eval row are also trained (the first: {path}:2 (id 'a'): 'Q\\u200b1'), so the "
            "eval loss will flatter; remove them from one of the two data sets"
        ),
    )


def test_groups_on_both_sides_are_warned_about():
    train = questions(2, group="g")
    held_out = Dataset([*questions(1, group="g"), *questions(1, prefix="E", group="g"), *questions(1, prefix="F")])
    assert warned(train, held_out) == (
        (
            "the questions of 1 of 3 eval rows are also trained (the first: row 0: 'Q0?'), so the eval loss will "
            "flatter; remove them from one of the two data sets"
        ),
        (
            "1 of 3 eval rows is of a group that is also trained (the first: row 1, group 'g', as row 0), so the eval "
            "loss will flatter; Dataset.train_test_split keeps groups whole"
        ),
    )


def test_a_question_with_two_answers_is_warned_about():
    rows = Dataset.from_records([{"question": "Q?", "answer": "A"}, {"question": "q? ", "answer": "B"}])
    assert warned(rows) == (
        (
            "1 question of the training data has different answers (the first: row 0 and row 1: 'Q?'), so the model "
            "learns to guess among them; keep one, or give each row all accepted answers as 'references'"
        ),
    )
    more = Dataset.from_records([{"question": question, "answer": answer} for question in "QR" for answer in "AB"])
    assert warned(more) == (
        (
            "2 questions of the training data have different answers (the first: row 0 and row 1: 'Q'), so the model "
            "learns to guess among them; keep one, or give each row all accepted answers as 'references'"
        ),
    )
    agreed = [{"question": "Q?", "answer": answer, "references": ["A", "B"]} for answer in "AB"]
    assert [text for text in warned(Dataset.from_records(agreed)) if "different answers" in text] == []


def test_rows_that_are_there_twice_are_warned_about():
    rows = Dataset.from_records(
        [
            {"question": "Q?", "answer": "same"},
            {"question": "Q?", "answer": "same", "id": "b"},
            {"question": "q", "answer": " Same"},
            {"question": "Q?", "answer": "same"},
        ]
    )
    assert warned(rows) == (
        (
            "2 training rows are the same to the letter as an earlier one (the first: row 0 and row 1 (id 'b'): 'Q?'); "
            "keep one of them, a row that should count more has the column 'weight'"
        ),
        (
            "1 question of the training data is there again in other characters, with the same answer (the first: row "
            "0 and row 2: 'Q?'); keep one of them, unless both are meant"
        ),
    )


def test_parts_that_are_trained_together_are_warned_about():
    rows = [{"question": f"{at}?", "answer": "A", "split": "train" if at else "test"} for at in range(4)]
    (warning,) = warned(Dataset.from_records(rows))
    assert warning == (
        "the column 'split' of the training rows names 2 parts, 'test' (1), 'train' (3), and all of them are trained; "
        "dataset.splits has each part by itself"
    )
    assert warned(Dataset.from_records(rows).splits["train"]) == ()


def test_cadences_longer_than_the_run_are_warned_about():
    assert check(TRAIN, HELD_OUT, eval_every=10, save_every=20).warnings == (
        "eval_every=10 is more than the 9 steps of the run, so only the first and the last step are evaluated",
        "save_every=20 is more than the 9 steps of the run, so only the last step is saved",
        SHORT,
    )
    assert check(TRAIN, HELD_OUT, eval_every="epoch", max_steps=2, save_every="epoch").warnings == (
        (
            "eval_every='epoch' never comes, as max_steps=2 ends the run within the first epoch, so only the first and "
            "the last step are evaluated"
        ),
    )
    assert check(TRAIN, HELD_OUT, eval_every="epoch", max_steps=3, save_every=3).warnings == ()


def test_a_run_of_few_steps_is_warned_about_unless_it_was_asked_for():
    assert check().warnings == (SHORT,)
    assert check(max_steps=8).warnings == ()
    assert len(check(num_epochs=19, batch_size=10).warnings) == 1
    assert check(num_epochs=20, batch_size=10).warnings == ()


class FakeTinkerService:
    """Looks like the SDK's by its module."""


FakeTinkerService.__module__ = "tinker.lib.public_interfaces.service_client"


def test_tinker_takes_powers_of_two():
    run = trainer(FakeTinkerService(), lora=LoRAConfig(rank=24))
    with pytest.raises(PreflightError) as raised:
        run.preflight(TRAIN)
    assert str(raised.value).split("\n")[1] == "  lora.rank: 24 → a power of two, as Tinker asks for"
    trainer(FakeTinkerService(), lora=LoRAConfig(rank=16)).preflight(TRAIN)
    trainer(lora=LoRAConfig(rank=24)).preflight(TRAIN)


# --- what the service says ---


@final
class Service:
    """Answers what it was given when it is asked for its models, and nothing else."""

    def __init__(self, answer):
        self.answer = answer

    def get_server_capabilities(self):
        return self.answer()


def offers(*models):
    answer = GetServerCapabilitiesResponse(supported_models=list(models))
    return trainer(Service(lambda: answer), base_model="Qwen/Qwen3-8")


MODELS = (
    SupportedModel(model_name="Qwen/Qwen3-8B", trainable=True, max_context_length=32768),
    SupportedModel(model_name="Qwen/Qwen3-4B"),
    SupportedModel(model_name="Qwen/Qwen3-8B-Sampling", trainable=False),
    SupportedModel(model_name="meta-llama/Llama-3.2-1B"),
    SupportedModel(),
)


def problems_of(run, train=TRAIN, held_out=None):
    with pytest.raises(PreflightError) as raised:
        run.preflight(train, held_out)
    return [line.strip() for line in str(raised.value).split("\n")[1:]]


def test_a_model_that_the_service_does_not_have_is_refused_with_the_nearest_names():
    assert problems_of(offers(*MODELS)) == [
        (
            "base_model: the service does not have 'Qwen/Qwen3-8' → one of its 3 models, such as 'Qwen/Qwen3-8B', "
            "'Qwen/Qwen3-4B'"
        )
    ]
    assert problems_of(offers(MODELS[3])) == [
        "base_model: the service does not have 'Qwen/Qwen3-8' → 'meta-llama/Llama-3.2-1B', its only model"
    ]
    assert problems_of(offers(SupportedModel(model_name="Qwen/Qwen3-8", trainable=False), *MODELS)) == [
        (
            "base_model: the service has 'Qwen/Qwen3-8' for sampling only → one of its 3 models, such as "
            "'Qwen/Qwen3-8B', 'Qwen/Qwen3-4B'"
        )
    ]
    assert problems_of(offers(MODELS[2])) == [
        "base_model: the service does not have 'Qwen/Qwen3-8' → another service, as it trains none of its models"
    ]
    assert offers(SupportedModel(model_name="Qwen/Qwen3-8")).preflight(TRAIN).warnings == (SHORT,)
    assert offers().preflight(TRAIN).warnings == (SHORT,)


def test_many_models_are_not_all_named():
    (line,) = problems_of(offers(*(SupportedModel(model_name=f"m{number:02}") for number in range(40))))
    assert line.endswith("'m28', 'm29' and 10 more")
    assert line.count("'m") == 30


def test_it_is_said_together_with_everything_else():
    service = ScriptedService(tokenizer=TOKENIZER, models=("scripted-model", "other"))
    with pytest.raises(PreflightError) as raised:
        trainer(service, base_model="scripted").train(Dataset())
    assert service.journal == ()
    assert str(raised.value).split("\n")[1:] == [
        "  base_model: the service does not have 'scripted' → one of its 2 models, such as 'scripted-model'",
        "  train: no rows → at least one row that can be used",
    ]


def test_a_name_without_a_tokenizer_is_looked_up_at_the_service_too():
    run = SupervisedTrainer(
        "qwen", service=Service(lambda: GetServerCapabilitiesResponse(supported_models=[MODELS[0]]))
    )
    assert problems_of(run) == ["base_model: the service does not have 'qwen' → 'Qwen/Qwen3-8B', its only model"]
    unknown = SupervisedTrainer("qwen", service=Service(lambda: GetServerCapabilitiesResponse(supported_models=[])))
    with pytest.raises(ModelNotFoundError):
        unknown.preflight(TRAIN)


def test_rows_that_the_model_cannot_take_there_are_refused():
    model = SupportedModel(model_name="Qwen/Qwen3-8", max_context_length=max(LENGTHS))
    assert offers(model).preflight(TRAIN, HELD_OUT).total_steps == 9
    limit = max(LENGTHS) - 1
    longer = sum(length > limit for length in LENGTHS)
    model = SupportedModel(model_name="Qwen/Qwen3-8", max_context_length=limit)
    assert problems_of(offers(model), TRAIN, HELD_OUT) == [
        f"{name}: {count} rows of more than the {limit} tokens that the model takes on this service (the longest has "
        f"{limit + 1}) → max_length={limit}, which lists them, or cuts them by on_overflow"
        for name, count in (("train", longer), ("eval", len(HELD_OUT)))
    ]


def test_a_service_that_does_not_say_is_warned_about(monkeypatch):
    def fails():
        raise ConnectionError("reset")

    never = threading.Event()
    begins = "the service did not say which models it has, so whether 'Qwen/Qwen3-8' is one of them is not known: "
    run = trainer(Service(fails), base_model="Qwen/Qwen3-8")
    (first, _) = run.preflight(TRAIN).warnings
    assert first == (
        f"{begins}asking the service for its models: the service cannot be reached. Check the network, "
        "TINKER_BASE_URL, and that NO_PROXY covers a server on this machine (ConnectionError: reset)"
    )
    monkeypatch.setattr(OfferQuestion.answer, "__defaults__", (0.05,))
    (first, _) = trainer(Service(never.wait), base_model="Qwen/Qwen3-8").preflight(TRAIN).warnings
    assert first == f"{begins}nothing came within 0.05 s"
    never.set()


def test_a_refused_key_is_no_question_of_models():
    def refuses():
        raise AuthenticationError("no")

    with pytest.raises(AuthenticationError):
        trainer(Service(refuses)).preflight(TRAIN)


def test_a_model_that_is_not_on_this_machine():
    local = pytest.importorskip("glowgenius.local")
    run = trainer(local.ServiceClient(device="cpu"), base_model="smollm2-135m-instuct")
    assert problems_of(run) == [
        (
            "base_model: no base model 'smollm2-135m-instuct' (did you mean 'smollm2-135m-instruct'?): it is neither "
            "a folder nor a hub name → a local directory, a hub name such as 'Qwen/Qwen3-0.6B', or "
            "'smollm2-135m-instruct'"
        )
    ]


def test_without_any_engine_the_rows_are_checked_all_the_same(monkeypatch):
    def none(*_):
        raise MissingDependencyError("the local engine needs the package 'torch', which is not installed")

    monkeypatch.setattr("glowgenius.training.trainer.choose_engine", none)
    report = SupervisedTrainer("scripted", renderer=RENDERER, config=config()).preflight(TRAIN)
    assert report.lines()[0] == "engine: none"
    assert report.warnings == ("the local engine needs the package 'torch', which is not installed", SHORT)


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


def test_a_renderer_that_says_no_more_than_a_sentence_is_located_too():
    class Mute(Doubled):
        def render_messages(self, messages, train_on):
            raise RenderingError("not today")

    assert refused(questions(1), renderer=Mute()) == ["row 0: train: not today → see the message"]


def test_the_renderer_is_checked():
    with pytest.raises(ConfigError):
        trainer(renderer=object()).preflight(TRAIN)
    assert isinstance(trainer().renderer, ChatTemplateRenderer)
