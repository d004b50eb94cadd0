"""GGUF files for llama.cpp, Ollama and LM Studio: a merged model, or the adapter alone.

What differs from the hub's files: names, the order of the rows of queries and keys (Llama-type models turn pairs that
lie beside each other, and the hub's lie in halves), Gemma's norms, which are stored with their 1, and the tokenizer.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, Protocol, cast, final

import numpy as np
from attrs import frozen

from glowgenius._lazy import require
from glowgenius.errors import ConfigError, ModelNotFoundError
from glowgenius.export.gguf_tokenizer import TokenizerFields, tokenizer_fields, turn_template
from glowgenius.export.merge import merged_weights
from glowgenius.export.weights import HEAD, encoded
from glowgenius.models.hub import load_config, load_tokenizer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from glowgenius.export.weights import Adapter, Floats, MergedWeights
    from glowgenius.models.tokenizer import Tokenizer

GGUF_TYPES: Final[Mapping[str, str]] = {"f32": "F32", "f16": "F16", "bf16": "BF16", "q8_0": "Q8_0"}
"""What weights can be written as → what GGUF calls it."""

_WORDS: Final = {"float32": "f32", "float16": "f16", "bfloat16": "bf16", "auto": "f16", "fp16": "f16", "fp32": "f32"}
_ARCHITECTURES: Final = {
    "llama": "llama",
    "mistral": "llama",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "gemma3_text": "gemma3",
}
"""Model type of the hub → architecture of llama.cpp."""

_BLOCK: Final = 32
"""Numbers that q8_0 scales together."""

_LARGE_GEMMA: Final = 62
"""Layers of the one Gemma 3 (27B) whose scores llama.cpp scales otherwise."""


@final
@frozen(kw_only=True)
class GGUFFile:
    """What was written."""

    path: Path
    """The file."""

    kind: str
    """`model` or `adapter`."""

    dtype: str
    """What its matrices are written as."""

    size_bytes: int
    """Its size."""

    notes: tuple[str, ...] = ()
    """What to know of it."""


def gguf_type(dtype: str) -> str:
    """*dtype* as GGUF calls it; `auto` is f16.

    Raises:
        ConfigError: There is no such type.
    """
    wanted = dtype.lower()
    found = _WORDS.get(wanted, wanted)
    if found not in GGUF_TYPES:
        raise ConfigError(f"dtype of a GGUF file must be 'auto', {', '.join(map(repr, GGUF_TYPES))}, got {dtype!r}")
    return found


def write_model(
    file: Path,
    *,
    base: Path,
    adapter: Adapter | None,
    dtype: str = "f16",
    name: str = "model",
    stop_tokens: Sequence[int] = (),
) -> GGUFFile:
    """Write the model with *adapter* merged into it as one GGUF file, a block of rows at a time.

    Args:
        file: What is written.
        base: The base model's folder.
        adapter: What is merged; None for the base model itself.
        dtype: As for `gguf_type`; vectors stay float32.
        name: What the model is called in the file.
        stop_tokens: The tokens that end an answer.

    Raises:
        ConfigError: There is no such type.
        ModelNotFoundError: llama.cpp's model of this architecture would compute something else.
        CheckpointError: The adapter does not fit the model.
    """
    kind = gguf_type(dtype)
    config = load_config(str(base))
    weights = merged_weights(base, adapter)
    layout = _Layout(config)
    fields = tokenizer_fields(
        load_tokenizer(str(base)), rows=weights.shape(layout.embedding)[0], stop_tokens=stop_tokens, name=str(base)
    )
    writer = _writer(file, layout.architecture)
    writer.add_type("model")
    writer.add_name(name)
    writer.add_file_type(int(getattr(_gguf().LlamaFileType, _FILE_TYPES[kind])))
    if kind == "q8_0":
        writer.add_quantization_version(_gguf().GGML_QUANT_VERSION)
    layout.write(writer)
    _write_tokenizer(writer, fields)
    sources: list[tuple[str, _Source]] = [(layout.name(one), _Merged(weights, layout, one)) for one in weights.names]
    if (factors := layout.rope_factors()) is not None:
        sources.append(("rope_freqs.weight", _Plain(factors)))
    _write_tensors(writer, sources, kind)
    return GGUFFile(
        path=file, kind="model", dtype=kind, size_bytes=file.stat().st_size, notes=tuple(layout.notes)
    )  # fmt: skip


def write_adapter(file: Path, *, base: Path, adapter: Adapter, dtype: str = "f32", name: str = "adapter") -> GGUFFile:
    """Write *adapter* alone, for `llama-server --lora`.

    Args:
        file: What is written.
        base: The base model's folder, of which the config alone is read.
        adapter: What is written.
        dtype: As for `gguf_type`.
        name: What the adapter is called in the file.

    Raises:
        ConfigError: There is no such type, or the adapter changes the unembedding of a model that has none of its own.
        ModelNotFoundError: llama.cpp's model of this architecture would compute something else.
    """
    kind = gguf_type(dtype)
    config = load_config(str(base))
    layout = _Layout(config)
    if HEAD.removesuffix(".weight") in adapter.pairs and config.get("tie_word_embeddings"):
        raise ConfigError(
            "the adapter changes the unembedding, which this model ties to its embedding, so that llama.cpp has no "
            "matrix to apply it to. Export the merged model as GGUF, or train with LoRAConfig(train_unembed=False)"
        )
    writer = _writer(file, layout.architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(adapter.alpha))
    writer.add_name(name)
    sources: list[tuple[str, _Source]] = []
    for layer, (a, b) in adapter.pairs.items():
        target = layout.name(f"{layer}.weight")
        sources += [
            (f"{target}.lora_a", _Plain(a.whole())),
            (f"{target}.lora_b", _Plain(layout.rows(f"{layer}.weight", b.whole()))),
        ]
    _write_tensors(writer, sources, kind)
    return GGUFFile(path=file, kind="adapter", dtype=kind, size_bytes=file.stat().st_size)


_FILE_TYPES: Final = {"f32": "ALL_F32", "f16": "MOSTLY_F16", "bf16": "MOSTLY_BF16", "q8_0": "MOSTLY_Q8_0"}


def _gguf() -> Any:
    return cast("Any", require("gguf", extra="gguf", purpose="writing a GGUF file"))


def _writer(file: Path, architecture: str) -> Any:
    return _gguf().GGUFWriter(str(file), architecture)


class _Source(Protocol):
    """Numbers of one tensor."""

    shape: tuple[int, ...]

    def blocks(self) -> Iterator[Floats]: ...


@final
class _Plain:
    def __init__(self, values: Floats) -> None:
        self.shape, self._values = values.shape, values

    def blocks(self) -> Iterator[Floats]:
        yield self._values


@final
class _Merged:
    def __init__(self, weights: MergedWeights, layout: _Layout, name: str) -> None:
        self.shape, self._weights, self._layout, self._name = weights.shape(name), weights, layout, name

    def blocks(self) -> Iterator[Floats]:
        if self._layout.is_permuted(self._name):
            yield self._layout.rows(self._name, self._weights.whole(self._name))
            return
        for block in self._weights.blocks(self._name):
            yield self._layout.vector(self._name, block)


def _write_tensors(writer: Any, sources: Sequence[tuple[str, _Source]], kind: str) -> None:
    """The header and all tensors, one block of rows in memory at a time."""
    gguf = _gguf()
    types = [_type_of(source.shape, kind) for _, source in sources]
    for (name, source), one in zip(sources, types, strict=True):
        quantization = getattr(gguf.GGMLQuantizationType, GGUF_TYPES[one])
        writer.add_tensor_info(
            name, source.shape, np.dtype(np.float32), _size(source.shape, one), raw_dtype=quantization
        )  # fmt: skip
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    stream: Any = writer.fout[0]
    for (_, source), one in zip(sources, types, strict=True):
        writer.write_padding(stream, stream.tell())
        for block in source.blocks():
            stream.write(_encoded(block, one))
        writer.write_padding(stream, _size(source.shape, one))
    writer.close()


def _type_of(shape: Sequence[int], kind: str) -> str:
    """What a tensor is written as: vectors in float32, and rows that q8_0 cannot divide in float16."""
    if len(shape) < 2:  # noqa: PLR2004 - a matrix has two
        return "f32"
    return "f16" if kind == "q8_0" and shape[-1] % _BLOCK else kind


def _size(shape: Sequence[int], kind: str) -> int:
    count = math.prod(shape)
    return count // _BLOCK * (_BLOCK + 2) if kind == "q8_0" else count * (4 if kind == "f32" else 2)


def _encoded(block: Floats, kind: str) -> bytes:
    if kind != "q8_0":
        return encoded(block, GGUF_TYPES[kind])
    quants = cast("Any", require("gguf.quants", extra="gguf", purpose="writing a GGUF file"))
    return bytes(quants.quantize(block, _gguf().GGMLQuantizationType.Q8_0).tobytes())


@final
class _Layout:
    """What llama.cpp calls the parts of a model, and how it orders and scales them.

    Args:
        config: The model's config.

    Raises:
        ModelNotFoundError: llama.cpp's model of this architecture would compute something else.
    """

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._kind = str(config.get("model_type"))
        if self._kind not in _ARCHITECTURES:
            raise ModelNotFoundError(
                f"a model of the type {self._kind!r} cannot be written as GGUF here; accepted: "
                f"{', '.join(_ARCHITECTURES)}. Export the merged model, which llama.cpp's own converter reads"
            )
        self.architecture = _ARCHITECTURES[self._kind]
        """llama.cpp's name of it."""
        self.embedding = "model.embed_tokens.weight"
        self.notes: list[str] = []
        """What to know of the file."""
        gguf = _gguf()
        arch = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == self.architecture)
        self._names: Any = gguf.get_tensor_name_map(arch, int(config["num_hidden_layers"]))
        self._heads = int(config["num_attention_heads"])
        self._kv_heads = int(config.get("num_key_value_heads") or self._heads)
        self._size = int(config.get("head_dim") or config["hidden_size"] // self._heads)
        self._rope: dict[str, Any] = dict(config.get("rope_parameters") or config.get("rope_scaling") or {})
        self._check()

    def name(self, tensor: str) -> str:
        """llama.cpp's name of a tensor of the hub's model."""
        found: str | None = self._names.get_name(tensor, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelNotFoundError(
                f"llama.cpp's {self.architecture!r} has no tensor for {tensor!r}; export the merged model instead"
            )
        return found

    def is_permuted(self, tensor: str) -> bool:
        """Whether the rows of *tensor* are those of queries or keys that llama.cpp turns in pairs."""
        return self.architecture == "llama" and tensor.split(".")[-2] in {"q_proj", "k_proj"}

    def rows(self, tensor: str, values: Floats) -> Floats:
        """*values* with the rows in llama.cpp's order: the halves of each head interleaved."""
        if not self.is_permuted(tensor):
            return values
        heads = self._heads if ".q_proj." in tensor else self._kv_heads
        halves = values.reshape(heads, 2, len(values) // heads // 2, *values.shape[1:])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(values.shape)

    def vector(self, tensor: str, values: Floats) -> Floats:
        """Norms as llama.cpp takes them."""
        if self.architecture != "gemma3" or not tensor.endswith("norm.weight"):
            return values
        values = values + np.float32(1)
        return values * np.float32(self._query_scale()) if tensor.endswith("q_norm.weight") else values

    def _query_scale(self) -> float:
        """What makes llama.cpp's scale of the scores that of the config; queries are linear behind their norm."""
        wanted = float(self._config.get("query_pre_attn_scalar") or self._size)
        large = int(self._config["num_hidden_layers"]) == _LARGE_GEMMA
        theirs = self._config["hidden_size"] / self._heads if large else self._size
        return math.sqrt(theirs / wanted)

    def _check(self) -> None:
        """Refuse what would be computed otherwise."""
        config = self._config
        wanted = "gelu_pytorch_tanh" if self.architecture == "gemma3" else "silu"
        found = config.get("hidden_activation") or config.get("hidden_act")
        reasons = [f"its activation is {found!r}, and not {wanted!r}"] if found != wanted else []
        if config.get("attn_logit_softcapping"):
            reasons.append("its attention scores are capped")
        if config.get("partial_rotary_factor") not in (None, 1, 1.0):
            reasons.append("only a part of each head is turned")
        if config.get("use_bidirectional_attention"):
            reasons.append("its attention is not causal")
        if self._rope_kind() not in {"default", "linear", "llama3", "yarn"}:
            reasons.append(f"its rotary embedding is of the kind {self._rope_kind()!r}")
        if self.architecture == "gemma3" and self._pattern() is None:
            reasons.append("its layers with and without a window do not alternate regularly")
        if reasons:
            raise ModelNotFoundError(
                f"the model cannot be written as GGUF: {'; '.join(reasons)}. Export the merged model, and serve it "
                "with transformers or vLLM"
            )

    def _part(self, kind: str) -> dict[str, Any]:
        """The rotary settings of layers of one kind, where they have some of their own."""
        found: Any = self._rope.get(kind)
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    def _full(self) -> dict[str, Any]:
        """The rotary settings of layers that see everything."""
        return self._part("full_attention") or self._rope

    def _rope_kind(self) -> str:
        full = self._full()
        return str(full.get("rope_type") or full.get("type") or "default")

    def _theta(self, kind: str, default: float) -> float:
        settings = self._part(kind) or self._rope
        return float(settings.get("rope_theta") or self._config.get("rope_theta") or default)

    def _pattern(self) -> int | None:
        """Every how many layers one sees everything; None where they do not alternate so."""
        layers: list[str] = list(self._config.get("layer_types") or [])
        period = int(self._config.get("sliding_window_pattern") or 0)
        if layers and "full_attention" in layers:
            period = layers.index("full_attention") + 1
        elif layers:
            period = len(layers) + 1
        full = [bool(period) and (at + 1) % period == 0 for at in range(len(layers))]
        wanted = ["full_attention" if one else "sliding_attention" for one in full]
        return period if period and layers in ([], wanted) else None

    def write(self, writer: Any) -> None:
        """The fields of the model."""
        config = self._config
        length = int(config["max_position_embeddings"])
        window = config.get("sliding_window")
        if self._kind == "mistral" and isinstance(window, int) and window < length:
            # llama.cpp gives this architecture no window; up to its length there is no difference.
            self.notes.append(f"the context is {window} tokens, the model's window, which llama.cpp does not slide")
            length = window
        elif self._kind.startswith("qwen") and config.get("use_sliding_window") and isinstance(window, int):
            self.notes.append(f"the context is {window} tokens, the model's window, which llama.cpp does not slide")
            length = min(length, window)
        writer.add_context_length(length)
        writer.add_embedding_length(int(config["hidden_size"]))
        writer.add_block_count(int(config["num_hidden_layers"]))
        writer.add_feed_forward_length(int(config["intermediate_size"]))
        writer.add_head_count(self._heads)
        writer.add_head_count_kv(self._kv_heads)
        writer.add_key_length(self._size)
        writer.add_value_length(self._size)
        writer.add_layer_norm_rms_eps(float(config.get("rms_norm_eps", 1e-6)))
        if self.architecture == "gemma3":
            writer.add_rope_freq_base(self._theta("full_attention", 1e6))
            local = self._config.get("rope_local_base_freq") or self._theta("sliding_attention", 1e4)
            writer.add_rope_freq_base_swa(float(local))
            writer.add_sliding_window(int(config.get("sliding_window") or length))
            writer.add_sliding_window_pattern(self._pattern())
            if config.get("final_logit_softcapping"):
                writer.add_final_logit_softcapping(float(config["final_logit_softcapping"]))
        else:
            writer.add_rope_freq_base(self._theta("", 1e4))
            writer.add_rope_dimension_count(self._size)
        self._write_scaling(writer)

    def _write_scaling(self, writer: Any) -> None:
        scaling, kind = self._full(), self._rope_kind()
        types = _gguf().RopeScalingType
        if kind == "linear":
            writer.add_rope_scaling_type(types.LINEAR)
            writer.add_rope_scaling_factor(float(scaling["factor"]))
        elif kind == "yarn":
            writer.add_rope_scaling_type(types.YARN)
            writer.add_rope_scaling_factor(float(scaling["factor"]))
            writer.add_rope_scaling_orig_ctx_len(int(scaling["original_max_position_embeddings"]))

    def rope_factors(self) -> Floats | None:
        """What each frequency is divided by, in models that were stretched as Llama 3.1 was; None in others.

        Low frequencies are divided by the factor, high ones stay, and between the two it goes over smoothly.
        """
        if self._rope_kind() != "llama3":
            return None
        scaling = self._full()
        factor, low, high = (float(scaling[name]) for name in ("factor", "low_freq_factor", "high_freq_factor"))
        length = float(scaling["original_max_position_embeddings"])
        turns = np.arange(0, self._size, 2, dtype=np.float64) / self._size
        wavelengths = 2 * math.pi * self._theta("", 1e4) ** turns
        smooth = np.clip((length / wavelengths - low) / (high - low), 0, 1)
        return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def _write_tokenizer(writer: Any, fields: TokenizerFields) -> None:
    writer.add_tokenizer_model(fields.model)
    writer.add_tokenizer_pre(fields.pre)
    writer.add_token_list(list(fields.tokens))
    writer.add_token_types(list(fields.types))
    writer.add_vocab_size(len(fields.tokens))
    if fields.scores is not None:
        writer.add_token_scores(list(fields.scores))
    if fields.merges is not None:
        writer.add_token_merges(list(fields.merges))
    for value, add in (
        (fields.bos, writer.add_bos_token_id),
        (fields.eos, writer.add_eos_token_id),
        (fields.unknown, writer.add_unk_token_id),
        (fields.pad, writer.add_pad_token_id),
    ):
        if value is not None:
            add(int(value))
    if fields.eos is not None:
        writer.add_eot_token_id(int(fields.eos))
    writer.add_add_bos_token(fields.add_bos)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(fields.add_space_prefix)
    if fields.template is not None:
        writer.add_chat_template(fields.template)


def modelfile(file: str, tokenizer: Tokenizer, stop_tokens: Sequence[int]) -> tuple[str, tuple[str, ...]]:
    """The `Modelfile` by which `ollama create` takes in a GGUF file.

    Args:
        file: The GGUF file beside it.
        tokenizer: Of the model.
        stop_tokens: The tokens that end an answer.

    Returns:
        Its text, and what to know of it.
    """
    lines = [f"FROM ./{file}"]
    notes: list[str] = []
    template = turn_template(tokenizer)
    text = "" if template is None else template.go()
    if not text or '"""' in text:
        notes.append(
            "the chat template does more than to write message after message, so the Modelfile has none; Ollama takes "
            "the one that it knows for the model, if it knows one. Compare an answer with llama-server's"
        )
    else:
        lines.append(f'TEMPLATE """{text}"""')
        if template is not None and template.system:
            lines.append(f"SYSTEM {json.dumps(template.system, ensure_ascii=False)}")
    stops = tokenizer.convert_ids_to_tokens(list(stop_tokens))
    lines += [f"PARAMETER stop {json.dumps(token, ensure_ascii=False)}" for token in stops]
    return "\n".join(lines) + "\n", tuple(notes)
