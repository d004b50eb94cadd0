"""One thread, in the order of the calls."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import threading
import time
import weakref

import pytest

from glowgenius.errors import EngineError
from glowgenius.local.worker import Worker
from tests.support.source import ROOT

CLOSED = "the local service was closed; make a new glowgenius.local.ServiceClient()"


@pytest.fixture
def worker():
    made = Worker()
    yield made
    made.close().result(timeout=10)


def test_jobs_run_one_after_another_in_their_order(worker):
    done, threads = [], set()

    def job(number):
        threads.add(threading.get_ident())
        done.append(number)
        return number

    futures = [worker.submit(lambda number=number: job(number)) for number in range(50)]
    assert [future.result(timeout=10) for future in reversed(futures)] == list(reversed(range(50)))
    assert done == list(range(50))
    assert len(threads) == 1
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("error", [ValueError("broken"), KeyboardInterrupt("broken")])
def test_an_error_reaches_whoever_waits_and_nobody_else(worker, error):
    def broken():
        raise error

    failed, after = worker.submit(broken), worker.submit(lambda: "fine")
    with pytest.raises(type(error)) as caught:
        failed.result(timeout=10)
    assert caught.value is error
    assert after.result(timeout=10) == "fine"


def test_a_job_that_was_cancelled_in_the_queue_is_not_run(worker):
    gate, done = threading.Event(), []
    blocking = worker.submit(lambda: gate.wait(10))
    cancelled, after = worker.submit(lambda: done.append("cancelled")), worker.submit(lambda: done.append("after"))
    assert cancelled.future().cancel()
    gate.set()
    after.result(timeout=10)
    assert blocking.result(timeout=10)
    assert done == ["after"]


def test_closing_finishes_what_is_queued_and_refuses_the_rest():
    worker, gate, done = Worker(), threading.Event(), []
    worker.submit(lambda: gate.wait(10))
    for number in range(3):
        worker.submit(lambda number=number: done.append(number))
    closed = worker.close()
    assert not closed.future().done()
    with pytest.raises(EngineError) as caught:
        worker.submit(lambda: None)
    assert str(caught.value) == CLOSED
    gate.set()
    assert closed.result(timeout=10) is None
    assert done == [0, 1, 2]
    assert worker.close() is closed


def test_a_worker_without_work_starts_no_thread_and_closes_at_once():
    before = threading.active_count()
    worker = Worker()
    assert worker.close().future().done()
    assert threading.active_count() == before


def test_jobs_of_an_abandoned_worker_fail_so_that_nobody_waits_for_them(worker):
    begun, go = threading.Event(), threading.Event()

    def job():
        begun.set()
        go.wait(10)
        return "ended"

    running, waiting = worker.submit(job), worker.submit(lambda: "begun too late")
    begun.wait(10)
    worker.abandon()
    go.set()
    assert running.result(timeout=10) == "ended"
    with pytest.raises(EngineError, match="the program is ending"):
        waiting.result(timeout=10)
    worker.wait()


def test_a_program_that_ends_waits_for_the_running_job_and_no_other():
    program = """
import threading
import torch
from glowgenius.local.worker import Worker

begun = threading.Event()

def job():
    product = torch.rand(500, 500)
    begun.set()
    for _ in range(50):
        product = torch.mm(product, product) / 1000
    print("ended", flush=True)

worker = Worker()
worker.submit(job)
worker.submit(lambda: print("begun too late", flush=True))
begun.wait()
raise KeyboardInterrupt
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False)
    assert done.stdout == "ended\n"
    assert done.stderr.strip().endswith("KeyboardInterrupt")
    assert done.returncode in {1, -signal.SIGINT, 130}


def test_a_worker_that_is_dropped_takes_its_thread_along():
    before = threading.active_count()
    for _ in range(5):
        worker = Worker()
        assert worker.submit(lambda: 1).result(timeout=10) == 1
        thread = worker._thread
        del worker
        thread.join(10)
    assert threading.active_count() == before


def test_a_thread_that_waits_holds_nothing_of_what_it_did(worker):
    class Thing:
        pass

    def job(thing):
        return thing

    thing = Thing()
    held = weakref.ref(thing)
    assert worker.submit(lambda: "first").result(timeout=10) == "first"
    future = worker.submit(functools.partial(job, thing))
    assert future.result(timeout=10) is thing
    del thing, future
    assert wait_for(lambda: held() is None)


def wait_for(condition):
    """Whether it becomes true: a thread may need a moment to come back to its queue."""
    for _ in range(1000):
        if condition():
            return True
        time.sleep(0.01)
    return False


FORKS = {
    "worker": ("made.submit(lambda: 1).result()", "this client of the local engine belongs to process"),
    "new": ("Worker()", "the local engine, which has computed there before, belongs to process"),
    "future": ("waiting.result()", "this future belongs to process"),
}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("what", FORKS)
def test_a_fork_is_told_to_be_spawned_and_ends(what):
    call, expected = FORKS[what]
    program = f"""
import os, sys, threading
from glowgenius.errors import EngineError
from glowgenius.local.worker import Worker

made, gate, begun = Worker(), threading.Event(), threading.Event()
made.submit(lambda: (begun.set(), gate.wait(60)))
waiting = made.submit(lambda: 2)
begun.wait(60)
child = os.fork()
if not child:
    try:
        {call}
    except EngineError as error:
        print(error, flush=True)
    sys.exit(3)
_, status = os.waitpid(child, 0)
gate.set()
assert waiting.result(60) == 2
print(os.waitstatus_to_exitcode(status))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    said, code = done.stdout.splitlines()
    assert code == "3", done.stderr
    assert said.startswith(expected)
    assert said.endswith(
        "a fork has neither its threads nor its connections. Start processes with "
        'multiprocessing.get_context("spawn"), and make services, trainers and samplers inside of them'
    )
