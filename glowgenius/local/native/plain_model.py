"""A Llama-shaped model read straight from its files, and the memory layout of its weights for decoding."""

from __future__ import annotations

import enum
import functools
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeAlias, cast, final

import torch
from attrs import field, frozen
from safetensors import SafetensorError
from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] - its paths are untyped
from torch import nn

from glowgenius.models.tokenizer import ARCHITECTURES, read_plain_config, rope_theta

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    Rotary = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """Positions `[S]` → cosine and sine of what queries and keys there are turned by, `[S, D/2]` each."""
    from collections.abc import Callable


@final
@frozen(kw_only=True, eq=False)
class PlainModel:
    """The frozen numbers of a model and what its config says."""

    architecture: str
    """The name of the class that `transformers` has for it."""

    config: Any
    """The fields of `config.json`, as attributes."""

    weights: dict[str, torch.Tensor] = field(repr=False)
    """By their names in `transformers`; a tied unembedding is there too."""

    rotary: Rotary = field(repr=False)
    """The rotary embedding, in the precision of the weights."""

    @property
    def linear(self) -> Iterator[str]:
        """The names of the linear layers, in the model's order."""
        return (name.removesuffix(".weight") for name in self.weights if name.endswith(("_proj.weight", "head.weight")))


def read(directory: Path, device: torch.device, dtype: torch.dtype) -> PlainModel | None:
    """The model in *directory*; None where `transformers` is to load it."""
    settings = read_plain_config(directory)
    if settings is None:
        return None
    try:
        found = _tensors(directory)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError):
        return None
    shapes = _shapes(settings)
    tied = shapes.pop("lm_head.weight") if settings["tie_word_embeddings"] else None
    if {name: tuple(value.shape) for name, value in found.items()} != shapes:
        return None
    if any(value.dtype not in {torch.float32, torch.bfloat16, torch.float16} for value in found.values()):
        return None
    weights = {name: found[name].to(device, dtype) for name in shapes}
    if tied is not None:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    return PlainModel(
        architecture=ARCHITECTURES[settings["model_type"]],
        config=SimpleNamespace(**settings),
        weights=weights,
        rotary=_rotary(rope_theta(settings), settings["head_dim"], device, dtype),
    )


def _shapes(settings: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name → shape of every tensor, in the order of the modules of `transformers`."""
    hidden, inner, kind = settings["hidden_size"], settings["intermediate_size"], settings["model_type"]
    size = settings["head_dim"]
    queries, keys = settings["num_attention_heads"] * size, settings["num_key_value_heads"] * size
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (settings["vocab_size"], hidden)}
    for index in range(settings["num_hidden_layers"]):
        layer = f"model.layers.{index}"
        for name, outputs, inputs in (
            ("self_attn.q_proj", queries, hidden),
            ("self_attn.k_proj", keys, hidden),
            ("self_attn.v_proj", keys, hidden),
            ("self_attn.o_proj", hidden, queries),
            ("mlp.gate_proj", inner, hidden),
            ("mlp.up_proj", inner, hidden),
            ("mlp.down_proj", hidden, inner),
        ):
            shapes[f"{layer}.{name}.weight"] = (outputs, inputs)
            if kind == "qwen2" and name.endswith(("q_proj", "k_proj", "v_proj")):
                shapes[f"{layer}.{name}.bias"] = (outputs,)
        for name in ("q_norm", "k_norm") if kind == "qwen3" else ():
            shapes[f"{layer}.self_attn.{name}.weight"] = (size,)
        for name in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"{layer}.{name}.weight"] = (hidden,)
    return {**shapes, "model.norm.weight": (hidden,), "lm_head.weight": (settings["vocab_size"], hidden)}


def _tensors(directory: Path) -> dict[str, torch.Tensor]:
    """What the safetensors files of *directory* hold, mapped into memory."""
    files = {"model.safetensors"}
    index = directory / "model.safetensors.index.json"
    if index.exists():
        files = set(cast("dict[str, str]", json.loads(index.read_text(encoding="utf-8"))["weight_map"]).values())
    return {name: value for file in sorted(files) for name, value in load_file(directory / file).items()}


def _rotary(theta: float, size: int, device: torch.device, dtype: torch.dtype) -> Rotary:
    """The original frequencies (Su et al. 2021, section 3.4.2), which stay fp32 in a bf16 model."""
    frequencies = (1.0 / (theta ** (torch.arange(0, size, 2, dtype=torch.float) / size))).to(device)

    def rotary(positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        angles = positions[:, None].float() * frequencies
        return angles.cos().to(dtype), angles.sin().to(dtype)

    return rotary


Product: TypeAlias = "Callable[[torch.Tensor], torch.Tensor]"
"""x `[S, inputs]` → x · Wᵀ + bias, `[S, outputs]`."""


class Layout(enum.Enum):
    """What the weights are laid out for."""

    ONE = enum.auto()
    """One token at a time: transposed where the outputs are no fewer than the inputs."""

    SEVERAL = enum.auto()
    """Several at a time: in the blocks that oneDNN multiplies, where torch has it."""


def laid_out(weight: torch.Tensor, bias: torch.Tensor | None, layout: Layout) -> Product:
    """The product with *weight* `[outputs, inputs]`, from a copy in *layout* where one is faster here."""
    if weight.device.type == "cpu" and weight.dtype == torch.float32:
        if layout is Layout.ONE and weight.shape[0] >= weight.shape[1]:
            return functools.partial(_transposed, weight=weight.t().contiguous(), bias=bias)
        if layout is Layout.SEVERAL and blocks_work():
            return functools.partial(_in_blocks, weight=_blocks(weight), bias=bias)
    return functools.partial(nn.functional.linear, weight=weight, bias=bias)


@functools.cache
def blocks_work() -> bool:
    """Whether this torch multiplies weights in oneDNN's blocks, tried on a small product."""
    weight, x = torch.arange(96.0).view(6, 16), torch.arange(48.0).view(3, 16)
    try:
        y = _in_blocks(x, _blocks(weight), None)
    except (AttributeError, RuntimeError):
        return False
    return torch.allclose(y, x @ weight.t())


def _blocks(weight: torch.Tensor) -> torch.Tensor:
    ops: Any = torch.ops.mkldnn
    blocks: torch.Tensor = ops._reorder_linear_weight(weight)  # noqa: SLF001 - what torch's own compiler calls
    return blocks


def _in_blocks(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    ops: Any = torch.ops.mkldnn
    y: torch.Tensor = ops._linear_pointwise(x, weight, bias, "none", [], "")  # noqa: SLF001 - as above
    return y


def _transposed(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    return x @ weight if bias is None else torch.addmm(bias, x, weight)
