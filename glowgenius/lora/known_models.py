"""Shapes of known models, and the model behind a name or a folder."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Protocol, TypeAlias, cast, runtime_checkable

from glowgenius.errors import ConfigError, ModelNotFoundError


def _attention(hidden: int, layers: int, heads: tuple[int, int], head_dim: int, vocab: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads[0],
        "num_key_value_heads": heads[1],
        "head_dim": head_dim,
        "vocab_size": vocab,
    }


def _llama(hidden: int, layers: int, inner: int, heads: tuple[int, int], vocab: int = 128_256) -> dict[str, Any]:
    sizes = _attention(hidden, layers, heads, hidden // heads[0], vocab)
    return {"model_type": "llama", **sizes, "intermediate_size": inner}


def _qwen3(hidden: int, layers: int, inner: int, heads: int) -> dict[str, Any]:
    return {"model_type": "qwen3", **_attention(hidden, layers, (heads, 8), 128, 151_936), "intermediate_size": inner}


def _qwen3_moe(hidden: int, layers: int, inner: int, heads: int) -> dict[str, Any]:
    sizes = _attention(hidden, layers, (heads, 4), 128, 151_936)
    return {"model_type": "qwen3_moe", **sizes, "num_experts": 128, "moe_intermediate_size": inner}


def _delta_network(value_heads: int) -> dict[str, Any]:
    return {
        "full_attention_interval": 4,
        "linear_num_key_heads": 16,
        "linear_key_head_dim": 128,
        "linear_num_value_heads": value_heads,
        "linear_value_head_dim": 128,
    }


def _qwen3_5(hidden: int, layers: int, inner: int, heads: int, value_heads: int) -> dict[str, Any]:
    sizes = _attention(hidden, layers, (heads, 4), 256, 248_320)
    return {"model_type": "qwen3_5", **sizes, **_delta_network(value_heads), "intermediate_size": inner}


def _qwen3_5_moe(hidden: int, layers: int, inner: int, heads: tuple[int, int], experts: int) -> dict[str, Any]:
    bank = {"num_experts": experts, "moe_intermediate_size": inner, "shared_expert_intermediate_size": inner}
    sizes = _attention(hidden, layers, (heads[0], 2), 256, 248_320)
    return {"model_type": "qwen3_5_moe", **sizes, **_delta_network(heads[1]), **bank}


def _gpt_oss(layers: int, experts: int) -> dict[str, Any]:
    sizes = _attention(2880, layers, (64, 8), 64, 201_088)
    return {"model_type": "gpt_oss", **sizes, "intermediate_size": 2880, "num_local_experts": experts}


def _latent(model_type: str, heads: int, experts: int, dense_layers: int, vocab: int) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": 7168,
        "num_hidden_layers": 61,
        "first_k_dense_replace": dense_layers,
        "num_attention_heads": heads,
        "q_lora_rank": 1536,
        "kv_lora_rank": 512,
        "qk_rope_head_dim": 64,
        "v_head_dim": 128,
        "intermediate_size": 18_432,
        "moe_intermediate_size": 2048,
        "n_routed_experts": experts,
        "n_shared_experts": 1,
        "vocab_size": vocab,
    }


def _nemotron(hidden: int, *, mamba: int, experts: int, attention: int, sizes: dict[str, int]) -> dict[str, Any]:
    """The order of the blocks makes no difference to a count, so only their numbers are kept."""
    return {
        "model_type": "nemotron_h",
        "hidden_size": hidden,
        "hybrid_override_pattern": "M" * mamba + "E" * experts + "*" * attention,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "mamba_head_dim": 64,
        "vocab_size": 131_072,
        **sizes,
    }


_SMOLLM2_135M = _llama(576, 30, 1536, (9, 3), vocab=49_152)
_SMOLLM2_360M = _llama(960, 32, 2560, (15, 5), vocab=49_152)
_LLAMA_8B = _llama(4096, 32, 14_336, (32, 8))
_LLAMA_70B = _llama(8192, 80, 28_672, (64, 8))
_QWEN3_8B = _qwen3(4096, 36, 12_288, 32)
_QWEN3_30B_A3B = _qwen3_moe(2048, 48, 768, 32)
_QWEN3_235B_A22B = _qwen3_moe(4096, 94, 1536, 64)
_QWEN3_5_9B = _qwen3_5(4096, 32, 12_288, 16, 32)
_QWEN3_5_27B = _qwen3_5(5120, 64, 17_408, 24, 48)
_QWEN3_5_35B_A3B = _qwen3_5_moe(2048, 40, 512, (16, 32), 256)
_DEEPSEEK_V3_1 = _latent("deepseek_v3", heads=128, experts=256, dense_layers=3, vocab=129_280)
_KIMI_K2 = _latent("kimi_k2", heads=64, experts=384, dense_layers=1, vocab=163_840)
_NEMOTRON_3_NANO = _nemotron(
    2688,
    mamba=23,
    experts=23,
    attention=6,
    sizes={
        "mamba_num_heads": 64,
        "n_routed_experts": 128,
        "moe_intermediate_size": 1856,
        "moe_shared_expert_intermediate_size": 3712,
    },
)
_NEMOTRON_3_SUPER = _nemotron(
    4096,
    mamba=40,
    experts=40,
    attention=8,
    sizes={
        "mamba_num_heads": 128,
        "n_routed_experts": 512,
        "moe_latent_size": 1024,
        "moe_intermediate_size": 2688,
        "moe_shared_expert_intermediate_size": 5376,
    },
)

KNOWN_MODELS: Final[Mapping[str, Mapping[str, Any]]] = {
    "smollm2-135m-instruct": _SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M": _SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-135M-Instruct": _SMOLLM2_135M,
    "HuggingFaceTB/SmolLM2-360M": _SMOLLM2_360M,
    "HuggingFaceTB/SmolLM2-360M-Instruct": _SMOLLM2_360M,
    "meta-llama/Llama-3.2-1B": _llama(2048, 16, 8192, (32, 8)),
    "meta-llama/Llama-3.2-3B": _llama(3072, 28, 8192, (24, 8)),
    "meta-llama/Llama-3.1-8B": _LLAMA_8B,
    "meta-llama/Llama-3.1-8B-Instruct": _LLAMA_8B,
    "meta-llama/Llama-3.1-70B": _LLAMA_70B,
    "meta-llama/Llama-3.3-70B-Instruct": _LLAMA_70B,
    "Qwen/Qwen3-4B-Instruct-2507": _qwen3(2560, 36, 9728, 32),
    "Qwen/Qwen3-8B": _QWEN3_8B,
    "Qwen/Qwen3-8B-Base": _QWEN3_8B,
    "Qwen/Qwen3-32B": _qwen3(5120, 64, 25_600, 64),
    "Qwen/Qwen3-30B-A3B": _QWEN3_30B_A3B,
    "Qwen/Qwen3-30B-A3B-Base": _QWEN3_30B_A3B,
    "Qwen/Qwen3-30B-A3B-Instruct-2507": _QWEN3_30B_A3B,
    "Qwen/Qwen3-235B-A22B-Instruct-2507": _QWEN3_235B_A22B,
    "Qwen/Qwen3-VL-30B-A3B-Instruct": _QWEN3_30B_A3B,
    "Qwen/Qwen3-VL-235B-A22B-Instruct": _QWEN3_235B_A22B,
    "Qwen/Qwen3.5-4B": _qwen3_5(2560, 32, 9216, 16, 32),
    "Qwen/Qwen3.5-9B": _QWEN3_5_9B,
    "Qwen/Qwen3.5-9B-Base": _QWEN3_5_9B,
    "Qwen/Qwen3.5-27B": _QWEN3_5_27B,
    "Qwen/Qwen3.5-35B-A3B": _QWEN3_5_35B_A3B,
    "Qwen/Qwen3.5-35B-A3B-Base": _QWEN3_5_35B_A3B,
    "Qwen/Qwen3.5-397B-A17B": _qwen3_5_moe(4096, 60, 1024, (32, 64), 512),
    "Qwen/Qwen3.6-27B": _QWEN3_5_27B,
    "Qwen/Qwen3.6-35B-A3B": _QWEN3_5_35B_A3B,
    "Qwen/Qwen3.8-27B": _QWEN3_5_27B,
    "deepseek-ai/DeepSeek-V3.1": _DEEPSEEK_V3_1,
    "deepseek-ai/DeepSeek-V3.1-Base": _DEEPSEEK_V3_1,
    "moonshotai/Kimi-K2-Thinking": _KIMI_K2,
    "moonshotai/Kimi-K2.5": _KIMI_K2,
    "moonshotai/Kimi-K2.6": _KIMI_K2,
    "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16": _NEMOTRON_3_NANO,
    "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16": _NEMOTRON_3_SUPER,
    "nvidia/NVIDIA-Nemotron-3.5-Lightning-30B-A3B-BF16": _NEMOTRON_3_NANO,
    "nvidia/NVIDIA-Nemotron-3.5-Super-VL-120B-A12B-BF16": _NEMOTRON_3_SUPER,
    "openai/gpt-oss-20b": _gpt_oss(24, 32),
    "openai/gpt-oss-120b": _gpt_oss(36, 128),
}
"""Model name → the part of its config that decides how many parameters LoRA adds; a `text_config` is unwrapped."""


@runtime_checkable
class SupportsToDict(Protocol):
    """A config object, such as `transformers.PretrainedConfig`."""

    def to_dict(self) -> dict[str, Any]:
        """The config as plain values."""
        ...


ModelLike: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | SupportsToDict
"""A model's name, its folder, its config as a mapping, or its config object."""


def base_name(name: str) -> str:
    """The name without the variant that the Tinker service appends, such as `:peft:262144`."""
    return name.split(":", 1)[0]


def name_of(model: ModelLike) -> str | None:
    """The model's name or folder where there is one; a config of `transformers` may carry the name it was loaded by."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    name = _mapping(model).get("_name_or_path")
    return name if isinstance(name, str) and name else None


def config_of(model: ModelLike) -> Mapping[str, Any]:
    """The config of *model*.

    A folder is read from disk. A well-known name is answered from a table; any other goes to `transformers`, which
    looks into its cache and then asks the hub.

    Raises:
        ModelNotFoundError: Nothing is found under this name; the message has the nearest known names.
        ConfigError: *model* is neither a name nor a config.
    """
    if not isinstance(model, str | os.PathLike):
        return _mapping(model)
    name = os.fspath(model)
    lookup = name
    if not Path(name).is_dir():
        lookup = base_name(name)
        if lookup in KNOWN_MODELS:
            return KNOWN_MODELS[lookup]
    from glowgenius.models.hub import load_config

    try:
        return load_config(lookup)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{str(error).rstrip('.')}. To count without loading, {_nearest_models(name)} "
            "or pass the config itself as a mapping"
        ) from error


def _mapping(model: object) -> Mapping[str, Any]:
    if isinstance(model, Mapping):
        return cast("Mapping[str, Any]", model)
    if isinstance(model, SupportsToDict):
        return model.to_dict()
    raise ConfigError(
        "a model is a name, a local directory, a config mapping or an object with to_dict(), "
        f"got {model!r} ({type(model).__name__})"
    )


def _nearest_models(name: str) -> str:
    """What to do with the table of known models, naming those that resemble *name* whatever the case of the letters."""
    spelling = {known.lower(): known for known in KNOWN_MODELS}
    close = difflib.get_close_matches(name.lower(), spelling, n=3, cutoff=0.7)
    names = ", ".join(repr(spelling[match]) for match in close)
    return f"use a known name (nearest: {names})" if close else "use a name in glowgenius.lora.KNOWN_MODELS"
