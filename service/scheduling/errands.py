"""Work for a pool of threads: who waits for it may leave, or be told that its time is over, before a thread comes.

Telling that something is done is the last that a thread does for it: who hears of it needs the interpreter, and would
wait for a thread that still tidies up.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
import time
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from service.scheduling.freshness import Freshness

__all__ = ["Errand", "Seat"]

_T = TypeVar("_T")


class Errand(Generic[_T]):
    """Something that a thread is to do for a coroutine of the event loop that runs now.

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
        self.freshness: Final = freshness
        self.started_s: float | None = None
        self.outcome: Final[asyncio.Future[tuple[_T, float]]] = asyncio.get_running_loop().create_future()
        self._work = work
        self._waited = waited
        self._lasted = lasted
        self._result: tuple[_T, float] | BaseException | None = None

    def do(self) -> None:
        """Do it, on a thread, unless nobody waits any more."""
        started_s = time.perf_counter()
        if self.outcome.done():
            return
        if started_s > self.freshness.due_s:
            self._result = self.freshness.missed(self._waited)
            return
        self.started_s = started_s
        result = _attempt(self._work)
        self._result = result if isinstance(result, BaseException) else (result, time.perf_counter() - started_s)

    def tell(self) -> None:
        """Tell who waits what has come of it, from any thread."""
        if self._result is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
                self.outcome.get_loop().call_soon_threadsafe(self._settle)

    def fail(self, error: Exception) -> None:
        """Tell who waits that it is not going to be done; it must have left its seat."""
        if not self.outcome.done():
            self.outcome.set_exception(error)

    def expire(self) -> None:
        """Its time is over."""
        self.fail(self.freshness.missed(self._waited if self.started_s is None else self._lasted))

    def _settle(self) -> None:
        result, self._result = self._result, None
        if self.outcome.done():
            return
        if isinstance(result, BaseException):
            self.outcome.set_exception(result)
        elif result is not None:
            self.outcome.set_result(result)


class Seat:
    """A place in the line for the threads, empty as soon as a thread has come to it.

    Args:
        threads: The threads.
        errand: Who sits there.
        ready_s: About when a thread comes to it, `time.perf_counter`.
        on_called: Told when a thread is done with it, or will never come; from whatever thread that is.

    Attributes:
        called: Done at the same time.
    """

    def __init__(
        self,
        threads: Executor,
        errand: Errand[Any],
        ready_s: float = 0.0,
        on_called: Callable[[], None] = lambda: None,
    ) -> None:
        self.ready_s = ready_s
        self._lock = threading.Lock()
        self._errand: Errand[Any] | None = errand
        self._on_called = on_called
        self.called: Final[Future[Errand[Any] | None]] = threads.submit(self._serve)
        self.called.add_done_callback(self._tell)

    async def wait(self, errand: Errand[_T]) -> tuple[_T, float]:
        """The result of an errand that sits here, and the seconds that it took; who waits no longer leaves the seat.

        Raises:
            Stale: Its time is over.
        """
        outcome, due_s = errand.outcome, errand.freshness.due_s
        alarm = None
        if due_s < math.inf:
            alarm = outcome.get_loop().call_later(max(0.0, due_s - time.perf_counter()), errand.expire)
        try:
            return await outcome
        finally:
            if alarm is not None:
                alarm.cancel()
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

    def _serve(self) -> Errand[Any] | None:
        with self._lock:
            errand, self._errand = self._errand, None
        self.ready_s = 0.0
        if errand is not None:
            errand.do()
        return errand

    def _tell(self, called: Future[Errand[Any] | None]) -> None:
        self._on_called()
        errand = None if called.cancelled() else called.result()
        if errand is not None:
            errand.tell()


def _attempt(work: Callable[[], _T]) -> _T | BaseException:
    """The result, or the error: its traceback knows this frame, which is to know nobody who will know the error."""
    try:
        return work()
    except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
        return error
