"""`glowgenius env`: what is installed here, and which engine would train."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import Any, Final

from glowgenius.cli.common import JSONOption, print_json, say, verb

_PACKAGES: Final = (
    "glowgenius",
    "tinker",
    "transformers",
    "torch",
    "numpy",
    "attrs",
    "typer",
    "rich",
    "peft",
    "rensa",
    "tensorboard",
    "wandb",
    "mlflow-skinny",
    "trackio",
)


@verb
def env(*, as_json: JSONOption = False) -> int:
    """Say what is installed, which engine would train and why, and where models are kept; for reports of errors.

    Whether there is a key is said, the key is not.

    Example: `glowgenius env --json`
    """
    from glowgenius.errors import GlowGeniusError
    from glowgenius.models.catalog import cache_directory
    from glowgenius.training.connection import connect

    try:
        connection = connect()
        engine, usable = str(connection).removeprefix("engine: "), True
        detail: Any = connection.service
        where = f"{detail.device}, {detail.dtype}" if connection.engine == "local" else "over the network"
    except GlowGeniusError as error:
        engine, usable, where = str(error), False, "nowhere"
    versions = {name: _version(name) for name in _PACKAGES}
    found = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "engine": engine,
        "engine_usable": usable,
        "computes_on": where,
        "tinker_api_key": "set" if os.environ.get("TINKER_API_KEY") else "not set",
        "model_cache": str(cache_directory()),
        "packages": versions,
    }
    if as_json:
        print_json(found)
        return 0
    for name, value in found.items():
        if name != "packages":
            say(f"{name}: {value}", as_json=False)
    for name, version in versions.items():
        say(f"{name}: {version or 'not installed'}", as_json=False)
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
