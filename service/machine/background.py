"""Work that may take its time gives way to whatever answers a client.

Only what the interpreter lock is not needed for is done on a thread that gives way, a run of a model or the opening of
one. A thread that waits for a core while it holds that lock would hold up all others.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Aside", "LeftBehind", "Pace", "at_once", "interruptible", "leavable"]

_T = TypeVar("_T")

_NICE: Final = 10
_LONGEST_REST_S: Final = 0.25
_SWITCH_S: Final = 0.0005
_LOOK_S: Final = 0.1
"""How often it is looked whether anybody still waits for work that may hang."""


class Pace(Protocol):
    """Decides when and where a piece of heavy work is done."""

    def __call__(self, work: Callable[[], _T], /) -> _T:
        """Do the work and return what it gives."""


def at_once(work: Callable[[], _T], /) -> _T:
    """Do it here and now."""
    return work()


class LeftBehind(Exception):  # noqa: N818 - the name says what became of the work
    """Work that nobody waits for any more; its thread ends with the process."""


def leavable(work: Callable[[], _T], is_left: Callable[[], bool]) -> _T:
    """Do work that may hang, and return what it gives; only for work that may be cut off anywhere as the process ends.

    Args:
        work: Done on a thread of its own.
        is_left: Whether to wait for it no longer.

    Raises:
        LeftBehind: It was left.
    """
    future: Future[_T] = Future()

    def settle() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is for whoever waits
            future.set_exception(error)

    threading.Thread(target=settle, name="robomask-leavable", daemon=True).start()
    while not wait([future], _LOOK_S).done:
        if is_left():
            raise LeftBehind
    return future.result()


class Aside:
    """Does heavy work on a thread of its own, and leaves as much time to others as each piece has taken.

    Args:
        name: What the thread is called.
        low: Whether the scheduler is to prefer every other thread. A thread hands this on to those that it starts, and
            without privileges nobody can take it back: not for opening sessions that have threads of their own.
        rests: Whether to rest after each piece.
    """

    def __init__(self, name: str, *, low: bool, rests: bool = True) -> None:
        self._rests = rests
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=name, initializer=_give_way if low else None)

    def __call__(self, work: Callable[[], _T], /) -> _T:
        """See `Pace`."""
        started_s = time.perf_counter()
        result = self._thread.submit(work).result()
        if self._rests:
            time.sleep(min(time.perf_counter() - started_s, _LONGEST_REST_S))
        return result

    def close(self) -> None:
        """End the thread."""
        self._thread.shutdown()


def _give_way() -> None:
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not allowed here: then it competes
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Hand the interpreter lock over within half a millisecond to whoever asks for it, instead of five.

    A thread that answers asks for it many times a request; with one that computes beside it, each time would cost that.
    """
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(min(before_s, _SWITCH_S))
    try:
        yield
    finally:
        sys.setswitchinterval(before_s)
