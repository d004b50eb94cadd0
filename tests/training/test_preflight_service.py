"""Preflight asks the service which models it has, and what they take."""

from __future__ import annotations

import threading
from typing import final

import pytest

from glowgenius.data.dataset import Dataset
from glowgenius.engines.offered import OfferQuestion
from glowgenius.engines.tinker_types import GetServerCapabilitiesResponse, SupportedModel
from glowgenius.errors import (
    AuthenticationError,
    MissingDependencyError,
    ModelNotFoundError,
    PreflightError,
)
from glowgenius.lora.config import LoRAConfig
from glowgenius.testing import ScriptedService
from glowgenius.training.trainer import SupervisedTrainer
from tests.support.preflight import LENGTHS, SHORT, FakeTinkerService, problems_of
from tests.support.training import HELD_OUT, RENDERER, TOKENIZER, TRAIN, config, trainer


def test_tinker_takes_powers_of_two():
    run = trainer(FakeTinkerService(), lora=LoRAConfig(rank=24))
    with pytest.raises(PreflightError) as raised:
        run.preflight(TRAIN)
    assert str(raised.value).split("\n")[1] == "  lora.rank: 24 → a power of two, as Tinker asks for"
    trainer(FakeTinkerService(), lora=LoRAConfig(rank=16)).preflight(TRAIN)
    trainer(lora=LoRAConfig(rank=24)).preflight(TRAIN)


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
    model = SupportedModel(model_name="Qwen/Qwen3-8", max_context_length=limit)
    assert problems_of(offers(model), TRAIN, HELD_OUT) == [
        f"row {row}: {name}: {limit + 1} tokens, more than the model takes on this engine → at most {limit}: shorten "
        f"it, or set max_length={limit} and on_overflow"
        for name, lengths in (("train", LENGTHS), ("eval", [limit + 1] * len(HELD_OUT)))
        for row, length in enumerate(lengths)
        if length > limit
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
