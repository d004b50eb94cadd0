"""`glowgenius env`: what is installed here, and which engine would train."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from glowgenius.cli.common import JSONOption, print_json, say, verb

if TYPE_CHECKING:
    from pathlib import Path

ClearOption = Annotated[bool, typer.Option("--clear-cache", help="Remove what the cache holds.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

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
def env(*, clear_cache: ClearOption = False, yes: YesOption = False, as_json: JSONOption = False) -> int:
    """Say what is installed, which engine would train and why, and what the cache holds; for reports of errors.

    Whether there is a key is said, the key is not.

    `--clear-cache` removes what the cache holds: converted models, which are made again when they are needed, and
    checkpoints of scripts that named no folder for them, which are not. It says how much that is, and asks.

    Example: `glowgenius env --json`
    """
    if clear_cache:
        return _clear(yes=yes, as_json=as_json)
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
        "cache": _cached(),
        "packages": versions,
    }
    if as_json:
        print_json(found)
        return 0
    for name, value in found.items():
        if name not in {"packages", "cache"}:
            say(f"{name}: {value}", as_json=False)
    for part in _cached():
        say(f"cache: {_size(part['bytes'])} in {part['path']}", as_json=False)
    for name, version in versions.items():
        say(f"{name}: {version or 'not installed'}", as_json=False)
    return 0


def _cached() -> list[dict[str, Any]]:
    """What the library keeps in the cache, with what it takes."""
    from glowgenius.engines.process import cached

    return [{"path": str(part), "bytes": _bytes(part)} for part in cached()]


def _bytes(part: Path) -> int:
    """What *part* takes; what a link leads to is not counted."""
    return sum(file.lstat().st_size for file in part.rglob("*") if file.is_symlink() or not file.is_dir())


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def _clear(*, yes: bool, as_json: bool) -> int:
    """Remove what the cache holds, but not what a running process has in it."""
    from glowgenius.engines.process import clear_cache
    from glowgenius.models.catalog import cache_directory

    root, before = cache_directory(), _cached()
    for part in before:
        say(f"{_size(part['bytes'])} in {part['path']}", as_json=as_json)
    total = sum(part["bytes"] for part in before)
    if before and not yes and not typer.confirm(f"Remove {_size(total)} from {root}?", default=False, err=True):
        return 1
    removed = clear_cache()
    freed = total - sum(part["bytes"] for part in _cached())
    if as_json:
        print_json({"removed": [str(part) for part in removed], "bytes": freed})
    else:
        say(f"removed {_size(freed)} from {root}", as_json=False)
    return 0


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
