"""A request's way from body to answer: decode, wait, infer, encode. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import functools
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np

from service import answers, requests
from service.answers import FORMS, Answer, Form, Result, choose, size_bound, write
from service.errors import BadRequest, ModelFault, RobomaskError, Stale, Superseded, Unavailable
from service.estimate import StageTime
from service.freshness import Freshness
from service.metrics import STAGES
from service.requests import Frame, read_frames
from service.watch import Seen

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Sequence
    from concurrent.futures import Executor

    from service.decoding import Decoding
    from service.limits import Limits, MemoryBudget
    from service.metrics import Metrics
    from service.query import Query
    from service.scheduler import Scheduler
    from service.slot import Slot
    from service.watch import Watchers

__all__ = ["Call", "Pipeline", "outcome_of"]

_T = TypeVar("_T")

_OUTCOMES: Final[dict[type[RobomaskError], str]] = {
    BadRequest: "refused",
    Unavailable: "shed",
    Superseded: "superseded",
    Stale: "late",
    RobomaskError: "failed",
}


@dataclass(slots=True)
class Call:
    """What is known of one request while it is answered: for its headers, its line in the log, and the metrics.

    Attributes:
        request_id: The client's own, or a new one.
        stages_s: Seconds spent in each stage so far.
        frames: Frames decoded.
        stream: Whose frames they are: the client's stream or its connection.
        held_bytes: Bytes of the memory budget that it holds.
        slot: The model that answers it.
        arrived_s: When its head had come, in seconds of `time.perf_counter`.
        freshness: How long its answer is wanted; by default it may take its time.
        problem: Code of the error that ended it.
        abandoned: Whether the client has hung up.
    """

    request_id: str
    stages_s: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    held_bytes: int = 0
    slot: Slot | None = None
    stream: Hashable = None
    arrived_s: float = field(default_factory=time.perf_counter)
    freshness: Freshness = Freshness()  # noqa: RUF009 - it cannot change
    problem: str | None = None
    abandoned: bool = False


class Pipeline:
    """Segments the frames of requests.

    Args:
        scheduler: Runs the model.
        codec: Threads that encode.
        decoding: Threads that decode.
        budget: Memory that all requests share.
        limits: What one request may ask for.
        metrics: Where it counts.
        watchers: Who is told of every answer.
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
    ) -> None:
        self._scheduler = scheduler
        self._codec = codec
        self._decoding = decoding
        self._budget = budget
        self._metrics = metrics
        self._watchers = watchers
        self._stages = {stage: metrics.stages.labels(stage) for stage in STAGES}
        self._encode = {(form, quick): StageTime() for form in FORMS for quick in (True, False)}
        self.limits = limits

    async def segment(
        self, slot: Slot, body: bytes, content_type: str | None, *, query: Query, forms: Sequence[Form], call: Call
    ) -> tuple[Form, Answer]:
        """Answer one request whose media type has been checked.

        Raises:
            BadRequest: The frames cannot be read, or no accepted form can hold their answer.
            Unavailable: There is no room for them now.
            Stale: The answer would be late, or a newer frame of the stream has come.
            ModelFault: The model failed.
        """
        try:
            return await self._segment(slot, body, content_type, query=query, forms=forms, call=call)
        except BaseException as error:
            self._metrics.frames.labels(outcome_of(error)).inc(call.frames or 1)
            if self._watchers and isinstance(error, ModelFault):
                self._watchers.failed(slot, call.frames or 1)
            raise

    def check(self, slot: Slot, form: Form, call: Call) -> None:
        """Say no to a request whose body has not been read yet, if it could not be answered as it should.

        Under overload most requests are refused: what their refusal costs is lost to those that are answered.

        Raises:
            Unavailable: There is no room, or too long a wait for the model.
            Stale: The answer would come too late.
        """
        try:
            now_s = time.perf_counter()
            self._scheduler.check(slot.engine, call.freshness, self._encode[form, True].expect_s(now_s))
        except RobomaskError as error:
            self._metrics.frames.labels(outcome_of(error)).inc()
            raise

    async def _segment(
        self, slot: Slot, body: bytes, content_type: str | None, *, query: Query, forms: Sequence[Form], call: Call
    ) -> tuple[Form, Answer]:
        frames = await self._decode(body, content_type, query, call)
        call.frames = len(frames)
        form = choose(forms, frames, query)
        self.reserve(call, size_bound(form, frames, query))
        freshness = call.freshness
        quick = answers.is_quick(frames, query)
        encode = self._encode[form, quick]
        outcome = await self._scheduler.submit(
            slot.engine,
            frames[0].pixels[np.newaxis] if len(frames) == 1 else np.stack([frame.pixels for frame in frames]),
            latents=query.latents,
            freshness=freshness,
            allow_s=encode.expect_s(time.perf_counter()),
        )
        self._took(call, "queue", outcome.queue_s)
        self._took(call, "infer", outcome.infer_s)
        if (
            time.perf_counter() > freshness.due_s
        ):  # a machine that has too much else to do; encoding it would be a waste
            raise freshness.missed("the machine came to it too late")
        result = Result(
            frames=frames,
            prediction=outcome.prediction,
            threshold=slot.manifest.threshold if query.threshold is None else query.threshold,
            query=query,
            model=slot.note,
            stages_s=call.stages_s,
            captured_s=freshness.captured_s,
        )
        answer = await self._encode_timed(call, lambda: write(form, result), here=quick)
        encode.add(call.stages_s["encode"], time.perf_counter())
        self._count(answer, freshness, str(slot.version))
        if self._watchers:
            pixels = [frame.pixels for frame in frames]
            seen = Seen(slot, pixels, outcome.prediction.probability, call.stream, time.perf_counter())
            self._watchers.answered(seen)
        return form, answer

    def _count(self, answer: Answer, freshness: Freshness, version: str) -> None:
        metrics = self._metrics
        metrics.model_frames.labels(version).inc(len(answer.confidences))
        metrics.frames.labels("ok").inc(len(answer.confidences))
        for ratio, confidence in zip(answer.area_ratios, answer.confidences, strict=True):
            metrics.mask_area_ratio.observe(ratio)
            metrics.mask_confidence.observe(confidence)
        if freshness.captured_s is not None or freshness.due_s < math.inf:
            now_s = time.perf_counter()
            if now_s > freshness.due_s:
                metrics.deadline_missed.inc()
            age_s = freshness.age_s(now_s)
            if age_s is not None:
                metrics.frame_age.observe(age_s)

    async def _decode(self, body: bytes, content_type: str | None, query: Query, call: Call) -> list[Frame]:
        work = functools.partial(read_frames, body, content_type, query, self.limits)
        started_s = time.perf_counter()
        if requests.is_quick(body, content_type):
            frames = work()
        else:
            frames = await self._decoding.run(work, call.freshness)
        self._took(call, "decode", time.perf_counter() - started_s)
        return frames

    def reserve(self, call: Call, count: int) -> None:
        """Take bytes of the shared memory for a call, which holds them until `release`.

        Raises:
            Busy: They are not there now.
        """
        self._budget.reserve(count)
        call.held_bytes += count

    def release(self, call: Call) -> None:
        """Give back what a call holds."""
        self._budget.release(call.held_bytes)
        call.held_bytes = 0

    async def _encode_timed(self, call: Call, work: Callable[[], _T], *, here: bool) -> _T:
        """Encode here or on a codec thread; its time counts from when it was ready, not from when a thread was."""
        started = time.perf_counter()
        result = work() if here else await asyncio.get_running_loop().run_in_executor(self._codec, work)
        self._took(call, "encode", time.perf_counter() - started)
        return result

    def _took(self, call: Call, stage: str, seconds: float) -> None:
        call.stages_s[stage] = seconds
        self._stages[stage].observe(seconds)


def outcome_of(error: BaseException) -> str:
    """What became of the frames of a request that failed; a metric's label."""
    for kind, outcome in _OUTCOMES.items():
        if isinstance(error, kind):
            return outcome
    return "abandoned"
