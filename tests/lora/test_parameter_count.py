"""Parameter counts against three oracles: the cookbook's measured counts, PEFT, and `transformers`' own layers."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.errors import ConfigError, ModelNotFoundError
from glowgenius.lora import KNOWN_MODELS, LoRAConfig, ParameterBreakdown
from glowgenius.lora.architectures import FAMILIES

COOKBOOK = json.loads((Path(__file__).parent / "cookbook_0.6.1.json").read_text(encoding="utf-8"))["models"]

LLAMA = {
    "model_type": "llama",
    "hidden_size": 24,
    "intermediate_size": 40,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 50,
}
MOE = {**LLAMA, "model_type": "qwen3_moe", "num_experts": 5, "moe_intermediate_size": 7, "head_dim": 6}
LATENT = {
    **LLAMA,
    "model_type": "deepseek_v3",
    "first_k_dense_replace": 0,
    "q_lora_rank": 11,
    "kv_lora_rank": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 5,
    "moe_intermediate_size": 7,
    "n_routed_experts": 5,
    "n_shared_experts": None,
}
HYBRID = {
    **LLAMA,
    "model_type": "qwen3_5",
    "head_dim": 6,
    "linear_num_key_heads": 2,
    "linear_key_head_dim": 3,
    "linear_num_value_heads": 4,
    "linear_value_head_dim": 3,
}
MAMBA = {**LLAMA, "model_type": "nemotron_h", "head_dim": 6, "mamba_num_heads": 2, "mamba_head_dim": 9}
SUPPORTED = ", ".join(sorted(FAMILIES))


class ConfigObject:
    """What a config of `transformers` looks like from here."""

    def __init__(self, values):
        self.values = values

    def to_dict(self):
        return dict(self.values)


def per_rank(config, **flags):
    return LoRAConfig(rank=1, **flags).parameter_breakdown(config)


def refusal(config):
    with pytest.raises(ModelNotFoundError) as caught:
        LoRAConfig().parameter_count(config)
    return str(caught.value)


# --- against the cookbook ---------------------------------------------------------------------------------------------


def test_the_number_of_the_contract():
    assert LoRAConfig(rank=32).parameter_count("Qwen/Qwen3-30B-A3B-Base") == 494_088_192


@pytest.mark.parametrize("name", sorted(COOKBOOK))
def test_known_models_count_as_the_cookbook_counts_them(name):
    measured = COOKBOOK[name]
    count = per_rank(name)
    assert {"attn": count.attn, "mlp": count.mlp, "unembed": count.unembed} == measured["per_rank"]
    assert LoRAConfig(rank=32).parameter_count(name) == measured["lora_params_r32"]
    assert KNOWN_MODELS[name]["hidden_size"] == measured["hidden"]


def test_every_known_model_has_an_oracle():
    assert {name for name in KNOWN_MODELS if "smollm2" not in name.lower()} == set(COOKBOOK)


def test_the_variant_suffix_of_the_service_is_no_other_model():
    assert LoRAConfig().parameter_count("Qwen/Qwen3-8B:peft:262144") == LoRAConfig().parameter_count("Qwen/Qwen3-8B")


@pytest.mark.parametrize(
    ("config", "in_billions"),
    [
        (LoRAConfig(rank=256, train_attn=False), 0.487),
        (LoRAConfig(rank=256, train_mlp=False), 0.252),
        (LoRAConfig(rank=256), 0.705),
        (LoRAConfig(rank=128, train_attn=False), 0.243),
        (LoRAConfig(rank=1), 0.00275),
    ],
)
def test_the_table_of_lora_without_regret(config, in_billions):
    assert config.parameter_count("meta-llama/Llama-3.1-8B") / 1e9 == pytest.approx(in_billions, abs=5e-4)


# --- closed forms -----------------------------------------------------------------------------------------------------


def test_smollm2_135m():
    count = per_rank("smollm2-135m-instruct")
    assert count.attn + count.mlp == 305_280
    assert count.unembed == 576 + 49_152
    assert count == per_rank("HuggingFaceTB/SmolLM2-135M")
    assert count.base_weights == 134_479_872
    assert per_rank("smollm2-135m-instruct", train_unembed=False).base_weights == 134_479_872 - 576 * 49_152


def test_smollm2_360m():
    count = per_rank("HuggingFaceTB/SmolLM2-360M-Instruct", train_unembed=False)
    assert count.total == 32 * (3 * (960 + 2560) + 2 * (960 + 960) + 2 * (960 + 320))


def test_dense():
    assert per_rank(LLAMA) == ParameterBreakdown(
        attn=3 * (2 * (24 + 24) + 2 * (24 + 12)),
        mlp=3 * 3 * (24 + 40),
        unembed=24 + 50,
        base_weights=3 * (2 * 24 * 24 + 2 * 24 * 12 + 3 * 24 * 40) + 24 * 50,
    )


def test_routed_experts_share_the_factor_on_the_hidden_side():
    assert per_rank(MOE).mlp == 3 * 3 * (24 + 5 * 7)
    assert per_rank(MOE, train_attn=False, train_unembed=False).base_weights == 3 * 3 * 24 * 5 * 7


def test_dense_layers_among_sparse_ones():
    # Layers 1 and 3 of 0..3 are at the step; layer 3 is excepted.
    config = {**MOE, "num_hidden_layers": 4, "decoder_sparse_step": 2, "mlp_only_layers": [3]}
    assert per_rank(config).mlp == 3 * (24 + 5 * 7) + 3 * 3 * (24 + 40)


def test_the_dense_expert_that_every_token_passes():
    config = {**MOE, "model_type": "qwen2_moe", "shared_expert_intermediate_size": 9}
    assert per_rank(config).mlp == 3 * 3 * ((24 + 5 * 7) + (24 + 9))


def test_both_spellings_of_the_number_of_experts():
    renamed = {("num_local_experts" if key == "num_experts" else key): value for key, value in MOE.items()}
    assert per_rank(renamed) == per_rank(MOE)


def test_mixtral():
    config = {**LLAMA, "model_type": "mixtral", "num_local_experts": 5}
    assert per_rank(config).mlp == 3 * 3 * (24 + 5 * 40)
    assert per_rank(config).attn == per_rank(LLAMA).attn


def test_latent_attention_without_dense_layers_and_shared_experts():
    assert per_rank(LATENT).attn == 3 * ((24 + 11) + (24 + 8 + 4) + (24 + 4 * 5))
    assert per_rank(LATENT).mlp == 3 * 3 * (24 + 5 * 7)


def test_shared_experts_are_one_wide_dense_expert():
    assert per_rank({**LATENT, "n_shared_experts": 2}).mlp == 3 * 3 * (24 + 5 * 7) + 3 * 3 * (24 + 2 * 7)


def test_hybrid_attention_by_list_and_by_interval():
    listed = {**HYBRID, "layer_types": ["linear_attention", "linear_attention", "full_attention"]}
    full = (24 + 48) + 2 * (24 + 12) + (24 + 24)
    linear = 2 * (24 + 6) + 3 * (24 + 12)
    assert per_rank(listed).attn == full + 2 * linear
    assert per_rank({**HYBRID, "full_attention_interval": 3}) == per_rank(listed)


def test_mamba_hybrid_with_a_dense_layer():
    named = {**MAMBA, "layers_block_type": ["mamba", "mlp", "attention"]}
    assert per_rank(named).attn == 3 * (24 + 18) + 2 * (24 + 24) + 2 * (24 + 12)
    assert per_rank(named).mlp == 2 * (24 + 40)
    assert per_rank({**MAMBA, "hybrid_override_pattern": "M-*"}) == per_rank(named)
    assert per_rank({**MAMBA, "layers_block_type": ["linear_attention", "mlp", "full_attention"]}) == per_rank(named)
    assert per_rank({**MAMBA, "hybrid_override_pattern": "-*"}).attn == per_rank(named).attn - 3 * (24 + 18)


def test_experts_without_a_space_of_their_own():
    sizes = {"n_routed_experts": 5, "moe_intermediate_size": 7, "moe_shared_expert_intermediate_size": 9}
    config = {**MAMBA, **sizes, "hybrid_override_pattern": "EE", "moe_latent_size": None}
    assert per_rank(config).mlp == 2 * 2 * (24 + 5 * 7) + 2 * 2 * (24 + 9)


# --- ways to name a model ---------------------------------------------------------------------------------------------


def test_a_config_object():
    assert LoRAConfig().parameter_count(ConfigObject(LLAMA)) == LoRAConfig().parameter_count(LLAMA)


def test_a_multimodal_config_is_read_at_its_language_part():
    nested = {"model_type": "gemma3", "vision_config": {"hidden_size": 999}, "text_config": {**LLAMA, "head_dim": 6}}
    assert LoRAConfig().parameter_count(nested) == LoRAConfig().parameter_count(LLAMA)


def test_the_outer_level_may_give_the_type():
    inner = {key: value for key, value in LLAMA.items() if key != "model_type"}
    nested = {"model_type": "gemma3", "text_config": {**inner, "head_dim": 6}}
    assert LoRAConfig().parameter_count(nested) == LoRAConfig().parameter_count(LLAMA)


@pytest.mark.parametrize("as_path", [str, Path])
def test_a_local_directory(tmp_path, as_path):
    (tmp_path / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    assert LoRAConfig().parameter_count(as_path(tmp_path)) == LoRAConfig().parameter_count(LLAMA)


def test_a_directory_goes_before_a_known_name(tmp_path, monkeypatch):
    (tmp_path / "Qwen" / "Qwen3-8B").mkdir(parents=True)
    (tmp_path / "Qwen" / "Qwen3-8B" / "config.json").write_text(json.dumps(LLAMA), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert LoRAConfig().parameter_count("Qwen/Qwen3-8B") == LoRAConfig().parameter_count(LLAMA)


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_an_unknown_name_without_network_is_told_the_nearest_ones(monkeypatch):
    def load_config(name):
        raise ModelNotFoundError(f"nothing called {name!r}.")

    monkeypatch.setattr("glowgenius.models.hub.load_config", load_config)
    assert refusal("qwen/qwen3-30b-a3b-chat:peft:8192") == (
        "nothing called 'qwen/qwen3-30b-a3b-chat'. To count without loading, use a known name (nearest: "
        "'Qwen/Qwen3-30B-A3B-Base', 'Qwen/Qwen3-30B-A3B') or pass the config itself as a mapping"
    )
    assert refusal("zzz") == (
        "nothing called 'zzz'. To count without loading, use a name in glowgenius.lora.KNOWN_MODELS "
        "or pass the config itself as a mapping"
    )


def test_the_real_door_refuses_an_unknown_name_with_our_error():
    assert refusal("nobody/nothing").startswith("the config of 'nobody/nothing' could not be loaded: ")


def test_an_unsupported_architecture():
    assert refusal({**LLAMA, "model_type": "llamas"}) == (
        f"LoRA parameters of a 'llamas' model cannot be counted (did you mean 'llama'?); known: {SUPPORTED}"
    )
    assert refusal({"model_type": "gpt2"}) == (
        f"LoRA parameters of a 'gpt2' model cannot be counted; known: {SUPPORTED}"
    )


@pytest.mark.parametrize("config", [{}, {"hidden_size": 8}, {"model_type": 3}])
def test_a_config_without_a_type(config):
    assert refusal(config) == f"the config has no model_type, which says how to read the rest; known: {SUPPORTED}"


def lacks(model_type, what):
    return (
        f"the config of this {model_type!r} model lacks {what}; "
        "pass the whole one, such as transformers.AutoConfig.from_pretrained(name).to_dict()"
    )


def test_all_missing_sizes_are_named_once():
    assert refusal({"model_type": "llama", "hidden_size": 8}) == lacks(
        "llama", "num_hidden_layers, intermediate_size, num_attention_heads, vocab_size"
    )


@pytest.mark.parametrize(("value", "found"), [(0, "0"), (-4, "-4"), (2.5, "2.5"), ("8", "'8'"), (True, "True")])
def test_a_size_of_no_use(value, found):
    assert refusal({**LLAMA, "vocab_size": value}) == lacks(
        "llama", f"vocab_size (found {found}, needed an integer ≥ 1)"
    )


def test_a_head_dim_with_a_default_of_its_own_must_be_stated():
    assert refusal({**LLAMA, "model_type": "qwen3"}) == lacks("qwen3", "head_dim")


def test_either_spelling_would_do():
    config = {key: value for key, value in MOE.items() if key != "num_experts"}
    assert refusal(config) == lacks("qwen3_moe", "num_experts or num_local_experts")


def test_mamba_hybrid_without_its_blocks():
    assert refusal(MAMBA) == lacks("nemotron_h", "layers_block_type or hybrid_override_pattern")


def test_mamba_hybrid_with_a_strange_block():
    assert refusal({**MAMBA, "layers_block_type": ["mamba", "rwkv"]}) == lacks(
        "nemotron_h", "layers_block_type (unknown block 'rwkv')"
    )


def test_not_a_model():
    with pytest.raises(ConfigError) as caught:
        LoRAConfig().parameter_count(3)
    assert str(caught.value) == (
        "a model is a name, a local directory, a config mapping or an object with to_dict(), got 3 (int)"
    )


# --- laws -------------------------------------------------------------------------------------------------------------

sizes = st.integers(1, 64)
dense_configs = st.builds(
    lambda hidden, inner, layers, heads, kv_heads, head_dim, vocab: {
        "model_type": "qwen3",
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "vocab_size": vocab,
    },
    *[sizes] * 7,
)
moe_configs = st.builds(
    lambda config, experts, inner: {
        **config,
        "model_type": "qwen3_moe",
        "num_experts": experts,
        "moe_intermediate_size": inner,
    },
    dense_configs,
    sizes,
    sizes,
)
configs = st.one_of(dense_configs, moe_configs, st.sampled_from(list(KNOWN_MODELS.values())))


@given(configs, st.integers(1, 512))
def test_linear_in_the_rank(config, rank):
    assert LoRAConfig(rank=rank).parameter_count(config) == rank * LoRAConfig(rank=1).parameter_count(config)


@given(configs, st.integers(1, 512), st.booleans(), st.booleans())
def test_components_add_up(config, rank, attn, mlp):
    parts = LoRAConfig(rank=rank).parameter_breakdown(config)
    chosen = LoRAConfig(rank=rank, train_attn=attn, train_mlp=mlp).parameter_breakdown(config)
    assert chosen.attn == (parts.attn if attn else 0)
    assert chosen.mlp == (parts.mlp if mlp else 0)
    assert chosen.unembed == parts.unembed
    assert chosen.total == chosen.attn + chosen.mlp + chosen.unembed
    assert chosen.fraction == chosen.total / chosen.base_weights


@given(moe_configs)
def test_one_expert_counts_as_a_dense_layer(config):
    dense = {**config, "model_type": "qwen3", "intermediate_size": config["moe_intermediate_size"]}
    assert per_rank({**config, "num_experts": 1}) == per_rank(dense)
