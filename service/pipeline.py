"""A request's way from body to answer: decode, wait, infer, encode. Knows nothing of HTTP."""

from __future__ import annotations

import asyncio
import functools
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from service import answers, requests
from service.answers import Answer, Form, Result, choose, size_bound, write
from service.errors import BadRequest, Busy, RobomaskError, Unavailable
from service.requests import Frame, read_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from concurrent.futures import Executor

    from service.limits import Limits, MemoryBudget
    from service.metrics import Metrics
    from service.models import Slot
    from service.query import Query
    from service.scheduler import Scheduler

__all__ = ["Call", "Pipeline"]

_T = TypeVar("_T")


@dataclass(slots=True)
class Call:
    """What is known of one request while it is answered: for its headers, its line in the log, and the metrics.

    Attributes:
        request_id: The client's own, or a new one.
        stages_s: Seconds spent in each stage so far.
        frames: Frames decoded.
        held_bytes: Bytes of the memory budget that it holds.
        version: The model's version that answers it.
        problem: Code of the error that ended it.
        abandoned: Whether the client has hung up.
    """

    request_id: str
    stages_s: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    held_bytes: int = 0
    version: int | None = None
    problem: str | None = None
    abandoned: bool = False


class Pipeline:
    """Segments the frames of requests.

    Args:
        scheduler: Runs the model.
        codec: Threads that decode and encode.
        budget: Memory that all requests share.
        limits: What one request may ask for.
        metrics: Where it counts.
        decode_limit: Most requests that decode or wait for it.
    """

    def __init__(
        self,
        *,
        scheduler: Scheduler,
        codec: Executor,
        budget: MemoryBudget,
        limits: Limits,
        metrics: Metrics,
        decode_limit: int,
    ) -> None:
        self._scheduler = scheduler
        self._codec = codec
        self._budget = budget
        self._metrics = metrics
        self._decode_limit = decode_limit
        self._decoding = 0
        self.limits = limits

    async def segment(
        self, slot: Slot, body: bytes, content_type: str | None, *, query: Query, forms: Sequence[Form], call: Call
    ) -> tuple[Form, Answer]:
        """Answer one request whose media type has been checked.

        Raises:
            BadRequest: The frames cannot be read, or no accepted form can hold their answer.
            Unavailable: There is no room for them now.
            ModelFault: The model failed.
        """
        try:
            frames = await self._decode(body, content_type, query, call)
            call.frames = len(frames)
            form = choose(forms, frames, query)
            self.reserve(call, size_bound(form, frames, query))
            outcome = await self._scheduler.submit(
                slot.engine, np.stack([frame.pixels for frame in frames]), latents=query.latents
            )
            self._took(call, "queue", outcome.queue_s)
            self._took(call, "infer", outcome.infer_s)
            result = Result(
                frames=frames,
                prediction=outcome.prediction,
                threshold=slot.manifest.threshold if query.threshold is None else query.threshold,
                query=query,
                model=slot.note,
                timing_ms={stage: round(seconds * 1000, 3) for stage, seconds in call.stages_s.items()},
            )
            quick = answers.is_quick(form, frames, query)
            answer = await self._timed(call, "encode", lambda: write(form, result), here=quick)
        except BaseException as error:
            self._metrics.frames.labels(_outcome(error)).inc(call.frames or 1)
            raise
        self._metrics.frames.labels("ok").inc(len(frames))
        for ratio, confidence in zip(answer.area_ratios, answer.confidences, strict=True):
            self._metrics.mask_area_ratio.observe(ratio)
            self._metrics.mask_confidence.observe(confidence)
        return form, answer

    async def _decode(self, body: bytes, content_type: str | None, query: Query, call: Call) -> list[Frame]:
        """Decode, unless so many requests wait for a codec thread already that this one would only be late."""
        if self._decoding >= self._decode_limit:
            raise Busy(
                f"expected a free place to decode frames, but {self._decoding} requests wait; come again in a second",
                reason="decode",
            )
        self._decoding += 1
        try:
            quick = requests.is_quick(body, content_type)
            work = functools.partial(read_frames, body, content_type, query, self.limits)
            return await self._timed(call, "decode", work, here=quick)
        finally:
            self._decoding -= 1

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

    async def _timed(self, call: Call, stage: str, work: Callable[[], _T], *, here: bool) -> _T:
        """Do work here or on a codec thread; its time counts from when it was ready, not from when a thread was."""
        started = time.perf_counter()
        result = work() if here else await asyncio.get_running_loop().run_in_executor(self._codec, work)
        self._took(call, stage, time.perf_counter() - started)
        return result

    def _took(self, call: Call, stage: str, seconds: float) -> None:
        call.stages_s[stage] = seconds
        self._metrics.stages.labels(stage).observe(seconds)


def _outcome(error: BaseException) -> str:
    """What became of the frames of a request that failed; a metric's label."""
    if isinstance(error, BadRequest):
        return "refused"
    if isinstance(error, Unavailable):
        return "shed"
    return "failed" if isinstance(error, RobomaskError) else "abandoned"
