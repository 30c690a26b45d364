"""Who waits for the threads that decode."""

import asyncio
import math
import threading
import time
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
