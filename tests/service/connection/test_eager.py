"""Coroutines that begin at once: what they do before they wait, what comes after, and what becomes of a cancel."""

import asyncio
import weakref
from collections.abc import Awaitable, Coroutine
from contextvars import ContextVar
from typing import Any

import pytest
from event_loops import run, run_without_collector

from service.connection.eager import Routine, start
from service.scheduling.promise import Promise


def begun(work: Coroutine[Any, Any, object]) -> tuple[Routine, "asyncio.Future[BaseException | None]"]:
    """A routine that waits, and what it is going to end with."""
    loop = asyncio.get_running_loop()
    end: asyncio.Future[BaseException | None] = loop.create_future()
    routine = start(work, loop, lambda _, error: end.set_result(error))
    assert routine is not None
    return routine, end


def never(*_: object) -> None:
    raise AssertionError("expected it to end at once")


def test_a_coroutine_that_waits_for_nothing_is_over_at_once() -> None:
    async def scenario() -> None:
        done: list[str] = []

        async def work() -> None:
            done.append("work")

        assert start(work(), asyncio.get_running_loop(), never) is None
        assert done == ["work"]

    run(scenario)


def test_one_that_waits_has_begun_and_goes_on_with_every_result() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        first: asyncio.Future[int] = loop.create_future()
        seen: list[object] = ["nothing"]

        async def work() -> None:
            seen[0] = "begun"
            one = await first
            await asyncio.sleep(0)
            event = asyncio.Event()
            loop.call_later(0.001, event.set)
            await event.wait()
            seen[0] = one + await asyncio.to_thread(int, "2")

        _, end = begun(work())
        assert seen == ["begun"]
        first.set_result(1)
        assert await end is None
        assert seen == [3]

    run(scenario)


def test_one_that_waits_for_a_promise_goes_on_in_the_turn_in_which_that_is_told() -> None:
    async def scenario() -> None:
        promise: Promise[str] = Promise(asyncio.get_running_loop())
        seen: list[str] = []

        async def work() -> None:
            seen.append(await promise)

        _, end = begun(work())

        def tell() -> None:
            promise.tell("mask")
            assert seen == ["mask"]

        asyncio.get_running_loop().call_soon(tell)
        assert await end is None

    run(scenario)


def test_an_error_is_raised_where_it_waits_and_what_it_ends_with_is_told() -> None:
    async def scenario() -> None:
        first: asyncio.Future[int] = asyncio.get_running_loop().create_future()

        async def work() -> None:
            try:
                await first
            except ValueError as error:
                raise KeyError("another") from error

        _, end = begun(work())
        first.set_exception(ValueError("expected"))
        error = await end
        assert isinstance(error, KeyError)
        assert isinstance(error.__cause__, ValueError)

    run(scenario)


@pytest.mark.parametrize("steps", [0, 1, 3])
@pytest.mark.parametrize("of_ours", [False, True])
def test_a_cancelled_one_hears_of_it_wherever_it_waits(steps: int, of_ours: bool) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        async def work() -> None:
            try:
                await (Promise(loop) if of_ours else loop.create_future())
            except asyncio.CancelledError as error:
                seen.append(f"cancelled {error}")
                await asyncio.sleep(0)
                seen.append("tidied up")
                raise

        routine, end = begun(work())
        for _ in range(steps):
            await asyncio.sleep(0)
        routine.cancel(msg="the service stops")
        assert isinstance(await end, asyncio.CancelledError)
        assert seen == ["cancelled the service stops", "tidied up"]

    run(scenario)


def test_one_that_is_cancelled_when_what_it_waited_for_is_there_hears_of_it() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        first: asyncio.Future[None] = loop.create_future()
        routine, end = begun(waiting(first))
        first.set_result(None)
        routine.cancel()
        assert isinstance(await end, asyncio.CancelledError)

    async def waiting(first: Awaitable[None]) -> None:
        await first

    run(scenario)


def test_one_that_is_cancelled_between_two_waits_hears_of_it_at_the_next() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        first: asyncio.Future[None] = loop.create_future()
        own: list[Routine] = []

        async def work() -> None:
            await first
            own[0].cancel()
            await loop.create_future()

        routine, end = begun(work())
        own.append(routine)
        first.set_result(None)
        assert isinstance(await end, asyncio.CancelledError)

    run(scenario)


def test_one_may_take_being_cancelled_for_its_end() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        async def work() -> None:
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                seen.append("gone")

        routine, end = begun(work())
        routine.cancel()
        assert await end is None
        assert seen == ["gone"]

    run(scenario)


def test_after_a_wait_it_knows_the_context_in_which_it_began() -> None:
    asked: ContextVar[str] = ContextVar("asked")

    async def scenario() -> None:
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        seen: list[str] = []

        async def work() -> None:
            await first
            seen.append(asked.get())

        asked.set("by one")
        _, end = begun(work())
        asked.set("by another")
        first.set_result(None)
        await end
        assert seen == ["by one"]

    run(scenario)


def test_one_that_is_over_keeps_nothing() -> None:
    class Model:
        pass

    async def scenario() -> None:
        first: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        async def work(model: Model) -> None:
            await first
            assert model
            raise ValueError("expected better")

        model = Model()
        known = weakref.ref(model)
        over = asyncio.Event()
        routine = start(work(model), asyncio.get_running_loop(), lambda *_: over.set())
        del model
        first.set_result(None)
        await over.wait()
        assert routine
        assert known() is None

    run_without_collector(scenario)


def test_an_error_before_the_first_wait_is_the_callers() -> None:
    async def scenario() -> None:
        async def work() -> None:
            raise ValueError("expected better")

        with pytest.raises(ValueError, match="expected better"):
            start(work(), asyncio.get_running_loop(), never)

    run(scenario)
