"""Which config a user means: by name, by folder, or handed over."""

from __future__ import annotations

import difflib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, TypeAlias, cast, runtime_checkable

from glowgenius.errors import ConfigError, ModelNotFoundError
from glowgenius.lora.known_models import KNOWN_MODELS


@runtime_checkable
class SupportsToDict(Protocol):
    """A config object, such as `transformers.PretrainedConfig`."""

    def to_dict(self) -> dict[str, Any]:
        """The config as plain values."""
        ...


ModelLike: TypeAlias = str | os.PathLike[str] | Mapping[str, Any] | SupportsToDict
"""A model's name, its folder, its config as a mapping, or its config object."""


def base_name(name: str) -> str:
    """The name without the variant that the Tinker service appends, such as `:peft:262144`."""
    return name.split(":", 1)[0]


def name_of(model: ModelLike) -> str | None:
    """The model's name or folder where there is one; a config of `transformers` may carry the name it was loaded by."""
    if isinstance(model, str | os.PathLike):
        return os.fspath(model)
    name = _mapping(model).get("_name_or_path")
    return name if isinstance(name, str) and name else None


def config_of(model: ModelLike) -> Mapping[str, Any]:
    """The config of *model*.

    A folder is read from disk. A well-known name is answered from a table; any other goes to `transformers`, which
    looks into its cache and then asks the hub.

    Raises:
        ModelNotFoundError: Nothing is found under this name; the message has the nearest known names.
        ConfigError: *model* is neither a name nor a config.
    """
    if not isinstance(model, str | os.PathLike):
        return _mapping(model)
    name = os.fspath(model)
    lookup = name
    if not Path(name).is_dir():
        lookup = base_name(name)
        if lookup in KNOWN_MODELS:
            return KNOWN_MODELS[lookup]
    from glowgenius.models.hub import load_config

    try:
        return load_config(lookup)
    except ModelNotFoundError as error:
        raise ModelNotFoundError(
            f"{str(error).rstrip('.')}. To count without loading, {_nearest_models(name)} "
            "or pass the config itself as a mapping"
        ) from error


def _mapping(model: object) -> Mapping[str, Any]:
    if isinstance(model, Mapping):
        return cast("Mapping[str, Any]", model)
    if isinstance(model, SupportsToDict):
        return model.to_dict()
    raise ConfigError(
        "a model is a name, a local directory, a config mapping or an object with to_dict(), "
        f"got {model!r} ({type(model).__name__})"
    )


def _nearest_models(name: str) -> str:
    """What to do with the table of known models, naming those that resemble *name* whatever the case of the letters."""
    spelling = {known.lower(): known for known in KNOWN_MODELS}
    close = difflib.get_close_matches(name.lower(), spelling, n=3, cutoff=0.7)
    names = ", ".join(repr(spelling[match]) for match in close)
    return f"use a known name (nearest: {names})" if close else "use a name in glowgenius.lora.KNOWN_MODELS"
