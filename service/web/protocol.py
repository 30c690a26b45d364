"""HTTP/1.1 on the wire: what uvicorn leaves open, closed.

uvicorn lets a client send headers or trailers without end, leave off in the middle of them, or take no answer; and it
answers what is no HTTP in a form of its own.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Final

from service.connection.messages import Reply
from service.connection.unread import PatientProtocol, PatientWebSocketProtocol
from service.connection.whole import WholeRequestProtocol
from service.web.middleware import new_request_id
from service.web.problems import no_websocket, not_http

if TYPE_CHECKING:
    import asyncio

    from service.connection.whole import Answerer
    from service.settings import Settings

__all__ = ["BoundedHttpProtocol", "server_options"]

_MAX_HEAD_BYTES: Final = 64 * 1024
_FRAMING: Final = 8
"""Bytes of chunked framing that a byte of body may cost; a chunk of a single byte costs five or six."""


class BoundedHttpProtocol(PatientProtocol, WholeRequestProtocol):
    """A connection on which everything but the bodies has a bound, in bytes and in time.

    Args:
        *args: uvicorn's.
        patience_s: Seconds that a request's head may take, and that a client may take nothing of its answer.
        **kwargs: uvicorn's.
    """

    def __init__(self, *args: Any, patience_s: float, **kwargs: Any) -> None:
        super().__init__(*args, patience_s=patience_s, **kwargs)
        self._message_bytes = 0
        self._body_bytes = 0
        self._patience_s = patience_s
        self._in_head = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a head."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._head_has_come()
        super().connection_lost(exc)
        self._unset_keepalive_if_required()  # uvicorn leaves it running where the client has reset the connection

    def on_message_begin(self) -> None:
        """The first of a head is there."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """The head is there."""
        self._in_head = False
        self._head_has_come()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """The answer is on its way."""
        super().on_response_complete()
        self._close_soon()

    def timeout_keep_alive_handler(self) -> None:
        """Nothing has come for too long."""
        super().timeout_keep_alive_handler()
        self._close_soon()

    def _wait_no_longer(self) -> None:
        super()._wait_no_longer()
        self._close_soon()

    def _close_soon(self) -> None:
        """A connection closes when its client has taken what waits; see that it does."""
        if self.transport.is_closing():
            self._unread.begin(self.transport, self.loop)

    def _wait_on(self) -> None:
        """Arm a timer again: uvicorn's own for idle connections has stopped with the bytes that came."""
        if self._in_message:  # a head, or the rest of a body that has been refused
            if self._head_timer is None:
                self._await_head()
            return
        self._head_has_come()
        if self.timeout_keep_alive_task is None and not self.transport.is_closing():
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _await_head(self) -> None:
        self._head_timer = self.loop.call_later(self._patience_s, self.timeout_keep_alive_handler)

    def _head_has_come(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client; hang up if a message is made of too much that is not body."""
        self._message_bytes += len(data)
        super().data_received(data)
        if self._in_head or (self.cycle is not None and self.cycle.response_complete and not self.waits_for_body):
            self._wait_on()
        if (
            self._message_bytes - (1 + _FRAMING) * self._body_bytes > _MAX_HEAD_BYTES
            and not self.transport.is_closing()
        ):
            self.send_400_response(f"got more than {_MAX_HEAD_BYTES} bytes of headers")

    def on_body(self, body: bytes) -> None:
        """Count a piece of body."""
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count anew."""
        self._message_bytes = self._body_bytes = 0
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP in the shape of every other error, and hang up."""
        request_id = new_request_id()
        answer = not_http(msg, request_id)
        head = [
            b"HTTP/1.1 400 Bad Request",
            b"connection: close",
            b"x-request-id: " + request_id.encode(),
            *(name + b": " + value for name, value in answer.raw_headers),
        ]
        self.transport.write(b"\r\n".join([*head, b"", bytes(answer.body)]))
        self.transport.close()
        self._close_soon()


def _no_websocket(status: int, why: str) -> Reply:
    request_id = new_request_id()
    answer = no_websocket(status, why, request_id)
    return Reply(status, [*answer.raw_headers, (b"x-request-id", request_id.encode())], bytes(answer.body))


def server_options(settings: Settings, answerer: Answerer) -> dict[str, Any]:
    """How uvicorn is to speak on the wire, wherever it listens; `answerer` answers requests that come as a whole."""
    return {
        "http": functools.partial(BoundedHttpProtocol, patience_s=settings.body_timeout_s, answerer=answerer),
        "ws": functools.partial(
            PatientWebSocketProtocol, patience_s=settings.body_timeout_s, budget=answerer.budget, refuse=_no_websocket
        ),
        "ws_max_size": settings.max_body_bytes,
        "ws_per_message_deflate": False,  # frames and masks are compressed already
        "log_config": None,
        "access_log": False,  # one line a request is written by the middleware
        "server_header": False,
        "timeout_keep_alive": settings.keep_alive_s,
        "timeout_graceful_shutdown": settings.shutdown_s,
    }
