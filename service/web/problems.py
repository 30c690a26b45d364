"""Errors over HTTP: one table of statuses, one shape of body.

Source: RFC 9457, "Problem Details for HTTP APIs".
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from pydantic import BaseModel
from starlette.responses import Response

from service import errors

__all__ = [
    "MEDIA_TYPE",
    "STATUS",
    "Problem",
    "details",
    "framework_problem",
    "no_websocket",
    "not_http",
    "problem",
    "status_of",
    "waits_no_longer",
]

MEDIA_TYPE: Final = "application/problem+json"
_PREFIX: Final = "urn:robomask:problem:"

STATUS: Final[dict[type[errors.RobomaskError], int]] = {
    errors.WebSocketExpected: 426,
    errors.BodyMissing: 400,
    errors.BodyMalformed: 400,
    errors.BodySlow: 408,
    errors.StreamIdle: 408,
    errors.FrameUndecodable: 400,
    errors.TooLarge: 413,
    errors.MediaTypeUnsupported: 415,
    errors.NotAcceptable: 406,
    errors.ParameterInvalid: 422,
    errors.TensorInvalid: 400,
    errors.ModelUnknown: 404,
    errors.ModelFixed: 409,
    errors.AdminClosed: 403,
    errors.AdminTokenWrong: 401,
    errors.Busy: 503,
    errors.NotReady: 503,
    errors.VersionUnavailable: 503,
    errors.DeadlineMissed: 504,
    errors.FrameTooOld: 504,
    errors.Superseded: 409,
    errors.ModelFault: 500,
    errors.RobomaskError: 500,
}

_FRAMEWORK: Final = {
    404: ("not-found", "No such page", "expected a path that exists, got {path}; /docs lists them"),
    405: ("method-not-allowed", "Method not allowed", "expected {allow} for {path}, got {method}"),
}
_HANDSHAKE: Final = {
    405: ("method-not-allowed", "Method not allowed"),
    426: (errors.WebSocketExpected.code, errors.WebSocketExpected.title),
    500: (errors.RobomaskError.code, errors.RobomaskError.title),
}
"""What is said of a websocket that does not come about, where it is not just a bad request."""
_OTHER: Final = ("bad-request", "Bad request", "expected a request that this service answers, got {method} {path}")


class Problem(BaseModel):
    """Body of every error; `error` repeats `detail` for clients of the Open Inference Protocol.

    `retry_after_s`, in how many seconds to come again, is for messages of streams, which have no `Retry-After`.
    """

    type: str
    title: str
    status: int
    detail: str
    error: str
    request_id: str
    frame: int | None = None
    retry_after_s: int | None = None


def status_of(error: errors.RobomaskError) -> int:
    """The HTTP status of an error: that of the nearest class in the table."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def details(error: errors.RobomaskError, request_id: str) -> Problem:
    """What is said of a request, or a frame of a stream, that failed."""
    detail = str(error)
    return Problem(
        type=f"{_PREFIX}{error.code}",
        title=error.title,
        status=status_of(error),
        detail=detail,
        error=detail,
        request_id=request_id,
        frame=error.frame,
        retry_after_s=error.retry_after_s if isinstance(error, errors.Unavailable) else None,
    )


def problem(error: errors.RobomaskError, request_id: str) -> Response:
    """The answer to a request that failed."""
    headers: dict[str, str] = {}
    if isinstance(error, errors.Unavailable):
        headers["Retry-After"] = str(error.retry_after_s)
    elif isinstance(error, errors.AdminTokenWrong):
        headers["WWW-Authenticate"] = "Bearer"
    elif isinstance(error, errors.WebSocketExpected):
        headers["Upgrade"] = "websocket"
    return _response(details(error, request_id), headers)


def framework_problem(status: int, method: str, path: str, allow: str | None, request_id: str) -> Response:
    """The answer to a request that met no route, in the same shape as all others."""
    code, title, sentence = _FRAMEWORK.get(status, _OTHER)
    detail = sentence.format(
        path=errors.quoted(path), method=errors.quoted(method), allow=(allow or "").replace(", ", " or ")
    )
    body = Problem(
        type=f"{_PREFIX}{code}", title=title, status=status, detail=detail, error=detail, request_id=request_id
    )
    return _response(body, {"Allow": allow} if allow else {})


def not_http(what: str, request_id: str) -> Response:
    """The answer to bytes that are no request."""
    return _response(_bad_request(400, f"expected an HTTP/1.1 request, {what}", request_id), {})


def no_websocket(status: int, why: str, request_id: str) -> Response:
    """The answer to a handshake of which no websocket comes, in the words of the library that has read it."""
    what = f"{HTTPStatus(status).phrase.lower()}, {why.removeprefix('Failed to open a WebSocket connection: ')}"
    detail = (
        f"expected a handshake as in RFC 6455, got one that is refused: {what}; let a library for websockets write it"
    )
    if status >= 500:
        detail = f"expected to open a websocket, but the service failed: {request_id}"
    return _response(_bad_request(status, detail, request_id), {})


def _bad_request(status: int, detail: str, request_id: str) -> Problem:
    code, title = _HANDSHAKE.get(status, (errors.BadRequest.code, errors.BadRequest.title))
    return Problem(
        type=f"{_PREFIX}{code}", title=title, status=status, detail=detail, error=detail, request_id=request_id
    )


def _response(body: Problem, headers: dict[str, str]) -> Response:
    return Response(body.model_dump_json(exclude_none=True), body.status, headers, media_type=MEDIA_TYPE)


def waits_no_longer() -> errors.NotReady:
    """What a request is told that is still at work when the service stops and has waited long enough."""
    message = "expected to answer before the service stops, but it waits no longer; ask again"
    return errors.NotReady(message, reason="stopping")
