"""Who waits for the threads that decode."""

import asyncio
import functools
import math
import threading
import time
import weakref
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from service.errors import Busy, DeadlineMissed, Superseded
from service.scheduling.decoding import Decoding
from service.scheduling.freshness import Freshness
from service.scheduling.streams import Stage, Streams

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


def known(decoding: Decoding, work_s: float = WORK_S) -> None:
    """Let it know what decoding takes."""
    for _ in range(50):
        decoding._work.add(work_s, time.perf_counter())


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
            known(decoding, work_s=10)
            assert await decoding.run(lambda: "small", fresh(5)) == "small"

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


class Camera:
    """Frames of one stream that are to be decoded, the next always newer, and what has been decoded."""

    def __init__(self, decoding: Decoding, streams: Streams) -> None:
        self.decoding = decoding
        self.streams = streams
        self.decoded: list[str] = []
        self.newness = 0.0

    async def send(self, name: str, due_in_s: float = math.inf, newness: float | None = None) -> asyncio.Task[object]:
        self.newness += 1
        return await waiting(self._decode(name, fresh(due_in_s), self.newness if newness is None else newness))

    async def _decode(self, name: str, freshness: Freshness, newness: float) -> None:
        turn = self.streams.open("camera", newness)
        try:
            await self.decoding.run(lambda: self.decoded.append(name), freshness, turn)
        finally:
            turn.leave()


async def waiting(coroutine: Coroutine[None, None, object]) -> asyncio.Task[object]:
    task = asyncio.create_task(coroutine)
    await asyncio.sleep(0)
    return task


def test_a_newer_frame_of_a_stream_is_decoded_in_the_place_of_the_older_one_which_is_told_at_once() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=100, limit_s=10)
            camera = Camera(decoding, Streams())
            with held(codec):
                older = [await camera.send(name) for name in ("a", "b")]
                other = await waiting(decoding.run(lambda: camera.decoded.append("other"), fresh()))
                older.append(await camera.send("c"))
                newest = await camera.send("d")
                await asyncio.wait(older)  # while the only thread is held
                assert all(isinstance(task.exception(), Superseded) for task in older)
                late = await camera.send("old", newness=1.5)
                await asyncio.wait([late])
                assert isinstance(late.exception(), Superseded)
            await asyncio.gather(newest, other)
            assert camera.decoded == ["d", "other"]
            assert len(camera.streams) == 0

    asyncio.run(scenario())


def test_a_stream_that_is_quicker_than_the_threads_is_decoded_now_and_then() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=100, limit_s=10)
            camera = Camera(decoding, Streams())
            decoded_at = []
            for _ in range(5):
                with held(codec):
                    burst = [await camera.send("frame") for _ in range(4)]
                await waiting(decoding.run(work, fresh()))  # others are never out of work
                await burst[-1]
                decoded_at.append(len(camera.decoded))
            assert decoded_at == [1, 2, 3, 4, 5]

    asyncio.run(scenario())


def test_a_frame_that_is_not_let_in_ends_the_wait_of_no_other() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=100, limit_s=10)
            known(decoding)
            camera = Camera(decoding, Streams())
            with held(codec):
                before = [await waiting(decoding.run(work, fresh())) for _ in range(20)]
                older = await camera.send("older")
                hasty = await camera.send("hasty", due_in_s=WORK_S / 10)
                await asyncio.wait([hasty])
                assert isinstance(hasty.exception(), DeadlineMissed)
            await asyncio.gather(older, *before)
            assert camera.decoded == ["older"]

    asyncio.run(scenario())


def test_a_frame_takes_the_place_of_an_older_one_also_where_there_is_none_for_others() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=1, limit_s=10)
            camera = Camera(decoding, Streams())
            with held(codec):
                await camera.send("older")
                newer = await camera.send("newer")
                with pytest.raises(Busy):
                    await decoding.run(work, fresh())
            await newer
            assert camera.decoded == ["newer"]

    asyncio.run(scenario())


def test_one_that_is_ready_for_the_model_ends_the_wait_of_older_ones_to_be_decoded_and_frees_their_places() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=1, limit_s=10)
            camera = Camera(decoding, Streams())
            with held(codec):
                older = await camera.send("older")
                quick = camera.streams.open("camera", 2.0)
                quick.reach(Stage.MODEL)
                await asyncio.wait([older])
                assert isinstance(older.exception(), Superseded)
                next_one = await waiting(decoding.run(work, fresh()))
            await next_one
            assert camera.decoded == []

    asyncio.run(scenario())


def test_a_client_that_leaves_while_its_frame_waits_is_no_trouble_to_the_next_frame() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            decoding = Decoding(codec, 1, limit=2, limit_s=10)
            camera = Camera(decoding, Streams())
            with held(codec):
                gone = await camera.send("gone")
                gone.cancel()
                newer = await camera.send("newer")
                await asyncio.wait([gone])
                assert gone.cancelled()
            await newer
            assert camera.decoded == ["newer"]

    asyncio.run(scenario())


def test_a_thread_that_cannot_be_had_takes_no_place() -> None:
    class OutOfThreads(ThreadPoolExecutor):
        refuses = True

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            if self.refuses:
                self.refuses = False
                raise RuntimeError("can't start new thread")
            return super().submit(*args, **kwargs)

    async def scenario() -> None:
        with OutOfThreads(1) as codec:
            decoding = Decoding(codec, 1, limit=1, limit_s=60)
            with pytest.raises(RuntimeError):
                await decoding.run(lambda: "first", Freshness())
            assert await decoding.run(lambda: "second", Freshness()) == "second"

    asyncio.run(scenario())
