"""Inference on tensors: read, wait, infer, write. Knows neither HTTP nor gRPC, and is all that both need."""

from __future__ import annotations

import asyncio
import dataclasses
import functools
import time
import zlib
from typing import TYPE_CHECKING, Final, TypeVar

from service.errors import BodyMalformed, MediaTypeUnsupported, ModelFault, quoted
from service.masks import confidence, decide
from service.pipeline import outcome_of
from service.watch import Seen

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

    from service.decoding import Decoding
    from service.engine import Prediction
    from service.limits import Limits, MemoryBudget
    from service.metrics import Metrics
    from service.oip.tensors import Inference
    from service.pipeline import Call
    from service.scheduler import Scheduler
    from service.slot import Slot
    from service.watch import Watchers

__all__ = ["Tensors", "check_encoding"]

_T = TypeVar("_T")

_ENCODINGS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_IDENTITY: Final = frozenset({"", "identity"})
_QUICK_ANSWER_BYTES: Final = 1024 * 1024
"""Answers up to this size are written on the event loop."""


class Tensors:
    """Answers requests for inference.

    Args:
        scheduler: Runs the model.
        codec: Threads that write what takes long.
        decoding: Threads that read what takes long.
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
        self.limits = limits

    async def infer(
        self,
        slot: Slot,
        read: Callable[[], Inference],
        write: Callable[[Inference, Prediction], _T],
        *,
        call: Call,
        quick: bool,
    ) -> _T:
        """Answer one request.

        Args:
            slot: The model.
            read: Reads the request; runs here if it is quick and on a codec thread if not.
            write: Writes the answer.
            call: What is known of the request; how long its answer is wanted, too, though the request may say less.
            quick: Whether reading takes less than waking another thread.

        Raises:
            BadRequest: The request cannot be read.
            Unavailable: There is no room for it now.
            Stale: The answer would be late, or a newer frame of the stream has come.
            ModelFault: The model failed.
        """
        call.slot = slot
        try:
            answer, seen = await self._infer(slot, read, write, call=call, quick=quick)
        except BaseException as error:
            self._metrics.frames.labels(outcome_of(error)).inc(call.frames or 1)
            if self._watchers and isinstance(error, ModelFault):
                self._watchers.failed(slot, call.frames or 1)
            raise
        self._metrics.model_frames.labels(str(slot.version)).inc(call.frames)
        self._metrics.frames.labels("ok").inc(call.frames)
        for ratio, sureness in seen:
            self._metrics.mask_area_ratio.observe(ratio)
            self._metrics.mask_confidence.observe(sureness)
        if time.perf_counter() > call.freshness.due_s:
            self._metrics.deadline_missed.inc()
        return answer

    async def _infer(
        self,
        slot: Slot,
        read: Callable[[], Inference],
        write: Callable[[Inference, Prediction], _T],
        *,
        call: Call,
        quick: bool,
    ) -> tuple[_T, list[tuple[float, float]]]:
        """The answer, and of every mask its share of the frame and its confidence."""
        started_s = time.perf_counter()
        inference = read() if quick else await self._decoding.run(read, call.freshness)
        self._took(call, "decode", time.perf_counter() - started_s)
        call.frames = len(inference.frames)
        self.reserve(call, inference.answer_bytes)
        if inference.timeout_s is not None:
            own_s = call.arrived_s + inference.timeout_s
            if own_s < call.freshness.due_s:
                call.freshness = dataclasses.replace(
                    call.freshness, arrived_s=call.arrived_s, due_s=own_s, by_age=False
                )
        freshness = call.freshness
        outcome = await self._scheduler.submit(
            slot.engine, inference.frames, latents=inference.latents, freshness=freshness
        )
        self._took(call, "queue", outcome.queue_s)
        self._took(call, "infer", outcome.infer_s)
        if time.perf_counter() > freshness.due_s:
            raise freshness.missed("the machine came to it too late")
        probability, threshold = outcome.prediction.probability, slot.manifest.threshold

        def finish() -> tuple[_T, list[tuple[float, float]]]:
            seen = [(float(decide(one, threshold).mean()), confidence(one, threshold)) for one in probability]
            return write(inference, outcome.prediction), seen

        light = (
            quick and inference.answer_bytes <= _QUICK_ANSWER_BYTES and all(binary for _, binary in inference.outputs)
        )
        answer = await self._encode_timed(call, finish, here=light)
        if self._watchers:
            frames = [frame.copy() for frame in inference.frames]  # views of a body, which is not to be kept for them
            self._watchers.answered(Seen(slot, frames, probability, call.stream, time.perf_counter()))
        return answer

    async def inflate(self, body: bytes, encoding: str, call: Call) -> bytes:
        """A body without its content encoding, which `check_encoding` has seen.

        Raises:
            BodyMalformed: It is damaged.
            TooLarge: It unpacks to more than a body may have.
            Busy: It unpacks to more than all requests together may hold, or too much waits to be read.
            Stale: It would be too late.
        """
        if encoding in _IDENTITY:
            return body
        limit = self.limits.max_body_bytes
        unpacked = await self._decoding.run(functools.partial(_inflate, body, encoding, limit), call.freshness)
        self.limits.check_bytes(len(unpacked))
        self.reserve(call, len(unpacked))
        return unpacked

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
        started = time.perf_counter()
        result = work() if here else await asyncio.get_running_loop().run_in_executor(self._codec, work)
        self._took(call, "encode", time.perf_counter() - started)
        return result

    def _took(self, call: Call, stage: str, seconds: float) -> None:
        call.stages_s[stage] = seconds
        self._metrics.stages.labels(stage).observe(seconds)


def check_encoding(text: str | None) -> str:
    """The content encoding of a request in lower case, if it is one that is read; empty for none.

    Raises:
        MediaTypeUnsupported: It is another.
    """
    encoding = (text or "").strip().lower()
    if encoding not in _IDENTITY and encoding not in _ENCODINGS:
        raise MediaTypeUnsupported(
            f"expected a body without content encoding, or in {' or '.join(_ENCODINGS)}, got {quoted(text or '')}"
        )
    return encoding


def _inflate(body: bytes, encoding: str, limit: int) -> bytes:
    """Unpack to at most one byte more than the limit, however much there is."""
    unpacker = zlib.decompressobj(_ENCODINGS[encoding])
    try:
        unpacked = unpacker.decompress(body, limit + 1)
    except zlib.error as error:
        raise BodyMalformed(f"expected a body in {encoding}, got one that cannot be unpacked: {error}") from error
    if len(unpacked) <= limit and (not unpacker.eof or unpacker.unused_data):
        got = "more behind its end" if unpacker.eof else "only a part of it"
        raise BodyMalformed(f"expected one whole body in {encoding}, got {got}")
    return unpacked
