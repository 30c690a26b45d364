"""Streams of frames: only the newest frame is wanted, and no answer goes out after that to a newer one.

A frame that is ready to wait, for a thread to decode it or for the model, ends the wait of the older ones that have
come no further. It ends none sooner: until its body is there and it has been let in it may still be refused, and the
older one would have gone for nothing. Nor does one that still has to be decoded end the wait of one that has been: the
model would wait as well, and a stream that is quicker than the service would never be answered.
"""

from __future__ import annotations

import math
import time
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from service.errors import Superseded

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from service.scheduling.errands import Errand, Seat

__all__ = ["Stage", "Streams", "Turn", "superseded"]

_KEPT_S: Final = 5.0
"""So long after its last answer a stream's older frames are still known to be old; a clock that has been set back is
believed after that."""
_MOST_RESTING: Final = 1024
_SAME: Final = 0.001
"""Frames whose capture times are nearer than this are of the same time: clocks are read one after the other."""


class Stage(IntEnum):
    """How far a frame has come."""

    COMING = 0
    DECODING = 1
    MODEL = 2


def superseded() -> Superseded:
    """The error for a frame that a newer one has overtaken."""
    return Superseded("expected the newest frame of its stream, but a newer one has come; send the next frame")


class _Flow:
    """A stream: its frames that have come as far as to wait, how many there are in all, and what has been answered."""

    __slots__ = ("answered", "frames", "turns")

    def __init__(self) -> None:
        self.turns: list[Turn] = []
        self.frames = 0
        self.answered = -math.inf


class Turn:
    """A frame's part in its stream, from its head to its answer.

    Attributes:
        waits: Where it waits to be decoded, if it does.
    """

    __slots__ = ("_flow", "_newness", "_on_leave", "_stage", "waits")

    def __init__(self, flow: _Flow, newness: float, on_leave: Callable[[], None]) -> None:
        self._flow = flow
        self._newness = newness
        self._on_leave = on_leave
        self._stage = Stage.COMING
        self.waits: tuple[Seat, Errand[Any]] | None = None

    def check(self, stage: Stage | None = None) -> None:
        """See that no newer frame has been answered, or has come as far as this.

        Raises:
            Superseded: One has.
        """
        newness = self._newness + _SAME
        if newness < self._flow.answered:
            raise superseded()
        if stage is None:
            return
        for turn in self._flow.turns:
            if turn._newness > newness and turn._stage >= stage:  # noqa: SLF001 - of its own kind
                raise superseded()

    def older(self) -> Iterator[tuple[Seat, Errand[Any]]]:
        """Where frames of the stream that are no newer wait to be decoded."""
        for turn in self._flow.turns:
            if turn.waits is not None and turn._newness <= self._newness + _SAME and turn is not self:  # noqa: SLF001
                yield turn.waits

    def reach(self, stage: Stage) -> None:
        """Come as far as this, and end the wait of older frames that have not."""
        if self._stage is Stage.COMING:
            self._flow.turns.append(self)
        self._stage = stage
        for seat, errand in self.older():
            if seat.leave(errand):
                errand.fail(superseded())

    def answer(self) -> None:
        """Have an answer that goes out now.

        Raises:
            Superseded: That to a newer frame has gone out already.
        """
        self.check()
        self._flow.answered = max(self._flow.answered, self._newness)

    def leave(self) -> None:
        """Be done, however it ended."""
        if self._stage is not Stage.COMING:
            self._flow.turns.remove(self)
        self._on_leave()


class Streams:
    """All streams of which frames are in flight, or have been answered just now: others cost nothing.

    Used from one event loop.
    """

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock = clock
        self._flows: dict[Hashable, _Flow] = {}
        self._resting: dict[Hashable, float] = {}  # since when, the longest first

    def __len__(self) -> int:
        return len(self._flows)

    def open(self, stream: Hashable, newness: float) -> Turn:
        """A frame whose head has come; it has to `leave` in the end.

        Raises:
            Superseded: A newer one waits already, is at work, or has been answered.
        """
        flow = self._flows.get(stream)
        if flow is None:
            flow = self._flows[stream] = _Flow()
        elif self._clock() - self._resting.get(stream, math.inf) > _KEPT_S:
            flow.answered = -math.inf
        turn = Turn(flow, newness, lambda: self._leave(stream, flow))
        turn.check(Stage.DECODING)
        self._resting.pop(stream, None)
        flow.frames += 1
        return turn

    def _leave(self, stream: Hashable, flow: _Flow) -> None:
        flow.frames -= 1
        if flow.frames:
            return
        if flow.answered == -math.inf:
            del self._flows[stream]
            return
        now_s = self._clock()
        self._resting[stream] = now_s
        while len(self._resting) > _MOST_RESTING or now_s - next(iter(self._resting.values())) > _KEPT_S:
            oldest = next(iter(self._resting))
            del self._resting[oldest], self._flows[oldest]
