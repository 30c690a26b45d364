"""Inference on tensors: read, wait, infer, write. Knows neither HTTP nor gRPC, and is all that both need."""

from __future__ import annotations

import functools
import time
import zlib
from typing import TYPE_CHECKING, Final, TypeVar

from service.errors import BodyMalformed, MediaTypeUnsupported, quoted
from service.scheduling.encoding import Bulk
from service.versions.watch import Seen

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.call import Call
    from service.engine import Prediction
    from service.oip.tensors import Inference
    from service.stages import Stages
    from service.versions.slot import Slot

__all__ = ["Tensors", "check_encoding"]

_T = TypeVar("_T")

_ENCODINGS: Final = {"gzip": 16 + zlib.MAX_WBITS, "deflate": zlib.MAX_WBITS}
_IDENTITY: Final = frozenset({"", "identity"})
_QUICK_ANSWER_BYTES: Final = 1024 * 1024
"""Answers up to this size are written on the event loop."""


class Tensors:
    """Answers requests for inference.

    Attributes:
        stages: What it shares with other ways to the model.
    """

    def __init__(self, stages: Stages) -> None:
        self.stages = stages

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
            self.stages.failed(slot, call, error)
            raise
        self.stages.answered(slot, call, seen)
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
        stages = self.stages
        inference = await stages.read(call, read, here=quick)
        call.frames = len(inference.frames)
        stages.reserve(call, inference.answer_bytes)
        if inference.timeout_s is not None:
            own_s = call.arrived_s + inference.timeout_s
            if own_s < call.freshness.due_s:
                call.freshness = call.freshness._replace(arrived_s=call.arrived_s, due_s=own_s, by_age=False)
        binary = all(binary for _, binary in inference.outputs)
        light = quick and binary and inference.answer_bytes <= _QUICK_ANSWER_BYTES
        bulk = None if light else Bulk(("tensors", binary), len(inference.frames) + inference.answer_bytes)
        allow_s = 0.0 if bulk is None else stages.encoding.reckon_s(bulk, call.freshness)
        prediction = await stages.infer(call, slot, inference.frames, latents=inference.latents, allow_s=allow_s)

        def finish() -> tuple[_T, list[tuple[float, float]]]:
            seen = [(one.area / one.robot.size, one.confidence) for one in prediction.verdicts]
            return write(inference, prediction), seen

        answer = await stages.write(call, finish, bulk)
        if stages.watchers:
            frames = [frame.copy() for frame in inference.frames]  # views of a body, which is not to be kept for them
            stages.watchers.answered(Seen(slot, frames, prediction.probability, call.stream, time.perf_counter()))
        return answer

    async def inflate(self, body: bytes, encoding: str, call: Call) -> bytes:
        """A body without its content encoding, which `check_encoding` has seen.

        Raises:
            BodyMalformed: It is damaged.
            TooLarge: It unpacks to more than a body may have.
            Busy: It unpacks to more than all requests together may hold, or too much waits to be read.
            Stale: It would be too late, or a newer frame of the stream has come.
        """
        if encoding in _IDENTITY:
            return body
        stages = self.stages
        inflate = functools.partial(_inflate, body, encoding, stages.limits.max_body_bytes)
        unpacked = await stages.decoding.run(inflate, call.freshness, call.turn)
        stages.limits.check_bytes(len(unpacked))
        stages.reserve(call, len(unpacked))
        return unpacked


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
