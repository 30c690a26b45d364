"""Runs of a model for one job or for several, and what each of them gets of it."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING

import numpy as np

from service.engine import Prediction
from service.errors import ModelFault
from service.scheduling.backlog import run_size
from service.scheduling.jobs import Done
from service.scheduling.results import hopeless

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from numpy.typing import NDArray

    from service.scheduling.backlog import Taken
    from service.scheduling.jobs import Job
    from service.scheduling.results import Result

__all__ = ["Runs", "together"]


class Runs:
    """Runs jobs, and learns from every run.

    Args:
        on_batch: Told the number of frames of every run, from the thread that ran it.
    """

    def __init__(self, on_batch: Callable[[int], None]) -> None:
        self._on_batch = on_batch

    def do(self, taken: Taken) -> list[Result]:
        """Do a turn of work."""
        results = hopeless(taken.hopeless)
        for batch in _batches(job for job in taken.jobs if not job.promise.is_done):
            results += self.run(batch)
        return results

    def run(self, jobs: list[Job]) -> list[Result]:
        """Run jobs in one batch; if that fails, each alone, so that only the one at fault fails."""
        latents = any(job.latents for job in jobs)
        started_s = time.perf_counter()
        try:
            prediction = jobs[0].model.run(together(jobs), latents)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            if len(jobs) == 1:
                fault = error if isinstance(error, ModelFault) else ModelFault(f"expected an answer, got {error!r}")
                return [(jobs[0], fault)]
            return [result for job in jobs for result in self.run([job])]
        return self.ran(jobs, prediction, started_s, time.perf_counter())

    def ran(self, jobs: list[Job], prediction: Prediction, started_s: float, ended_s: float) -> list[Result]:
        """What each of several jobs gets of the run that all had together."""
        frames = len(prediction.probability)
        jobs[0].run_time.add(frames, ended_s - started_s, ended_s)
        self._on_batch(frames)
        if len(jobs) == 1:
            return [(jobs[0], Done(prediction, started_s, ended_s))]
        edges = itertools.accumulate((len(job.frames) for job in jobs), initial=0)
        return [
            (job, Done(_cut(prediction, start, stop, latents=job.latents), started_s, ended_s, len(jobs)))
            for job, (start, stop) in zip(jobs, itertools.pairwise(edges), strict=True)
        ]


def together(jobs: list[Job]) -> NDArray[np.uint8]:
    """Frames [N,64,64,3] of several jobs as one array.

    `np.concatenate` lets go of the interpreter at every part; where the event loop is busy, each time costs a wait.
    """
    first = jobs[0].frames
    if len(jobs) == 1:
        return first
    content = b"".join([job.frames.tobytes() for job in jobs])
    return np.frombuffer(content, np.uint8).reshape(-1, *first.shape[1:])


def _batches(jobs: Iterable[Job]) -> list[list[Job]]:
    """Jobs for one model, in runs that it takes at one time."""
    batches: list[list[Job]] = []
    count = 0
    for job in jobs:
        count += len(job.frames)
        if batches and count <= run_size(job):
            batches[-1].append(job)
        else:
            batches.append([job])
            count = len(job.frames)
    return batches


def _cut(prediction: Prediction, start: int, stop: int, *, latents: bool) -> Prediction:
    wanted = prediction.latents[start:stop] if latents and prediction.latents is not None else None
    return Prediction(prediction.probability[start:stop], wanted, prediction.threshold, prediction.verdicts[start:stop])
