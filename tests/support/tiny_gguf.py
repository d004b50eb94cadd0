"""A tiny llama-shaped GGUF file, written as llama.cpp writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tests.support.tiny_models import CHAT_TEMPLATE, SIZES, SPECIAL_TOKENS

if TYPE_CHECKING:
    from pathlib import Path

NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
"""Names of transformers and of llama.cpp."""

MERGES = ("h e", "Ġ t", "Ġt he")
"""A vocabulary with a few words, so that merges are seen at work."""


def tokens() -> list[str]:
    """The vocabulary: special tokens, bytes, and what the merges make."""
    from tokenizers import pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    return [*SPECIAL_TOKENS, *alphabet, *(merge.replace(" ", "") for merge in MERGES)]


def write_tiny_gguf(
    file: Path,
    *,
    tied: bool = True,
    architecture: str = "llama",
    splitting: str = "smollm",
    extra: str | None = None,
) -> Any:
    """Write *file*, and return the same model as transformers has it; *extra* is the name of one more tensor."""
    import gguf
    import numpy as np
    import torch
    import transformers

    settings = {**SIZES, "vocab_size": len(tokens()), "tie_word_embeddings": tied}
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**settings, rms_norm_eps=1e-5)).eval()
    writer = gguf.GGUFWriter(str(file), architecture)
    _write_fields(writer, settings, splitting)
    for name, value in model.state_dict().items():
        if name == "lm_head.weight" and tied:
            continue
        writer.add_tensor(_name(name), _rows_in_pairs(name, value.numpy(), settings))
    if extra is not None:
        writer.add_tensor(extra, np.ones(4, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model


def _write_fields(writer: Any, settings: dict[str, Any], splitting: str) -> None:
    writer.add_embedding_length(settings["hidden_size"])
    writer.add_feed_forward_length(settings["intermediate_size"])
    writer.add_block_count(settings["num_hidden_layers"])
    writer.add_head_count(settings["num_attention_heads"])
    writer.add_head_count_kv(settings["num_key_value_heads"])
    writer.add_context_length(settings["max_position_embeddings"])
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    writer.add_vocab_size(settings["vocab_size"])
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(splitting)
    writer.add_token_list(tokens())
    writer.add_token_types([3] * len(SPECIAL_TOKENS) + [1] * (len(tokens()) - len(SPECIAL_TOKENS)))
    writer.add_token_merges(list(MERGES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)


def _name(name: str) -> str:
    outside = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    stem, _, suffix = name.rpartition(".")
    if stem in outside:
        return f"{outside[stem]}.{suffix}"
    _, _, layer, part = stem.split(".", maxsplit=3)
    return f"blk.{layer}.{NAMES[part]}.{suffix}"


def _rows_in_pairs(name: str, weight: Any, settings: dict[str, Any]) -> Any:
    """What `convert_hf_to_gguf.py` of llama.cpp does to q and k for its rotary positions."""
    if not name.endswith(("q_proj.weight", "k_proj.weight")):
        return weight
    heads = settings["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
    rows, columns = weight.shape
    return weight.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns).copy()
