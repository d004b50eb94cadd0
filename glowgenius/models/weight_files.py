"""Weight files: fingerprints, and GGUF conversion."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from glowgenius._files import make_folder, writing
from glowgenius._lazy import require
from glowgenius.errors import ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import BinaryIO

_SAMPLES, _BYTES = 4, 64
"""Of each tensor, so many stretches of so many bytes are read."""

_LONGEST_HEADER = 100_000_000
"""What safetensors itself takes."""


def weights_fingerprint(directory: Path) -> str | None:
    """SHA-256 over names, types, shapes, places and a sample of the bytes of every tensor in *directory*.

    Another model, another fine-tune or another precision of a model has another one. A change of a few bytes need not
    be noticed: an 8-billion-parameter model takes a few thousand small reads.

    Returns:
        It; None where there are no weights.
    """
    files = sorted({*directory.glob("*.safetensors"), *directory.glob("pytorch_model*.bin")})
    if not files:
        return None
    digest = hashlib.sha256()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as stream:
            for begin, end in _stretches(stream, size):
                for start in _starts(begin, end):
                    stream.seek(start)
                    digest.update(stream.read(min(_BYTES, end - start)))
    return digest.hexdigest()


def _stretches(stream: BinaryIO, size: int) -> Iterator[tuple[int, int]]:
    """Where the header and each tensor of a safetensors file begin and end; the whole of another file."""
    length = int.from_bytes(stream.read(8), "little")
    if not 0 < length <= min(size - 8, _LONGEST_HEADER):
        yield from ((at, min(at + size // 256 + 1, size)) for at in range(0, size, size // 256 + 1))
        return
    try:
        header: dict[str, Any] = json.loads(stream.read(length))
        tensors = {name: value["data_offsets"] for name, value in header.items() if name != "__metadata__"}
        places = [(int(begin), int(end)) for begin, end in tensors.values()]
    except (ValueError, TypeError, KeyError, AttributeError):  # no safetensors, or a damaged one: loading says so
        places = list[tuple[int, int]]()
    # All of the header: names, types, shapes and places.
    yield from ((at, min(at + _BYTES, 8 + length)) for at in range(8, 8 + length, _BYTES))
    for begin, end in sorted(places):
        if 0 <= begin < end <= size - 8 - length:
            yield 8 + length + begin, 8 + length + end


def _starts(begin: int, end: int) -> Iterator[int]:
    """Where samples of a stretch begin, spread over all of it; its end is among them."""
    last = max(begin, end - _BYTES)
    yield from sorted({begin + (last - begin) * index // (_SAMPLES - 1) for index in range(_SAMPLES)})


_CONVERTER = 1
"""Raise when the conversion changes: folders written by an older one are made anew."""

_STAMP = "converted_from.json"
"""Written last: a folder that has it is complete."""

_CONTROL_TOKEN = 3
"""`tokenizer.ggml.token_type` of a control token (GGUF specification, tokenizer section)."""

_TENSORS = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}


def converted(file: Path, folder: Path) -> Path:
    """The converted model of *file* in *folder*, made if it is not there yet.

    Raises:
        ModelNotFoundError: The file is not a llama-shaped model with a byte-level BPE vocabulary.
        MissingDependencyError: The GGUF reader is not installed.
    """
    origin = {"converter": _CONVERTER, "file": file.name, "bytes": file.stat().st_size}
    if _is_made(folder, origin):
        return folder
    with writing(folder):
        working = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=make_folder(folder.parent)))
        try:
            _convert(file, working)
            (working / _STAMP).write_text(json.dumps(origin, indent=1), encoding="utf-8")
            # Whoever converted at the same time and came first has made the same files, and may be reading them.
            if not _is_made(folder, origin):
                _put_in_place(working, folder, origin)
        finally:
            shutil.rmtree(working, ignore_errors=True)
    return folder


def _is_made(folder: Path, origin: dict[str, Any]) -> bool:
    """Whether *folder* holds the whole conversion of that file, by this converter."""
    try:
        return bool(json.loads((folder / _STAMP).read_text(encoding="utf-8")) == origin)
    except (OSError, ValueError):
        return False


def _put_in_place(working: Path, folder: Path, origin: dict[str, Any]) -> None:
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    try:
        working.replace(folder)
    except OSError:
        if not _is_made(folder, origin):
            raise


def _convert(file: Path, folder: Path) -> None:
    reader_module = cast("Any", require("gguf", extra="local", purpose="reading the base model's GGUF file"))
    reader: Any = reader_module.GGUFReader(str(file))
    fields = {name: field.contents() for name, field in reader.fields.items()}
    architecture, model = fields.get("general.architecture"), fields.get("tokenizer.ggml.model")
    if architecture != "llama" or model != "gpt2":
        raise ModelNotFoundError(
            f"{file.name}: architecture {architecture!r} with tokenizer {model!r} cannot be converted; "
            f"accepted: architecture 'llama' with tokenizer 'gpt2' (byte-level BPE). "
            f"Convert other models to Hugging Face layout and pass the folder."
        )
    config = _config(fields)
    _write_tensors(reader, config, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config, indent=1), encoding="utf-8")
    _write_tokenizer(fields, folder)


def _config(fields: dict[str, Any]) -> dict[str, Any]:
    heads = int(fields["llama.attention.head_count"])
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "bos_token_id": int(fields["tokenizer.ggml.bos_token_id"]),
        "eos_token_id": int(fields["tokenizer.ggml.eos_token_id"]),
        "pad_token_id": int(fields["tokenizer.ggml.padding_token_id"]),
        "hidden_act": "silu",
        "hidden_size": int(fields["llama.embedding_length"]),
        "intermediate_size": int(fields["llama.feed_forward_length"]),
        "max_position_embeddings": int(fields["llama.context_length"]),
        "num_attention_heads": heads,
        "num_hidden_layers": int(fields["llama.block_count"]),
        "num_key_value_heads": int(fields.get("llama.attention.head_count_kv", heads)),
        # The file stores a float32; the model was published with the decimal that it rounds to.
        "rms_norm_eps": float(f"{fields['llama.attention.layer_norm_rms_epsilon']:.6g}"),
        "rope_theta": float(fields["llama.rope.freq_base"]),
        "tie_word_embeddings": True,
        "vocab_size": int(fields["llama.vocab_size"]),
        "dtype": "float32",
    }


def _write_tensors(reader: Any, config: dict[str, Any], path: Path) -> None:
    quants = cast("Any", require("gguf.quants", extra="local", purpose="reading the base model's GGUF file"))
    save_file = cast(
        "Any", require("safetensors.numpy", extra="local", purpose="writing the converted model")
    ).save_file
    dequantize: Callable[[Any, Any], Any] = quants.dequantize
    tensors: dict[str, Any] = {}
    for name, kind, data in _named(reader):
        values = dequantize(data, kind).astype("float32")
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            heads = config["num_attention_heads" if "q_proj" in name else "num_key_value_heads"]
            values = _interleaved_to_halves(values, heads)
        tensors[name] = values
    if "lm_head.weight" in tensors:
        config["tie_word_embeddings"] = False
    save_file(tensors, str(path), metadata={"format": "pt"})


def _named(reader: Any) -> Iterator[tuple[str, Any, Any]]:
    """Every tensor under its Hugging Face name."""
    outside = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
    for tensor in reader.tensors:
        stem, _, suffix = str(tensor.name).rpartition(".")
        if stem in outside:
            name = outside[stem]
        else:
            _, layer, part = f"{stem}..".split(".")[:3]
            if part not in _TENSORS:
                raise ModelNotFoundError(
                    f"the GGUF file holds a tensor {tensor.name!r}, which a llama-shaped model does not have. "
                    f"Convert the model to Hugging Face layout and pass the folder."
                )
            name = f"model.layers.{layer}.{_TENSORS[part]}"
        yield f"{name}.{suffix}", tensor.tensor_type, tensor.data


def _interleaved_to_halves(weight: Any, heads: int) -> Any:
    """Undo the row order that llama.cpp uses for rotary positions (pairs beside each other instead of in halves)."""
    rows, columns = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, columns).swapaxes(1, 2).reshape(rows, columns)


def _write_tokenizer(fields: dict[str, Any], folder: Path) -> None:
    """`tokenizer.json` and `tokenizer_config.json` from the file's own vocabulary, merges and template."""
    tokenizers = cast("Any", require("tokenizers", extra="local", purpose="building the base model's tokenizer"))
    tokens: list[str] = fields["tokenizer.ggml.tokens"]
    merges = [tuple(merge.split(" ")) for merge in fields["tokenizer.ggml.merges"]]
    kinds: list[int] = fields["tokenizer.ggml.token_type"]
    control = [token for token, kind in zip(tokens, kinds, strict=True) if kind == _CONTROL_TOKEN]
    vocabulary = {token: index for index, token in enumerate(tokens)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=vocabulary, merges=merges))
    split = tokenizers.pre_tokenizers
    steps = [split.ByteLevel(add_prefix_space=False, use_regex=True)]
    if fields.get("tokenizer.ggml.pre") == "smollm":
        steps.insert(0, split.Digits(individual_digits=True))
    tokenizer.pre_tokenizer = split.Sequence(steps)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([tokenizers.AddedToken(token, special=True, normalized=False) for token in control])
    tokenizer.save(str(folder / "tokenizer.json"))
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": tokens[int(fields["tokenizer.ggml.bos_token_id"])],
        "eos_token": tokens[int(fields["tokenizer.ggml.eos_token_id"])],
        "unk_token": tokens[int(fields["tokenizer.ggml.unknown_token_id"])],
        "pad_token": tokens[int(fields["tokenizer.ggml.padding_token_id"])],
        "extra_special_tokens": [],
        "clean_up_tokenization_spaces": False,
        "model_max_length": int(fields["llama.context_length"]),
        "chat_template": fields.get("tokenizer.chat_template"),
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1), encoding="utf-8")
