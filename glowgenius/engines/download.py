"""Weights that are on the service, as files on this machine."""

from __future__ import annotations

import shutil
import urllib.request
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from glowgenius._output import logger
from glowgenius.engines import tinker_types as tinker
from glowgenius.engines.errors import mapped
from glowgenius.errors import CheckpointError, ServiceUnavailableError

if TYPE_CHECKING:
    from glowgenius.engines.protocol import ServiceClient

EXPORT_SECONDS: Final = 3600
"""How long the service keeps an export that could not be deleted; the least that it accepts."""

SILENCE_SECONDS: Final = 60
"""After so long without a byte a download has failed."""

_LOG = logger("glowgenius.engines")


def download_adapter(service: ServiceClient | None, state_path: str, directory: Path) -> None:
    """Let the service export the adapter of a saved state, and fetch its files into *directory*.

    The SDK exports through a training client, so a run is made from the state; the export is deleted behind it.

    Args:
        service: Where the state is.
        state_path: What `save_state` returned. Weights for sampling cannot be exported.
        directory: An empty folder.

    Raises:
        CheckpointError: *service* is not Tinker's, or what it gives out is no adapter.
        EngineError: The service refused or failed.
    """
    if not isinstance(service, tinker.ServiceClient):
        raise CheckpointError(
            f"the weights are on the service, at {state_path}; fetch them in PEFT's format with: "
            f"tinker checkpoint download {state_path}"
        )
    with mapped(f"export of {state_path}"):
        client = service.create_training_client_from_state(state_path).result()
        rest = tinker.RestClient(client.holder)
        exported = client.save_weights_external("adapter", ttl_seconds=EXPORT_SECONDS).result().path
        try:
            urls = rest.get_external_weights_urls(exported).result().urls
            for name, target in _targets(urls, directory).items():
                _fetch(urls[name], target)
        finally:
            try:
                rest.delete_checkpoint_from_tinker_path(exported).result()
            except Exception as error:  # noqa: BLE001 - it goes by itself
                _LOG.warning("the export %s could not be deleted and expires in an hour: %s", exported, error)


def _targets(urls: dict[str, str], directory: Path) -> dict[str, Path]:
    """Where each file goes; a name that leads out of the folder is refused before anything is fetched."""
    targets: dict[str, Path] = {}
    for name in sorted(urls):
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or "\\" in name or ":" in name:
            raise CheckpointError(f"the export names a file outside of its folder, {name!r}; nothing was fetched")
        targets[name] = directory.joinpath(*path.parts)
    return targets


def _fetch(url: str, target: Path) -> None:
    if not url.startswith(("https://", "http://")):
        raise CheckpointError("the export has an address that is neither https nor http; nothing was fetched from it")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        # The scheme was checked; the address is signed, so it stays out of messages.
        with urllib.request.urlopen(url, timeout=SILENCE_SECONDS) as answer, target.open("wb") as file:  # noqa: S310
            shutil.copyfileobj(answer, file)
    except OSError as error:
        raise ServiceUnavailableError(f"{target.name} could not be downloaded: {error}; try again") from None
