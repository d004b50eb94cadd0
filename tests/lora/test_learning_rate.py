"""A learning rate for every model, and an honest word on where it comes from."""

import json
import math
from pathlib import Path

import attrs
import pytest

from glowgenius.errors import ConfigError
from glowgenius.lora import KNOWN_MODELS, LearningRateSuggestion, suggest_learning_rate

COOKBOOK = json.loads((Path(__file__).parent / "cookbook_0.6.1.json").read_text(encoding="utf-8"))["models"]
FITTED = sorted(name for name, measured in COOKBOOK.items() if measured["get_lr"] is not None)
SWEEP = (
    "in the cookbook's sweep on Tulu 3 the best rate of each of 27 models lay between 1e-4 and 1e-3, "
    "and 3e-3 often diverged"
)


class ConfigObject:
    def __init__(self, **values):
        self.values = values

    def to_dict(self):
        return self.values


@pytest.mark.parametrize("name", FITTED)
def test_llama_and_qwen_models_get_the_rate_of_the_cookbook(name):
    suggestion = suggest_learning_rate(name)
    assert suggestion.value == pytest.approx(COOKBOOK[name]["get_lr"], rel=1e-12)
    assert suggestion.calibrated
    assert suggestion.low < suggestion.value < suggestion.high < 3e-3
    assert float(suggestion) == suggestion.value


def test_the_fitted_families_are_all_there():
    assert len(FITTED) == 26


@pytest.mark.parametrize("name", sorted(set(COOKBOOK) - set(FITTED)))
def test_where_the_cookbook_has_no_formula_the_general_rule_says_so(name):
    suggestion = suggest_learning_rate(name)
    assert suggestion.value == 5e-4
    assert not suggestion.calibrated
    assert suggestion.note == f"no sweep is known for this model; {SWEEP}"


def test_as_text():
    assert str(suggest_learning_rate("meta-llama/Llama-3.1-8B")) == (
        "0.000286 (calibrated; sweep 9e-05 to 0.0009)\n"
        "  = 5e-05 × 10 × (2000 / 4096)^0.781\n"
        "  source: tinker_cookbook 0.6.1, get_lr\n"
        "  note: fitted to sweeps of Llama and Qwen models on Tulu 3; "
        "runs under about 100 steps may like up to half as much again"
    )


def test_a_formula_can_be_recomputed():
    suggestion = suggest_learning_rate("Qwen/Qwen3-8B")
    expression = suggestion.formula.replace("×", "*").replace("^", "**")
    assert eval(expression) == pytest.approx(suggestion.value, rel=1e-12)  # noqa: S307
    assert suggestion.high / suggestion.low == pytest.approx(10)
    assert math.sqrt(suggestion.low * suggestion.high) == pytest.approx(suggestion.value)


def test_an_unknown_model_gets_an_answer_with_the_reason():
    assert suggest_learning_rate("nobody/nothing") == LearningRateSuggestion(
        value=5e-4,
        formula="5e-05 × 10",
        source='"LoRA Without Regret" (doi 10.64434/tml.20250929): ten times the rate of full fine-tuning',
        low=1e-4,
        high=1e-3,
        calibrated=False,
        note=f"no sweep is known for this model; {SWEEP}",
    )


def test_a_family_whose_width_cannot_be_found():
    suggestion = suggest_learning_rate("Qwen/Qwen99-1B")
    assert (suggestion.value, suggestion.calibrated) == (5e-4, False)
    assert suggestion.note == (
        "the fitted formula needs the hidden size, and no config is found for this model; pass its config; " + SWEEP
    )


@pytest.mark.parametrize("width", [None, "wide", True, 0])
def test_a_family_whose_config_gives_no_width(width):
    suggestion = suggest_learning_rate({"model_type": "qwen3", "hidden_size": width})
    assert suggestion.value == 5e-4
    assert suggestion.note == f"the fitted formula needs the hidden size, which the config does not give; {SWEEP}"


@pytest.mark.parametrize(("width", "within"), [(2047, False), (2048, True), (8192, True), (8193, False)])
def test_outside_the_fitted_widths_the_formula_is_an_extrapolation(width, within):
    suggestion = suggest_learning_rate({"model_type": "qwen3", "hidden_size": width})
    assert suggestion.value == pytest.approx(5e-4 * (2000 / width) ** 0.0775)
    assert suggestion.calibrated is within
    if not within:
        assert suggestion.note == (
            "an extrapolation: the formula is published for models with hidden sizes from 2048 to 8192, "
            f"this one has {width}"
        )


@pytest.mark.parametrize(
    "model",
    [
        "smollm2-135m-instruct",
        "HuggingFaceTB/SmolLM2-135M",
        "cache/models/smollm2-135m-instruct-1",
        KNOWN_MODELS["smollm2-135m-instruct"],
        ConfigObject(**KNOWN_MODELS["smollm2-135m-instruct"]),
    ],
)
def test_smollm2_135m_gets_the_best_rate_of_the_pilot(model):
    suggestion = suggest_learning_rate(model)
    assert (suggestion.low, suggestion.value, suggestion.high) == (3e-4, 1e-3, 3e-3)
    assert not suggestion.calibrated
    assert str(suggestion) == (
        "0.001 (not calibrated; sweep 0.0003 to 0.003)\n"
        "  = 1e-03\n"
        "  source: pilot run for this library: SmolLM2-135M-Instruct, rank 8, alpha 32, 40 New York facts, "
        "50 steps of 8 rows, one seed\n"
        "  note: best of 3e-4, 1e-3, 3e-3 and 1e-2 by loss on held-out wordings; 1e-2 diverged, and 3e-3 moved "
        "unrelated text much further; for long runs, or to keep more of what the base model says, "
        "go towards the low end"
    )


def test_a_llama_type_alone_is_no_llama():
    """SmolLM2, Yi and many others carry the type; the formula was not fitted to them."""
    config = {"model_type": "llama", "hidden_size": 4096, "num_hidden_layers": 32}
    assert suggest_learning_rate(config).value == 5e-4


def test_a_config_object_that_carries_its_name():
    suggestion = suggest_learning_rate(
        ConfigObject(_name_or_path="meta-llama/Llama-3.1-8B", model_type="llama", hidden_size=4096)
    )
    assert suggestion == suggest_learning_rate("meta-llama/Llama-3.1-8B")


def test_a_nested_config():
    suggestion = suggest_learning_rate({"model_type": "qwen3_5", "text_config": {"hidden_size": 4096}})
    assert suggestion == suggest_learning_rate("Qwen/Qwen3.5-9B")


def test_an_empty_config():
    assert suggest_learning_rate({}).value == 5e-4


def test_a_folder_counts_by_its_own_name_and_its_config_not_by_its_parents(tmp_path):
    folder = tmp_path / "llama-experiments" / "mine"
    folder.mkdir(parents=True)
    config = {"model_type": "qwen3", "hidden_size": 4096}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert suggest_learning_rate(folder) == suggest_learning_rate("Qwen/Qwen3-8B")


def test_a_folder_without_a_config(tmp_path):
    assert suggest_learning_rate(tmp_path).value == 5e-4


def test_something_that_is_no_model():
    with pytest.raises(ConfigError) as caught:
        suggest_learning_rate(None)
    assert str(caught.value) == (
        "a model is a name, a local directory, a config mapping or an object with to_dict(), got None (NoneType)"
    )


def test_a_value():
    suggestion = suggest_learning_rate("Qwen/Qwen3-8B")
    assert attrs.evolve(suggestion) == suggestion
    assert hash(attrs.evolve(suggestion)) == hash(suggestion)
