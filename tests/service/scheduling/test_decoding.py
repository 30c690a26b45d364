"""Who waits for the threads that decode."""

import asyncio
import functools
import math
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from service.errors import Busy, DeadlineMissed
from service.scheduling.decoding import Decoding
from service.scheduling.freshness import Freshness

WORK_S = 0.02


def work() -> str:
    """As long as a picture takes."""
    until_s = time.perf_counter() + WORK_S
    while time.perf_counter() < until_s:
        pass
    return "done"


def fresh(due_in_s: float = math.inf) -> Freshness:
    now_s = time.perf_counter()
    return Freshness(now_s, now_s + due_in_s)


@contextmanager
def held(codec: ThreadPoolExecutor) -> Iterator[None]:
    """Keep the only thread busy."""
    go = threading.Event()
    codec.submit(go.wait)
    try:
        yield
    finally:
        go.set()


def known(decoding: Decoding) -> None:
    """Let it know what decoding takes."""
    for _ in range(50):
        decoding._work.add(WORK_S, time.perf_counter())


def test_a_request_that_could_not_be_decoded_in_time_is_refused_at_once() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=100, limit_s=10)
            known(decoding)
            with held(codec):
                waiting = [asyncio.create_task(decoding.run(work, fresh())) for _ in range(5)]
                await asyncio.sleep(0)
                with pytest.raises(DeadlineMissed, match="wait to be decoded is about"):
                    await decoding.run(work, fresh(2 * WORK_S))
            assert await asyncio.gather(*waiting) == ["done"] * 5

    asyncio.run(scenario())


def test_a_small_one_is_not_judged_by_the_large_ones_before_it() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=100, limit_s=10)
            known(decoding)
            assert await decoding.run(lambda: "small", fresh(WORK_S / 2)) == "small"

    asyncio.run(scenario())


def test_one_whose_time_has_run_out_meanwhile_is_not_decoded() -> None:
    async def scenario() -> None:
        done = []
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=100, limit_s=10)
            with held(codec):
                due = fresh(0.5)
                late = asyncio.create_task(decoding.run(lambda: done.append("late"), due))
                patient = asyncio.create_task(decoding.run(lambda: done.append("patient"), fresh()))
                await asyncio.sleep(0)
                while time.perf_counter() <= due.due_s:
                    work()
            with pytest.raises(DeadlineMissed, match="still waited"):
                await late
            await patient
        assert done == ["patient"]

    asyncio.run(scenario())


def test_a_deadline_is_kept_also_where_no_thread_comes_to_it() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=100, limit_s=10)
            with held(codec), pytest.raises(DeadlineMissed, match="still waited to be decoded"):
                await decoding.run(work, fresh(0.05))
            go = threading.Event()
            try:
                with pytest.raises(DeadlineMissed, match="decoding it took longer than expected"):
                    await decoding.run(go.wait, fresh(0.05))
            finally:
                go.set()

    asyncio.run(scenario())


def test_who_leaves_gives_a_place_back_when_the_thread_is_done_with_the_frame() -> None:
    async def scenario() -> None:
        go, begun = threading.Event(), threading.Event()

        def endless() -> None:
            begun.set()
            go.wait()

        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=1, limit_s=10)
            left = asyncio.create_task(decoding.run(endless, fresh()))
            await asyncio.to_thread(begun.wait)
            left.cancel()
            await asyncio.wait([left])
            with pytest.raises(Busy):
                await decoding.run(work, fresh())
            go.set()
            await asyncio.wrap_future(codec.submit(work))
            await asyncio.sleep(0)
            assert await decoding.run(work, fresh()) == "done"

    asyncio.run(scenario())


def test_what_nobody_waits_for_any_more_is_let_go_before_a_thread_comes_to_it() -> None:
    class Body:
        """Can be referred to weakly."""

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=1, limit_s=10)
            with held(codec):
                body = Body()
                alive = weakref.ref(body)
                left = asyncio.create_task(decoding.run(functools.partial(id, body), fresh()))
                del body
                await asyncio.sleep(0)
                assert alive() is not None
                left.cancel()
                await asyncio.wait([left])
                del left
                assert alive() is None
                waiting = asyncio.create_task(decoding.run(work, fresh()))  # its place is free
                await asyncio.sleep(0)
            assert await waiting == "done"

    asyncio.run(scenario())


def test_without_a_deadline_the_wait_has_a_bound_and_so_has_the_number() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=100, limit_s=3 * WORK_S)
            known(decoding)
            few = Decoding(codec, 1, limit=2, limit_s=10)
            with held(codec):
                waiting = [asyncio.create_task(decoding.run(work, fresh())) for _ in range(5)]
                waiting += [asyncio.create_task(few.run(work, fresh())) for _ in range(3)]
                await asyncio.sleep(0)
            answers = await asyncio.gather(*waiting, return_exceptions=True)
        assert answers[:3] == ["done"] * 3
        assert isinstance(answers[4], Busy)
        assert answers[4].reason == "decode"
        assert answers[4].retry_after_s == 1
        assert answers[5:7] == ["done"] * 2
        assert isinstance(answers[7], Busy)

    asyncio.run(scenario())
