"""The real SDK at the other end of the wire, and small steps to train with."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

import tinker

from glowgenius.engines.sdk import adapted
from glowgenius.testing import ScriptedService
from tests.engines.contract import batch
from tests.wire.server import WireServer

if TYPE_CHECKING:
    from collections.abc import Generator

MODEL = "scripted-model"
SECONDS = 60
"""No wait of a test is longer."""


@contextmanager
def connected(server: WireServer) -> Generator[tinker.ServiceClient]:
    """A session of the SDK with *server*, closed at the end."""
    service = adapted(tinker.ServiceClient(base_url=server.url, api_key=server.api_key))
    try:
        yield service
    finally:
        service.close("success").result(timeout=SECONDS)


@contextmanager
def scripted_server(**options) -> Generator[WireServer]:
    """A server in front of a scripted service with one model."""
    with WireServer(ScriptedService(models=(MODEL,)), models=(MODEL,), **options) as server:
        yield server


def fresh_client(service: tinker.ServiceClient) -> tinker.TrainingClient:
    """A new adapter."""
    return service.create_lora_training_client(MODEL, rank=4, seed=0).result(timeout=SECONDS)


def submit_step(client: tinker.TrainingClient, seed: int):
    """A gradient and an update, both on their way."""
    gradient = client.forward_backward(batch(seed), "cross_entropy")
    return gradient, client.optim_step(tinker.AdamParams(learning_rate=1e-3 * (seed + 1)))


def train(client: tinker.TrainingClient, steps: int) -> list[float]:
    """The loss of each of *steps* steps, all of them submitted before the first is waited for."""
    submitted = [submit_step(client, seed) for seed in range(steps)]
    losses = []
    for gradient, update in submitted:
        losses.append(gradient.result(timeout=SECONDS).metrics["loss:sum"])
        update.result(timeout=SECONDS)
    return losses
