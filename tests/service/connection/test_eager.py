"""Coroutines that begin at once: what they do before they wait, what comes after, and what becomes of a cancel."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest
import uvloop

from service.connection.eager import start


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    for runner in (asyncio.run, uvloop.run):
        runner(scenario())  # type: ignore[arg-type]


def test_a_coroutine_that_waits_for_nothing_is_over_at_once_and_takes_no_task() -> None:
    async def scenario() -> None:
        done: list[str] = []

        async def work() -> None:
            done.append("work")

        assert start(work(), asyncio.get_running_loop()) is None
        assert done == ["work"]

    run(scenario)


def test_one_that_waits_has_begun_and_goes_on_as_a_task_with_every_result() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        first: asyncio.Future[int] = loop.create_future()
        seen: list[object] = ["nothing"]

        async def work() -> int:
            seen[0] = "begun"
            one = await first
            await asyncio.sleep(0)
            async with asyncio.timeout(20):  # asks for its task
                return one + await asyncio.to_thread(int, "2")

        task = start(work(), loop)
        assert seen == ["begun"]
        assert task is not None
        first.set_result(1)
        assert await task == 3

    run(scenario)


def test_what_was_there_before_the_task_is_not_missed() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        first: asyncio.Future[int] = loop.create_future()

        async def work() -> int:
            return await first

        task = start(work(), loop)
        assert task is not None
        first.set_exception(ValueError("expected"))  # before the task has made its first step
        with pytest.raises(ValueError, match="expected"):
            await task

    run(scenario)


@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_cancelled_one_hears_of_it_wherever_it_waits(steps: int) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        seen: list[str] = []

        async def work() -> None:
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                seen.append("cancelled")
                await asyncio.sleep(0)
                seen.append("tidied up")
                raise

        task = start(work(), loop)
        assert task is not None
        for _ in range(steps):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert seen == ["cancelled", "tidied up"]

    run(scenario)


def test_one_may_take_being_cancelled_for_its_end() -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()

        async def work() -> str:
            try:
                await loop.create_future()
            except asyncio.CancelledError:
                return "gone"
            return "there"

        task = start(work(), loop)
        assert task is not None
        task.cancel()
        assert await task == "gone"

    run(scenario)


def test_an_error_before_the_first_wait_is_the_callers() -> None:
    async def scenario() -> None:
        async def work() -> None:
            raise ValueError("expected better")

        with pytest.raises(ValueError, match="expected better"):
            start(work(), asyncio.get_running_loop())

    run(scenario)
