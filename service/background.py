"""One thread for work that may take its time: its runs give way to whatever answers a client."""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Final

__all__ = ["background_thread", "give_back_memory", "give_way"]

_NICE: Final = 19


def background_thread(name: str, *, low: bool) -> ThreadPoolExecutor:
    """An executor with one thread.

    Args:
        name: What the thread is called.
        low: Whether the scheduler is to prefer every other thread. A thread hands this on to those that it starts, and
            without privileges nobody can take it back: not for opening sessions that have threads of their own.
    """
    return ThreadPoolExecutor(1, thread_name_prefix=name, initializer=give_way if low else None)


def give_way() -> None:
    """Let every other thread of the machine go before the calling one, where the system can do that for a thread."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError):  # not allowed here: then it competes
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)


def give_back_memory() -> None:
    """Return what has been freed to the system, where the C library keeps it otherwise."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library than glibc
            ctypes.CDLL(None).malloc_trim(0)
