"""How long a model takes, and what stands around it: running estimates, from the runs themselves."""

from __future__ import annotations

import math
from typing import Final

__all__ = ["RunTime", "SizedTime", "StageTime"]

_WEIGHT: Final = 0.1
_SIZED_WEIGHT: Final = 0.25
_STALE_S: Final = 1.0
_HALVES_S: Final = 30.0
_PAYS: Final = 0.7
_RESERVE: Final = 0.4
_RESERVE_OF_SLACK: Final = 0.56
_GAINS: Final = 0.9
_HELD_UP: Final = 10
"""How many times as long a quick run may seem to take beside a busy event loop."""


class RunTime:
    """What a frame takes in one model, learnt run by run. Any thread may read it or add to it.

    Frames that run alone and frames that run together are learnt apart, so whether a batch pays is measured, not set.

    Attributes:
        known: Whether there has been any run.
        spread_s: Mean distance of a run from its estimate, per frame.
        least_s: About the least that a frame has taken lately.
    """

    __slots__ = ("_alone_s", "_best_s", "_last_run_s", "_together_s", "_updated_s", "known", "least_s", "spread_s")

    def __init__(self) -> None:
        self.known = False
        self.spread_s = 0.0
        self.least_s = 0.0
        self._alone_s = 0.0
        self._best_s = 0.0
        self._together_s: float | None = None
        self._updated_s = 0.0
        self._last_run_s = 0.0

    def add(self, frames: int, seconds: float, now_s: float) -> None:
        """Learn from one run."""
        frame_s = seconds / frames
        if not self.known:
            self.known = True
            self._alone_s = self.least_s = self._best_s = frame_s
        self._best_s = min(self._best_s, frame_s)
        expected = self._alone_s if frames == 1 else self._together_s
        if expected is None:
            expected = self._together_s = frame_s
        self.spread_s += _WEIGHT * (abs(frame_s - expected) - self.spread_s)
        updated = expected + _WEIGHT * (frame_s - expected)
        if frames == 1:
            self._alone_s = updated
        else:
            self._together_s = updated
        self.least_s = min(frame_s, self.least_s + _WEIGHT * (updated - self.least_s) / 2)
        self._updated_s = now_s
        self._last_run_s = seconds

    def expect_s(self, frames: int) -> float:
        """What a run of so many frames is going to take, in seconds; 0 as long as nothing is known."""
        if frames == 1 or self._together_s is None:
            return frames * self._alone_s
        return frames * self._together_s

    def hope_s(self, frames: int, now_s: float, budget_s: float, *, waits: bool) -> float:
        """The time to reckon with when deciding whether to try at all.

        A frame that has to wait takes a place from others and may be held up by what nobody foresaw: a share of its
        budget is kept in reserve, so that under overload the queue stays short and what runs is fresh; of a budget that
        is mostly the run's, a share of the rest, or workers would wait for frames that have just come. For one that
        finds a worker free there is nothing to lose: a quick run counts. And after a second without any run the
        estimate may be of another time: then the least counts, and that for half with every further second. Else a
        machine that was busy for a while would refuse for ever, as refused frames teach nothing. What no run has come
        near so far stays hopeless for longer.
        """
        least_s = frames * self.least_s
        stale_s = now_s - self._updated_s - _STALE_S - 2 * self._last_run_s  # one may be under way
        if stale_s > 0:
            return max(least_s * math.exp2(-stale_s), frames * self._best_s / 2 * math.exp2(-stale_s / _HALVES_S))
        expected_s = self.expect_s(frames)
        if waits:
            reserve_s = min(_RESERVE * budget_s, _RESERVE_OF_SLACK * max(0.0, budget_s - expected_s))
            return max(least_s, expected_s) + max(2 * self.spread_s, reserve_s)
        return max(least_s, expected_s - 2 * frames * self.spread_s)

    def is_quick(self, most_s: float) -> bool:
        """Whether a frame is known to take less than this in itself, without its waits for the interpreter."""
        return self.known and self.least_s < most_s and self._alone_s < _HELD_UP * most_s

    @property
    def batch_pays(self) -> bool:
        """Whether frames that run together have been found much quicker than alone."""
        return self._together_s is not None and self._together_s < _PAYS * self._alone_s

    @property
    def batch_loses(self) -> bool:
        """Whether frames that run together have been found no quicker than alone: all would wait for nothing."""
        return self._together_s is not None and self._together_s > _GAINS * self._alone_s


class StageTime:
    """What a stage around the model takes: a running mean, forgotten after a second in which nothing came of it."""

    __slots__ = ("_s", "_updated_s")

    def __init__(self) -> None:
        self._s = 0.0
        self._updated_s = -math.inf

    def add(self, seconds: float, now_s: float) -> None:
        """Learn from one time."""
        if now_s - self._updated_s > _STALE_S:
            self._s = min(self._s, seconds)
        self._s += _WEIGHT * (seconds - self._s)
        self._updated_s = now_s

    def expect_s(self, now_s: float, *, at_work: bool = False) -> float:
        """The time to reckon with; 0 if nothing is known, or what is known is of another time.

        Args:
            now_s: When.
            at_work: Whether the stage has something to do now: then nothing is forgotten, as a result may take long.
        """
        return self._s if at_work or now_s - self._updated_s <= _STALE_S else 0.0


class SizedTime:
    """What a stage takes for things of different sizes, learnt apart where one is four times another.

    What does not grow with the size is a larger share of the smaller: one would be a wrong measure for the other. After
    a second in which nothing came of a size, half of what is known counts with every further second: what is refused
    teaches nothing.
    """

    __slots__ = ("_rates",)

    def __init__(self) -> None:
        self._rates: dict[int, tuple[float, float]] = {}  # seconds for each unit of size, and when that was learnt

    def add(self, seconds: float, size: int, now_s: float) -> None:
        """Learn from one time."""
        rate = seconds / size
        known, updated_s = self._rates.get(_order(size), (rate, now_s))
        if now_s - updated_s <= _STALE_S:
            rate = known + _SIZED_WEIGHT * (rate - known)
        self._rates[_order(size)] = rate, now_s

    def expect_s(self, size: int, now_s: float) -> float:
        """The time to reckon with; 0 if nothing is known of this size."""
        rate, updated_s = self._rates.get(_order(size), (0.0, now_s))
        return rate * size * math.exp2(-max(0.0, now_s - updated_s - _STALE_S))


def _order(size: int) -> int:
    return size.bit_length() // 2
