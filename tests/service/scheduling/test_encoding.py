"""Answers that are written on threads."""

import asyncio
import math
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from service.errors import BodyMalformed, DeadlineMissed
from service.scheduling.encoding import Bulk, Encoding
from service.scheduling.freshness import Freshness

SMALL, LARGE = Bulk("png", 40_000), Bulk("png", 8_000_000)


def fresh(due_in_s: float = math.inf) -> Freshness:
    now_s = time.perf_counter()
    return Freshness(now_s, now_s + due_in_s)


def test_what_waits_for_a_thread_until_it_is_due_is_refused_then_and_never_written() -> None:
    async def scenario() -> None:
        written: list[str] = []
        go = threading.Event()
        with ThreadPoolExecutor(1) as codec:
            encoding = Encoding(codec)
            codec.submit(go.wait)
            try:
                with pytest.raises(DeadlineMissed, match="still waited to be encoded"):
                    await encoding.run(lambda: written.append("late"), fresh(0.05), SMALL)
            finally:
                go.set()
            await encoding.run(lambda: written.append("next"), fresh(), SMALL)
        assert written == ["next"]

    asyncio.run(scenario())


def test_an_answer_that_takes_longer_than_there_is_time_is_refused_and_the_next_one_before_the_model_runs() -> None:
    async def scenario() -> None:
        go = threading.Event()
        with ThreadPoolExecutor(2) as codec:
            encoding = Encoding(codec)
            assert encoding.reckon_s(LARGE, fresh(0.1)) == 0
            try:
                with pytest.raises(DeadlineMissed, match="encoding its answer took longer"):
                    await encoding.run(go.wait, fresh(0.2), LARGE)
                with pytest.raises(DeadlineMissed, match="encoding its answer takes about"):
                    encoding.reckon_s(LARGE, fresh(0.1))
                assert encoding.reckon_s(SMALL, fresh(0.1)) == 0
                assert encoding.reckon_s(LARGE, fresh(60)) >= 0.1
            finally:
                go.set()

    asyncio.run(scenario())


def test_what_an_answer_takes_is_known_by_its_form_and_size() -> None:
    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec:
            encoding = Encoding(codec)
            encoding.learn(LARGE, 10.0)
            assert encoding.reckon_s(Bulk("png", 4_000_000), fresh()) == pytest.approx(5.0, rel=0.2)
            assert await encoding.run(lambda: "written", fresh(), SMALL) == "written"
            assert 0 < encoding.reckon_s(SMALL, fresh()) < 5
            assert encoding.reckon_s(LARGE, fresh()) > 9
            assert encoding.reckon_s(Bulk("npz", 8_000_000), fresh(0.1)) == 0

    asyncio.run(scenario())


def test_less_time_than_before_does_not_make_an_answer_seem_quicker() -> None:
    async def scenario() -> None:
        go = threading.Event()
        with ThreadPoolExecutor(1) as codec:
            encoding = Encoding(codec)
            encoding.learn(LARGE, 10.0)
            try:
                with pytest.raises(DeadlineMissed):
                    await encoding.run(go.wait, fresh(0.05), LARGE)
                assert encoding.reckon_s(LARGE, fresh()) > 9
            finally:
                go.set()

    asyncio.run(scenario())


def test_an_error_is_told_as_it_is() -> None:
    def fail() -> None:
        raise BodyMalformed("expected a picture")

    async def scenario() -> None:
        with ThreadPoolExecutor(1) as codec, pytest.raises(BodyMalformed):
            await Encoding(codec).run(fail, fresh(), SMALL)

    asyncio.run(scenario())
