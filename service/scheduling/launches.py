"""Quick frames for a model's own process: batches begun by the event loop as long as there is a place for them.

A thread needs the interpreter before a run and after it. Where the event loop is as busy as the model, it waits for it
each time longer than a quick run takes, and takes it from the loop when it has it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.scheduling.results import hopeless, settle_from

if TYPE_CHECKING:
    import asyncio

    from service.engine import Prediction
    from service.scheduling.backlog import Backlog
    from service.scheduling.jobs import Job
    from service.scheduling.runs import Runs

__all__ = ["Launches"]


class Launches:
    """Hands what waits in a backlog to the processes of its models. Used from one event loop.

    Args:
        backlog: What waits.
        runs: Runs what a process has failed on.
    """

    def __init__(self, backlog: Backlog, runs: Runs) -> None:
        self._backlog = backlog
        self._runs = runs
        self._under_way: set[_Flight] = set()

    def begin(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Launch what can be; whether any batch is under way then."""
        while (taken := self._backlog.take_launch()) is not None:
            settle_from(loop, hopeless(taken.hopeless))
            if taken.jobs:
                self._launch(_Flight(self, loop, taken.jobs))
        return bool(self._under_way)

    def _launch(self, flight: _Flight) -> None:
        self._under_way.add(flight)
        jobs = flight.jobs
        process = jobs[0].model.process()
        parts, latents = [job.frames for job in jobs], any(job.latents for job in jobs)
        if process is None or not process.launch(flight.loop, parts, latents=latents, landed=flight.landed):
            flight.landed(None, 0.0, 0.0)

    def land(self, flight: _Flight, prediction: Prediction | None, began_s: float, ended_s: float) -> None:
        """A batch has been run, or has failed."""
        self._under_way.remove(flight)
        self._backlog.landed()
        self.begin(flight.loop)  # before those are told who are going to keep the loop busy
        self._backlog.wake_all()  # for what is not to be launched
        jobs = flight.jobs
        if prediction is not None:
            settle_from(flight.loop, self._runs.ran(jobs, prediction, began_s, ended_s))
        elif waiting := [job for job in jobs if not job.promise.is_done]:
            settle_from(flight.loop, self._runs.run(waiting))  # that finds out which of them is at fault


class _Flight:
    """A batch under way, which keeps its jobs and their model."""

    __slots__ = ("_launches", "jobs", "loop")

    def __init__(self, launches: Launches, loop: asyncio.AbstractEventLoop, jobs: list[Job]) -> None:
        self._launches = launches
        self.loop = loop
        self.jobs = jobs

    def landed(self, prediction: Prediction | None, began_s: float, ended_s: float, /) -> None:
        """See `service.engine.process.Landed`."""
        self._launches.land(self, prediction, began_s, ended_s)
