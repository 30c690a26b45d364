"""Worker threads that run what waits: no timer, no process border, and no job can hurt another."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np

from service.backlog import Backlog
from service.engine import Prediction
from service.errors import ModelFault

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Done", "Job", "Model", "Outcome", "Scheduler"]


class Model(Protocol):
    """What can be scheduled; any number of threads may run it at once."""

    @property
    def max_batch(self) -> int:
        """Most frames in one run."""

    def run(self, frames: NDArray[np.uint8], latents: bool) -> Prediction:
        """Frames [N,64,64,3] -> what the model says of them."""


@dataclass(slots=True, eq=False)
class Job:
    """Frames of one request that run together, and the future that waits for them."""

    model: Model
    frames: NDArray[np.uint8]
    latents: bool
    future: asyncio.Future[Done]
    submitted_s: float = field(default_factory=time.perf_counter)


class Done(NamedTuple):
    """A job's prediction and when it ran, in seconds of `time.perf_counter`."""

    prediction: Prediction
    started_s: float
    ended_s: float


class Outcome(NamedTuple):
    """The prediction for all frames of a request, how long it waited and how long it took."""

    prediction: Prediction
    queue_s: float
    infer_s: float


class Scheduler:
    """Runs frames on a number of threads, in the order of its backlog.

    Args:
        workers: Number of threads.
        limit_frames: Most frames that may wait.
        on_batch: Told the number of frames of every run, from the thread that ran it.
    """

    def __init__(self, workers: int, limit_frames: int, on_batch: Callable[[int], None]) -> None:
        self._on_batch = on_batch
        self._backlog = Backlog(limit_frames)
        self._workers = workers
        self._frame_s = 0.01  # what a frame takes, a running mean
        self._threads = [
            threading.Thread(target=self._work, name=f"robomask-infer-{index}", daemon=True) for index in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_frames(self) -> int:
        """Frames that wait for a worker now."""
        return self._backlog.frames

    async def submit(self, model: Model, frames: NDArray[np.uint8], *, latents: bool) -> Outcome:
        """Run frames [N,64,64,3], in parts that workers share if the model does not take them all at once.

        If the caller is cancelled, what still waits is never run.

        Raises:
            Busy: Too much waits already.
            ModelFault: The model failed on these frames.
        """
        loop = asyncio.get_running_loop()
        jobs = [
            Job(model, frames[start : start + model.max_batch], latents, loop.create_future())
            for start in range(0, len(frames), model.max_batch)
        ]
        self._backlog.push(jobs, self._wait_estimate_s())
        try:
            done = [await job.future for job in jobs]
        except BaseException:
            for job in jobs:
                self._abandon(job)
            raise
        started, ended = min(part.started_s for part in done), max(part.ended_s for part in done)
        return Outcome(_joined([part.prediction for part in done]), started - jobs[0].submitted_s, ended - started)

    def close(self) -> None:
        """Finish what waits, then end the threads."""
        self._backlog.close()
        for thread in self._threads:
            thread.join()

    def _abandon(self, job: Job) -> None:
        job.future.cancel()
        if job.future.cancelled():
            self._backlog.discard(job)
        else:
            job.future.exception()  # asyncio complains of failures that nobody looked at

    def _wait_estimate_s(self) -> int:
        return min(60, max(1, math.ceil(self._backlog.frames * self._frame_s / self._workers)))

    def _work(self) -> None:
        while jobs := self._backlog.take():
            wanted = [job for job in jobs if not job.future.cancelled()]
            if wanted:
                self._run(wanted)

    def _run(self, jobs: list[Job]) -> None:
        """Run jobs in one batch; if that fails, each alone, so that only the one at fault fails."""
        started = time.perf_counter()
        frames = jobs[0].frames if len(jobs) == 1 else np.concatenate([job.frames for job in jobs])
        try:
            prediction = jobs[0].model.run(frames, any(job.latents for job in jobs))
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            if len(jobs) == 1:
                _settle(jobs[0], error)
                return
            for job in jobs:
                self._run([job])
            return
        ended = time.perf_counter()
        self._frame_s += 0.1 * ((ended - started) / len(frames) - self._frame_s)
        self._on_batch(len(frames))
        edges = itertools.accumulate((len(job.frames) for job in jobs), initial=0)
        for job, (start, stop) in zip(jobs, itertools.pairwise(edges), strict=True):
            latents = prediction.latents[start:stop] if job.latents and prediction.latents is not None else None
            _settle(job, Done(Prediction(prediction.probability[start:stop], latents), started, ended))


def _settle(job: Job, result: Done | Exception) -> None:
    """Hand a result to the event loop that waits for it, unless nobody does any more."""

    def set_result() -> None:
        if job.future.done():
            return
        if isinstance(result, Done):
            job.future.set_result(result)
        else:
            fault = result if isinstance(result, ModelFault) else ModelFault(f"expected an answer, got {result!r}")
            job.future.set_exception(fault)

    with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
        job.future.get_loop().call_soon_threadsafe(set_result)


def _joined(parts: list[Prediction]) -> Prediction:
    if len(parts) == 1:
        return parts[0]
    latents = [part.latents for part in parts if part.latents is not None]
    return Prediction(
        np.concatenate([part.probability for part in parts]), np.concatenate(latents) if latents else None
    )
