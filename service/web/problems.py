"""Errors over HTTP: one table of statuses, one shape of body.

Source: RFC 9457, "Problem Details for HTTP APIs".
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from pydantic import BaseModel
from pydantic_core import to_json
from starlette.responses import Response

from service import errors
from service.connection.messages import Reply

__all__ = [
    "MEDIA_TYPE",
    "STATUS",
    "Problem",
    "details",
    "framework_problem",
    "no_websocket",
    "not_http",
    "problem",
    "problem_reply",
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
    kind = type(error)
    return STATUS[kind] if kind in STATUS else next(STATUS[near] for near in kind.__mro__ if near in STATUS)


def details(error: errors.RobomaskError, request_id: str) -> dict[str, str | int]:
    """What is said of a request, or a frame of a stream, that failed: a `Problem`."""
    said = _said(status_of(error), error.code, error.title, str(error), request_id)
    if error.frame is not None:
        said["frame"] = error.frame
    if isinstance(error, errors.Unavailable):
        said["retry_after_s"] = error.retry_after_s
    return said


def problem(error: errors.RobomaskError, request_id: str) -> Response:
    """The answer to a request that failed, for the framework."""
    return _response(details(error, request_id), _headers(error))


def problem_reply(error: errors.RobomaskError, request_id: str) -> Reply:
    """The same where the framework is not asked: under overload what a refusal costs is lost to the answers."""
    content = to_json(details(error, request_id))
    head = [(b"content-length", b"%d" % len(content)), (b"content-type", MEDIA_TYPE.encode())]
    head += [(name.lower().encode(), value.encode()) for name, value in _headers(error).items()]
    return Reply(status_of(error), head, content)


def _headers(error: errors.RobomaskError) -> dict[str, str]:
    if isinstance(error, errors.Unavailable):
        return {"Retry-After": str(error.retry_after_s)}
    if isinstance(error, errors.AdminTokenWrong):
        return {"WWW-Authenticate": "Bearer"}
    return {"Upgrade": "websocket"} if isinstance(error, errors.WebSocketExpected) else {}


def framework_problem(status: int, method: str, path: str, allow: str | None, request_id: str) -> Response:
    """The answer to a request that met no route, in the same shape as all others."""
    code, title, sentence = _FRAMEWORK.get(status, _OTHER)
    detail = sentence.format(
        path=errors.quoted(path), method=errors.quoted(method), allow=(allow or "").replace(", ", " or ")
    )
    said = _said(status, code, title, detail, request_id)
    return _response(said, {"Allow": allow} if allow else {})


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


def _bad_request(status: int, detail: str, request_id: str) -> dict[str, str | int]:
    code, title = _HANDSHAKE.get(status, (errors.BadRequest.code, errors.BadRequest.title))
    return _said(status, code, title, detail, request_id)


def _said(status: int, code: str, title: str, detail: str, request_id: str) -> dict[str, str | int]:
    """A `Problem`, without what there is not."""
    return {
        "type": f"{_PREFIX}{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "error": detail,
        "request_id": request_id,
    }


def _response(said: dict[str, str | int], headers: dict[str, str]) -> Response:
    return Response(to_json(said), int(said["status"]), headers, media_type=MEDIA_TYPE)


def waits_no_longer() -> errors.NotReady:
    """What a request is told that is still at work when the service stops and has waited long enough."""
    message = "expected to answer before the service stops, but it waits no longer; ask again"
    return errors.NotReady(message, reason="stopping")
