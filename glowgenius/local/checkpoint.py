"""Checkpoints of the local engine: folders of safetensors and JSON, never pickles.

`<run>/weights/<name>` holds the adapter and the optimizer, to train on from.
`<run>/sampler_weights/<name>` holds the adapter alone.
Both hold it in PEFT's own layout, so that `peft.PeftModel.from_pretrained` opens them as they are.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from attrs import asdict, frozen

from glowgenius._lazy import require
from glowgenius.errors import CheckpointError, RequestRejectedError
from glowgenius.local.adapter import Adapter, AdapterSpec

if TYPE_CHECKING:
    from collections.abc import Mapping

_FORMAT = 1
_WEIGHTS, _PEFT, _STATE, _OPTIMIZER = (
    "adapter_model.safetensors",
    "adapter_config.json",
    "glowgenius.json",
    "optimizer.safetensors",
)
_PREFIX = "base_model.model."


@frozen(kw_only=True, eq=False)
class Saved:
    """What a checkpoint folder holds."""

    base_model: str
    spec: AdapterSpec
    a: dict[str, torch.Tensor]
    b: dict[str, torch.Tensor]
    updates: int
    """How many optimizer steps the adapter has had."""

    optimizer: dict[str, torch.Tensor] | None
    """Moments by parameter, or None for weights meant for sampling only."""

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
    """Write a checkpoint; it appears whole or not at all.

    Raises:
        RequestRejectedError: There is a checkpoint by that name and *overwrite* is not set.
    """
    if folder.exists() and not overwrite:
        raise RequestRejectedError(
            f"there is a checkpoint named {folder.name!r} in {folder.parent}; choose another name or pass overwrite=True"
        )
    safetensors = cast("Any", require("safetensors.torch", extra="local", purpose="saving a checkpoint"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    working = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        safetensors.save_file(_peft_tensors(adapter), str(working / _WEIGHTS), metadata={"format": "pt"})
        if optimizer is not None:
            safetensors.save_file(dict(optimizer), str(working / _OPTIMIZER))
        _write_json(working / _PEFT, _peft_config(adapter, base_model))
        spec = {**asdict(adapter.spec)}
        state = {
            "format": _FORMAT,
            "base_model": base_model,
            "spec": spec,
            "updates": updates,
            "metadata": dict(metadata),
        }
        _write_json(working / _STATE, state)
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(working, folder)
    finally:
        shutil.rmtree(working, ignore_errors=True)
    return folder


def read(path: str) -> Saved:
    """The checkpoint at *path*.

    Raises:
        CheckpointError: There is none, it is incomplete, or a newer version wrote it.
    """
    folder = Path(path)
    if not (folder / _STATE).is_file():
        raise CheckpointError(
            f"no checkpoint at {path!r}. Accepted: the `.path` that save_state() or save_weights_for_sampler() "
            f"of the local engine returned, a folder with {_STATE} and {_WEIGHTS}."
        )
    safetensors = cast("Any", require("safetensors.torch", extra="local", purpose="reading a checkpoint"))
    try:
        state = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        tensors: dict[str, torch.Tensor] = safetensors.load_file(str(folder / _WEIGHTS))
        optimizer_file = folder / _OPTIMIZER
        optimizer = safetensors.load_file(str(optimizer_file)) if optimizer_file.is_file() else None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"the checkpoint at {path!r} cannot be read: {error}") from error
    if state["format"] != _FORMAT:
        raise CheckpointError(
            f"the checkpoint at {path!r} has format {state['format']}, this version reads {_FORMAT}: update glowgenius"
        )
    a, b = _from_peft(tensors)
    return Saved(
        base_model=state["base_model"],
        spec=AdapterSpec(**state["spec"]),
        a=a,
        b=b,
        updates=state["updates"],
        optimizer=optimizer,
        metadata=state["metadata"],
    )


def _peft_tensors(adapter: Adapter) -> dict[str, torch.Tensor]:
    tensors = {f"{_PREFIX}{name}.lora_A.weight": value for name, value in adapter.a.items()}
    tensors |= {f"{_PREFIX}{name}.lora_B.weight": value for name, value in adapter.b.items()}
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def _from_peft(tensors: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    a: dict[str, torch.Tensor] = {}
    b: dict[str, torch.Tensor] = {}
    for key, value in tensors.items():
        name, _, which = key.removeprefix(_PREFIX).removesuffix(".weight").rpartition(".")
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


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, sort_keys=True), encoding="utf-8")
