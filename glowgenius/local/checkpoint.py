"""Checkpoints of the local engine: folders of safetensors and JSON, never pickles.

`<run>/weights/<name>` holds the adapter and the optimizer, to train on from.
`<run>/sampler_weights/<name>` holds the adapter alone.
Both hold it in PEFT's own layout, so that `peft.PeftModel.from_pretrained` opens them as they are.
"""

from __future__ import annotations

import json
import math
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

import torch
from attrs import asdict, frozen
from safetensors import SafetensorError

from glowgenius._files import sync
from glowgenius._lazy import require
from glowgenius.engines.offered import OPTIMIZER, PEFT, PREFIX, STATE, WEIGHTS, is_exported, read_state, seal
from glowgenius.errors import CheckpointError, RequestRejectedError
from glowgenius.local.adapter import Adapter, AdapterSpec, kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import torch

    from glowgenius.local.model import BaseModel
    from glowgenius.typing import JSON


_UNUSUAL = ("use_dora", "rank_pattern", "alpha_pattern", "modules_to_save", "trainable_token_indices", "lora_bias")
"""What an adapter of PEFT may have beside plain LoRA."""


@final
@frozen(kw_only=True, eq=False)
class Saved:
    """What a checkpoint folder holds."""

    path: str
    """Where it was read from, as the caller named it."""

    base_model: str
    """The base model it was trained on, by the name that was given then."""

    spec: AdapterSpec
    """What the matrices belong to."""

    a: dict[str, torch.Tensor]
    """layer → A, `[R, inputs]`, in the order of the file."""

    b: dict[str, torch.Tensor]
    """layer → B, `[outputs, R]`, in the order of the file."""

    updates: int
    """How many optimizer steps the adapter has had."""

    optimizer: dict[str, torch.Tensor] | None
    """Moments by matrix (`<layer>.lora_A.exp_avg`), or None for weights meant for sampling only."""

    metadata: dict[str, str]
    """What the user stored with it."""


def write(
    folder: Path,
    adapter: Adapter,
    *,
    base_model: str,
    updates: int,
    optimizer: Mapping[str, torch.Tensor] | None,
    metadata: Mapping[str, str],
    overwrite: bool,
) -> Path:
    """Write a checkpoint; it appears whole or not at all, and is on the disk when it does.

    Raises:
        RequestRejectedError: There is a checkpoint by that name and *overwrite* is not set.
        CheckpointError: The disk is full, or something else is in the way.
    """
    if folder.exists() and not overwrite:
        raise RequestRejectedError(
            f"there is a checkpoint named {folder.name!r} in {folder.parent}; "
            f"choose another name or pass overwrite=True to save_state()"
        )
    safetensors = cast("Any", require("safetensors.torch", extra="local", purpose="saving a checkpoint"))
    working = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    try:
        working.mkdir(parents=True)
        safetensors.save_file(_peft_tensors(adapter), str(working / WEIGHTS), metadata={"format": "pt"})
        if optimizer is not None:
            safetensors.save_file(dict(optimizer), str(working / OPTIMIZER))
        config = json.dumps(_peft_config(adapter, base_model), indent=1, sort_keys=True)
        (working / PEFT).write_text(config, encoding="utf-8")
        state: dict[str, JSON] = {
            "base_model": base_model,
            "spec": asdict(adapter.spec),
            "updates": updates,
            "metadata": dict(metadata),
        }
        seal(working, state)
        _put_in_place(working, folder)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint {str(folder)!r} could not be written: {error}. Make room, or the folder writable, "
            "and resume the run: train(..., resume_from_checkpoint=True)"
        ) from error
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return folder


def delete(path: str) -> None:
    """Delete the checkpoint at *path*; it disappears whole.

    Raises:
        CheckpointError: There is none. A folder that is something else is left alone.
    """
    folder = Path(path)
    if not (folder / STATE).is_file():
        raise CheckpointError(f"no checkpoint at {path!r}, so nothing was deleted")
    shutil.rmtree(folder.replace(folder.with_name(f".{folder.name}-deleted")))


def _put_in_place(working: Path, folder: Path) -> None:
    """Rename *working* to *folder*; the checkpoint that was there is deleted last, and is back if this fails."""
    old = working.with_name(f"{working.name}.old")
    if folder.exists():
        folder.replace(old)
    try:
        working.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    # The folders above, up to the one of the run, are new with its first checkpoint, and must last as well.
    for above in folder.parents[:4]:
        sync(above)
    shutil.rmtree(old, ignore_errors=True)


def read(path: str) -> Saved:
    """The checkpoint at *path*, verified.

    Raises:
        CheckpointError: There is none, it is incomplete or damaged, or a newer version wrote it.
    """
    state, folder = read_state(path), Path(path)
    try:
        a, b = _from_peft(_read_tensors(folder / WEIGHTS))
        return Saved(
            path=path,
            base_model=state["base_model"],
            spec=AdapterSpec(**state["spec"]),
            a=a,
            b=b,
            updates=state["updates"],
            optimizer=_read_tensors(folder / OPTIMIZER) if (folder / OPTIMIZER).is_file() else None,
            metadata=state["metadata"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"the checkpoint at {path!r} cannot be read: {type(error).__name__}: {error}. "
            f"Its files are incomplete or damaged; use another checkpoint of the run."
        ) from error


def read_adapter(path: str) -> Saved:
    """The adapter at *path*: a checkpoint, or a folder in PEFT's format, whoever wrote it.

    Raises:
        CheckpointError: There is none, it is damaged, or it is of a kind that the local engine does not compute.
    """
    folder = Path(path)
    if (folder / STATE).is_file() or not (folder / PEFT).is_file():
        try:
            return read(path)
        except CheckpointError:
            # An exported adapter has another config than the checkpoint that it was copied from.
            if not is_exported(path):
                raise
    try:
        config: dict[str, Any] = json.loads((folder / PEFT).read_text(encoding="utf-8"))
        a, b = _from_peft(_read_tensors(folder / WEIGHTS))
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"there is no adapter that can be read at {path!r}: {error}") from error
    unusual = [name for name in _UNUSUAL if config.get(name)]
    if config.get("bias") not in (None, "none"):
        unusual.append("bias")
    if unusual:
        raise CheckpointError(
            f"the adapter at {path!r} uses {', '.join(unusual)}, which the local engine does not compute; it trains "
            "plain LoRA with one rank for all layers"
        )
    kinds = {kind_of(name) or "unembed" for name in a}
    return Saved(
        path=path,
        base_model=str(config.get("base_model_name_or_path")),
        spec=AdapterSpec(
            rank=rank,
            alpha=alpha * math.sqrt(rank) if config.get("use_rslora") else alpha,
            train_mlp="mlp" in kinds,
            train_attn="attn" in kinds,
            train_unembed="unembed" in kinds,
        ),
        a={name: value.float() for name, value in a.items()},
        b={name: value.float() for name, value in b.items()},
        updates=0,
        optimizer=None,
        metadata={},
    )


def adapter_of(saved: Saved, model: BaseModel) -> Adapter:
    """The saved matrices on the device of *model*, in the order of its layers, as a fresh adapter has them.

    Raises:
        CheckpointError: The matrices are not those of *model*'s layers.
    """
    layers = model.adapted_layers(saved.spec)
    strangers = sorted(name for name in saved.a if name not in layers)
    reasons = [f"it holds matrices for {name!r}, no layer of the model" for name in strangers]
    for name, layer in layers.items():
        if name not in saved.a or name not in saved.b:
            reasons.append(f"it holds no matrices for {name!r}")
            continue
        found = [list(saved.a[name].shape), list(saved.b[name].shape)]
        wanted = [[saved.spec.rank, layer.in_features], [layer.out_features, saved.spec.rank]]
        if found != wanted:
            reasons.append(f"its matrices for {name!r} have the shapes {found}, the layer takes {wanted}")
    if reasons:
        raise CheckpointError(
            f"the checkpoint at {saved.path!r}, trained on {saved.base_model!r}, does not fit {model.name!r}: "
            f"{reasons[0]}. Open it on the base model that it was trained on."
        )
    return Adapter(
        spec=saved.spec,
        a={name: saved.a[name].to(model.device) for name in layers},
        b={name: saved.b[name].to(model.device) for name in layers},
    )


def _read_tensors(path: Path) -> dict[str, torch.Tensor]:
    safetensors = cast("Any", require("safetensors", extra="local", purpose="reading a checkpoint"))
    torch_part = cast("Any", require("safetensors.torch", extra="local", purpose="reading a checkpoint"))
    try:
        tensors: dict[str, torch.Tensor] = torch_part.load_file(str(path))
    except safetensors.SafetensorError as error:  # derives from Exception alone
        raise ValueError(f"{path.name}: {error}") from error
    return tensors


def _peft_tensors(adapter: Adapter) -> dict[str, torch.Tensor]:
    tensors = {f"{PREFIX}{name}.lora_A.weight": value for name, value in adapter.a.items()}
    tensors |= {f"{PREFIX}{name}.lora_B.weight": value for name, value in adapter.b.items()}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _from_peft(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    a: dict[str, torch.Tensor] = {}
    b: dict[str, torch.Tensor] = {}
    for key, value in tensors.items():
        name, _, which = key.removeprefix(PREFIX).removesuffix(".weight").rpartition(".")
        (a if which == "lora_A" else b)[name] = value
    return a, b


def _peft_config(adapter: Adapter, base_model: str) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base_model,
        "r": adapter.spec.rank,
        "lora_alpha": adapter.spec.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "inference_mode": True,
        "target_modules": sorted({name.rpartition(".")[2] for name in adapter.a}),
    }
