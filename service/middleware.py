"""Around every request: an id, a line in the log, a count, and an answer even to what nobody foresaw."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from typing import TYPE_CHECKING, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import ClientDisconnect

from service.errors import RobomaskError
from service.logs import fields
from service.metrics import METHODS
from service.pipeline import Call
from service.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from service.metrics import Metrics

__all__ = ["Envelope", "call_of", "choose_request_id", "new_request_id"]

_log = logging.getLogger("service.request")

_KEY: Final = "robomask.call"
_SANE_ID: Final = re.compile(r"[A-Za-z0-9._:@/+=-]{1,128}")
_PROBES: Final = frozenset({"/livez", "/readyz", "/metrics"})
_CLIENT_GONE: Final = 499


def call_of(request: Request) -> Call:
    """What is known of this request."""
    call: Call = request.scope[_KEY]
    return call


def new_request_id() -> str:
    """An id for a request that brought none."""
    return uuid.uuid4().hex


def choose_request_id(brought: str) -> str:
    """The id that a request brought if it is a sane one, or else a new one."""
    return brought if _SANE_ID.fullmatch(brought) else new_request_id()


class Envelope:
    """Outermost ASGI middleware.

    Args:
        app: What it surrounds.
        metrics: Where requests are counted.
        release: Called with a request's `Call` when its answer has been sent.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, release: Callable[[Call], None]) -> None:
        self._app = app
        self._metrics = metrics
        self._release = release

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        call = Call(choose_request_id(Headers(scope=scope).get("x-request-id", "")))
        scope[_KEY] = call
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["X-Request-Id"] = call.request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except ClientDisconnect:
            status = _CLIENT_GONE
        except asyncio.CancelledError:
            if not call.abandoned:
                raise
            status = _CLIENT_GONE
        except Exception:
            _log.exception("a fault of this service", extra=fields(request_id=call.request_id))
            if status:  # half of an answer has gone out: the broken connection has to tell
                raise
            unforeseen = RobomaskError(
                f"expected to answer, but the service failed; its log says why: {call.request_id}"
            )
            call.problem = unforeseen.code
            await problem(unforeseen, call.request_id)(scope, receive, send_with_id)
        finally:
            self._release(call)
            self._account(scope, call, status, time.perf_counter() - started)

    def _account(self, scope: Scope, call: Call, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "other")
        method = scope["method"] if scope["method"] in METHODS else "other"
        self._metrics.requests.labels(route, method, str(status)).inc()
        level = logging.DEBUG if route in _PROBES else logging.INFO
        if _log.isEnabledFor(level):
            note = fields(
                request_id=call.request_id,
                method=method,
                route=route,
                status=status,
                problem=call.problem,
                version=call.version,
                frames=call.frames or None,
                **{f"{stage}_ms": round(taken * 1000, 2) for stage, taken in call.stages_s.items()},
                total_ms=round(seconds * 1000, 2),
            )
            _log.log(level, "request", extra=note)
