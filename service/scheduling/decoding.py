"""The threads that decode: who waits for them is told at once if it would be for too long.

A newer frame of a stream takes the place in the line of the one that it supersedes.
"""

from __future__ import annotations

import math
import threading
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from service.errors import Busy
from service.scheduling.errands import Errand, Seat
from service.scheduling.estimate import StageTime
from service.scheduling.streams import Stage, superseded

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from service.scheduling.freshness import Freshness
    from service.scheduling.streams import Turn

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
        self._lock = threading.Lock()
        self._work = StageTime()

    async def run(self, work: Callable[[], _T], freshness: Freshness, turn: Turn | None = None) -> _T:
        """Do this on one of the threads.

        Args:
            work: Decodes.
            freshness: How long its result is wanted.
            turn: The frame's part in its stream, if it has one.

        Raises:
            Busy: Too much waits already.
            Stale: It would be too late, or a newer frame of its stream has come.
        """
        errand = Errand(work, freshness, waited=_WAITED, lasted="decoding it took longer than expected")
        if turn is None:
            result, seconds = await self._seat(errand).wait(errand)
        else:
            turn.check(Stage.DECODING)
            seat = _seat_of_older(turn, errand) or self._seat(errand)
            turn.waits = seat, errand
            turn.reach(Stage.DECODING)
            try:
                result, seconds = await seat.wait(errand)
            finally:
                turn.waits = None
        self._work.add(seconds, time.perf_counter())
        return result

    def _seat(self, errand: Errand[Any]) -> Seat:
        """A place at the end of the line."""
        seat = Seat(self._codec, errand, self._admit(errand.freshness))
        with self._lock:
            self._inside += 1
        seat.called.add_done_callback(self._leave)
        return seat

    def _leave(self, _: Future[Any]) -> None:
        """Give the place back; whoever waited may be gone long since, a thread that decodes cannot be called off."""
        with self._lock:
            self._inside -= 1

    def _admit(self, freshness: Freshness) -> float:
        """About when a thread is going to be free for it; says no if that is too late."""
        now_s = time.perf_counter()
        wait_s = 0.0
        if self._inside >= self._threads:  # its own decoding does not count: it may be much smaller than those before
            wait_s = self._work.expect_s(now_s, at_work=True) * self._inside / self._threads
        _check_due(freshness, now_s, wait_s)
        if self._inside < self._limit and (wait_s <= self._limit_s or freshness.due_s < math.inf):
            return now_s + wait_s
        retry_after_s = min(3600, max(1, math.ceil(wait_s)))
        raise Busy(
            f"expected a free thread to decode frames, but {self._inside} requests decode or wait, about "
            f"{wait_s * 1000:.0f} ms; come again in {retry_after_s} s",
            reason="decode",
            retry_after_s=retry_after_s,
        )


def _seat_of_older(turn: Turn, errand: Errand[Any]) -> Seat | None:
    """The place in the line of an older frame of the stream, which is told; at the end, it might never be its turn."""
    for seat, old in turn.older():
        now_s = time.perf_counter()
        _check_due(errand.freshness, now_s, max(0.0, seat.ready_s - now_s))
        if seat.pass_on(old, errand):
            old.fail(superseded())
            return seat
    return None


def _check_due(freshness: Freshness, now_s: float, wait_s: float) -> None:
    if now_s + wait_s > freshness.due_s:
        raise freshness.missed(f"the wait to be decoded is about {wait_s * 1000:.0f} ms")
