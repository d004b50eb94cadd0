"""What is read without `transformers` is what `transformers` reads."""

from __future__ import annotations

import json

import pytest
from transformers import AutoConfig, AutoTokenizer

from glowgenius.lora import LoRAConfig
from glowgenius.models import hub
from glowgenius.models.tokenizer import ARCHITECTURES, read_plain_config
from tests.support.tiny_models import write_tiny_model


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """The folder of a tiny model, by architecture."""
    return {kind: write_tiny_model(tmp_path_factory.mktemp(kind), kind) for kind in ARCHITECTURES}


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_plain_config_says_what_transformers_makes_of_it(folders, kind):
    theirs = AutoConfig.from_pretrained(folders[kind])
    ours = read_plain_config(folders[kind])
    assert hub.load_config(str(folders[kind])) == ours
    expected = {**theirs.to_dict(), "head_dim": theirs.hidden_size // theirs.num_attention_heads}
    expected["sliding_window"] = expected.get("sliding_window")
    # What neither says nor means anything for the computation of the original architecture may be left out.
    assert ours == {name: expected[name] for name in ours}
    assert LoRAConfig(rank=4).parameter_breakdown(ours) == LoRAConfig(rank=4).parameter_breakdown(theirs)


def test_any_other_config_comes_from_transformers(folders, tmp_path):
    settings = json.loads((folders["llama"] / "config.json").read_text(encoding="utf-8"))
    del settings["num_key_value_heads"]
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    assert read_plain_config(tmp_path) is None
    assert hub.load_config(str(tmp_path))["num_key_value_heads"] == settings["num_attention_heads"]


@pytest.mark.parametrize("kind", ARCHITECTURES)
def test_a_tokenizer_is_the_one_that_its_config_class_would_give(folders, kind):
    theirs, ours = AutoTokenizer.from_pretrained(folders[kind]), hub.load_tokenizer(str(folders[kind]))
    assert type(ours) is type(theirs)
    assert (ours.get_vocab(), ours.special_tokens_map) == (theirs.get_vocab(), theirs.special_tokens_map)
    assert (ours.chat_template, ours.model_max_length) == (theirs.chat_template, theirs.model_max_length)
    text = "Ünïcode, 123 <|im_start|>user\n"
    assert ours(text).input_ids == theirs(text).input_ids


@pytest.mark.parametrize("trouble", ["no class", "own code", "no type", "no config"])
def test_a_tokenizer_whose_folder_says_less_is_left_to_transformers(folders, tmp_path, trouble):
    for file in folders["llama"].iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    own = json.loads((tmp_path / "tokenizer_config.json").read_text(encoding="utf-8"))
    settings = json.loads((tmp_path / "config.json").read_text(encoding="utf-8"))
    assert "config" in hub._config_for_tokenizer(tmp_path)
    if trouble == "no class":
        own = {name: value for name, value in own.items() if name != "tokenizer_class"}
    elif trouble == "own code":
        own["auto_map"] = {"AutoTokenizer": ["own.Tokenizer", None]}
    elif trouble == "no type":
        settings["model_type"] = None
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(own), encoding="utf-8")
    (tmp_path / "config.json").write_text(json.dumps(settings), encoding="utf-8")
    if trouble == "no config":
        (tmp_path / "config.json").unlink()
    assert hub._config_for_tokenizer(tmp_path) == {}
