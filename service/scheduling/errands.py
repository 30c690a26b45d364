"""Work for a pool of threads: who waits for it may leave, or be told that its time is over, before a thread comes."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from service.scheduling.freshness import Freshness

__all__ = ["Errand", "Seat"]

_T = TypeVar("_T")


class Errand(Generic[_T]):
    """Something that a thread is to do.

    Args:
        work: Does it.
        freshness: How long its result is wanted.
        waited: A half-sentence that says what is wrong if no thread has come to it in time.
        lasted: The same if it is not done in time.

    Attributes:
        outcome: The result, and the seconds that it took.
        started_s: When a thread began with it, `time.perf_counter`; None before that.
    """

    def __init__(self, work: Callable[[], _T], freshness: Freshness, *, waited: str, lasted: str) -> None:
        self.work: Final = work
        self.freshness: Final = freshness
        self.waited: Final = waited
        self.lasted: Final = lasted
        self.started_s: float | None = None
        self.outcome: Final[Future[tuple[_T, float]]] = Future()

    def fail(self, error: Exception) -> None:
        """Tell who waits for it that it is not going to be done; it must have left its seat."""
        if self.outcome.set_running_or_notify_cancel():
            self.outcome.set_exception(error)


class Seat:
    """A place in the line for the threads, empty as soon as a thread has come to it.

    Args:
        threads: The threads.
        errand: Who sits there.
        ready_s: About when a thread comes to it, `time.perf_counter`.

    Attributes:
        called: Done when a thread is done with it, or will never come.
    """

    def __init__(self, threads: Executor, errand: Errand[Any], ready_s: float = 0.0) -> None:
        self.ready_s = ready_s
        self._lock = threading.Lock()
        self._errand: Errand[Any] | None = errand
        self.called: Final[Future[None]] = threads.submit(self._serve)

    async def wait(self, errand: Errand[_T]) -> tuple[_T, float]:
        """The result of an errand that sits here, and the seconds that it took; who waits no longer leaves the seat.

        Raises:
            Stale: Its time is over.
        """
        outcome, due_s = errand.outcome, errand.freshness.due_s
        left_s = None if due_s == math.inf else due_s - time.perf_counter()
        try:
            async with asyncio.timeout(left_s):
                return await asyncio.wrap_future(outcome)
        except TimeoutError:
            if outcome.done() and not outcome.cancelled():
                outcome.result()  # it knows better
            self.leave(errand)
            raise errand.freshness.missed(errand.waited if errand.started_s is None else errand.lasted) from None
        finally:
            self.leave(errand)

    def leave(self, errand: Errand[Any]) -> bool:
        """Give the seat up, and let go of what was to be done; whether it still sat there."""
        with self._lock:
            if self._errand is not errand:
                return False
            self._errand = None
        self.called.cancel()
        return True

    def pass_on(self, errand: Errand[Any], other: Errand[Any]) -> bool:
        """Let another errand have the seat of one, which is never done then; whether it still sat there."""
        with self._lock:
            if self._errand is not errand:
                return False
            self._errand = other
            return True

    def _serve(self) -> None:
        with self._lock:
            errand, self._errand = self._errand, None
        self.ready_s = 0.0
        if errand is not None:
            _do(errand)


def _do(errand: Errand[Any]) -> None:
    started_s = time.perf_counter()
    if not errand.outcome.set_running_or_notify_cancel():
        return
    if started_s > errand.freshness.due_s:
        errand.outcome.set_exception(errand.freshness.missed(errand.waited))
        return
    errand.started_s = started_s
    try:
        result = errand.work()
    except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
        errand.outcome.set_exception(error)
    else:
        errand.outcome.set_result((result, time.perf_counter() - started_s))
    finally:
        del errand  # the error's traceback knows this frame, and it would know the error
