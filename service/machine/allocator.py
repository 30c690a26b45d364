"""Memory of the C library: kept between frames, given back when a model has gone. Only glibc is told anything.

Codec threads take and give back some megabytes for every large frame. By default glibc returns each of them to the
system at once, and the next frame pays for them again, page by page: on a virtual machine more than for decoding it.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from typing import Final

__all__ = ["give_back_memory", "keep_freed_memory"]

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_KEPT_BYTES: Final = 64 << 20
"""What an arena may hold on to."""
_LARGEST_BYTES: Final = 32 << 20
"""The most that glibc can be told to take from an arena; larger allocations come from the system one by one."""


def keep_freed_memory() -> bool:
    """Have this process keep what it frees for what it needs next; says whether there is a glibc that agreed."""
    if sys.platform != "linux":
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # another C library
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_BYTES)) and bool(mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES))


def give_back_memory() -> None:
    """Return to the system what is free now."""
    if sys.platform == "linux":
        with contextlib.suppress(AttributeError, OSError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)
