"""Tiny models, written once for the whole session, and services on them."""

from __future__ import annotations

import functools

import pytest

from tests.support.tiny_models import write_tiny_model

pytest.importorskip("torch")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    """The folder of a tiny model, by architecture."""

    @functools.cache
    def write(architecture):
        return write_tiny_model(tmp_path_factory.mktemp(architecture), architecture)

    return lambda architecture="llama": write(architecture)


@pytest.fixture
def make_service(tmp_path):
    """Makes services whose checkpoints lie in the test's own folder; they are closed at its end."""
    from glowgenius.local import ServiceClient

    made = []

    def make(**settings):
        made.append(ServiceClient(checkpoint_directory=tmp_path / "checkpoints", device="cpu", **settings))
        return made[-1]

    yield make
    for service in made:
        service.close().result(timeout=60)


@pytest.fixture
def service(make_service):
    return make_service()


@pytest.fixture
def train_on(service, tiny):
    """Makes a client that trains a fresh adapter."""

    def make(architecture="llama", *, rank=4, seed=0, **settings):
        return service.create_lora_training_client(str(tiny(architecture)), rank=rank, seed=seed, **settings).result()

    return make


@pytest.fixture
def sample_on(service, tiny):
    """Makes a client that samples from a tiny model as it is."""
    return lambda architecture="llama": service.create_sampling_client(base_model=str(tiny(architecture))).result()
