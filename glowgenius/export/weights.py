"""Weights read and written a block of rows at a time: the tensors of a base model with an adapter merged into them.

The files of safetensors are read as what they are, a JSON header and bytes, since its NumPy door knows no bfloat16 and
its writer holds a whole file in memory. Products and sums are float32; what is written is rounded once, at the end.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast, final

import numpy as np
from attrs import field, frozen

from glowgenius.engines.offered import PEFT, PREFIX, WEIGHTS
from glowgenius.errors import CheckpointError, ConfigError, ModelNotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt

    Floats: TypeAlias = npt.NDArray[np.float32]
    """Numbers of a matrix or a vector, in float32."""

DType: TypeAlias = Literal["float32", "float16", "bfloat16"]
"""What weights can be written as."""

DTYPES: Final[Mapping[str, str]] = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}
"""Precision → what safetensors calls it."""

BLOCK_BYTES: Final = 16 * 2**20
"""The most that one block of rows takes in float32."""

INDEX: Final = "model.safetensors.index.json"
"""Which file of a model has which tensor."""

HEAD: Final = "lm_head.weight"
"""The unembedding; a model that ties it to the embedding has none of its own."""

_EMBEDDINGS: Final = ("model.embed_tokens.weight", "language_model.model.embed_tokens.weight")
_UNEMBED: Final = {"model.unembed_tokens": "lm_head"}
"""What Tinker's files call a layer → what the hub's do."""

_LONGEST_HEADER: Final = 100_000_000
_UNUSUAL: Final = (
    "use_dora",
    "rank_pattern",
    "alpha_pattern",
    "modules_to_save",
    "trainable_token_indices",
    "lora_bias",
    "fan_in_fan_out",
)
"""What an adapter of PEFT may have beside plain LoRA."""

_BYTES: Final = {"F32": 4, "F16": 2, "BF16": 2}


@final
@frozen(kw_only=True)
class StoredTensor:
    """Where a tensor lies in a file."""

    file: Path
    """The file."""

    dtype: str
    """Its type, as safetensors calls it."""

    shape: tuple[int, ...]
    """Its shape."""

    begin: int
    """Its first byte in the file."""

    def rows(self, begin: int, end: int) -> Floats:
        """Rows *begin* to *end* in float32, read from the file now; of a vector, its numbers."""
        width = math.prod(self.shape[1:])
        size = _BYTES[self.dtype]
        kind = {"F32": "<f4", "F16": "<f2", "BF16": "<u2"}[self.dtype]
        found: Any = np.fromfile(self.file, kind, (end - begin) * width, offset=self.begin + begin * width * size)
        if self.dtype == "BF16":
            found = (found.astype(np.uint32) << 16).view(np.float32)
        return cast("Floats", found.astype(np.float32, copy=False).reshape(end - begin, *self.shape[1:]))

    def whole(self) -> Floats:
        """All of it in float32."""
        return self.rows(0, self.shape[0])


def read_header(file: Path) -> dict[str, StoredTensor]:
    """The tensors of a safetensors file, in the order in which they lie there.

    Raises:
        ValueError: It is none, or holds numbers of a type that no model of ours has.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        if not 0 < length <= _LONGEST_HEADER:
            raise ValueError(f"{file.name} is no safetensors file")
        header: dict[str, Any] = json.loads(stream.read(length))
    size = file.stat().st_size
    found: dict[str, StoredTensor] = {}
    for name, value in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + int(place) for place in value["data_offsets"])
        shape = tuple(int(one) for one in value["shape"])
        if value["dtype"] not in _BYTES:
            raise ValueError(
                f"{file.name}: {name!r} is of the type {value['dtype']}; weights of float32, float16 and bfloat16 can "
                "be merged, and quantised ones cannot"
            )
        if end > size or end - begin != math.prod(shape) * _BYTES[value["dtype"]]:
            raise ValueError(f"{file.name} is cut off or damaged at {name!r}")
        found[name] = StoredTensor(file=file, dtype=value["dtype"], shape=shape, begin=begin)
    return dict(sorted(found.items(), key=lambda pair: pair[1].begin))


def base_tensors(folder: Path) -> dict[str, StoredTensor]:
    """The tensors of the model in *folder*, file by file.

    Raises:
        ModelNotFoundError: There are no safetensors files, or they cannot be read.
    """
    index = folder / INDEX
    try:
        if index.is_file():
            names = dict.fromkeys(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values())
            files = sorted(folder / str(name) for name in names)
        else:
            files = sorted(folder.glob("model*.safetensors")) or sorted(folder.glob("*.safetensors"))
        found = {name: tensor for file in files for name, tensor in read_header(file).items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelNotFoundError(f"the weights in {str(folder)!r} cannot be read: {error}") from error
    if not found:
        raise ModelNotFoundError(
            f"there are no weights in safetensors files in {str(folder)!r}; save the model again with "
            "model.save_pretrained(folder), which writes them"
        )
    return found


@final
@frozen(kw_only=True)
class Adapter:
    """A LoRA adapter in PEFT's format, read from its folder."""

    folder: Path
    """Where it lies."""

    config: Mapping[str, Any] = field(repr=False)
    """Its `adapter_config.json`."""

    rank: int
    """The inner size of its matrices."""

    scale: float
    """What B · A is multiplied by."""

    pairs: Mapping[str, tuple[StoredTensor, StoredTensor]] = field(repr=False)
    """Layer, as the hub's model calls it → A `[R, inputs]` and B `[outputs, R]`; in the order of the file."""

    @classmethod
    def read(cls, folder: Path) -> Adapter:
        """The adapter in *folder*.

        Raises:
            CheckpointError: There is none, it is damaged, or it is more than plain LoRA.
        """
        try:
            config: dict[str, Any] = json.loads((folder / PEFT).read_text(encoding="utf-8"))
            rank, alpha = int(config["r"]), float(config["lora_alpha"])
            tensors = read_header(folder / WEIGHTS)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(f"there is no adapter that can be read at {str(folder)!r}: {error}") from error
        unusual = [name for name in _UNUSUAL if config.get(name)]
        if config.get("bias") not in (None, "none"):
            unusual.append("bias")
        if unusual:
            raise CheckpointError(
                f"the adapter at {str(folder)!r} uses {', '.join(unusual)}, and only plain LoRA with one rank for all "
                "layers is exported; PEFT's own merge_and_unload() may know more"
            )
        scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
        return cls(folder=folder, config=config, rank=rank, scale=scale, pairs=_pairs(folder, tensors))

    @property
    def alpha(self) -> float:
        """The alpha that gives `scale` as alpha / rank."""
        return self.scale * self.rank

    @property
    def layers(self) -> Sequence[str]:
        """The layers that it changes."""
        return list(self.pairs)


def _pairs(folder: Path, tensors: Mapping[str, StoredTensor]) -> dict[str, tuple[StoredTensor, StoredTensor]]:
    found: dict[str, dict[str, StoredTensor]] = {}
    for name, tensor in tensors.items():
        layer, _, which = name.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        found.setdefault(_UNEMBED.get(layer, layer), {})[which] = tensor
    for layer, both in found.items():
        if set(both) != {"lora_A", "lora_B"}:
            raise CheckpointError(
                f"the adapter at {str(folder)!r} holds {', '.join(sorted(both))} of {layer!r}, and not lora_A "
                "and lora_B"
            )
    return {layer: (both["lora_A"], both["lora_B"]) for layer, both in found.items()}


@final
class MergedWeights:
    """The weights of a base model with an adapter merged into them; without one, the base model's.

    Args:
        folder: The base model, in Hugging Face layout.
        adapter: What is merged.
        tied: Whether the model ties its unembedding to its embedding.

    Raises:
        ModelNotFoundError: There are no weights that can be read.
        CheckpointError: The adapter does not fit the model.
    """

    def __init__(self, folder: Path, adapter: Adapter | None, *, tied: bool) -> None:
        self.folder = folder
        self._base = base_tensors(folder)
        self._pairs = {} if adapter is None else dict(adapter.pairs)
        self._scale = 0.0 if adapter is None else adapter.scale
        self.untied = tied and HEAD.removesuffix(".weight") in self._pairs
        """Whether the unembedding has become a matrix of its own, since the adapter changes it alone."""
        if tied:
            self._base.pop(HEAD, None)  # a copy that some files hold
        if self.untied:
            self._base[HEAD] = self._embedding()
        if adapter is not None:
            self._check(adapter)

    @property
    def names(self) -> Sequence[str]:
        """The tensors, in the order of the base model's files."""
        return list(self._base)

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor."""
        return self._base[name].shape

    def stored(self, name: str) -> str:
        """The type of a tensor in the base model's files, as safetensors calls it."""
        return self._base[name].dtype

    def blocks(self, name: str) -> Iterator[Floats]:
        """A tensor in float32, in blocks of rows of at most `BLOCK_BYTES`."""
        tensor, layer = self._base[name], name.removesuffix(".weight")
        height = tensor.shape[0] if tensor.shape else 1
        step = max(1, BLOCK_BYTES // (4 * math.prod(tensor.shape[1:]) or 1))
        pair = self._pairs.get(layer) if name.endswith(".weight") else None
        a = None if pair is None else pair[0].whole()
        for begin in range(0, height, step):
            end = min(begin + step, height)
            block = tensor.rows(begin, end)
            if pair is not None and a is not None:
                block = np.add(block, (pair[1].rows(begin, end) * np.float32(self._scale)) @ a, dtype=np.float32)
            yield block

    def whole(self, name: str) -> Floats:
        """All of a tensor in float32."""
        return np.concatenate(list(self.blocks(name)))

    def _embedding(self) -> StoredTensor:
        name = next((name for name in _EMBEDDINGS if name in self._base), None)
        if name is None:
            raise ModelNotFoundError(f"the weights in {str(self.folder)!r} have no embedding under a known name")
        return self._base[name]

    def _check(self, adapter: Adapter) -> None:
        for layer, (a, b) in self._pairs.items():
            name = f"{layer}.weight"
            if name not in self._base:
                raise CheckpointError(
                    f"the adapter at {str(adapter.folder)!r} changes {layer!r}, which the model in "
                    f"{str(self.folder)!r} does not have, as {next(iter(self._base))!r} there shows. "
                    "Name the base model that it was trained on; where Tinker's names are not the hub's, "
                    "tinker_cookbook.weights.build_lora_adapter() translates them"
                )
            shape = (b.shape[0], a.shape[1]) if len(a.shape) == len(b.shape) == 2 else ()  # noqa: PLR2004 - a matrix
            if shape != self._base[name].shape or a.shape[0] != b.shape[1]:
                raise CheckpointError(
                    f"the adapter at {str(adapter.folder)!r} has matrices of {list(a.shape)} and {list(b.shape)} for "
                    f"{layer!r}, which is {list(self._base[name].shape)} in {str(self.folder)!r}; name the base model "
                    "that it was trained on"
                )


def encoded(block: Floats, dtype: str) -> bytes:
    """The bytes of numbers in *dtype* (`F32`, `F16`, `BF16`), rounded to nearest, ties to even.

    Raises:
        ConfigError: A number is too large for float16.
    """
    if dtype == "F32":
        return np.ascontiguousarray(block, "<f4").tobytes()
    if dtype == "F16":
        with np.errstate(over="ignore"):
            halves = np.ascontiguousarray(block, "<f2")
        if np.isinf(halves).any() and np.isfinite(block).all():
            raise ConfigError(
                f"a weight of {np.abs(block).max():g} is too large for float16, which ends at 65504; "
                "export with dtype='bfloat16' or 'float32'"
            )
        return halves.tobytes()
    return to_bfloat16(block).tobytes()


def to_bfloat16(block: Floats) -> npt.NDArray[np.uint16]:
    """The upper half of each float32, rounded to nearest, ties to even; what is not a number stays none."""
    bits = np.ascontiguousarray(block, "<f4").view(np.uint32)
    # Only what is not a number overflows here, and is replaced.
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & 1)) >> 16).astype(np.uint16)
    return np.where(np.isnan(block), ((bits >> 16) | 0x40).astype(np.uint16), rounded)


def write_safetensors(file: Path, weights: MergedWeights, names: Sequence[str], dtype: str) -> int:
    """Write tensors to *file*, a block at a time.

    Args:
        file: What is written.
        weights: Where they come from.
        names: Which.
        dtype: As for `encoded`.

    Returns:
        The bytes of the tensors.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name in names:
        shape = weights.shape(name)
        end = at + math.prod(shape) * _BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with file.open("wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            for block in weights.blocks(name):
                stream.write(encoded(block, dtype))
    return at


def shards(weights: MergedWeights, dtype: str, shard_bytes: int) -> list[list[str]]:
    """The tensors divided into files of at most *shard_bytes*; a larger tensor has a file of its own."""
    found: list[list[str]] = [[]]
    room = shard_bytes
    for name in weights.names:
        size = math.prod(weights.shape(name)) * _BYTES[dtype]
        if found[-1] and size > room:
            found.append([])
            room = shard_bytes
        found[-1].append(name)
        room -= size
    return found
