"""`/segment`, and the one shape of every error: what is read from a request, who is asked, what the answer says."""

from __future__ import annotations

import asyncio
import contextlib
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations of its endpoints
from starlette.routing import Match

from service.connection.messages import Reply, content_length, first_values
from service.errors import ModelUnknown, NotReady, RobomaskError
from service.scheduling.freshness import STREAM, read_freshness, wall_at
from service.web.answers import accepted
from service.web.body import CancelledWithClient, read_body
from service.web.middleware import CLIENT_GONE, PROBES, call_in, call_of, route_of
from service.web.openapi import SEGMENT, SEGMENT_ANSWERS
from service.web.problems import framework_problem, problem, problem_reply, waits_no_longer
from service.web.query import parse_query
from service.web.requests import check_media_type

if TYPE_CHECKING:
    from collections.abc import Hashable, Mapping

    from fastapi import FastAPI
    from starlette.exceptions import HTTPException
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

    from service.call import Call
    from service.connection.messages import Whole
    from service.connection.whole import Exchange
    from service.frames.limits import MemoryBudget
    from service.telemetry.metrics import Metrics
    from service.versions.models import Models
    from service.versions.slot import Slot
    from service.web.answers import Form
    from service.web.middleware import Envelope
    from service.web.pipeline import Pipeline
    from service.web.query import Query

__all__ = ["Express", "Segment", "answer_errors", "notes", "segment_router"]

_CONTENT_TYPE: Final = b"content-type"
_SHORT: Final = 256
_MOST_CONFIDENCES: Final = 256
"""Of more frames they are left out: proxies turn answers away whose headers take more than 4 KiB."""


class _Asked(NamedTuple):
    """What the head of a request asks for; who is asked depends on more."""

    query: Query
    forms: tuple[Form, ...]
    content_type: str | None


def _read_asked(
    query_string: bytes, content_type: bytes | None, accept: bytes | None, content_encoding: bytes | None
) -> _Asked:
    """Read what is asked for.

    Raises:
        BadRequest: It cannot be answered, whatever the body.
    """
    query = parse_query(query_string)
    forms = accepted(_text(accept))
    kind = _text(content_type)
    check_media_type(kind, _text(content_encoding), query)
    return _Asked(query, forms, kind)


_read_before = lru_cache(maxsize=256)(_read_asked)
"""A camera asks for the same again and again."""


class Segment:
    """What is behind `POST /segment`, for a request that comes as a whole and as an ASGI application for any other.

    It stands in front of the framework, which takes as long for a request as all that is done here; the framework knows
    the route by its description only.

    Args:
        pipeline: Answers frames.
        models: Who is asked.
        metrics: Where failures are counted.
        body_timeout_s: Seconds that a body may take.
    """

    def __init__(self, pipeline: Pipeline, models: Models, metrics: Metrics, body_timeout_s: float) -> None:
        self._pipeline = pipeline
        self._models = models
        self._metrics = metrics
        self._body_timeout_s = body_timeout_s

    async def answer(self, request: Whole, call: Call) -> Reply:
        """Answer a request that has come as a whole, with masks or with a problem."""
        try:
            slot, asked = self._read_head(request.headers, request.query, request.client, call)
            stages = self._pipeline.stages
            stages.limits.check_bytes(len(request.body))
            stages.reserve(call, len(request.body))
            return await self._answer(slot, asked, request.body, call)
        except RobomaskError as error:
            return self._problem(error, call)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, with masks or with a problem."""
        call = call_in(scope)
        try:
            headers = first_values(scope["headers"])
            slot, asked = self._read_head(headers, scope["query_string"], scope.get("client"), call)
            length = content_length(headers)
            body = await read_body(receive, length, self._pipeline.stages, call, self._body_timeout_s)
            with CancelledWithClient(receive, call):
                reply = await self._answer(slot, asked, body, call)
        except RobomaskError as error:
            reply = self._problem(error, call)
        await send({"type": "http.response.start", "status": reply.status, "headers": list(reply.headers)})
        await send({"type": "http.response.body", "body": reply.content})

    def stopping(self, call: Call) -> Reply:
        """The answer to a request that is still at work when the service stops and waits no longer."""
        return self._problem(waits_no_longer(), call)

    def _read_head(
        self, headers: Mapping[bytes, bytes], query_string: bytes, client: Hashable, call: Call
    ) -> tuple[Slot, _Asked]:
        """Read what is asked for, and say no to what cannot be answered before its body is looked at."""
        said = query_string, headers.get(_CONTENT_TYPE), headers.get(b"accept"), headers.get(b"content-encoding")
        asked = (_read_before if sum([len(text) for text in said if text]) <= _SHORT else _read_asked)(*said)
        call.stream = headers.get(STREAM) or client or call.request_id
        call.slot = slot = self._models.slot(asked.query.model, asked.query.version, call.stream)
        call.freshness = read_freshness(headers, call.arrived_s, wall_at)
        self._pipeline.check(slot, asked.forms[0], call)
        return slot, asked

    async def _answer(self, slot: Slot, asked: _Asked, body: bytes, call: Call) -> Reply:
        form, answer = await self._pipeline.segment(
            slot, body, asked.content_type, query=asked.query, forms=asked.forms, call=call
        )
        head = [
            (_CONTENT_TYPE, form.encode()),
            (b"content-length", b"%d" % len(answer.content)),
            (b"vary", b"Accept"),
            *notes(call),
        ]
        if form != "application/json" and len(answer.confidences) <= _MOST_CONFIDENCES:
            head.append((b"x-confidence", b",".join([b"%.6f" % confidence for confidence in answer.confidences])))
        return Reply(200, head, answer.content)

    def _problem(self, error: RobomaskError, call: Call) -> Reply:
        call.problem = error.code
        self._pipeline.stages.unanswered(call, error)
        if call.slot is None and not isinstance(error, ModelUnknown):
            with contextlib.suppress(NotReady):  # no model has been asked yet; the one that would have been
                call.slot = self._models.slot(stream=call.stream)
        self._metrics.count_failure(error)
        status, head, content = problem_reply(error, call.request_id)
        return Reply(status, [*head, *notes(call)], content)


class Express:
    """Answers requests to `/segment` that have come as a whole, with all that surrounds one.

    Args:
        segment: What answers them.
        envelope: What surrounds it.
        budget: Memory that all requests share.
    """

    path: Final = b"/segment"

    def __init__(self, segment: Segment, envelope: Envelope, budget: MemoryBudget) -> None:
        self._segment = segment
        self._envelope = envelope
        self.budget: Final = budget

    async def answer(self, request: Whole, exchange: Exchange) -> None:
        """Answer one request."""
        call = self._envelope.open(request.headers, request.arrived_s)
        status = 0
        try:
            try:
                reply = await self._segment.answer(request, call)
            except Exception:  # noqa: BLE001 - whatever nobody foresaw
                response = self._envelope.unforeseen(call)
                reply = Reply(response.status_code, response.raw_headers, bytes(response.body))
            status = reply.status
            await exchange.send(_named(reply, call))
        except asyncio.CancelledError:
            if not exchange.gone:
                if not status and not exchange.held_up:
                    reply = self._segment.stopping(call)
                    status = reply.status
                    await exchange.send(_named(reply, call))
                raise
            status = status or CLIENT_GONE
        finally:
            self._envelope.close(call, self.path.decode(), "POST", status)


def _named(reply: Reply, call: Call) -> Reply:
    return Reply(reply.status, [*reply.headers, (b"x-request-id", call.request_id.encode())], reply.content)


def segment_router() -> APIRouter:
    """The route as the framework's description has it; `Segment` answers before a request gets there."""
    router = APIRouter()

    @router.post("/segment", openapi_extra=SEGMENT, responses=SEGMENT_ANSWERS, tags=["frames"])
    async def describe_segment(request: Request) -> None:
        """Tell robot from everything else, in one frame or many."""
        raise RobomaskError(f"expected {request.url.path} to be answered in front of the framework")

    return router


def answer_errors(app: FastAPI, metrics: Metrics) -> None:
    """Give every error one shape: ours, and those that the framework makes itself."""

    @app.exception_handler(RobomaskError)
    async def on_error(request: Request, error: RobomaskError) -> Response:
        call = call_of(request)
        call.problem = error.code
        if route_of(request.scope) not in PROBES:  # who asks whether to come has not been turned away
            metrics.count_failure(error)
        response = problem(error, call.request_id)
        response.raw_headers += notes(call)
        return response

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def on_no_route(request: Request, error: HTTPException) -> Response:
        call = call_of(request)
        call.problem = "no-route"
        allow = ", ".join(_methods(app, request.scope)) if error.status_code == 405 else None
        return framework_problem(error.status_code, request.method, request.url.path, allow, call.request_id)


def _methods(app: FastAPI, scope: Scope) -> list[str]:
    """All methods that a path has; the framework names those of its first route alone."""
    asked = [(method, {**scope, "method": method}) for method in ("DELETE", "GET", "HEAD", "PATCH", "POST", "PUT")]
    return [method for method, one in asked if any(route.matches(one)[0] is Match.FULL for route in app.routes)]


def notes(call: Call) -> list[tuple[bytes, bytes]]:
    """Which model was asked, if any, and how long every stage took, or all of it if it came to none."""
    stages_s = call.stages_s or {"total": time.perf_counter() - call.arrived_s}
    timings = ", ".join([f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in stages_s.items()])
    told: list[tuple[bytes, bytes]] = []
    if call.slot is not None:
        note = call.slot.note
        told += _model_notes(note.name, note.version, note.sha256)
    told.append((b"server-timing", timings.encode()))
    return told


@lru_cache(maxsize=16)
def _model_notes(name: str, version: int, sha256: str) -> tuple[tuple[bytes, bytes], ...]:
    return (
        (b"x-model-name", name.encode()),
        (b"x-model-version", str(version).encode()),
        (b"x-model-sha256", sha256.encode()),
    )


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
