"""Has the C library keep memory that it will need again for the next frame.

Codec threads take and give back some megabytes for every large frame. By default glibc returns each of them to the
system at once, and the next frame pays for them again, page by page: on a virtual machine more than for decoding it.
"""

from __future__ import annotations

import ctypes
import sys
from typing import Final

__all__ = ["keep_freed_memory"]

_TRIM_THRESHOLD: Final = -1  # names in malloc.h: M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_MMAP_THRESHOLD: Final = -3

KEPT_BYTES: Final = 64 << 20
"""What an arena may hold on to."""
LARGEST_KEPT_BYTES: Final = 32 << 20
"""Of one allocation, the most that glibc takes from an arena at all; larger ones come from the system."""


def keep_freed_memory() -> bool:
    """Set both thresholds for this process; says whether there is a glibc that took them."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # musl has none
        return False
    return bool(mallopt(_MMAP_THRESHOLD, LARGEST_KEPT_BYTES)) and bool(mallopt(_TRIM_THRESHOLD, KEPT_BYTES))
