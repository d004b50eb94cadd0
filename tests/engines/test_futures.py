"""Futures of the engines in this process."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

import pytest

from glowgenius.engines.tinker_types import APIFuture, EngineFuture, completed, failed


def test_a_completed_future_gives_its_value_in_every_way():
    future = completed(3)

    async def ask():
        return [await future, await future.result_async(), await future.result_async(1.0), await future.coroutine()]

    assert isinstance(future, APIFuture)
    assert future.result() == future.result(0.0) == future.future().result() == 3
    assert asyncio.run(ask()) == [3, 3, 3, 3]


def test_a_failed_future_raises_its_error_in_every_way():
    error = ValueError("no")
    future = failed(error)

    async def ask():
        await future

    for call in (future.result, future.future().result, lambda: asyncio.run(ask())):
        with pytest.raises(ValueError, match=r"^no$") as info:
            call()
        assert info.value is error


def test_a_result_that_comes_from_another_thread_is_awaited():
    release = threading.Event()

    async def ask(future):
        waiting = asyncio.ensure_future(future.coroutine())
        await asyncio.sleep(0)
        assert not waiting.done()
        release.set()
        return await waiting

    with ThreadPoolExecutor(1) as pool:
        assert asyncio.run(ask(EngineFuture(pool.submit(lambda: release.wait(5) and "late")))) == "late"


def test_one_future_serves_several_loops():
    inner: Future[int] = Future()
    future = EngineFuture(inner)
    inner.set_result(7)

    async def ask():
        return await asyncio.gather(future, future)

    assert [asyncio.run(ask()), asyncio.run(ask())] == [[7, 7], [7, 7]]


def test_giving_up_on_the_wait_does_not_cancel_the_operation():
    inner: Future[int] = Future()
    future = EngineFuture(inner)

    async def give_up():
        with pytest.raises(TimeoutError):
            await future.result_async(0.001)
        task = asyncio.create_task(future.coroutine())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(give_up())
    with pytest.raises(TimeoutError):
        future.result(0.001)
    assert not inner.cancelled()
    # Both loops are gone by now: their wake-up calls lead nowhere, and say nothing.
    inner.set_result(1)
    assert future.result() == 1


def test_a_cancelled_operation_is_an_error_and_no_cancellation_of_the_caller():
    inner: Future[int] = Future()
    inner.cancel()

    async def ask():
        await EngineFuture(inner)

    with pytest.raises(CancelledError):
        asyncio.run(ask())


@pytest.mark.filterwarnings("error")
def test_a_failure_that_nobody_awaits_is_silent(caplog, capfd):
    failed(ValueError("unseen"))

    async def forget():
        task = asyncio.create_task(failed(ValueError("unseen")).coroutine())
        await asyncio.sleep(0)
        task.cancel()

    asyncio.run(forget())
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_future_shows_its_state():
    inner: Future[int] = Future()
    cancelled: Future[int] = Future()
    cancelled.cancel()
    assert [
        repr(each) for each in (EngineFuture(inner), EngineFuture(cancelled), completed(1), failed(OSError("x")))
    ] == [
        "<EngineFuture: pending>",
        "<EngineFuture: cancelled>",
        "<EngineFuture: done>",
        "<EngineFuture: failed: OSError('x')>",
    ]
