"""Counts from the config alone, held to models that torch has built."""

from __future__ import annotations

import peft
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, Qwen3VLTextConfig, Qwen3VLTextModel

from glowgenius.errors import ModelNotFoundError
from glowgenius.lora import LoRAConfig
from glowgenius.lora.architectures import FAMILIES

SIZES = {
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 10,  # not hidden / heads, so that a forgotten head_dim shows
    "vocab_size": 50,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
DENSE = sorted(name for name, family in FAMILIES.items() if family is FAMILIES["llama"] and name != "qwen3_vl")


def tiny(model_type, **sizes):
    config = AutoConfig.for_model("gemma3_text" if model_type == "gemma3" else model_type, **sizes)
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def linear_layers(model):
    return [layer for layer in model.modules() if isinstance(layer, torch.nn.Linear)]


@pytest.mark.parametrize("model_type", DENSE)
def test_dense_types_have_these_linear_layers(model_type):
    model = tiny(model_type, **SIZES)
    layers = linear_layers(model)
    count = LoRAConfig(rank=1).parameter_breakdown(model.config)
    assert count.total == sum(layer.in_features + layer.out_features for layer in layers)
    assert count.base_weights == sum(layer.weight.numel() for layer in layers)


def test_the_language_part_of_qwen3_vl():
    config = Qwen3VLTextConfig(**SIZES)
    with torch.device("meta"):
        layers = linear_layers(Qwen3VLTextModel(config))
    count = LoRAConfig(rank=1, train_unembed=False).parameter_count(config)
    assert count == sum(layer.in_features + layer.out_features for layer in layers)


@pytest.mark.parametrize("model_type", ["hunyuan_v1_dense", "ministral"])
def test_where_transformers_cannot_do_without_head_dim_neither_can_we(model_type):
    raw = {"model_type": model_type, **{key: value for key, value in SIZES.items() if key != "head_dim"}}
    with pytest.raises(TypeError):
        AutoModelForCausalLM.from_config(AutoConfig.for_model(**raw))
    with pytest.raises(ModelNotFoundError, match=f"the config of this '{model_type}' model lacks head_dim; "):
        LoRAConfig(rank=1).parameter_count(raw)


@pytest.mark.parametrize("model_type", [name for name in DENSE if name not in {"hunyuan_v1_dense", "ministral"}])
def test_an_open_head_dim_is_read_as_transformers_reads_it_or_refused(model_type):
    """Raw files often leave `head_dim` open; a few types then take a default of their own, which we do not guess."""
    raw = {"model_type": model_type, **{key: value for key, value in SIZES.items() if key != "head_dim"}}
    model = tiny(**raw)
    built = sum(layer.in_features + layer.out_features for layer in linear_layers(model))
    by_hidden_size = LoRAConfig(rank=1).parameter_count({**raw, "head_dim": 24 // 4})
    if built == by_hidden_size:
        assert LoRAConfig(rank=1).parameter_count(raw) == built
    else:
        with pytest.raises(ModelNotFoundError, match=f"the config of this '{model_type}' model lacks head_dim; "):
            LoRAConfig(rank=1).parameter_count(raw)


@pytest.mark.parametrize(
    ("model_type", "changes"),
    [
        ("qwen3_moe", {"moe_intermediate_size": 7, "num_experts": 5, "decoder_sparse_step": 2}),
        (
            "qwen2_moe",
            {
                "moe_intermediate_size": 7,
                "num_experts": 5,
                "shared_expert_intermediate_size": 9,
                "mlp_only_layers": [0],
            },
        ),
        ("mixtral", {"num_local_experts": 5}),
    ],
)
def test_frozen_weights_of_mixtures_of_experts(model_type, changes):
    """The stored tensors, whatever their layout: all but embedding, norms, biases and the gates that route."""
    model = tiny(model_type, **SIZES, **changes)
    aside = ("embed_tokens", "norm", ".bias", "mlp.gate.weight", "shared_expert_gate", "sinks")
    stored = sum(weight.numel() for name, weight in model.named_parameters() if not any(part in name for part in aside))
    count = LoRAConfig(rank=1).parameter_breakdown(model.config)
    assert count.base_weights == stored


# PEFT 0.21 reads an attribute that transformers 5.23 has renamed.
old_attribute = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")


@old_attribute
@pytest.mark.parametrize("model_type", ["llama", "qwen3", "gemma3"])
@pytest.mark.parametrize("rank", [1, 4])
def test_peft_adds_as_many(model_type, rank):
    model = tiny(model_type, **SIZES, tie_word_embeddings=False)
    # "all-linear" leaves the unembedding out, so it is named beside the others.
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"]
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=rank, target_modules=names, task_type="CAUSAL_LM"))
    trainable, _ = adapted.get_nb_trainable_parameters()
    assert LoRAConfig(rank=rank).parameter_count(model.config) == trainable


@old_attribute
def test_peft_all_linear_is_attention_and_mlp():
    model = tiny("llama", **SIZES)
    adapted = peft.get_peft_model(model, peft.LoraConfig(r=2, target_modules="all-linear", task_type="CAUSAL_LM"))
    trainable, _ = adapted.get_nb_trainable_parameters()
    assert LoRAConfig(rank=2, train_unembed=False).parameter_count(model.config) == trainable
