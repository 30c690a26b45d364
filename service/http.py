"""`/segment`, and the one shape of every error: what is read from a request, who is asked, what the answer says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter
from starlette.requests import Request  # noqa: TC002 - FastAPI reads the annotations of its endpoints
from starlette.responses import Response

from service.answers import accepted
from service.body import cancelled_with_client, read_body
from service.errors import RobomaskError, Unavailable
from service.middleware import call_of
from service.openapi import SEGMENT, SEGMENT_ANSWERS
from service.problems import framework_problem, problem
from service.query import read_query
from service.requests import check_media_type

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.exceptions import HTTPException

    from service.metrics import Metrics
    from service.models import Models
    from service.pipeline import Pipeline

__all__ = ["answer_errors", "segment_router"]


def segment_router(pipeline: Pipeline, models: Models, body_timeout_s: float) -> APIRouter:
    """The route that segments frames."""
    router = APIRouter()

    @router.post("/segment", openapi_extra=SEGMENT, responses=SEGMENT_ANSWERS, tags=["frames"])
    async def segment(request: Request) -> Response:
        """Tell robot from everything else, in one frame or many."""
        call = call_of(request)
        headers = request.headers
        content_type = headers.get("content-type")
        query = read_query(request.query_params.multi_items())
        forms = accepted(headers.get("accept"))
        check_media_type(content_type, headers.get("content-encoding"), query)
        slot = models.slot(query.model, query.version)
        call.version = slot.note.version
        body = await read_body(request, pipeline, call, body_timeout_s)
        async with cancelled_with_client(request, call):
            form, answer = await pipeline.segment(slot, body, content_type, query=query, forms=forms, call=call)
        timings = ", ".join(f"{stage};dur={seconds * 1000:.3f}" for stage, seconds in call.stages_s.items())
        note = {
            "X-Model-Name": slot.note.name,
            "X-Model-Version": str(slot.note.version),
            "X-Model-Sha256": slot.note.sha256,
            "Server-Timing": timings,
            "Vary": "Accept",
        }
        return Response(answer.content, headers=note, media_type=form)

    return router


def answer_errors(app: FastAPI, metrics: Metrics) -> None:
    """Give every error one shape: ours, and those that the framework makes itself."""

    @app.exception_handler(RobomaskError)
    async def on_error(request: Request, error: RobomaskError) -> Response:
        call = call_of(request)
        call.problem = error.code
        if isinstance(error, Unavailable):
            metrics.shed.labels(error.reason).inc()
        return problem(error, call.request_id)

    @app.exception_handler(404)
    @app.exception_handler(405)
    async def on_no_route(request: Request, error: HTTPException) -> Response:
        call = call_of(request)
        call.problem = "no-route"
        allow = (error.headers or {}).get("Allow")
        return framework_problem(error.status_code, request.method, request.url.path, allow, call.request_id)
