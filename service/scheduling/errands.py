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
        told: Done when it is known what has come of it, which `result` says.
        started_s: When a thread began with it, `time.perf_counter`; None before that.
    """

    def __init__(self, work: Callable[[], _T], freshness: Freshness, *, waited: str, lasted: str) -> None:
        self.freshness: Final = freshness
        self.started_s: float | None = None
        self.told: Final[asyncio.Future[None]] = asyncio.get_running_loop().create_future()
        self._work = work
        self._waited = waited
        self._lasted = lasted
        self._found: tuple[_T, float] | BaseException | None = None  # by a thread
        self._result: tuple[_T, float] | BaseException | None = None  # what is told

    def do(self) -> None:
        """Do it, on a thread, unless nobody waits any more."""
        started_s = time.perf_counter()
        if self.told.done():
            return
        if started_s > self.freshness.due_s:
            self._found = self.freshness.missed(self._waited)
            return
        self.started_s = started_s
        self._found = _attempt(self._work)

    def tell(self) -> None:
        """Tell who waits what has come of it, from any thread."""
        if self._found is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
                self.told.get_loop().call_soon_threadsafe(self._settle, self._found)
            self._found = None

    def fail(self, error: Exception) -> None:
        """Tell who waits that it is not going to be done; it must have left its seat."""
        self._settle(error)

    def expire(self) -> None:
        """Its time is over."""
        self.fail(self.freshness.missed(self._waited if self.started_s is None else self._lasted))

    def result(self) -> tuple[_T, float]:
        """What has come of it, once: the result, and the seconds that it took.

        Raises:
            BaseException: Whatever it met.
        """
        result, self._result = self._result, None
        if result is None:
            raise RuntimeError("expected to be asked once, when it has been told")
        if not isinstance(result, BaseException):
            return result
        try:
            raise result
        finally:
            del result  # the error's traceback knows this frame; with the errand and its future neither knows the error

    def _settle(self, result: tuple[_T, float] | BaseException) -> None:
        if not self.told.done():
            self._result = result
            self.told.set_result(None)


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
        self.called: Final[Future[Errand[Any] | None]] = threads.submit(self._serve)
        # The future keeps what it calls: were that the seat, both would stay, and the errand's frames and model.
        self.called.add_done_callback(_tell)

    async def wait(self, errand: Errand[_T]) -> tuple[_T, float]:
        """The result of an errand that sits here, and the seconds that it took; who waits no longer leaves the seat.

        Raises:
            Stale: Its time is over.
        """
        due_s = errand.freshness.due_s
        alarm = None
        if due_s < math.inf:
            alarm = errand.told.get_loop().call_later(max(0.0, due_s - time.perf_counter()), errand.expire)
        try:
            await errand.told
        finally:
            if alarm is not None:
                alarm.cancel()
            self.leave(errand)
        return errand.result()

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


def _tell(called: Future[Errand[Any] | None]) -> None:
    errand = None if called.cancelled() else called.result()
    if errand is not None:
        errand.tell()


def _attempt(work: Callable[[], _T]) -> tuple[_T, float] | BaseException:
    """The result and the seconds that it took, or the error.

    An error's traceback knows this frame and all behind it: none of them is to know the error.
    """
    started_s = time.perf_counter()
    try:
        return work(), time.perf_counter() - started_s
    except BaseException as error:  # noqa: BLE001 - whatever it is, somebody waits for it
        return error
