"""Broken answers, pages of proxies and odd statuses are faults of the way: survived, or named as such."""

from __future__ import annotations

import pytest

import glowgenius as gg
from glowgenius.engines.errors import translate
from glowgenius.errors import EngineError, RequestRejectedError, ServiceUnavailableError
from glowgenius.testing import ScriptedService
from tests.engines.contract import batch
from tests.support.training import HELD_OUT, TOKENIZER, TRAIN, trainer
from tests.wire.faults import Fault
from tests.wire.sdk import SECONDS, connected, fresh_client, scripted_server, submit_step
from tests.wire.server import WireServer

PAGE = b"<html><head><title>Bad Gateway</title></head></html>"
BROKEN = {
    "nothing": {"body": b""},
    "a page": {"body": PAGE, "content_type": "text/html"},
    "a page said to be JSON": {"body": PAGE},
    "text": {"body": b"OK", "content_type": "text/plain"},
    "null": {"body": b"null"},
    "a list": {"body": b"[]"},
    "a number": {"body": b"5"},
    "a string": {"body": b'"ok"'},
    "an empty object": {"body": b"{}"},
    "nulls": {"body": b'{"request_id": null, "model_id": null, "path": null, "metrics": null}'},
    "half of it": {"body": b'{"request_id": "a'},
    "no UTF-8": {"body": b'{"request_id": "\xff\xfe"}'},
    "a number too long": {"body": b'{"request_id": ' + b"9" * 5000 + b"}"},
    "nested too deep": {"body": b"[" * 100_000},
    **{f"status {code}": {"status": code, "body": b""} for code in (204, 304, 405, 407, 421, 425, 451, 499)},
    **{
        f"a page with status {code}": {"status": code, "body": PAGE, "content_type": "text/html"}
        for code in (301, 403, 404)
    },
}
"""What the SDK does not try again by itself."""


@pytest.mark.parametrize("kind", ["forward_backward", "retrieve_future"])
def test_whatever_is_no_answer_of_the_service_is_worth_a_restart(kind):
    found = {}
    with scripted_server() as server, connected(server) as service:
        for name, reply in BROKEN.items():
            client = fresh_client(service)
            server.faults.inject(Fault(kind=kind, action="reply", **{"status": 200, **reply}))
            with pytest.raises(Exception) as caught:  # noqa: PT011 - of any class
                client.forward_backward(batch(0), "cross_entropy").result(timeout=SECONDS)
            found[name] = type(translate(caught.value))
    expected = dict.fromkeys(BROKEN, ServiceUnavailableError)
    if kind == "retrieve_future":
        # A JSON object where bytes are expected is what a server older than the SDK sends, each time anew.
        expected |= dict.fromkeys(("an empty object", "nulls"), EngineError)
    assert found == expected


@pytest.mark.parametrize("reply", [{"status": 200, "body": b'{"req', "missing": 50}, {"status": 526, "body": PAGE}])
def test_a_connection_that_breaks_and_a_gateway_that_fails_are_tried_again(reply):
    with scripted_server(faults=[Fault(kind="optim_step", action="reply", **reply)]) as server:
        with connected(server) as service:
            client = fresh_client(service)
            for future in submit_step(client, 0):
                future.result(timeout=SECONDS)
        assert len(server.faults.fired) == 1


def test_a_request_that_is_too_large_is_refused_with_what_to_do():
    fault = Fault(kind="forward_backward", action="reply", status=413, body=PAGE, content_type="text/html")
    with scripted_server(faults=[fault]) as server, connected(server) as service:
        with pytest.raises(Exception) as caught:  # noqa: PT011 - of any class
            submit_step(fresh_client(service), 0)[0].result(timeout=SECONDS)
        ours = translate(caught.value)
    assert type(ours) is RequestRejectedError
    assert "a smaller batch_size or max_length" in str(ours)


def attempt(service):
    """The losses of a run, or the class of the error that ended it."""
    callbacks = [gg.SampleLogger(["Q1?"], show=False)]
    run = trainer(service, callbacks=callbacks, max_steps=4, eval_every=2, save_every=2)
    try:
        result = run.train(TRAIN, HELD_OUT)
    except EngineError as error:
        return type(error)
    return [{name: row[name] for name in row if "loss" in name} for row in result.history.rows]


PLACES = {
    "forward": 2,
    "forward_backward": 3,
    "optim_step": 3,
    "retrieve_future": 9,
    "retrieve_future:optim_step": 3,
    "save_weights": 1,
    "save_weights_for_sampler": 2,
    "asample": 2,
    "create_model": 1,
    "get_server_capabilities": 1,
    "get_info": 1,
    "create_session": 1,
    "create_sampling_session": 1,
}
"""Every kind of request of a run, and which of them goes wrong."""

BEFORE = {"create_session"}
"""What belongs to the connection, and not to a run."""


@pytest.mark.parametrize("reply", ["null", "half of it", "an empty object"])
def test_a_run_goes_on_as_if_nothing_had_been(reply):
    whole = attempt(ScriptedService(tokenizer=TOKENIZER))
    assert len(whole) == 5
    with WireServer(ScriptedService(tokenizer=TOKENIZER)) as server:
        for kind, nth in PLACES.items():
            with connected(server) as service:
                fault = Fault(kind=kind, nth=nth, action="reply", **{"status": 200, **BROKEN[reply]})
                server.faults.inject(fault)
                outcome = attempt(service)
                # A connection that cannot be made is said as what it is.
                assert outcome == whole or (outcome is ServiceUnavailableError and kind in BEFORE), kind
