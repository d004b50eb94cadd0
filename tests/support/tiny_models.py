"""Tiny random models in the layout of Hugging Face, written by the tests that need them: no hub, no weights in git."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
"""Ids 0, 1 and 2; all bytes follow."""

VOCABULARY_SIZE = len(SPECIAL_TOKENS) + 256
"""Every byte is a token, so every text can be encoded."""

CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
"""ChatML, the form of SmolLM2 and Qwen."""

SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY_SIZE,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 256,
    "tie_word_embeddings": True,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
"""The settings that the architectures have in common."""

ARCHITECTURES = ("llama", "qwen3", "gemma3")
"""What most tests are run on; `write_tiny_model` makes `mistral` and `qwen2` too."""


def write_tiny_model(directory: Path, architecture: str = "llama", *, seed: int = 0, **overrides: Any) -> Path:
    """A random model of two layers with its tokenizer in *directory*.

    Weights are larger than a fresh model's, so that its answers differ from prompt to prompt.
    """
    import torch

    model = _model(architecture, {**SIZES, **overrides})
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1 or name.endswith("bias"):
                scale = 1.0 if "embed" in name else parameter.shape[-1] ** -0.5
                parameter.normal_(0.0, 1.5 * scale, generator=generator)
    model.save_pretrained(directory)
    write_byte_tokenizer(directory)
    return directory


def _model(architecture: str, settings: dict[str, Any]) -> Any:
    import transformers

    match architecture:
        case "llama":
            return transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings))
        case "mistral":
            return transformers.MistralForCausalLM(transformers.MistralConfig(**settings, sliding_window=8))
        case "qwen2":  # the one whose queries, keys and values have biases
            return transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**settings))
        case "qwen3":
            return transformers.Qwen3ForCausalLM(transformers.Qwen3Config(**settings))
        case "gemma3":
            layers = ["sliding_attention", "full_attention"]
            config = transformers.Gemma3TextConfig(**settings, sliding_window=8, layer_types=layers)
            return transformers.Gemma3ForCausalLM(config)
        case _:
            raise ValueError(f"no tiny {architecture!r}; there are: {', '.join(ARCHITECTURES)}")


def write_byte_tokenizer(directory: Path) -> Path:
    """A tokenizer in *directory* whose tokens are the 256 bytes and three special tokens, with a ChatML template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: index for index, token in enumerate((*SPECIAL_TOKENS, *alphabet))}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    pad, start, end = SPECIAL_TOKENS
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=start, eos_token=end, pad_token=pad)
    wrapped.chat_template = CHAT_TEMPLATE
    wrapped.save_pretrained(directory)
    return directory


def read_config(directory: Path) -> dict[str, Any]:
    """The `config.json` in *directory*."""
    return json.loads((directory / "config.json").read_text(encoding="utf-8"))
