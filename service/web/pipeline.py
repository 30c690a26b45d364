"""A request's way from body to answer: decode, wait, infer, encode. Knows nothing of HTTP."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING

import numpy as np

from service.errors import RobomaskError
from service.scheduling.encoding import Bulk
from service.scheduling.estimate import StageTime
from service.versions.watch import Seen
from service.web import answers, requests
from service.web.answers import FORMS, Answer, Form, Result, choose, pixels_of, size_bound, write
from service.web.requests import read_frames

if TYPE_CHECKING:
    from collections.abc import Sequence

    from service.call import Call
    from service.stages import Stages
    from service.versions.slot import Slot
    from service.web.query import Query

__all__ = ["Pipeline"]


class Pipeline:
    """Segments the frames of requests.

    Attributes:
        stages: What it shares with other ways to the model.
    """

    def __init__(self, stages: Stages) -> None:
        self.stages = stages
        self._encode = {form: StageTime() for form in FORMS}  # of answers that are written on the event loop

    async def segment(
        self,
        slot: Slot,
        body: bytes,
        content_type: str | None,
        *,
        query: Query,
        forms: Sequence[Form],
        call: Call,
    ) -> tuple[Form, Answer]:
        """Answer one request whose media type has been checked.

        Args:
            slot: Who answers.
            body: The frames.
            content_type: Their form.
            query: What is asked for.
            forms: Forms of answer, in the order of the client's liking.
            call: What is known of the request.

        Raises:
            BadRequest: The frames cannot be read, or no accepted form can hold their answer.
            Unavailable: There is no room for them now.
            Stale: The answer would be late, or a newer frame of the stream has come.
            ModelFault: The model failed.
        """
        stages = self.stages
        try:
            read = functools.partial(read_frames, body, content_type, query, stages.limits)
            frames = await stages.read(call, read, here=requests.is_quick(body, content_type))
            call.frames = len(frames)
            form = choose(forms, frames, query)
            pixels = pixels_of(frames, query)
            size = size_bound(form, pixels, len(frames), query)
            stages.reserve(call, size)
            # what the time to write it grows with: pixels, each drawn and packed, and the bytes that come of them
            bulk = None if answers.is_quick(pixels, query) else Bulk(form, pixels + size)
            if bulk is None:
                allow_s = self._encode[form].expect_s(time.perf_counter())
            else:
                allow_s = stages.encoding.reckon_s(bulk, call.freshness)
            prediction = await stages.infer(
                call,
                slot,
                frames[0].pixels[np.newaxis] if len(frames) == 1 else np.stack([frame.pixels for frame in frames]),
                latents=query.latents,
                allow_s=allow_s,
            )
            result = Result(
                frames=frames,
                prediction=prediction,
                threshold=slot.manifest.threshold if query.threshold is None else query.threshold,
                query=query,
                model=slot.note,
                stages_s=call.stages_s,
                captured_s=call.freshness.captured_s,
            )
            answer = await stages.write(call, lambda: write(form, result), bulk)
            if bulk is None:
                self._encode[form].add(call.stages_s["encode"], time.perf_counter())
            stages.answered(slot, call, zip(answer.area_ratios, answer.confidences, strict=True))
            if stages.watchers:
                seen = [frame.pixels for frame in frames]
                stages.watchers.answered(Seen(slot, seen, prediction.probability, call.stream, time.perf_counter()))
        except BaseException as error:
            stages.failed(slot, call, error)
            raise
        return form, answer

    def check(self, slot: Slot, form: Form, call: Call) -> None:
        """Say no to a request whose body has not been read yet, if it could not be answered as it should.

        Under overload most requests are refused: what their refusal costs is lost to those that are answered.

        Raises:
            Unavailable: There is no room, or too long a wait for the model.
            Stale: The answer would come too late, or a newer frame of the stream has come.
        """
        try:
            self.stages.enter(call)
            allow_s = self._encode[form].expect_s(time.perf_counter())
            self.stages.scheduler.check(slot.engine, call.freshness, allow_s)
        except RobomaskError as error:
            self.stages.failed(slot, call, error)
            raise
