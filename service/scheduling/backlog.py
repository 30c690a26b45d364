"""What waits for the model, and in which order it is taken: the one place that decides it.

The order is that of due times. A frame with a deadline is due then; one without is due when the longest wait that the
service allows is over, so neither kind starves the other, and frames of one kind are taken as they came. A frame that
cannot be answered in time is refused when it comes, and one that has become hopeless as soon as that is known: what
waits is always worth running. A newer frame of a stream takes the place in the queue of the one that it supersedes;
put at the end, a stream that is quicker than the queue would never be answered.
"""

from __future__ import annotations

import bisect
import heapq
import math
import threading
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from service.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.scheduling.estimate import RunTime
    from service.scheduling.freshness import Freshness
    from service.scheduling.jobs import Job

__all__ = ["QUICK_S", "Backlog", "Taken", "run_size"]

QUICK_S: Final = 0.001
"""A run that is quicker than this costs about as much as handing it to another thread and its result back."""
_TURN_S: Final = 0.002
"""Work that a worker takes at one time, if frames are that quick."""
_EXACT_JOBS: Final = 64
"""Up to here the wait is found by playing through who takes what; beyond, by dividing the work by the workers."""


class Taken(NamedTuple):
    """What a worker is given.

    Attributes:
        jobs: To run, all for one model; none when the backlog is closed and empty, or when there was only the other.
        hopeless: To refuse, as they would be late.
    """

    jobs: list[Job]
    hopeless: list[Job]


class _Bell:
    """Wakes one thread; who is called before it waits does not wait.

    A bare lock and no condition: while the thread that waits still runs Python on its way to sleep, and as soon as it
    wakes, whoever is to hear of its results waits for the interpreter.
    """

    __slots__ = ("ring", "wait")

    def __init__(self) -> None:
        lock = threading.Lock()
        lock.acquire()
        self.wait = lock.acquire
        self.ring = lock.release


class Backlog:
    """A queue with bounds in frames and in time. Any thread may use it.

    Args:
        workers: How many will take from it.
        limit_frames: Most frames that may wait, but for those of a single request: a bound on memory.
        limit_s: Longest wait that a frame without a deadline may be in for.
        quick_workers: How many of them run quick frames at one time.
    """

    def __init__(self, workers: int, limit_frames: int, limit_s: float, quick_workers: int) -> None:
        self._workers = workers
        self._quick_workers = quick_workers
        self._quick: set[int] = set()  # workers that run quick frames now
        self._limit_frames = limit_frames
        self._limit_s = limit_s
        self._jobs: list[Job] = []
        self._frames = 0
        self._work_s = 0.0
        self._due = 0  # jobs with a deadline
        self._busy_until_s: dict[int, float] = {}
        self._lock = threading.Lock()
        self._idle: set[int] = set()  # workers that have found nothing to do and have not come again
        self._resting: list[int] = []  # those of them that nobody has called since
        self._bells = [_Bell() for _ in range(workers)]
        self._closed = False

    @property
    def frames(self) -> int:
        """Frames that wait now."""
        return self._frames

    def wait_s(self, now_s: float) -> float:
        """About how long a frame that comes now and has no deadline is going to wait."""
        if not self._jobs and len(self._busy_until_s) < self._workers:
            return 0.0
        running = sum(max(0.0, end - now_s) for end in list(self._busy_until_s.values()))
        return (running + self._work_s) / self._hands(self._jobs)

    def check_room(self, count: int, now_s: float) -> None:
        """Say no to so many frames if there is no place for them, or none for a long time.

        Where nothing waits there is place for any request: one with more frames than may wait would never have it.

        Raises:
            Busy: It says when the queue of now is going to be gone.
        """
        wait_s = self.wait_s(now_s)
        if self._frames and self._frames + count > self._limit_frames:
            retry_after_s = _whole_seconds(wait_s)
            raise Busy(
                f"expected room for {count} more frames, but {self._frames} wait already and "
                f"{self._limit_frames} may; come again in {retry_after_s} s or send fewer frames",
                reason="queue",
                retry_after_s=retry_after_s,
            )
        if wait_s > self._limit_s:
            retry_after_s = _whole_seconds(wait_s)
            raise Busy(
                f"expected a wait of at most {self._limit_s * 1000:.0f} ms for the model, but it would be "
                f"{wait_s * 1000:.0f} ms; come again in {retry_after_s} s",
                reason="wait",
                retry_after_s=retry_after_s,
            )

    def has_place_for(self, freshness: Freshness) -> bool:
        """Whether an older frame of the same stream waits, whose place a new one takes."""
        if freshness.stream is None:
            return False
        with self._lock:
            return any(job.freshness.newness <= freshness.newness for job in self._of_stream(freshness))

    def check_due(self, run_time: RunTime, frames: int, freshness: Freshness, due_s: float, now_s: float) -> None:
        """Say no to frames that could not be done in time even if they were here now.

        Raises:
            Stale: They could not.
        """
        with self._lock:
            if self._in_any_case(run_time, frames, due_s, now_s):
                return
            older = self._of_stream(freshness)
            queue = [job for job in self._jobs if job not in older] if older else self._jobs
            place_s = min([due_s, *(job.place_s for job in older)])
            start_s = self._starts(queue, bisect.bisect_right(queue, place_s, key=_place), now_s)[0]
            run_s = run_time.hope_s(frames, now_s, due_s - now_s, waits=start_s > 0)
        if now_s + start_s + run_s > due_s:
            raise freshness.missed(_forecast(start_s, max(run_s, run_time.expect_s(frames))))

    def push(self, jobs: Sequence[Job], now_s: float) -> list[Job]:
        """Add all jobs of one request or none.

        Returns:
            Older jobs of the same stream, which have been taken out.

        Raises:
            Busy: There is no room for all of them, or too long a wait.
            Stale: They would be late, or would make others late that have been let in before.
        """
        first = jobs[0]
        with self._lock:
            place_s = first.due_s if first.due_s < math.inf else first.submitted_s + self._limit_s
            older = self._of_stream(first.freshness)
            added = sum(len(job.frames) for job in jobs) - sum(len(job.frames) for job in older)
            if added <= 0:
                place_s = min([place_s, *(job.place_s for job in older)])
            for job in jobs:
                job.place_s = place_s
                job.cost_s = job.run_time.expect_s(len(job.frames))
            if added > 0:
                self.check_room(added, now_s)
            if first.due_s < math.inf:
                self._check_order(jobs, older, now_s, harmless=added <= 0)
            for job in older:
                self._remove(job)
            for job in jobs:
                bisect.insort_right(self._jobs, job, key=_place)
                self._frames += len(job.frames)
                self._work_s += job.cost_s
                self._due += job.due_s < math.inf
        return older

    def wake(self, most: int) -> None:
        """Wake workers that wait for work."""
        with self._lock:
            if self._resting and self._jobs:
                self._ring(min(most, len(self._jobs), self._free(self._jobs[0])))

    def take(self, worker: int) -> Taken | None:
        """Take a turn's worth of work; what the worker has taken before is done with that.

        Args:
            worker: Its number, from 0 on.

        Returns:
            None if there is none now: the worker is to `rest`, and to come again.
        """
        with self._lock:
            self._busy_until_s.pop(worker, None)
            self._quick.discard(worker)
            self._idle.discard(worker)
            if not self._jobs and self._closed:
                return Taken([], [])
            if not self._jobs or not self._free(self._jobs[0]):
                self._idle.add(worker)
                self._resting.append(worker)
                return None
            now_s = time.perf_counter()
            hopeless = self._drop_hopeless(now_s)
            taken = Taken(self._pick(now_s) if self._jobs else [], hopeless)
            if taken.jobs:
                run_time = taken.jobs[0].run_time
                self._busy_until_s[worker] = now_s + run_time.expect_s(sum(len(job.frames) for job in taken.jobs))
                if run_time.is_quick(QUICK_S):
                    self._quick.add(worker)
            if self._jobs and self._resting and self._free(self._jobs[0]):  # who rests may have been held back till now
                self._ring(1)
            return taken

    def rest(self, worker: int) -> None:
        """Wait until there may be work for a worker that has found none."""
        self._bells[worker].wait()

    def take_alone(self, most_s: float) -> Job | None:
        """Take the only job there is, if no worker is at work and it takes no longer than this."""
        with self._lock:
            if len(self._jobs) != 1 or self._busy_until_s:
                return None
            job = self._jobs[0]
            if not job.run_time.known or job.run_time.expect_s(len(job.frames)) + 2 * job.run_time.spread_s > most_s:
                return None
            self._remove(job)
            return job

    def take_quick(self) -> Taken | None:
        """Take a share of the quick frames that wait, for somebody who is no worker; None if there are none."""
        now_s = time.perf_counter()
        with self._lock:
            hopeless = self._drop_hopeless(now_s)
            if self._jobs and _fits_a_turn(self._jobs[0]):
                return Taken(self._pick(now_s, outsiders=1), hopeless)
            return Taken([], hopeless) if hopeless else None

    def discard(self, job: Job) -> bool:
        """Take out a job that nobody wants any more; whether it was still there."""
        with self._lock:
            if job not in self._jobs:
                return False
            self._remove(job)
            return True

    def close(self) -> None:
        """Let `take` return nothing once all that waits is taken."""
        with self._lock:
            self._closed = True
            self._ring(len(self._resting))

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits and no worker is at work."""
        return not self._jobs and not self._busy_until_s

    @property
    def is_over(self) -> bool:
        """Whether the backlog is closed and empty."""
        return self._closed and not self._jobs

    def _drop_hopeless(self, now_s: float) -> list[Job]:
        """Take out what stands in front and would be late if it were run now."""
        hopeless: list[Job] = []
        while self._jobs and _is_hopeless(self._jobs[0], now_s):
            hopeless.append(self._jobs[0])
            self._remove(self._jobs[0])
        return hopeless

    def _pick(self, now_s: float, *, outsiders: int = 0) -> list[Job]:
        """The next job and, as far as that is no harm to any of them, those behind it; for a worker or an outsider."""
        first = self._jobs[0]
        run_time = first.run_time
        count, due_s = len(first.frames), first.due_s
        most = _in_a_turn(run_time) if outsiders else max(run_size(first), _in_a_turn(run_time))
        if not run_time.batch_pays:  # others that wait for work are to have their share
            sharers = outsiders + min(len(self._idle) + 1 - outsiders, self._free(first))
            most = min(most, -(-self._frames // max(1, sharers)))
        end = 1
        for job in self._jobs[1:]:
            count += len(job.frames)
            due_s = min(due_s, job.due_s)
            if job.model is not first.model or count > most or now_s + run_time.expect_s(count) > due_s:
                break
            end += 1
        taken = self._jobs[:end]
        del self._jobs[:end]
        for job in taken:
            self._forget(job)
        return taken

    def _free(self, job: Job) -> int:
        """How many more workers may begin with a job like this."""
        if self._closed or not job.run_time.is_quick(QUICK_S):
            return self._workers
        return self._quick_workers - len(self._quick)

    def _hands(self, queue: Sequence[Job]) -> int:
        """How many workers there are for what waits."""
        first = next(iter(queue), None)  # a worker may take the last of them between two looks
        return self._workers if first is None or not first.run_time.is_quick(QUICK_S) else self._quick_workers

    def _ring(self, count: int) -> None:
        """Call as many of the workers that rest, those first that have rested longest."""
        called, self._resting = self._resting[:count], self._resting[count:]
        for worker in called:
            self._bells[worker].ring()

    def _of_stream(self, freshness: Freshness) -> list[Job]:
        """What waits of the same stream."""
        if freshness.stream is None:
            return []
        return [job for job in self._jobs if job.freshness.stream == freshness.stream]

    def _remove(self, job: Job) -> None:
        self._jobs.remove(job)
        self._forget(job)

    def _forget(self, job: Job) -> None:
        self._frames -= len(job.frames)
        self._work_s = self._work_s - job.cost_s if self._jobs else 0.0
        self._due -= job.due_s < math.inf

    def _starts(self, queue: Sequence[Job], place: int, now_s: float) -> list[float]:
        """When workers are free for the job at this place: seconds from now, the first of them first."""
        free = [max(0.0, end - now_s) for end in self._busy_until_s.values()]
        free += [0.0] * (self._hands(queue) - len(free))
        if place > _EXACT_JOBS:
            each = (sum(free) + sum(job.cost_s for job in queue[:place])) / len(free)
            return [each] * len(free)
        heapq.heapify(free)
        for job in queue[:place]:
            heapq.heapreplace(free, free[0] + job.cost_s)
        return free

    def _latest_s(self, now_s: float) -> float:
        """Seconds until all that runs and waits is done, if the worker that is free last did all that waits."""
        return max(0.0, max(self._busy_until_s.values(), default=now_s) - now_s) + self._work_s

    def _in_any_case(self, run_time: RunTime, frames: int, due_s: float, now_s: float) -> bool:
        """Whether frames are in time wherever in the queue they stand: for most this is all there is to find out."""
        latest_s = self._latest_s(now_s)
        return now_s + latest_s + run_time.hope_s(frames, now_s, due_s - now_s, waits=True) <= due_s

    def _check_order(self, jobs: Sequence[Job], older: Sequence[Job], now_s: float, *, harmless: bool) -> None:
        """Say no to jobs that would be late or, unless they are harmless, make late what has been let in already."""
        queue = [job for job in self._jobs if job not in older] if older else self._jobs
        first = jobs[0]
        place = bisect.bisect_right(queue, first.place_s, key=_place)
        if len(jobs) == 1 and self._in_any_case(first.run_time, len(first.frames), first.due_s, now_s):
            # None behind is due before its place.
            end_s = self._latest_s(now_s) + first.cost_s
            if harmless or place == len(queue) or now_s + end_s <= queue[place].place_s:
                return
        free = self._starts(queue, place, now_s)
        start_s, longest_s = free[0], 0.0
        for job in jobs:
            run_s = job.run_time.hope_s(len(job.frames), now_s, job.due_s - now_s, waits=free[0] > 0)
            longest_s = max(longest_s, free[0] + run_s)
            if now_s + longest_s > job.due_s:
                run_s = max(longest_s - start_s, job.run_time.expect_s(len(job.frames)))
                raise job.freshness.missed(_forecast(start_s, run_s))
            heapq.heapreplace(free, free[0] + job.cost_s)
        if place > _EXACT_JOBS or harmless:
            return
        for job in queue[place : place + _EXACT_JOBS]:
            end_s = free[0] + job.cost_s
            if now_s + end_s > job.due_s:
                raise jobs[0].freshness.missed("frames that were let in before it would become late")
            heapq.heapreplace(free, end_s)


def run_size(job: Job) -> int:
    """Most frames that are run together with this job: as the model allows, or one if together is no quicker.

    Quick frames run together for a turn even so: what is saved is not in the model but between the threads.
    """
    most = 1 if job.run_time.batch_loses else job.model.max_batch
    return max(most, min(job.model.max_quick, _in_a_turn(job.run_time)))


def _in_a_turn(run_time: RunTime) -> int:
    """How many frames are a turn's work, if they are quick; or one."""
    return int(_TURN_S / max(run_time.least_s, 1e-5)) if run_time.is_quick(QUICK_S) else 1


def _fits_a_turn(job: Job) -> bool:
    """Whether a job is quick, all its frames together."""
    return job.run_time.is_quick(QUICK_S) and len(job.frames) <= _in_a_turn(job.run_time)


def _place(job: Job) -> float:
    return job.place_s


def _is_hopeless(job: Job, now_s: float) -> bool:
    if job.due_s == math.inf:
        return False
    return now_s + job.run_time.hope_s(len(job.frames), now_s, 0.0, waits=False) > job.due_s


def _forecast(wait_s: float, run_s: float) -> str:
    return f"the wait is about {wait_s * 1000:.0f} ms and the model takes {run_s * 1000:.0f} ms"


def _whole_seconds(wait_s: float) -> int:
    return min(3600, max(1, math.ceil(wait_s)))
