"""The server itself: the order of a model, promises, and what is left when it is closed."""

from __future__ import annotations

import http.client
import json
import threading

import pytest
import tinker
from tinker.proto.request_conv import forward_backward_request_to_proto
from tinker.types import ForwardBackwardInput, ForwardBackwardRequest

from glowgenius.engines.offered import OfferQuestion
from tests.engines.contract import batch
from tests.wire.codec import read_forward_backward
from tests.wire.runs import fingerprint
from tests.wire.sdk import MODEL, connected, fresh_client, scripted_server, submit_step, train


class Raw:
    """HTTP without the SDK."""

    def __init__(self, server):
        self.connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rsplit(":", 1)[1]), timeout=30)
        self.headers = {"X-API-Key": server.api_key}

    def post(self, endpoint, content=None, body=None, **headers):
        data = json.dumps(content or {}).encode() if body is None else body
        self.connection.request("POST", f"/api/v1/{endpoint}", body=data, headers={**self.headers, **headers})
        response = self.connection.getresponse()
        return response.status, response.getheader("Content-Type"), response.read()

    def json(self, endpoint, content=None):
        status, _, body = self.post(endpoint, content)
        assert status == 200, body
        return json.loads(body)

    def model(self):
        session = self.json("create_session")["session_id"]
        promise = self.json(
            "create_model",
            {"session_id": session, "model_seq_id": 0, "base_model": MODEL, "lora_config": {"rank": 4, "seed": 0}},
        )
        return self.json("retrieve_future", promise)["model_id"]

    def forward_backward(self, model_id, seq_id, seed, *, forward_only=False):
        request = ForwardBackwardRequest(
            forward_backward_input=ForwardBackwardInput(data=batch(seed), loss_fn="cross_entropy"),
            model_id=model_id,
            seq_id=seq_id,
        )
        message = forward_backward_request_to_proto(request)
        message.forward_only = forward_only
        return json.loads(self.post("forward_backward", body=message.SerializeToString())[2])

    def optim_step(self, model_id, seq_id, rate):
        return self.json("optim_step", {"model_id": model_id, "seq_id": seq_id, "adam_params": {"learning_rate": rate}})


@pytest.fixture
def server():
    with scripted_server(poll_seconds=0.2) as server:
        yield server


@pytest.fixture
def raw(server):
    raw = Raw(server)
    yield raw
    raw.connection.close()


def test_operations_are_done_in_the_order_of_their_numbers(server, raw):
    model_id = raw.model()
    promises = [
        raw.optim_step(model_id, 4, 0.2),
        raw.forward_backward(model_id, 3, 1),
        raw.optim_step(model_id, 2, 0.1),
    ]
    # Nothing is done before number 1 is there, and whoever asks is told to come again.
    status, _, body = raw.post("retrieve_future", promises[0])
    assert (status, json.loads(body)) == (
        408,
        {"type": "try_again", "request_id": promises[0]["request_id"], "queue_state": "active"},
    )
    promises.append(raw.forward_backward(model_id, 1, 0))
    assert [raw.post("retrieve_future", promise)[0] for promise in promises] == [200] * 4
    history = server.backend.histories[model_id].history
    assert [(update.batches, update.learning_rate) for update in history] == [
        ((fingerprint(batch(0)),), 0.1),
        ((fingerprint(batch(1)),), 0.2),
    ]


def test_an_operation_that_is_sent_twice_is_done_once(server, raw):
    model_id = raw.model()
    first = [raw.forward_backward(model_id, 1, 0), raw.optim_step(model_id, 2, 0.1)]
    assert [raw.forward_backward(model_id, 1, 0), raw.optim_step(model_id, 2, 0.1)] == first
    assert len(server.backend.histories[model_id].history) == 1


def test_a_forward_leaves_no_gradient(server, raw):
    model_id = raw.model()
    raw.forward_backward(model_id, 1, 0, forward_only=True)
    raw.optim_step(model_id, 2, 0.1)
    assert server.requests[-2:] == ["forward", "optim_step"]
    assert [update.batches for update in server.backend.histories[model_id].history] == [()]


def test_results_with_arrays_are_protobuf_and_others_are_json(raw):
    model_id = raw.model()
    promises = [raw.forward_backward(model_id, 1, 0), raw.optim_step(model_id, 2, 0.1)]
    kinds = [raw.post("retrieve_future", promise)[1] for promise in promises]
    assert kinds == ["application/x-protobuf", "application/json"]


def test_a_batch_arrives_as_it_was_sent():
    request = ForwardBackwardRequest(
        forward_backward_input=ForwardBackwardInput(data=batch(3), loss_fn="cross_entropy"), model_id="m", seq_id=5
    )
    read = read_forward_backward(forward_backward_request_to_proto(request).SerializeToString())
    assert (read.model_id, read.seq_id, read.loss_fn, read.loss_fn_config, read.forward_only) == (
        "m",
        5,
        "cross_entropy",
        None,
        False,
    )
    for found, sent in zip(read.data, batch(3), strict=True):
        assert found.model_input.to_ints() == sent.model_input.to_ints()
        for name in ("target_tokens", "weights"):
            assert found.loss_fn_inputs[name].tolist() == sent.loss_fn_inputs[name].tolist()
            assert found.loss_fn_inputs[name].dtype == sent.loss_fn_inputs[name].dtype


@pytest.mark.parametrize(
    ("endpoint", "body", "status", "detail"),
    [
        ("no_such_thing", b"{}", 404, "this server has no endpoint 'no_such_thing'"),
        ("forward_backward", b'{"model_id": "m"}', 400, "not a ForwardBackwardRequest"),
        ("optim_step", b"{broken", 400, "Expecting property name"),
        ("get_info", b'{"model_id": "m"}', 404, "there is no training run 'm'"),
        ("retrieve_future", b'{"request_id": "r"}', 410, "the promise 'r' is gone"),
    ],
)
def test_what_cannot_be_served_is_answered_by_a_status(raw, endpoint, body, status, detail):
    found, _, said = raw.post(endpoint, body=body)
    assert found == status
    assert json.loads(said)["detail"].startswith(detail)


def test_another_key_is_not_let_in(server, raw):
    raw.headers = {"X-API-Key": "tml-another"}
    assert raw.post("create_session")[0] == 401
    assert server.requests == []


def test_chunks_of_one_batch_are_one_gradient():
    with scripted_server(config={"fwdbwd_max_chunk_len": 1}) as server, connected(server) as service:
        client = fresh_client(service)
        losses = train(client, 2)
        assert server.requests.count("forward_backward") == 8
        history = server.backend.histories[client.model_id].history
        assert [update.batches for update in history] == [
            tuple(fingerprint([datum]) for datum in batch(seed)) for seed in range(2)
        ]
    with scripted_server() as server, connected(server) as service:
        assert train(fresh_client(service), 2) == pytest.approx(losses)


def test_bodies_may_be_compressed():
    with scripted_server(config={"proto_compress_fwdbwd": True}) as server, connected(server) as service:
        losses = train(fresh_client(service), 2)
    with scripted_server() as server, connected(server) as service:
        assert train(fresh_client(service), 2) == losses


def test_the_models_are_listed():
    with scripted_server() as server:
        service = tinker.ServiceClient(base_url=server.url, api_key=server.api_key)
        assert [model.name for model in OfferQuestion(service).answer().models] == [MODEL]


def test_nothing_is_left_of_a_closed_server():
    before = set(threading.enumerate())
    with scripted_server() as server:
        with connected(server) as service:
            client = fresh_client(service)
            train(client, 2)
        # Somebody who still waits for an answer does not keep it open.
        raw = Raw(server)
        model_id = raw.model()
        promise = raw.optim_step(model_id, 2, 0.1)
        failures = []

        def wait():
            try:
                failures.append(raw.post("retrieve_future", promise)[0])
            except (OSError, http.client.HTTPException) as error:
                failures.append(type(error))

        waiting = threading.Thread(target=wait)
        waiting.start()
    waiting.join(20)
    raw.connection.close()
    assert len(failures) == 1
    mine = [thread for thread in set(threading.enumerate()) - before if "asyncio" not in thread.name]
    assert [thread.name for thread in mine if "_background_thread_func" not in thread.name] == []


def test_submitting_is_not_waiting():
    with scripted_server() as server, connected(server) as service:
        client = fresh_client(service)
        gradient, update = submit_step(client, 0)
        assert update.result(timeout=60) is not None
        assert gradient.result(timeout=60).metrics["loss:sum"] > 0
