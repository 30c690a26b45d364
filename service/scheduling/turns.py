"""How far behind the event loop is, where it and not the model is the limit.

In a turn the loop reads what has come, then goes on with what it has begun. While it keeps up, a turn takes next to no
time. When it does not, every request waits for turns, and where each turn takes on more than the one before it, in the
end for so many that no answer is in time, though every single one is written. No queue shows that: most of what waits
has not been read. So the turns themselves are timed, and what would be late by them is refused, which takes a fraction
of the time of an answer.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Turns"]

_MANY: Final = 4
"""With fewer requests in a turn the loop keeps up, and is left alone."""
_PASSAGE: Final = 4
"""Turns that a request may take: one to be read, this one, one until its result is heard of, and one in reserve."""
_REFUSAL: Final = 0.3
"""What a refusal takes of the time of an answer, about: 0.19 ms of CPU and 0.65, where this was measured."""
_LONG_S: Final = 0.002
"""A turn that is longer than this leaves other threads hardly any of the interpreter's time."""
_WEIGHT: Final = 0.1


class Turns:
    """Times the turns of an event loop, the one that it is used from all its life, while there is much to do.

    Args:
        clock: Seconds.

    Attributes:
        is_behind: Whether the loop has so much to do that other threads hardly get the interpreter.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self.is_behind = False
        self._scheduled = False
        self._is_timing = False
        self._began_s = 0.0
        self._turn_s = 0.0  # the last whole turn
        self._each_s = 0.0  # what a request takes of a turn
        self._asked = 0  # requests in this turn
        self._taken = 0  # those of them that were not refused

    def ask(self) -> float:
        """Note a request that is read now; how many seconds of its time are lost to waiting for the loop."""
        self._note()
        if not self._is_timing:
            return 0.0
        so_far_s = self._clock() - self._began_s
        return _PASSAGE * max(self._turn_s, so_far_s + self._taken * self._each_s)

    def take(self) -> None:
        """Note that a request has been taken on, whether or not that was asked before."""
        self._taken += 1
        if self._taken > self._asked:
            self._note()

    def _note(self) -> None:
        self._asked += 1
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        """The loop has got round."""
        now_s = self._clock()
        if self._is_timing:
            self._turn_s = now_s - self._began_s
            each_s = self._turn_s / max(1.0, self._taken + _REFUSAL * (self._asked - self._taken))
            self._each_s += (_WEIGHT if self._each_s else 1.0) * (each_s - self._each_s)
        self._is_timing = self._asked >= _MANY
        self._scheduled = self._is_timing
        self._began_s = now_s
        self._asked = self._taken = 0
        self.is_behind = self._turn_s > _LONG_S
        if self._is_timing:
            asyncio.get_running_loop().call_soon(self._turn)
        else:
            self._turn_s, self.is_behind = 0.0, False
