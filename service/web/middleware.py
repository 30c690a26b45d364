"""Around every request: an id, a line in the log, a count, and an answer even to what nobody foresaw."""

from __future__ import annotations

import asyncio
import itertools
import logging
import re
import secrets
from typing import TYPE_CHECKING, Final

from starlette.requests import ClientDisconnect

from service.call import Call
from service.connection.messages import ARRIVED, BUFFERED_BYTES, first_values
from service.errors import RobomaskError
from service.telemetry.logs import fields
from service.telemetry.metrics import METHODS
from service.web.problems import problem, waits_no_longer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from starlette.requests import HTTPConnection
    from starlette.responses import Response
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.telemetry.logs import RequestLog
    from service.telemetry.metrics import Metrics
    from service.telemetry.tracing import Tracing

__all__ = ["CLIENT_GONE", "PROBES", "Envelope", "call_in", "call_of", "choose_request_id", "new_request_id", "route_of"]

_log = logging.getLogger("service.request")

_KEY: Final = "robomask.call"
_SANE_ID: Final = re.compile(rb"[A-Za-z0-9._:@/+=-]{1,128}")
PROBES: Final = frozenset(
    {
        "/livez",
        "/readyz",
        "/metrics",
        "/v2/health/live",
        "/v2/health/ready",
        "/v2/models/{model}/ready",
        "/v2/models/{model}/versions/{version}/ready",
    }
)
"""Routes that are asked every few seconds whatever happens: a no from them is no failure, and no news."""
CLIENT_GONE: Final = 499
"""The status in metrics and log of a request whose client has hung up; nginx's."""


def call_of(request: HTTPConnection) -> Call:
    """What is known of this request."""
    return call_in(request.scope)


def call_in(scope: Scope) -> Call:
    """What is known of the request of this scope."""
    call: Call = scope[_KEY]
    return call


def route_of(scope: Scope) -> str:
    """The template of the route that the request of this scope has met."""
    return getattr(scope.get("route"), "path", "other")


class _RequestIds:
    """Ids that no other process and no other request has: 64 random bits and a count."""

    def __init__(self) -> None:
        self._start = secrets.token_hex(8)
        self._count = itertools.count(secrets.randbits(32))

    def next(self) -> str:
        """One more."""
        return f"{self._start}{next(self._count):016x}"


_ids = _RequestIds()


def new_request_id() -> str:
    """An id for a request that brought none."""
    return _ids.next()


def choose_request_id(brought: bytes) -> str:
    """The id that a request brought if it is a sane one, or else a new one."""
    return brought.decode("ascii") if _SANE_ID.fullmatch(brought) else new_request_id()


class Envelope:
    """Outermost ASGI middleware.

    Args:
        app: What it surrounds.
        route: The route that `app` answers; None if it finds that out itself.
        metrics: Where requests are counted.
        log: Where requests are noted.
        release: Called with a request's `Call` when its answer has been sent.
        tracing: Where requests are traced, if they are.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        route: str | None = None,
        metrics: Metrics,
        log: RequestLog,
        release: Callable[[Call], None],
        tracing: Tracing | None = None,
    ) -> None:
        self._app = app
        self._route = route
        self._metrics = metrics
        self._log = log
        self._release = release
        self._tracing = tracing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._pass_on(scope, receive, send)
            return
        call = self.open(first_values(scope["headers"]), scope.get(ARRIVED))
        scope[_KEY] = call
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", call.request_id.encode())]
            await _send_whole(send, message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = CLIENT_GONE
        except asyncio.CancelledError:
            if call.abandoned:
                status = CLIENT_GONE
            elif not status:
                await self._stopping(call)(scope, receive, send_with_id)
            else:  # half of an answer has gone out
                raise
        except Exception:
            response = self.unforeseen(call)
            if status:  # half of an answer has gone out: the broken connection has to tell
                raise
            await response(scope, receive, send_with_id)
        finally:
            self.close(call, route_of(scope) if self._route is None else self._route, scope["method"], status)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """What is no single request: a websocket, or the life of the application."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        call = self.open(first_values(scope["headers"]), scope.get(ARRIVED))
        scope[_KEY] = call
        try:
            await self._app(scope, receive, send)
        finally:
            self._release(call)

    def open(self, headers: Mapping[bytes, bytes], arrived_s: float | None = None) -> Call:
        """Begin with a request.

        Args:
            headers: Its headers, as `first_values` gives them; it has the client's id if that is a sane one.
            arrived_s: When its head had come, in seconds of `time.perf_counter`, if that is not now.
        """
        brought = headers.get(b"x-request-id")
        request_id = new_request_id() if brought is None else choose_request_id(brought)
        call = Call(request_id) if self._tracing is None else self._tracing.call(request_id, headers.items())
        if arrived_s is not None:
            call.arrived_s = arrived_s
        return call

    def unforeseen(self, call: Call) -> Response:
        """Note the error that is being handled; the answer that tells of it."""
        _log.exception("a fault of this service", extra=fields(request_id=call.request_id))
        error = RobomaskError(f"expected to answer, but the service failed; its log says why: {call.request_id}")
        call.problem = error.code
        return problem(error, call.request_id)

    def _stopping(self, call: Call) -> Response:
        """The answer to a request that is still at work when the service stops and waits no longer."""
        error = waits_no_longer()
        call.problem = error.code
        self._metrics.count_failure(error)
        return problem(error, call.request_id)

    def close(self, call: Call, route: str, method: str, status: int) -> None:
        """Be done with a request: give back what it holds, count it, note it."""
        self._release(call)
        method = method if method in METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        level = logging.DEBUG if route in PROBES else logging.INFO
        if self._log.enabled(level):
            self._log.add(level, call, method, route, status)
        if self._tracing is not None and route not in PROBES:
            self._tracing.record(
                call,
                f"{method} {route}",
                status,
                {"http.request.method": method, "http.route": route, "http.response.status_code": status},
            )
        call.slot = None  # a connection remembers its last request, which must not keep a model open


async def _send_whole(send: Send, message: Message) -> None:
    """Send a message; the end of a large answer is sent when the client has taken the rest."""
    if len(message.get("body", b"")) > BUFFERED_BYTES and not message.get("more_body"):
        await send({**message, "more_body": True})
        message = {"type": "http.response.body"}
    await send(message)
