"""What all ways to the model share: memory, threads, the queue, and the account of what became of every frame."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final, TypeVar

from service.errors import BadRequest, ModelFault, RobomaskError, Stale, Superseded, Unavailable
from service.scheduling.encoding import Encoding
from service.scheduling.streams import Streams
from service.telemetry.metrics import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from concurrent.futures import Executor

    import numpy as np
    from numpy.typing import NDArray

    from service.call import Call
    from service.engine import Prediction
    from service.frames.limits import Limits, MemoryBudget
    from service.scheduling.decoding import Decoding
    from service.scheduling.encoding import Bulk
    from service.scheduling.scheduler import Scheduler
    from service.telemetry.metrics import Metrics
    from service.versions.faults import Faults
    from service.versions.slot import Slot
    from service.versions.watch import Watchers

__all__ = ["Stages"]

_T = TypeVar("_T")

_OUTCOMES: Final[dict[type[RobomaskError], str]] = {
    BadRequest: "refused",
    Unavailable: "shed",
    Superseded: "superseded",
    Stale: "late",
    RobomaskError: "failed",
}


class Stages:
    """The stages of a request: read, wait, infer, write.

    Args:
        scheduler: Runs the model.
        codec: Threads that write what takes long.
        decoding: Threads that read what takes long.
        budget: Memory that all requests share.
        limits: What one request may ask for.
        metrics: Where it counts.
        watchers: Who is told of every answer.
        faults: Who is told of what the model failed on.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        codec: Executor,
        decoding: Decoding,
        budget: MemoryBudget,
        limits: Limits,
        metrics: Metrics,
        watchers: Watchers,
        faults: Faults,
    ) -> None:
        self.scheduler = scheduler
        self.decoding = decoding
        self.budget = budget
        self.limits = limits
        self.watchers = watchers
        self._streams = Streams()
        self._faults = faults
        self._codec = codec
        self.encoding = Encoding(codec)
        self._metrics = metrics
        self._seconds = {stage: metrics.stages.labels(stage) for stage in STAGES}

    def reserve(self, call: Call, count: int) -> None:
        """Take bytes of the shared memory for a call, which holds them until `release`.

        Raises:
            Busy: They are not there now.
        """
        self.budget.reserve(count)
        call.held_bytes += count

    def enter(self, call: Call) -> None:
        """Begin with a call whose head has come, if its frames belong to a stream; it is in it until `release`.

        Raises:
            Superseded: A newer frame of the stream waits already, is at work, or has been answered.
        """
        freshness = call.freshness
        if freshness.stream is not None:
            call.turn = self._streams.open(freshness.stream, freshness.newness)

    def release(self, call: Call) -> None:
        """Give back what a call holds; its answer has been sent."""
        self.budget.release(call.held_bytes)
        call.held_bytes = 0
        if call.turn is not None:
            call.turn.leave()
            call.turn = None

    async def read(self, call: Call, work: Callable[[], _T], *, here: bool) -> _T:
        """Read frames, here or on a thread.

        Raises:
            Busy: Too much waits for the threads already.
            Stale: It would be too late, or a newer frame of the stream has come.
        """
        started_s = time.perf_counter()
        frames = work() if here else await self.decoding.run(work, call.freshness, call.turn)
        self._took(call, "decode", time.perf_counter() - started_s)
        return frames

    async def infer(
        self, call: Call, slot: Slot, frames: NDArray[np.uint8], *, latents: bool, allow_s: float = 0.0
    ) -> Prediction:
        """Wait for the model and run it on frames [N,64,64,3]; see `Scheduler.submit`.

        Raises:
            Busy: Too much waits already.
            Stale: They cannot be answered in time, or a newer frame of their stream has come.
            ModelFault: The model failed on these frames.
        """
        freshness = call.freshness
        outcome = await self.scheduler.submit(
            slot.engine, frames, latents=latents, freshness=freshness, allow_s=allow_s, turn=call.turn
        )
        self._took(call, "queue", outcome.queue_s)
        self._took(call, "infer", outcome.infer_s)
        call.runs = outcome.runs
        if time.perf_counter() > freshness.due_s:
            # The machine has too much else to do; writing it would be a waste.
            raise freshness.missed("the machine came to it too late")
        return outcome.prediction

    async def write(self, call: Call, work: Callable[[], _T], bulk: Bulk | None) -> _T:
        """Write the answer, on a thread, or here if there is no bulk of it.

        Its time counts from when it was ready, not from when a thread was.

        With the answer, which has to be sent without another wait, the frames are the newest answered of their stream.

        Raises:
            Stale: It would be late, or a newer frame of the stream has been answered before.
        """
        started_s = time.perf_counter()
        if bulk is None:
            answer = work()
        else:
            if call.turn is not None:
                call.turn.check()
            answer = await self.encoding.run(work, call.freshness, bulk)
        ended_s = time.perf_counter()
        self._took(call, "encode", ended_s - started_s)
        if ended_s > call.freshness.due_s:
            raise call.freshness.missed("encoding its answer took longer than expected")
        if call.turn is not None:
            call.turn.answer()
        return answer

    def answered(self, slot: Slot, call: Call, masks: Iterable[tuple[float, float]]) -> None:
        """Count the frames of a call that has its answer.

        Args:
            slot: The model that gave it.
            call: The call.
            masks: For every frame, which share of it is robot and how sure the model is.
        """
        if self._faults.any:
            self._faults.answered(slot)
        metrics = self._metrics
        call.counted = True
        metrics.by_version[slot.version].add(call)
        metrics.model_frames.labels(str(slot.version)).inc(call.frames)
        metrics.frames.labels("ok").inc(call.frames)
        for share, confidence in masks:
            metrics.mask_area_ratio.observe(share)
            metrics.mask_confidence.observe(confidence)
        freshness = call.freshness
        if freshness.captured_s is not None or freshness.due_s < math.inf:
            now_s = time.perf_counter()
            if now_s > freshness.due_s:
                metrics.deadline_missed.inc()
            age_s = freshness.age_s(now_s)
            if age_s is not None:
                metrics.frame_age.observe(age_s)

    def failed(self, slot: Slot, call: Call, error: BaseException) -> None:
        """Count the frames of a call that the model was asked for and has no answer."""
        self.unanswered(call, error)
        if isinstance(error, ModelFault):
            self._faults.failed(slot)
            self.watchers.failed(slot, call.frames or 1)

    def unanswered(self, call: Call, error: BaseException) -> None:
        """Count the frames of a call that has no answer, once, wherever that is noticed first.

        Of a call that could not be read it is not known how many they are; then they are one.
        """
        if call.counted:
            return
        call.counted = True
        self._metrics.frames.labels(_outcome_of(call, error)).inc(call.frames or 1)
        if call.slot is not None:
            self._metrics.by_version[call.slot.version].add_failure(time.perf_counter() - call.arrived_s)

    def close(self) -> None:
        """Finish what waits, then end the threads."""
        self._faults.close()
        self.scheduler.close()
        self._codec.shutdown()

    def _took(self, call: Call, stage: str, seconds: float) -> None:
        call.stages_s[stage] = seconds
        self._seconds[stage].observe(seconds)


def _outcome_of(call: Call, error: BaseException) -> str:
    """What became of the frames of a request that failed; a metric's label."""
    for kind, outcome in _OUTCOMES.items():
        if isinstance(error, kind):
            return outcome
    if isinstance(error, Exception):
        return "failed"
    # gRPC cancels what is late, and so do clients that wait no longer than they said.
    return "late" if call.freshness.due_s <= time.perf_counter() else "abandoned"
