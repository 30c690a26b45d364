"""What waits for the model, and in which order it is taken: the one place that decides it."""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from service.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.scheduler import Job

__all__ = ["Backlog"]


class Backlog:
    """A bounded queue, first come first served. Any thread may use it."""

    def __init__(self, limit_frames: int) -> None:
        self._limit_frames = limit_frames
        self._jobs: deque[Job] = deque()
        self._frames = 0
        self._changed = threading.Condition()
        self._closed = False

    @property
    def frames(self) -> int:
        """Frames that wait now."""
        return self._frames

    def push(self, jobs: Sequence[Job], retry_after_s: int) -> None:
        """Add all jobs or none.

        Raises:
            Busy: There is no room for all of them.
        """
        count = sum(len(job.frames) for job in jobs)
        with self._changed:
            if self._frames + count > self._limit_frames:
                raise Busy(
                    f"expected room for {count} more frames, but {self._frames} wait already and "
                    f"{self._limit_frames} may; come again in {retry_after_s} s or send fewer frames",
                    reason="queue",
                    retry_after_s=retry_after_s,
                )
            self._jobs.extend(jobs)
            self._frames += count
            self._changed.notify(len(jobs))

    def take(self) -> list[Job]:
        """Wait for work, then take what is there for one model, at most as many frames as it takes at once.

        Returns:
            The jobs; none when the backlog is closed and empty.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self._closed)
            taken: list[Job] = []
            count = 0
            while self._jobs:
                job = self._jobs[0]
                count += len(job.frames)
                if taken and (job.model is not taken[0].model or count > job.model.max_batch):
                    break
                taken.append(self._jobs.popleft())
                self._frames -= len(job.frames)
            return taken

    def discard(self, job: Job) -> None:
        """Take out a job whose client no longer waits; nothing happens if it has been taken already."""
        with self._changed:
            if job in self._jobs:
                self._jobs.remove(job)
                self._frames -= len(job.frames)

    def close(self) -> None:
        """Let `take` return nothing once all that waits is taken."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
