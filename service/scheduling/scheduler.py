"""Worker threads that run what waits: no timer, no process border, and no job can hurt another.

A run starts the moment that a worker is free, with what is there. A quick model that has one frame to run and nothing
else runs it right on the event loop: waking a thread would take as long as the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import math
import threading
import time
import weakref
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from service.engine import Prediction
from service.errors import ModelFault
from service.scheduling.backlog import QUICK_S, Backlog, run_size
from service.scheduling.estimate import RunTime
from service.scheduling.freshness import Freshness
from service.scheduling.jobs import Done, Job
from service.scheduling.promise import Promise
from service.scheduling.streams import Stage, superseded
from service.scheduling.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from service.scheduling.backlog import Taken
    from service.scheduling.jobs import Model
    from service.scheduling.streams import Turn

__all__ = ["Outcome", "Scheduler"]

_SLOW_S: Final = 0.004
"""From here on a run gains more from several threads than they cost."""
_QUICKER_AT_MOST: Final = 8
"""How many times as quick a frame may be on all cores."""
_HELP_S: Final = 0.01
"""How long the event loop runs frames in one turn."""
_ALONE_FROM: Final = 20
"""After so many frames in a row that found nothing at work and nothing waiting they come one at a time."""


class Outcome(NamedTuple):
    """The prediction for all frames of a request, how long it waited and how long it took.

    Attributes:
        runs: Runs of the model for it; one that it shared with others counts in part.
    """

    prediction: Prediction
    queue_s: float
    infer_s: float
    runs: float


class Scheduler:
    """Runs frames on a number of threads, in the order of its backlog.

    Args:
        workers: Number of threads.
        limit_frames: Most frames that may wait: a bound on memory.
        on_batch: Told the number of frames of every run, from the thread that ran it.
        limit_s: Longest wait for the model that a frame without a deadline may be in for.
        cores: How many the process may use. Quick frames leave one of them to the event loop, which has as much to do
            for such a frame as the model: with all cores in the model both would wait for each other.
        turns: Times the turns of the event loop.
    """

    def __init__(
        self,
        workers: int,
        limit_frames: int,
        on_batch: Callable[[int], None],
        *,
        limit_s: float = 60.0,
        cores: int | None = None,
        turns: Turns | None = None,
    ) -> None:
        self._on_batch = on_batch
        quick_workers = workers if cores is None else max(1, min(workers, cores - 1))
        self._backlog = Backlog(workers, limit_frames, limit_s, quick_workers)
        self._workers = workers
        self._run_times: weakref.WeakKeyDictionary[Model, RunTime] = weakref.WeakKeyDictionary()
        self._alone = 0  # frames in a row that found nothing else to do
        self._waking: set[asyncio.AbstractEventLoop] = set()
        self._turns = turns or Turns()
        self._threads = [
            threading.Thread(target=self._work, args=(index,), name=f"robomask-infer-{index}", daemon=True)
            for index in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def waiting_frames(self) -> int:
        """Frames that wait for a worker now."""
        return self._backlog.frames

    def check(self, model: Model, freshness: Freshness, allow_s: float = 0.0) -> None:
        """Say no to a request before it is read, if a single frame of it could not be answered as it should.

        Args:
            model: What would run it.
            freshness: How long its answer is wanted.
            allow_s: What reading it and writing the answer are going to take.

        Raises:
            Busy: There is no room, or too long a wait.
            Stale: It would be late.
        """
        now_s = time.perf_counter()
        wait_s = self._turns.ask()
        if freshness.due_s < math.inf:
            due_s = freshness.due_s - allow_s - wait_s
            if due_s < now_s:
                raise freshness.missed(f"so many have come that each waits about {wait_s * 1000:.0f} ms to be read")
            run_time = self._run_time(self._suited(model, due_s, now_s))
            self._backlog.check_due(run_time, 1, freshness, due_s, now_s)
        if not self._backlog.has_place_for(freshness):
            self._backlog.check_room(1, now_s)

    async def submit(
        self,
        model: Model,
        frames: NDArray[np.uint8],
        *,
        latents: bool,
        freshness: Freshness | None = None,
        allow_s: float = 0.0,
        turn: Turn | None = None,
    ) -> Outcome:
        """Run frames [N,64,64,3], in parts that workers share if the model does not take them all at once.

        If the caller is cancelled, what still waits is never run.

        Args:
            model: What runs them.
            frames: uint8 [N,64,64,3].
            latents: Whether latents are wanted.
            freshness: How long their answer is wanted, and which stream they belong to; by default they may wait.
            allow_s: What the caller still has to do with the prediction before the answer is due.
            turn: Their part in their stream, if they have one.

        Raises:
            Busy: Too much waits already.
            Stale: They cannot be answered in time, or a newer frame of their stream has come.
            ModelFault: The model failed on these frames.
        """
        loop = asyncio.get_running_loop()
        now_s = time.perf_counter()
        self._turns.take()
        fresh = freshness or Freshness(now_s)
        due_s = fresh.due_s - allow_s
        self._alone = self._alone + 1 if len(frames) == 1 and self._backlog.is_idle else 0
        model = self._suited(model, due_s, now_s) if len(frames) == 1 else model
        run_time = self._run_time(model)
        jobs = [
            Job(model, part, latents, Promise(loop), run_time, fresh, due_s, now_s)
            for part in ([frames] if len(frames) <= model.max_batch else _parts(frames, model.max_batch))
        ]
        if turn is not None:
            turn.check(Stage.MODEL)
        alarm: asyncio.TimerHandle | None = None
        try:
            older = self._backlog.push(jobs, now_s)
            if older:
                _settle([(old, superseded()) for old in older])
            if turn is not None:
                turn.reach(Stage.MODEL)
            self._wake_soon(loop)
            if fresh.due_s < math.inf:
                alarm = loop.call_later(max(0.0, fresh.due_s - now_s), self._give_up, jobs)
            done = [await job.promise for job in jobs]
        except BaseException:
            for job in jobs:
                self._abandon(job)
            raise
        finally:
            if alarm is not None:
                alarm.cancel()
        if len(done) == 1:
            prediction, started, ended, together = done[0]
            return Outcome(prediction, started - now_s, ended - started, 1 / together)
        started, ended = min(part.started_s for part in done), max(part.ended_s for part in done)
        runs = sum(1 / part.jobs for part in done)
        return Outcome(_joined([part.prediction for part in done]), started - now_s, ended - started, runs)

    def close(self) -> None:
        """Finish what waits, then end the threads."""
        self._backlog.close()
        for thread in self._threads:
            thread.join()

    def _suited(self, model: Model, due_s: float, now_s: float) -> Model:
        """The model, or its form for one frame at a time if frames come that way, or if this one is late without it."""
        if not self._backlog.is_idle:
            return model
        expected_s = self._run_time(model).expect_s(1)
        if expected_s < _SLOW_S or (self._alone < _ALONE_FROM and now_s + expected_s <= due_s):
            return model
        if due_s - now_s < expected_s / _QUICKER_AT_MOST:  # hopeless: nothing is opened for it
            return model
        alone = model.alone()
        return model if alone is None or self._run_time(alone).hope_s(1, now_s, 0, waits=False) > expected_s else alone

    def _run_time(self, model: Model) -> RunTime:
        run_time = self._run_times.get(model)
        if run_time is None:
            run_time = self._run_times[model] = RunTime()
        return run_time

    def _abandon(self, job: Job) -> None:
        job.promise.leave()
        self._backlog.discard(job)

    def _give_up(self, jobs: Sequence[Job]) -> None:
        """Their time is over, whether they wait or run."""
        for job in jobs:
            if not job.promise.is_done:
                waited = self._backlog.discard(job)
                where = "it still waited for the model" if waited else "the model took longer than expected"
                job.promise.fail(job.freshness.missed(where))

    def _wake_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wake workers once for all that comes in one turn of the event loop, not for each."""
        if loop not in self._waking:
            self._waking.add(loop)
            loop.call_soon(self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._waking.discard(loop)
        if self._turns.is_behind:
            self._help(loop)
        alone = self._backlog.take_alone(QUICK_S)
        if alone is None:
            self._backlog.wake(self._workers)
        else:
            _settle_from(loop, self._run([alone]))

    def _help(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run quick frames on the event loop as well.

        Where it has too much to do, workers wait for the interpreter longer than a frame takes, even with work for the
        other cores. While the loop is in the model they get it.
        """
        self._backlog.wake(self._workers)
        until_s = time.perf_counter() + _HELP_S
        while (taken := self._backlog.take_quick()) is not None:
            _settle_from(loop, self._do(taken))
            if time.perf_counter() > until_s:
                self._wake_soon(loop)
                break

    def _work(self, worker: int) -> None:
        results: list[tuple[Job, Done | Exception]] = []
        while True:
            # Taken before the results are told: who hears of them asks for more, and a worker that has nothing more to
            # do is to be out of the interpreter's way by then.
            taken = self._backlog.take(worker)
            if results:
                _settle(results)
                results.clear()  # a worker that rests holds no job, and so no model that has been replaced
            if taken is None:
                self._backlog.rest(worker)
            elif taken.jobs or taken.hopeless:
                results += self._do(taken)
            elif self._backlog.is_over:
                return

    def _do(self, taken: Taken) -> list[tuple[Job, Done | Exception]]:
        """Do a turn of work."""
        results: list[tuple[Job, Done | Exception]] = [
            (job, job.freshness.missed("by now it would be late")) for job in taken.hopeless
        ]
        for batch in _batches(job for job in taken.jobs if not job.promise.is_done):
            results += self._run(batch)
        return results

    def _run(self, jobs: list[Job]) -> list[tuple[Job, Done | Exception]]:
        """Run jobs in one batch; if that fails, each alone, so that only the one at fault fails."""
        latents = any(job.latents for job in jobs)
        started = time.perf_counter()
        try:
            frames = jobs[0].frames if len(jobs) == 1 else _together([job.frames for job in jobs])
            prediction = jobs[0].model.run(frames, latents)
        except Exception as error:  # noqa: BLE001 - whatever it is, somebody waits for it
            if len(jobs) == 1:
                fault = error if isinstance(error, ModelFault) else ModelFault(f"expected an answer, got {error!r}")
                return [(jobs[0], fault)]
            return [result for job in jobs for result in self._run([job])]
        ended = time.perf_counter()
        jobs[0].run_time.add(len(frames), ended - started, ended)
        self._on_batch(len(frames))
        if len(jobs) == 1:
            return [(jobs[0], Done(prediction, started, ended))]
        edges = itertools.accumulate((len(job.frames) for job in jobs), initial=0)
        return [
            (job, Done(_cut(prediction, start, stop, latents=job.latents), started, ended, len(jobs)))
            for job, (start, stop) in zip(jobs, itertools.pairwise(edges), strict=True)
        ]


def _parts(frames: NDArray[np.uint8], size: int) -> list[NDArray[np.uint8]]:
    return [frames[start : start + size] for start in range(0, len(frames), size)]


def _together(parts: Sequence[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    """Frames [N,64,64,3] of several jobs as one array.

    `np.concatenate` lets go of the interpreter at every part; where the event loop is busy, each time costs a wait.
    """
    content = b"".join([part.tobytes() for part in parts])
    return np.frombuffer(content, np.uint8).reshape(-1, *parts[0].shape[1:])


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


def _settle_from(loop: asyncio.AbstractEventLoop, results: Sequence[tuple[Job, Done | Exception]]) -> None:
    """Hand over results from the event loop that runs now."""
    _set_all([(job, result) for job, result in results if job.promise.get_loop() is loop])
    if elsewhere := [(job, result) for job, result in results if job.promise.get_loop() is not loop]:
        _settle(elsewhere)


def _settle(results: Sequence[tuple[Job, Done | Exception]]) -> None:
    """Hand results to the event loops that wait for them, each woken once, from any thread."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Job, Done | Exception]]] = {}
    for job, result in results:
        loops.setdefault(job.promise.get_loop(), []).append((job, result))
    for loop, own in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            loop.call_soon_threadsafe(_set_all, own)


def _set_all(results: Sequence[tuple[Job, Done | Exception]]) -> None:
    for job, result in results:
        if isinstance(result, Done):
            job.promise.tell(result)
        else:
            job.promise.fail(result)


def _cut(prediction: Prediction, start: int, stop: int, *, latents: bool) -> Prediction:
    wanted = prediction.latents[start:stop] if latents and prediction.latents is not None else None
    return Prediction(prediction.probability[start:stop], wanted, prediction.threshold, prediction.verdicts[start:stop])


def _joined(parts: list[Prediction]) -> Prediction:
    latents = [part.latents for part in parts if part.latents is not None]
    return Prediction(
        np.concatenate([part.probability for part in parts]),
        np.concatenate(latents) if latents else None,
        parts[0].threshold,
        [verdict for part in parts for verdict in part.verdicts],
    )
