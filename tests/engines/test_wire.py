"""The real SDK keeps the contract of an engine, over a server that speaks its protocol, as shipped and not patched."""

from __future__ import annotations

import pytest
import tinker

from glowgenius.engines.sdk import adapted
from glowgenius.testing import ScriptedService
from tests.engines.contract import Engine, EngineContract, batch
from tests.support.tiny_models import VOCABULARY_SIZE, write_tiny_model
from tests.wire.server import WireServer

WHOLE: dict[str, int] = {}
"""A batch is one request."""

CHUNKED = {"fwdbwd_max_chunk_len": 1}
"""Every datum is a request of its own, and the first one arrives last."""


def sdk(server):
    """What a user writes, with the address of a server."""
    return adapted(tinker.ServiceClient(base_url=server.url, api_key=server.api_key))


@pytest.fixture(scope="module")
def base_model(tmp_path_factory):
    pytest.importorskip("torch")
    return str(write_tiny_model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="module")
def local(base_model, tmp_path_factory):
    from glowgenius.local.service import ServiceClient

    service = ServiceClient(checkpoint_directory=tmp_path_factory.mktemp("checkpoints"), device="cpu")
    yield service
    service.close("success").result(timeout=60)


@pytest.fixture(scope="module")
def scripted_server():
    with WireServer(ScriptedService(models=("scripted-model",)), config=WHOLE) as server:
        yield server


@pytest.fixture(scope="module")
def local_server(local):
    with WireServer(local, config=CHUNKED) as server:
        yield server


@pytest.fixture(scope="module")
def scripted_service(scripted_server):
    service = sdk(scripted_server)
    yield service
    service.close("success").result(timeout=60)


@pytest.fixture(scope="module")
def local_service(local_server):
    service = sdk(local_server)
    yield service
    service.close("success").result(timeout=60)


class TestScriptedOverTheWire(EngineContract):
    @pytest.fixture
    def engine(self, scripted_server):
        return Engine(
            service=lambda: sdk(scripted_server),
            base_model="scripted-model",
            learning_rate=5e-4,
            shares_checkpoints=True,
        )

    @pytest.fixture
    def service(self, scripted_service):
        """One session for all tests: most of its time goes into making connections."""
        return scripted_service


class TestLocalOverTheWire(EngineContract):
    @pytest.fixture
    def engine(self, local_server, base_model):
        return Engine(
            service=lambda: sdk(local_server),
            base_model=base_model,
            learning_rate=3e-3,
            tolerance=1e-4,
            shares_checkpoints=True,
            vocabulary_size=VOCABULARY_SIZE,
        )

    @pytest.fixture
    def service(self, local_service):
        """One session for all tests, as above."""
        return local_service


def losses(service, base_model):
    """The losses of six steps, a resume among them, and the logprobs of the last."""
    client = service.create_lora_training_client(base_model, rank=4, seed=7).result(timeout=60)
    told = []
    for step in range(6):
        gradient = client.forward_backward(batch(step), "cross_entropy")
        client.optim_step(tinker.AdamParams(learning_rate=3e-3, eps=1e-8))
        told.append(gradient)
        if step == 2:
            path = client.save_state("middle").result(timeout=60).path
            client = service.create_training_client_from_state_with_optimizer(path).result(timeout=60)
    outputs = [gradient.result(timeout=60) for gradient in told]
    last = [row["logprobs"].to_numpy().tolist() for row in outputs[-1].loss_fn_outputs]
    return [output.metrics["loss:sum"] for output in outputs], last


def test_one_seed_gives_the_same_losses_in_this_process_and_over_the_wire(local, base_model):
    here = losses(local, base_model)
    with WireServer(local) as server:
        service = sdk(server)
        assert losses(service, base_model) == here
        service.close("success").result(timeout=60)
