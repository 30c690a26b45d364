"""The threads that write large answers: none is late, and what one takes is reckoned with before the model runs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from service.errors import Stale
from service.scheduling.errands import Errand, Seat
from service.scheduling.estimate import SizedTime, StageTime

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable
    from concurrent.futures import Executor

    from service.scheduling.freshness import Freshness

__all__ = ["Bulk", "Encoding"]

_T = TypeVar("_T")


class Bulk(NamedTuple):
    """What there is to write.

    Attributes:
        kind: The form of the answer; of one kind there are few.
        size: What the time grows with, more than 0.
    """

    kind: Hashable
    size: int


class Encoding:
    """Writes answers on threads.

    Args:
        codec: The threads, which decode as well.
    """

    def __init__(self, codec: Executor) -> None:
        self._codec = codec
        self._wait = StageTime()
        self._work: dict[Hashable, SizedTime] = {}

    def reckon_s(self, bulk: Bulk, freshness: Freshness) -> float:
        """What it is going to take, the wait for a thread included; 0 if nothing is known.

        Raises:
            Stale: It could not be written in time even if the model took none.
        """
        work = self._work.get(bulk.kind)
        if work is None:
            return 0.0
        now_s = time.perf_counter()
        expected_s = self._wait.expect_s(now_s) + work.expect_s(bulk.size, now_s)
        if now_s + expected_s > freshness.due_s:
            raise freshness.missed(f"encoding its answer takes about {expected_s * 1000:.0f} ms")
        return expected_s

    async def run(self, work: Callable[[], _T], freshness: Freshness, bulk: Bulk) -> _T:
        """Do this on one of the threads.

        Raises:
            Stale: The answer would be late; if it waited until then, it is never written.
        """
        errand = Errand(
            work,
            freshness,
            waited="it still waited to be encoded",
            lasted="encoding its answer took longer than expected",
        )
        came_s = time.perf_counter()
        try:
            result, seconds = await Seat(self._codec, errand).wait(errand)
        except Stale:  # it would have taken longer still; if that were not learnt, the next would be as late
            now_s = time.perf_counter()
            if errand.started_s is None:
                self._wait.add(max(now_s - came_s, self._wait.expect_s(now_s)), now_s)
            else:
                self.learn(bulk, now_s - errand.started_s, at_least=True)
            raise
        now_s = time.perf_counter()
        self._wait.add(max(0.0, now_s - came_s - seconds), now_s)
        self.learn(bulk, seconds)
        return result

    def learn(self, bulk: Bulk, seconds: float, *, at_least: bool = False) -> None:
        """Take note of what writing took, without the wait for a thread; of what goes on, what it has taken so far."""
        now_s = time.perf_counter()
        work = self._work.setdefault(bulk.kind, SizedTime())
        work.add(max(seconds, work.expect_s(bulk.size, now_s)) if at_least else seconds, bulk.size, now_s)
