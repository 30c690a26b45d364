"""Work that waits for a thread."""

import asyncio
import functools
import gc
import math
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest

from service.errors import BodyMalformed, DeadlineMissed
from service.scheduling.errands import Errand, Seat
from service.scheduling.freshness import Freshness


@contextmanager
def held(threads: ThreadPoolExecutor) -> Iterator[None]:
    """Keep the only thread busy."""
    go = threading.Event()
    threads.submit(go.wait)
    try:
        yield
    finally:
        go.set()


def errand(work: Callable[[], object], due_in_s: float = math.inf) -> Errand[object]:
    now_s = time.perf_counter()
    return Errand(work, Freshness(now_s, now_s + due_in_s), waited="it waited", lasted="it lasted")


def fail() -> None:
    raise BodyMalformed("expected a picture")


def test_a_result_and_an_error_get_to_who_waits_for_them() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as threads:
            good, bad = errand(lambda: "done"), errand(fail)
            result, seconds = await Seat(threads, good).wait(good)
            assert result == "done"
            assert seconds >= 0
            with pytest.raises(BodyMalformed):
                await Seat(threads, bad).wait(bad)

    asyncio.run(scenario())


def test_who_is_overdue_is_told_whether_it_waited_or_was_at_work_and_what_waited_is_not_done() -> None:
    async def scenario() -> None:
        done: list[str] = []
        with ThreadPoolExecutor(1) as threads:
            with held(threads):
                late = errand(lambda: done.append("late"), 0.05)
                with pytest.raises(DeadlineMissed, match="it waited"):
                    await Seat(threads, late).wait(late)
            go = threading.Event()
            try:
                long = errand(go.wait, 0.05)
                with pytest.raises(DeadlineMissed, match="it lasted"):
                    await Seat(threads, long).wait(long)
            finally:
                go.set()
        assert done == []

    asyncio.run(scenario())


def test_a_seat_can_be_given_up_once_and_only_before_a_thread_comes() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as threads:
            with held(threads):
                waits = errand(lambda: "done")
                seat = Seat(threads, waits)
                assert not seat.leave(errand(lambda: "another"))
                assert seat.leave(waits)
                assert not seat.leave(waits)
                assert seat.called.cancelled()
            served = errand(lambda: "done")
            seat = Seat(threads, served)
            await seat.wait(served)
            assert not seat.leave(served)

    asyncio.run(scenario())


def test_nothing_is_left_of_what_has_been_done_or_given_up_or_has_failed() -> None:
    class Frames:
        """What a request holds."""

    def work_on(frames: Frames, fails: bool) -> str:
        if fails:
            raise BodyMalformed(f"expected {frames}")
        return "done"

    async def scenario(threads: ThreadPoolExecutor) -> list[weakref.ref[Frames]]:
        left = []
        for fails in (False, True):
            frames = Frames()
            left.append(weakref.ref(frames))
            asked = errand(functools.partial(work_on, frames, fails))
            with suppress(BodyMalformed):
                await Seat(threads, asked).wait(asked)
        with held(threads):
            frames = Frames()
            left.append(weakref.ref(frames))
            asked = errand(functools.partial(work_on, frames, False))
            Seat(threads, asked).leave(asked)
        return left

    gc.disable()  # what a cycle holds would be seen only by chance
    try:
        with ThreadPoolExecutor(1) as threads:
            left = asyncio.run(scenario(threads))
        assert [ref() for ref in left] == [None, None, None]
    finally:
        gc.enable()
