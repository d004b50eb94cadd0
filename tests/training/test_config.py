"""The settings of a run: what is accepted, and what is said about everything else."""

from __future__ import annotations

import inspect
from pathlib import Path

import attrs
import pytest

from glowgenius.batching.overflow import Overflow
from glowgenius.errors import ConfigError
from glowgenius.rendering.renderer import TrainOn
from glowgenius.training.config import _ACCUMULATE, _ELSEWHERE, TrainingConfig, changed

DEFAULTS = {
    "num_epochs": 3,
    "max_steps": None,
    "batch_size": 16,
    "learning_rate": "auto",
    "lr_schedule": "linear",
    "warmup_steps": 0,
    "beta1": 0.9,
    "beta2": 0.95,
    "eps": 1e-8,
    "weight_decay": 0.0,
    "grad_clip_norm": None,
    "max_length": None,
    "on_overflow": "error",
    "train_on": "last_assistant_message",
    "replay_targets": "answers",
    "eval_every": None,
    "save_every": "epoch",
    "save_top_k": None,
    "metric_for_best": "eval_loss",
    "seed": 0,
    "lookahead": 1,
    "stop_on_nan": True,
    "max_restarts": 3,
    "output_dir": None,
}


def test_the_defaults_are_the_published_ones():
    assert TrainingConfig().to_json() == DEFAULTS


def test_the_signature_shows_the_settings():
    assert list(inspect.signature(TrainingConfig).parameters) == list(DEFAULTS)


def test_it_is_a_value():
    config = TrainingConfig(output_dir="runs/x", train_on="all_tokens", on_overflow="drop")
    assert (config.output_dir, config.train_on, config.on_overflow) == (
        Path("runs/x"),
        TrainOn.ALL_TOKENS,
        Overflow.DROP,
    )
    assert attrs.evolve(config) == config
    assert hash(attrs.evolve(config)) == hash(config)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.num_epochs = 4
    assert config.to_json()["output_dir"] == "runs/x"


REFUSED = {
    "num_epochs": (0, "an integer ≥ 1, got 0 (int)"),
    "max_steps": (0, "None or an integer ≥ 1, got 0 (int)"),
    "batch_size": (True, "an integer ≥ 1, got True (bool)"),
    "learning_rate": (-1.0, "'auto' or a number > 0, got -1.0 (float)"),
    "lr_schedule": ("cosin", "one of 'linear', 'cosine', 'constant', got 'cosin' (str) (did you mean 'cosine'?)"),
    "warmup_steps": (-1, "an integer ≥ 0, got -1 (int)"),
    "beta1": (1.0, "a number ≥ 0 and < 1, got 1.0 (float)"),
    "beta2": (float("nan"), "a number ≥ 0 and < 1, got nan (float)"),
    "eps": (0, "a number > 0, got 0 (int)"),
    "weight_decay": (-0.1, "a number ≥ 0, got -0.1 (float)"),
    "grad_clip_norm": (0.0, "None or a number > 0, got 0.0 (float)"),
    "max_length": (1, "None or an integer ≥ 2, got 1 (int)"),
    "replay_targets": (
        "answer",
        "one of 'answers', 'distributions', got 'answer' (str) (did you mean 'answers'?)",
    ),
    "eval_every": ("epcoh", "None, a number of steps ≥ 1, or 'epoch', got 'epcoh' (str) (did you mean 'epoch'?)"),
    "save_every": (0, "None, a number of steps ≥ 1, or 'epoch', got 0 (int)"),
    "save_top_k": (0, "None or an integer ≥ 1, got 0 (int)"),
    "metric_for_best": (
        "train_loss",
        "None or the name of an evaluation metric, such as 'eval_loss', got 'train_loss' (str)",
    ),
    "seed": (-1, "an integer ≥ 0, got -1 (int)"),
    "lookahead": (-3, "an integer ≥ 0, got -3 (int)"),
    "stop_on_nan": (1, "True or False, got 1 (int)"),
    "max_restarts": (-1, "an integer ≥ 0, got -1 (int)"),
    "output_dir": (3, "None or the path of a folder, got 3 (int)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_bad_value_names_class_field_rule_value_and_type(name):
    value, rule = REFUSED[name]
    with pytest.raises(ConfigError) as raised:
        TrainingConfig(**{name: value})
    assert str(raised.value) == f"TrainingConfig.{name} must be {rule}"


def test_every_field_is_checked():
    words = {"train_on", "on_overflow"}
    assert set(REFUSED) | words == set(DEFAULTS)
    with pytest.raises(ConfigError, match="did you mean 'truncate'"):
        TrainingConfig(on_overflow="trunkate")
    with pytest.raises(ConfigError, match="did you mean 'all_tokens'"):
        TrainingConfig(train_on="all_token")


@pytest.mark.parametrize(
    ("name", "value"),
    [("learning_rate", "atuo"), ("output_dir", ""), ("metric_for_best", "eval_"), ("eval_every", True)],
)
def test_near_misses_are_refused_too(name, value):
    with pytest.raises(ConfigError):
        TrainingConfig(**{name: value})


ABSURD = {
    "learning_rate": (1e308, "'auto' or a number > 0 and ≤ 10, got 1e+308 (float)"),
    "weight_decay": (1e9, "a number ≥ 0 and ≤ 100, got 1000000000.0 (float)"),
    "eps": (2.0, "a number > 0 and ≤ 1, got 2.0 (float)"),
    "batch_size": (10**12, "an integer ≥ 1 and ≤ 1000000000, got 1000000000000 (int)"),
    "num_epochs": (10**12, "an integer ≥ 1 and ≤ 1000000000, got 1000000000000 (int)"),
    "max_steps": (10**12, "None or an integer ≥ 1 and ≤ 1000000000, got 1000000000000 (int)"),
    "lookahead": (10**12, "an integer ≥ 0 and ≤ 1000000000, got 1000000000000 (int)"),
}


@pytest.mark.parametrize("name", ABSURD)
def test_absurd_values_are_refused_with_the_largest_that_is_accepted(name):
    value, rule = ABSURD[name]
    with pytest.raises(ConfigError) as raised:
        TrainingConfig(**{name: value})
    assert str(raised.value) == f"TrainingConfig.{name} must be {rule}"


def test_auto_is_suggested():
    with pytest.raises(ConfigError) as raised:
        TrainingConfig(learning_rate="atuo")
    assert str(raised.value) == (
        "TrainingConfig.learning_rate must be 'auto' or a number > 0, got 'atuo' (str) (did you mean 'auto'?)"
    )


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("num_train_epochs", "it is called num_epochs here"),
        ("lora_r", "it belongs to LoRAConfig; pass lora=LoRAConfig(rank=...) to the trainer"),
        ("lora_alpha", "it belongs to LoRAConfig; pass lora=LoRAConfig(rank=...) to the trainer"),
        ("max_seq_length", "it is called max_length here"),
        (
            "warmup_ratio",
            "it is called warmup_steps here, a number of steps; trainer.preflight(...) says how many steps the run has",
        ),
        (
            "per_device_train_batch_size",
            "it is called batch_size here: the rows of one optimizer step, over all devices",
        ),
        ("gradient_accumulation_steps", _ACCUMULATE),
        ("lr_scheduler_type", "it is called lr_schedule here: 'linear', 'cosine' or 'constant'"),
        (
            "logging_steps",
            "there is none, because every step is recorded; result.history holds the rows, a callback can show them",
        ),
        ("eval_steps", "it is called eval_every here: a number of steps, or 'epoch'"),
        ("save_steps", "it is called save_every here: a number of steps, or 'epoch'"),
        ("packing", "there is none, because the engine packs or pads by itself, without changing the loss"),
        (
            "report_to",
            (
                "there is none; pass a callback to the trainer instead, such as callbacks=[WandbLogger()]: there are "
                "WandbLogger, TensorBoardLogger, MLflowLogger, TrackioLogger, CSVLogger and JSONLLogger"
            ),
        ),
    ],
)
def test_other_libraries_spellings_are_answered_with_ours(name, answer):
    with pytest.raises(ConfigError) as raised:
        TrainingConfig(**{name: 1})
    assert str(raised.value) == f"TrainingConfig cannot take {name!r}: {answer}"


def test_an_answer_names_settings_that_exist():
    settings = {name for answer in _ELSEWHERE.values() if "it is called" in answer for name in [answer.split()[3]]}
    assert {name.rstrip(",:;") for name in settings} <= set(DEFAULTS)


def test_an_unknown_word_gets_the_nearest():
    with pytest.raises(ConfigError) as raised:
        TrainingConfig(batchsize=3)
    assert str(raised.value) == (
        "TrainingConfig cannot take 'batchsize': no such setting (did you mean 'batch_size'?); the settings are "
        + ", ".join(DEFAULTS)
    )


def test_what_changed_between_two_objects():
    assert changed({"a": 1, "b": 2, "c": None}, {"a": 1, "b": 3, "d": 4}) == {"b": (2, 3), "d": (None, 4)}
