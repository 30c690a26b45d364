"""The threads that decode: who waits for them is told at once if it would be for too long."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import math
import time
from typing import TYPE_CHECKING, Final, TypeVar

from service.errors import Busy
from service.scheduling.errands import Errand, Seat
from service.scheduling.estimate import StageTime

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from service.scheduling.freshness import Freshness

__all__ = ["Decoding"]

_T = TypeVar("_T")

_WAITED: Final = "it still waited to be decoded"


class Decoding:
    """A queue for the threads that decode, bounded in requests and in time.

    Args:
        codec: The threads, which encode as well.
        threads: How many they are.
        limit: Most requests that decode or wait for it: a bound on memory.
        limit_s: Longest wait that a request without a deadline may be in for.
    """

    def __init__(self, codec: Executor, threads: int, *, limit: int, limit_s: float) -> None:
        self._codec = codec
        self._threads = threads
        self._limit = limit
        self._limit_s = limit_s
        self._inside = 0
        self._work = StageTime()

    async def run(self, work: Callable[[], _T], freshness: Freshness) -> _T:
        """Do this on one of the threads.

        Args:
            work: Decodes.
            freshness: How long its result is wanted.

        Raises:
            Busy: Too much waits already.
            Stale: It would be too late.
        """
        errand = Errand(work, freshness, waited=_WAITED, lasted="decoding it took longer than expected")
        self._admit(freshness)
        seat = Seat(self._codec, errand)
        self._inside += 1
        seat.called.add_done_callback(functools.partial(self._leave_soon, asyncio.get_running_loop()))
        result, seconds = await seat.wait(errand)
        self._work.add(seconds, time.perf_counter())
        return result

    def _leave_soon(self, loop: asyncio.AbstractEventLoop, _: Future[None]) -> None:
        """Give the place back; whoever waited may be gone long since, a thread that decodes cannot be called off."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            loop.call_soon_threadsafe(self._leave)

    def _leave(self) -> None:
        self._inside -= 1

    def _admit(self, freshness: Freshness) -> None:
        now_s = time.perf_counter()
        wait_s = 0.0
        if self._inside >= self._threads:  # its own decoding does not count: it may be much smaller than those before
            wait_s = self._work.expect_s(now_s, at_work=True) * self._inside / self._threads
        if now_s + wait_s > freshness.due_s:
            raise freshness.missed(f"the wait to be decoded is about {wait_s * 1000:.0f} ms")
        if self._inside < self._limit and (wait_s <= self._limit_s or freshness.due_s < math.inf):
            return
        retry_after_s = min(3600, max(1, math.ceil(wait_s)))
        raise Busy(
            f"expected a free thread to decode frames, but {self._inside} requests decode or wait, about "
            f"{wait_s * 1000:.0f} ms; come again in {retry_after_s} s",
            reason="decode",
            retry_after_s=retry_after_s,
        )
