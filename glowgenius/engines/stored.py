"""What an engine has stored: checkpoints that are deleted again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from glowgenius.engines import tinker_types as tinker
from glowgenius.engines.protocol import SupportsDeletion

if TYPE_CHECKING:
    from glowgenius.engines.protocol import FutureLike, TrainingClient


def delete_checkpoint(client: TrainingClient, path: str) -> FutureLike[None] | None:
    """Delete what `save_state` or `save_weights_for_sampler` has stored at *path*.

    Returns:
        The deletion, under way; None where the engine offers none.
    """
    if isinstance(client, tinker.TrainingClient):
        # Over the client's own connection: a RestClient of its own would ask the environment for a key, which need not
        # be that of the service.
        return tinker.RestClient(client.holder).delete_checkpoint_from_tinker_path(path)
    return client.delete_checkpoint(path) if isinstance(client, SupportsDeletion) else None
