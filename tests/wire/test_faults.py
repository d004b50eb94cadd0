"""What the SDK makes of each fault, and that the server does what its faults say."""

from __future__ import annotations

import time

import pytest
import tinker

from glowgenius.engines.errors import translate
from glowgenius.engines.offered import settle_place
from glowgenius.errors import RequestRejectedError, ServiceUnavailableError
from tests.engines.contract import batch
from tests.wire.faults import Fault, Faults
from tests.wire.runs import Update, fingerprint
from tests.wire.sdk import SECONDS, connected, fresh_client, scripted_server, submit_step, train


def expected(steps):
    """The history of an undisturbed run."""
    return [Update((fingerprint(batch(seed)),), 1e-3 * (seed + 1)) for seed in range(steps)]


ABSORBED = [
    *(Fault(kind="forward_backward", nth=2, times=2, action="status", status=s) for s in (408, 409, 429, 500, 503)),
    Fault(kind="optim_step", nth=2, times=2, action="status", status=503),
    Fault(kind="retrieve_future", nth=3, times=3, action="status", status=503),
    Fault(kind="retrieve_future:optim_step", nth=2, action="status", status=429),
    Fault(kind="forward_backward", nth=2, action="drop"),
    Fault(kind="optim_step", nth=2, action="drop"),
    Fault(kind="retrieve_future", nth=4, action="drop"),
    Fault(kind="forward_backward", nth=2, action="lose_reply"),
    Fault(kind="optim_step", nth=2, action="lose_reply"),
    Fault(kind="retrieve_future:optim_step", nth=2, action="lose_reply"),
    Fault(kind="optim_step", nth=2, action="hang", seconds=0.3),
]


@pytest.mark.parametrize("fault", ABSORBED, ids=lambda fault: f"{fault.kind} {fault.action} {fault.status}")
def test_what_the_sdk_absorbs_is_done_once(fault):
    with scripted_server(faults=[fault]) as server, connected(server) as service:
        client = fresh_client(service)
        assert len(train(client, 4)) == 4
        assert server.faults.fired == (fault,) * fault.times
        assert server.backend.histories[client.model_id].history == expected(4)


@pytest.mark.parametrize(
    ("category", "kind"),
    [("server", ServiceUnavailableError), ("user", RequestRejectedError), ("unknown", ServiceUnavailableError)],
)
def test_an_update_is_made_although_its_gradient_failed(category, kind):
    fault = Fault(kind="forward_backward", nth=2, action="fail", category=category, message="out of memory")
    with scripted_server(faults=[fault]) as server, connected(server) as service:
        client = fresh_client(service)
        steps = [submit_step(client, seed) for seed in range(3)]
        with pytest.raises(tinker.RequestFailedError, match="out of memory") as info:
            steps[1][0].result(timeout=SECONDS)
        assert type(translate(info.value)) is kind
        for _, update in steps:
            update.result(timeout=SECONDS)
        batches = [update.batches for update in server.backend.histories[client.model_id].history]
        assert batches == [(fingerprint(batch(0)),), (), (fingerprint(batch(2)),)]


def test_a_refused_operation_does_not_hold_up_those_behind_it():
    fault = Fault(kind="forward_backward", nth=1, action="status", status=422, message="no")
    with scripted_server(faults=[fault]) as server, connected(server) as service:
        client = fresh_client(service)
        gradient, update = submit_step(client, 0)
        with pytest.raises(tinker.UnprocessableEntityError):
            gradient.result(timeout=SECONDS)
        update.result(timeout=SECONDS)


def test_after_a_restart_runs_are_gone_and_checkpoints_are_not():
    with scripted_server() as server, connected(server) as service:
        client = fresh_client(service)
        train(client, 2)
        path = client.save_state("here").result(timeout=SECONDS).path
        server.restart()
        gradient, update = submit_step(client, 2)
        for future in (gradient, update):
            with pytest.raises(tinker.NotFoundError, match="there is no training run 'session-0:train:0'"):
                future.result(timeout=SECONDS)
        resumed = service.create_training_client_from_state_with_optimizer(path).result(timeout=SECONDS)
        for future in submit_step(resumed, 2):
            future.result(timeout=SECONDS)
        assert resumed.model_id != client.model_id
        assert server.backend.histories[resumed.model_id].history == expected(3)


def test_a_restart_under_way_is_an_error_and_no_hang():
    fault = Fault(kind="retrieve_future:forward_backward", nth=2, action="restart", seconds=0.2)
    with scripted_server(faults=[fault]) as server, connected(server) as service:
        client = fresh_client(service)
        train(client, 1)
        began = time.monotonic()
        gradient, _ = submit_step(client, 1)
        with pytest.raises(Exception, match="Promise expired") as info:
            gradient.result(timeout=SECONDS)
        assert isinstance(translate(info.value), ServiceUnavailableError)
        assert time.monotonic() - began < SECONDS


def test_weights_to_sample_from_are_overtaken_unless_their_place_is_settled():
    with scripted_server() as server, connected(server) as service:
        client = fresh_client(service)
        saves = []
        for seed in range(12):
            submit_step(client, seed)
            saves.append(client.save_weights_for_sampler(f"step-{seed + 1}"))
            settle_place(client, saves[-1])
        paths = [save.result(timeout=SECONDS).path for save in saves]
        assert [len(server.backend.saved[path].history) for path in paths] == list(range(1, 13))


def test_faults_count_from_when_they_were_injected():
    faults = Faults([Fault(kind="a", nth=2, times=2, action="drop")])
    found = [faults.due("a"), faults.due("b"), faults.due("a"), faults.due("b", "a"), faults.due("a")]
    assert [fault is not None for fault in found] == [False, False, True, True, False]
    faults.inject(Fault(kind="b", action="hang"))
    assert [fault and fault.action for fault in (faults.due("b"), faults.due("b"))] == ["hang", None]
    assert [fault.action for fault in faults.fired] == ["drop", "drop", "hang"]


@pytest.mark.parametrize("wrong", [{"nth": 0}, {"times": 0}, {"seconds": -1}, {"seconds": 3600}])
def test_faults_are_bounded(wrong):
    with pytest.raises(ValueError, match="must be"):
        Fault(kind="a", action="hang", **wrong)
