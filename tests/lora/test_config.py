"""LoRAConfig: a value that is valid by construction."""

import inspect
import pickle

import attrs
import pytest

from glowgenius.errors import ConfigError
from glowgenius.lora import DEFAULT_ALPHA, LoRAConfig


def refusal(**settings):
    with pytest.raises(ConfigError) as caught:
        LoRAConfig(**settings)
    return str(caught.value)


def test_defaults():
    assert attrs.asdict(LoRAConfig()) == {
        "rank": 32,
        "seed": 0,
        "train_mlp": True,
        "train_attn": True,
        "train_unembed": True,
        "alpha": None,
    }
    assert DEFAULT_ALPHA == 32


def test_a_value():
    config = LoRAConfig(rank=8, alpha=16)
    assert attrs.evolve(config) == config
    assert hash(attrs.evolve(config)) == hash(config)
    assert attrs.evolve(config, rank=4) == LoRAConfig(rank=4, alpha=16)
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        config.rank = 4


def test_type_checkers_and_help_see_the_settings():
    parameters = inspect.signature(LoRAConfig).parameters
    assert list(parameters) == ["rank", "seed", "train_mlp", "train_attn", "train_unembed", "alpha"]
    assert {parameter.kind for parameter in parameters.values()} == {inspect.Parameter.KEYWORD_ONLY}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rank": 0}, "LoRAConfig.rank must be an integer ≥ 1, got 0 (int)"),
        ({"rank": 8.0}, "LoRAConfig.rank must be an integer ≥ 1, got 8.0 (float)"),
        ({"rank": True}, "LoRAConfig.rank must be an integer ≥ 1, got True (bool)"),
        ({"seed": -1}, "LoRAConfig.seed must be an integer ≥ 0, got -1 (int)"),
        ({"seed": None}, "LoRAConfig.seed must be an integer ≥ 0, got None (NoneType)"),
        ({"train_mlp": 1}, "LoRAConfig.train_mlp must be True or False, got 1 (int)"),
        ({"train_attn": "yes"}, "LoRAConfig.train_attn must be True or False, got 'yes' (str)"),
        ({"train_unembed": None}, "LoRAConfig.train_unembed must be True or False, got None (NoneType)"),
        ({"alpha": 0}, "LoRAConfig.alpha must be None or a number > 0, got 0 (int)"),
        ({"alpha": float("nan")}, "LoRAConfig.alpha must be None or a number > 0, got nan (float)"),
        (
            {"train_mlp": False, "train_attn": False, "train_unembed": False},
            (
                "LoRAConfig with train_mlp=False, train_attn=False and train_unembed=False trains nothing; "
                "set at least one of them to True"
            ),
        ),
    ],
)
def test_refusals(settings, message):
    assert refusal(**settings) == message


@pytest.mark.parametrize("trained", ["train_mlp", "train_attn", "train_unembed"])
def test_one_trained_component_is_enough(trained):
    flags = dict.fromkeys(("train_mlp", "train_attn", "train_unembed"), False)
    assert getattr(LoRAConfig(**{**flags, trained: True}), trained)


@pytest.mark.parametrize("name", ["r", "lora_r", "lora_rank", "lora_dim", "adapter_rank"])
def test_other_names_of_the_rank(name):
    assert refusal(**{name: 8}) == f"LoRAConfig cannot take {name!r}: it is called rank here"


@pytest.mark.parametrize("name", ["lora_alpha", "alpha_r", "scaling", "lora_scale", "lora_scaling"])
def test_other_names_of_alpha(name):
    assert refusal(**{name: 16}) == (
        f"LoRAConfig cannot take {name!r}: it is called alpha here, and only the local engine takes it: "
        "Tinker fixes its own"
    )


@pytest.mark.parametrize("name", ["random_state", "random_seed", "lora_seed"])
def test_other_names_of_the_seed(name):
    assert refusal(**{name: 1}) == f"LoRAConfig cannot take {name!r}: it is called seed here"


@pytest.mark.parametrize("name", ["target_modules", "lora_target", "layers_to_transform", "rank_pattern"])
def test_layers_are_chosen_by_kind(name):
    assert refusal(**{name: []}) == (
        f"LoRAConfig cannot take {name!r}: there is none; "
        "choose the layers with train_attn, train_mlp and train_unembed"
    )


@pytest.mark.parametrize(
    ("name", "why"),
    [
        (
            "lora_dropout",
            "there is none, because Tinker's LoRA has no dropout; against overfitting, train fewer steps",
        ),
        ("bias", "there is none, because biases stay frozen; leave it out"),
        (
            "use_rslora",
            (
                "there is none, because the scale is alpha / rank, at which the best learning rate "
                "hardly depends on the rank; leave it out"
            ),
        ),
        (
            "use_dora",
            (
                "there is none, because only plain LoRA is offered: tuned as fairly, its variants stay within 1 to 2 % "
                "(arXiv 2602.04998); tune the learning rate instead"
            ),
        ),
        (
            "modules_to_save",
            "there is none, because no base weight is ever trained; train_unembed=True adapts the unembedding",
        ),
        ("task_type", "there is none, because nothing here depends on it; leave it out"),
    ],
)
def test_what_there_is_not_has_a_reason(name, why):
    assert refusal(**{name: None}) == f"LoRAConfig cannot take {name!r}: {why}"


def test_a_config_written_for_another_library_is_answered_line_by_line():
    assert refusal(r=8, lora_alpha=16, lora_dropout=0.05, train_mlps=True) == (
        "LoRAConfig cannot take 4 of the settings; "
        "the settings are rank, seed, train_mlp, train_attn, train_unembed, alpha:\n"
        "  'r': it is called rank here\n"
        "  'lora_alpha': it is called alpha here, and only the local engine takes it: Tinker fixes its own\n"
        "  'lora_dropout': there is none, because Tinker's LoRA has no dropout; "
        "against overfitting, train fewer steps\n"
        "  'train_mlps': no such setting (did you mean 'train_mlp'?)"
    )
