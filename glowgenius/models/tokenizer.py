"""The tokenizer interface, and plain model configurations."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


class Tokenizer(Protocol):
    """The part of `transformers.PreTrainedTokenizerBase` that the library relies on."""

    chat_template: Any
    """The Jinja text of the chat template, or None for a base model's tokenizer."""

    @property
    def bos_token(self) -> str | None:
        """The token that starts every text, where there is one."""
        ...

    @property
    def bos_token_id(self) -> int | None:
        """The id of `bos_token`."""
        ...

    @property
    def eos_token(self) -> str | None:
        """The token that ends a text."""
        ...

    @property
    def eos_token_id(self) -> int | None:
        """The id of `eos_token`."""
        ...

    @property
    def all_special_tokens(self) -> list[str]:
        """The texts of the control tokens."""
        ...

    @property
    def all_special_ids(self) -> list[int]:
        """The ids of the control tokens."""
        ...

    def encode(self, text: str, *, add_special_tokens: bool = True) -> list[int]:
        """Token ids of *text*; those of Hugging Face also take `split_special_tokens`, and then write it as text."""
        ...

    def decode(
        self,
        token_ids: Sequence[int],
        *,
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
    ) -> str:
        """Text of the token ids; some tokenizers (Llama 3's) tidy the spaces unless told not to."""
        ...

    def convert_ids_to_tokens(self, ids: Sequence[int]) -> list[str]:
        """The vocabulary's own spelling of each id."""
        ...

    def convert_tokens_to_ids(self, tokens: str) -> int | None:
        """The id of one token of the vocabulary."""
        ...

    def apply_chat_template(self, conversation: list[dict[str, Any]], **kwargs: Any) -> Any:
        """The conversation as the model's own chat template writes it."""
        ...

    def get_vocab(self) -> dict[str, int]:
        """Every token and its id."""
        ...

    def get_added_vocab(self) -> dict[str, int]:
        """The tokens added to the vocabulary and their ids: control tokens, named or not, and added words."""
        ...

    def __len__(self) -> int: ...


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
