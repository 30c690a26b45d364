"""A timer that can be waited for together with sockets, to the microsecond; poll and epoll themselves know only ms."""

from __future__ import annotations

import contextlib
import ctypes
import os
from typing import Final

__all__ = ["Alarm"]

_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1
_NONBLOCKING: Final = os.O_NONBLOCK


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


class Alarm:
    """Becomes readable at a moment of `time.monotonic`. Linux only; Python has the call itself from 3.13 on.

    Source: timerfd_create(2).
    """

    def __init__(self) -> None:
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._fd = self._libc.timerfd_create(_CLOCK_MONOTONIC, _NONBLOCKING)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")

    def fileno(self) -> int:
        """What to wait for."""
        return int(self._fd)

    def set(self, moment_s: float) -> None:
        """Go off at this moment, or at once if it has passed."""
        nanoseconds = max(1, int(moment_s * 1e9))  # zero would disarm it
        spec = _TimerSpec(_TimeSpec(0, 0), _TimeSpec(*divmod(nanoseconds, 10**9)))
        if self._libc.timerfd_settime(self._fd, _ABSOLUTE, ctypes.byref(spec), None) < 0:
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def clear(self) -> None:
        """Stop being readable."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, 8)

    def close(self) -> None:
        """Give it back."""
        os.close(self._fd)
