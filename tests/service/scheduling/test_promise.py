"""A task that waits for a promise goes on as soon as it is told, and in every other respect as with a future."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable

import pytest
from event_loops import run, run_without_collector

from service.scheduling.promise import Promise


async def waiting(promise: Promise[str]) -> "asyncio.Task[str]":
    """A task that waits for it."""

    async def work() -> str:
        return await promise

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    return task


def told_in_a_turn(promise: Promise[str], tell: Callable[[], None], task: "asyncio.Task[str]") -> Awaitable[bool]:
    """Whether the task was over right after the promise was told, in the same turn of the loop."""
    over: asyncio.Future[bool] = promise.get_loop().create_future()

    def work() -> None:
        tell()
        over.set_result(task.done())

    promise.get_loop().call_soon(work)
    return over


def test_its_task_goes_on_in_the_turn_in_which_it_is_told() -> None:
    async def scenario() -> None:
        promise: Promise[str] = Promise(asyncio.get_running_loop())
        task = await waiting(promise)
        assert await told_in_a_turn(promise, lambda: promise.tell("mask"), task)
        assert task.result() == "mask"

    run(scenario)


def test_an_error_is_raised_where_the_task_waits() -> None:
    async def scenario() -> None:
        promise: Promise[str] = Promise(asyncio.get_running_loop())
        task = await waiting(promise)
        assert await told_in_a_turn(promise, lambda: promise.fail(ValueError("expected better")), task)
        with pytest.raises(ValueError, match="expected better"):
            task.result()

    run(scenario)


def test_what_was_told_before_is_there_at_once() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        good: Promise[str] = Promise(loop)
        good.tell("mask")
        assert await good == "mask"
        bad: Promise[str] = Promise(loop)
        bad.fail(ValueError("expected better"))
        with pytest.raises(ValueError, match="expected better"):
            await bad

    run(scenario)


def test_the_first_that_is_told_counts() -> None:
    async def scenario() -> None:
        promise: Promise[str] = Promise(asyncio.get_running_loop())
        promise.tell("first")
        promise.tell("second")
        promise.fail(ValueError("third"))
        assert await promise == "first"

    run(scenario)


def test_a_task_that_is_cancelled_waits_no_longer_and_what_is_told_then_is_nobodys() -> None:
    async def scenario() -> None:
        promise: Promise[str] = Promise(asyncio.get_running_loop())
        task = await waiting(promise)
        task.cancel()
        promise.tell("mask")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert promise.is_done

    run(scenario)


def test_a_promise_that_nobody_waits_for_any_more_tells_nothing() -> None:
    async def scenario() -> None:
        promise: Promise[str] = Promise(asyncio.get_running_loop())
        promise.leave()
        promise.fail(ValueError("to nobody"))
        assert promise.is_done

    run(scenario)


def test_told_from_within_another_task_it_lets_its_own_go_on_in_the_next_turn() -> None:
    async def scenario() -> None:
        promise: Promise[str] = Promise(asyncio.get_running_loop())
        task = await waiting(promise)
        promise.tell("mask")
        assert not task.done()
        assert await task == "mask"

    run(scenario)


def test_an_error_that_was_raised_does_not_keep_what_its_traceback_knows() -> None:
    class Model:
        pass

    async def scenario() -> None:
        async def work(promise: Promise[str], model: Model) -> None:
            with pytest.raises(ValueError, match="expected better"):
                await promise
            assert model

        model = Model()
        known = weakref.ref(model)
        promise: Promise[str] = Promise(asyncio.get_running_loop())
        task = asyncio.create_task(work(promise, model))
        del model
        await asyncio.sleep(0)
        promise.get_loop().call_soon(promise.fail, ValueError("expected better"))
        await task
        del task
        assert known() is None

    run_without_collector(scenario)
