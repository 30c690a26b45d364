"""`WS /stream`: a camera's frames in, one message for each of them out, and the newest always wins.

The protocol, version 1. Text messages are JSON objects; binary messages are frames and, if asked for, masks.

1.  The client connects to `/stream` with the query of `/segment` and, if it likes, `accept` (one of the media types
    that `/segment` answers with; `application/json` by default) and `deadline_ms` and `max_age_ms` for all its frames.
    A header `X-Stream-Id` names it: by this name a model on trial answers a stream always or never.
2.  The server says `{"type": "hello", "protocol": 1, "credits": C, "accept": ..., "model": {...}}`.
3.  The client sends frames: a binary message is one frame, an encoded picture or a `.npy` array, or raw RGB24 if
    `width` and `height` are in the query. Frames count from 0 on: that is their `seq`. Before a frame it may send a
    text message with what is true of that frame alone:
    `{"captured_at": Unix seconds, "deadline_ms": ..., "max_age_ms": ...}`, each optional.
4.  The server sends exactly one of these for every frame, in the order in which they are settled:
    -   `{"type": "answer", "seq": n, "request_id": ..., "answer": {...}}`, the answer being the JSON that `/segment`
        gives; or, with another `accept`, `{"type": "answer", "seq": n, "request_id": ..., "content_type": ...,
        "bytes": ..., "confidence": [...], "model": {...}, "timing_ms": {...}, "age_ms": ...}` and right after it one
        binary message, the body that `/segment` gives. Answers come in the order of their frames.
    -   `{"type": "superseded", "seq": n}`: a newer frame came while this one waited to be decoded, was decoded while
        this one waited for the model, or has been answered before it.
    -   `{"type": "error", "seq": n, "problem": {...}}`: the problem that `/segment` answers with. The stream goes on.
5.  A frame costs a credit, and each of these messages gives one back. A client that sends a frame without a credit is
    told so and hung up on. With two credits or more the newest frame can always be sent while an older one runs.
6.  What ends a stream: `{"type": "error", "seq": null, "problem": {...}}` and a close code: 4422 for a query or a note
    that is wrong, or for notes and no frame, 4404 for a model that is not in service, 4429 for a frame without a
    credit, 4408 after a time without a frame, 4503 if no model is ready, there are too many streams, or no memory is
    left for the rest of a message; 1009 without a word for a message that is too large. Frames of a stream that has
    ended are never run.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl

from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from service.call import Call
from service.connection.messages import REFUSED
from service.errors import (
    BodyMalformed,
    Busy,
    ModelUnknown,
    NotReady,
    ParameterInvalid,
    RobomaskError,
    StreamIdle,
    Superseded,
    WebSocketExpected,
    quoted,
)
from service.scheduling.freshness import CAPTURED, DEADLINE, MAX_AGE, STREAM, Names, read_freshness, wall_at
from service.scheduling.places import Places
from service.web.answers import FORMS
from service.web.middleware import call_of
from service.web.problems import details, framework_problem, status_of
from service.web.query import read_query
from service.web.requests import RAW, check_media_type

if TYPE_CHECKING:
    from collections.abc import Mapping

    from service.telemetry.metrics import Metrics
    from service.telemetry.tracing import Tracing
    from service.versions.models import Models
    from service.web.answers import Answer, Form
    from service.web.pipeline import Pipeline
    from service.web.query import Query

__all__ = ["Streaming", "stream_router"]

_log = logging.getLogger(__name__)

_PROTOCOL: Final = 1
_NAMES: Final = Names("deadline_ms", "captured_at", "max_age_ms")
_KEYS: Final = {"deadline_ms": DEADLINE, "captured_at": CAPTURED, "max_age_ms": MAX_AGE}
_LONGEST_NOTE: Final = 1024
_MOST_NOTES: Final = 16

_OK: Final = 200
_CLIENT_GONE: Final = 499

_INVALID: Final = 4422
_NO_CREDIT: Final = 4429
_IDLE: Final = 4408
_FULL: Final = 4503
_CODES: Final[dict[type[RobomaskError], int]] = {ModelUnknown: 4404, NotReady: 4503}


class Streaming:
    """All streams of the service.

    Args:
        pipeline: Segments their frames.
        models: What is in service.
        metrics: Where frames that failed are counted.
        credit_limit: Frames that one stream may have in flight.
        idle_s: Seconds without a frame after which a stream ends.
        limit: Most streams at one time.
        tracing: Where frames are traced, if they are; all of a connection belong to the trace that its request names.
    """

    def __init__(
        self,
        *,
        pipeline: Pipeline,
        models: Models,
        metrics: Metrics,
        credit_limit: int,
        idle_s: float,
        limit: int,
        tracing: Tracing | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.models = models
        self.metrics = metrics
        self.credit_limit = credit_limit
        self.idle_s = idle_s
        self.tracing = tracing
        self._places = Places(limit, "streams")

    async def serve(self, socket: WebSocket) -> None:
        """Serve one connection until it ends."""
        await socket.accept()
        stream = _Stream(self, socket)
        try:
            with self._places.taken():
                await self._serve(stream)
        except Busy as error:
            await stream.end(error, _FULL)

    async def _serve(self, stream: _Stream) -> None:
        try:
            await stream.run()
        except (WebSocketDisconnect, asyncio.CancelledError):
            pass  # gone, or the service stops
        finally:
            await stream.drop()
            self.metrics.requests.labels("/stream", "GET", "101").inc()


class _Asked(NamedTuple):
    """A frame as it came: its bytes, what is said of it, and what is asked for."""

    content: bytes
    note: Mapping[bytes, bytes]
    query: Query
    form: Form


class _Stream:
    """One connection."""

    def __init__(self, streaming: Streaming, socket: WebSocket) -> None:
        self._all = streaming
        self._socket = socket
        self._id = call_of(socket).request_id
        self._whose = socket.headers.get(STREAM.decode(), self._id).encode("latin-1")
        self._stream = object()  # no other stream is the same, whatever a client says
        self._sending = asyncio.Lock()
        self._frames: set[asyncio.Task[None]] = set()
        self._unsettled = 0
        self._seq = 0

    async def run(self) -> None:
        """Greet, then take frames until the client leaves or has to."""
        try:
            query, form, bounds = _read_url(self._socket.scope["query_string"])
            # Only its name: a connection must not keep a model open.
            model = self._all.models.slot(query.model, query.version, self._whose).note.model_dump()
        except RobomaskError as error:
            await self.end(error, _CODES.get(type(error), _INVALID))
            return
        await self._say(
            type="hello",
            protocol=_PROTOCOL,
            credits=self._all.credit_limit,
            accept=form,
            model=model,
        )
        note: Mapping[bytes, bytes] = bounds
        notes = 0
        clock = asyncio.get_running_loop().time
        idle_at = clock() + self._all.idle_s
        while True:
            try:
                async with asyncio.timeout_at(idle_at):
                    message = await self._socket.receive()
            except TimeoutError:
                idle = StreamIdle(f"expected a frame within {self._all.idle_s:g} s, got none; connect again")
                await self.end(idle, _IDLE)
                return
            if message["type"] == "websocket.disconnect":
                return
            if REFUSED in message:
                await self._refuse(message[REFUSED], _FULL)
                return
            content = message.get("bytes")
            if content is None:
                notes += 1
                try:
                    if notes > _MOST_NOTES:  # they cost no credit
                        raise BodyMalformed(f"expected a frame after its note, got {notes} notes and no frame")
                    note = {**bounds, **_read_note(message.get("text") or "")}
                except RobomaskError as error:
                    await self.end(error, _INVALID)
                    return
                continue
            if self._unsettled >= self._all.credit_limit:
                greedy = Busy(
                    f"expected at most {self._all.credit_limit} frames in flight, got one more; "
                    "wait for an answer before the next frame",
                    reason="credits",
                )
                await self._refuse(greedy, _NO_CREDIT)
                return
            self._take(content, note, query, form)
            note, notes = bounds, 0
            idle_at = clock() + self._all.idle_s

    async def end(self, error: RobomaskError, code: int) -> None:
        """Say why, and hang up."""
        self._all.metrics.count_failure(error)
        with contextlib.suppress(WebSocketDisconnect, RuntimeError):
            await self._say(type="error", seq=None, problem=details(error, self._id))
            await self._socket.close(code, error.title)

    async def _refuse(self, error: Busy, code: int) -> None:
        """Hang up because there is no place for a frame."""
        self._all.pipeline.stages.unanswered(Call(self._id), error)
        await self.end(error, code)

    async def drop(self) -> None:
        """Forget all frames that are not answered."""
        for frame in self._frames:
            frame.cancel()
        await asyncio.gather(*self._frames, return_exceptions=True)

    def _take(self, content: bytes, note: Mapping[bytes, bytes], query: Query, form: Form) -> None:
        request_id, tracing = f"{self._id}-{self._seq}", self._all.tracing
        call = Call(request_id) if tracing is None else tracing.call(request_id, self._socket.scope["headers"])
        asked = _Asked(content, note, query, form)
        task = asyncio.create_task(self._settle(self._seq, asked, call))
        self._frames.add(task)
        task.add_done_callback(self._frames.discard)
        self._seq += 1
        self._unsettled += 1

    async def _settle(self, seq: int, asked: _Asked, call: Call) -> None:
        """Answer one frame, whatever it is."""
        status = _CLIENT_GONE
        try:
            try:
                answer = await self._segment(seq, asked, call)
            except RobomaskError as error:
                status, call.problem = status_of(error), error.code
                self._all.metrics.count_failure(error)
                self._all.pipeline.stages.unanswered(call, error)
                if isinstance(error, Superseded):
                    await self._reply({"type": "superseded", "seq": seq})
                else:
                    await self._reply({"type": "error", "seq": seq, "problem": details(error, call.request_id)})
            except Exception:  # noqa: BLE001 - it is logged, and only this frame fails
                _log.exception("a fault of this service")
                fault = RobomaskError(f"expected to answer, but the service failed; its log says why: {self._id}")
                status, call.problem = status_of(fault), fault.code
                self._all.pipeline.stages.unanswered(call, fault)
                await self._reply({"type": "error", "seq": seq, "problem": details(fault, call.request_id)})
            else:
                await self._answer(seq, asked.form, answer, call)
                status = _OK
        except (WebSocketDisconnect, RuntimeError):
            pass  # nobody is there any more
        finally:
            self._all.pipeline.stages.release(call)
            if self._all.tracing is not None:
                self._all.tracing.record(call, "frame of /stream", status, {"http.route": "/stream"})

    async def _segment(self, seq: int, asked: _Asked, call: Call) -> Answer:
        pipeline, query = self._all.pipeline, asked.query
        freshness = read_freshness(asked.note, call.arrived_s, wall_at, _NAMES, stream=self._stream)
        call.freshness = freshness._replace(order=seq)
        pipeline.stages.reserve(call, len(asked.content))
        call.stream = self._whose
        call.slot = slot = self._all.models.slot(query.model, query.version, call.stream)
        pipeline.check(slot, asked.form, call)
        content_type = RAW if query.width is not None else None
        _, answer = await pipeline.segment(
            slot,
            asked.content,
            content_type,
            query=query,
            forms=(asked.form,),
            call=call,
        )
        return answer

    async def _answer(self, seq: int, form: Form, answer: Answer, call: Call) -> None:
        if form == "application/json":
            head = f'{{"type":"answer","seq":{seq},"request_id":"{call.request_id}"'
            text = f'{head},"answer":{answer.content.decode("ascii")}}}'
            await self._reply(text)
            return
        timing_ms = {stage: round(seconds * 1000, 3) for stage, seconds in call.stages_s.items()}
        said: dict[str, Any] = {
            "type": "answer",
            "seq": seq,
            "request_id": call.request_id,
            "content_type": form,
            "bytes": len(answer.content),
            "confidence": [round(confidence, 6) for confidence in answer.confidences],
        }
        if call.slot is not None:
            said["model"] = call.slot.note.__dict__
        age_s = call.freshness.age_s(time.perf_counter())
        if age_s is not None:
            said["age_ms"] = round(age_s * 1000, 3)
        await self._reply({**said, "timing_ms": timing_ms}, answer.content)

    async def _reply(self, head: Mapping[str, Any] | str, content: bytes | None = None) -> None:
        """Settle a frame; its credit is back when the client can know of it."""
        async with self._sending:  # the two messages of one answer stay together
            self._unsettled -= 1
            await self._socket.send_text(head if isinstance(head, str) else json.dumps(head))
            if content is not None:
                await self._socket.send_bytes(content)

    async def _say(self, **values: Any) -> None:
        async with self._sending:
            if self._socket.application_state is WebSocketState.CONNECTED:
                await self._socket.send_text(json.dumps(values))


def stream_router(streaming: Streaming) -> APIRouter:
    """The route of streams."""
    router = APIRouter()

    @router.websocket("/stream")
    async def stream(socket: WebSocket) -> None:
        await streaming.serve(socket)

    @router.get("/stream", include_in_schema=False)
    async def no_websocket() -> None:
        raise WebSocketExpected(
            "expected a websocket on /stream, got a plain request; connect to ws://.../stream, or send single frames "
            "to /segment"
        )

    @router.websocket("/{path:path}")
    async def no_stream(socket: WebSocket) -> None:
        request_id = call_of(socket).request_id
        answer = framework_problem(404, "GET", socket.url.path, None, request_id)
        answer.headers["X-Request-Id"] = request_id
        await socket.send_denial_response(answer)

    return router


def _read_url(query_string: bytes) -> tuple[Query, Form, dict[bytes, bytes]]:
    """The query of `/segment`, the form of answers, and the bounds for all frames.

    Raises:
        ParameterInvalid: One of them is wrong.
    """
    rest: list[tuple[str, str]] = []
    own: dict[str, str] = {}
    for name, value in parse_qsl(query_string.decode("latin-1"), keep_blank_values=True):
        if name not in {"accept", "deadline_ms", "max_age_ms"}:
            rest.append((name, value))
        elif name in own:
            raise ParameterInvalid(f"expected {name} once, got it more often")
        else:
            own[name] = value
    query = read_query(rest)
    if (query.width is None) != (query.height is None):
        raise ParameterInvalid("expected width and height for raw RGB24 frames, got one of them")
    if query.width is not None:
        check_media_type(RAW, None, query)
    accept = own.pop("accept", FORMS[0])
    form = next((form for form in FORMS if form == accept), None)
    if form is None:
        raise ParameterInvalid(f"expected accept to be one of {', '.join(FORMS)}, got {quoted(accept)}")
    bounds = {_KEYS[name]: value.encode("utf-8", "replace") for name, value in own.items()}
    # A bound on age goes with capture times that are still to come; here only the numbers are looked at.
    probe = {CAPTURED: b"%f" % time.time(), **bounds} if MAX_AGE in bounds else bounds
    read_freshness(probe, time.perf_counter(), wall_at, _NAMES)
    return query, form, bounds


def _read_note(text: str) -> dict[bytes, bytes]:
    """What a text message says of the next frame, as the headers of a request would.

    Raises:
        BodyMalformed: It is no such message.
    """
    wanted = f"expected a JSON object with numbers for some of {', '.join(_KEYS)}"
    try:
        document = json.loads(text) if len(text) <= _LONGEST_NOTE else None
    except (ValueError, RecursionError) as error:
        raise BodyMalformed(f"{wanted}, got {quoted(text)}") from error
    if not isinstance(document, dict) or not document.keys() <= _KEYS.keys():
        raise BodyMalformed(f"{wanted}, got {quoted(text)}")
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in document.values()):
        raise BodyMalformed(f"{wanted}, got {quoted(text)}")
    return {_KEYS[name]: repr(value).encode() for name, value in document.items()}
