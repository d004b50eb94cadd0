"""The `config.json` of a plain Llama-shaped model, read without `transformers`, whose config classes import slowly.

Plain is a config that leaves nothing open and asks for nothing beside the original architecture: what `transformers`
would add to it is known. Every other config is read by `transformers`.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

ARCHITECTURES = {
    "llama": "LlamaForCausalLM",
    "mistral": "MistralForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
}
"""Model type → the class that `transformers` has for it."""

_SIZES = (
    "hidden_size",
    "intermediate_size",
    "max_position_embeddings",
    "num_attention_heads",
    "num_hidden_layers",
    "num_key_value_heads",
    "vocab_size",
)
"""What must be written down: where it is not, what `transformers` takes instead depends on the architecture."""

_MUST_BE_OFF = ("attention_bias", "mlp_bias", "use_sliding_window", "rope_scaling", "quantization_config", "auto_map")
"""What would make it another computation, or another file."""


def read_plain_config(directory: Path) -> dict[str, Any] | None:
    """What `config.json` in *directory* says, with the size of a head; None where it is not plain, or none is there."""
    try:
        settings = dict[str, Any](json.loads((directory / "config.json").read_text(encoding="utf-8")))
        if not _is_plain(settings):
            return None
    except (OSError, ValueError, TypeError):
        return None
    # Qwen writes down the window of models that do not use it.
    window = settings.get("sliding_window") if settings["model_type"] == "mistral" else None
    size = settings.get("head_dim") or settings["hidden_size"] // settings["num_attention_heads"]
    return {**settings, "head_dim": size, "sliding_window": window}


def _is_plain(settings: Mapping[str, Any]) -> bool:
    """Whether `config.json` describes the computation of the quick path, and leaves nothing open."""
    kind = settings.get("model_type")
    layers: list[str] = settings.get("layer_types") or []
    return (
        kind in ARCHITECTURES
        and settings.get("architectures") == [ARCHITECTURES[kind]]
        and all(isinstance(value := settings.get(name), int) and value > 0 for name in _SIZES)
        and isinstance(settings.get("tie_word_embeddings"), bool)
        and isinstance(settings.get("rms_norm_eps"), float)
        and settings.get("hidden_act") == "silu"
        and not any(settings.get(name) for name in _MUST_BE_OFF)
        and set(layers) <= {"full_attention"}
        and (not layers or kind != "mistral")
        and rope_theta(settings) > 0
    )


def rope_theta(settings: Mapping[str, Any]) -> float:
    """The base of the rotary frequencies; 0 where they follow another rule than the original one, or none is named."""
    rope: dict[str, Any] = {"rope_theta": settings.get("rope_theta"), **(settings.get("rope_parameters") or {})}
    theta, kind = rope.pop("rope_theta"), rope.pop("rope_type", "default")
    if kind != "default" or any(value != 1 for value in rope.values()) or settings.get("partial_rotary_factor", 1) != 1:
        return 0
    return float(theta or 0)
