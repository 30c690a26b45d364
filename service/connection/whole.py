"""Requests that have come as a whole, answered without ASGI, whose messages cost as much as all else that is done here.

A frame that a robot sends comes in one piece, or in two right after one another, head and body. What does not, and
whatever is out of the ordinary in other ways, goes uvicorn's way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Protocol

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from service.connection.eager import start
from service.connection.messages import ARRIVED, BUFFERED_BYTES, Whole, content_length, first_values
from service.connection.upgrade import PlainProtocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from uvicorn._types import ASGI3Application
    from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

    from service.connection.eager import Routine
    from service.connection.messages import Reply
    from service.frames.limits import MemoryBudget

__all__ = ["Answerer", "Exchange", "WholeRequestProtocol"]

_log = logging.getLogger(__name__)

_LONGEST_URL: Final = 65535
"""What the parser of URLs takes."""
_MOST_BYTES: Final = 64 * 1024
"""Largest body that is waited for: as much as uvicorn keeps of one that nobody reads."""
_WAIT_S: Final = 0.005
"""How long the rest of a request may take; less than anybody notices, more than it takes after a head."""
_OUT_OF_THE_ORDINARY: Final = frozenset({b"transfer-encoding", b"x-forwarded-for", b"x-forwarded-proto"})
"""Headers that uvicorn has to see: of bodies without a length, and of proxies that tell for whom they ask."""


class _Known(NamedTuple):
    """The head of a request that came in one piece and went the short way, and how many bytes it was with its body."""

    head: bytes
    headers: Mapping[bytes, bytes]
    length: int


class Answerer(Protocol):
    """Answers whole requests of one path."""

    @property
    def path(self) -> bytes:
        """The path."""

    @property
    def budget(self) -> MemoryBudget:
        """Memory that it shares with whatever else comes by the same port."""

    async def answer(self, request: Whole, exchange: Exchange) -> None:
        """Answer a `POST` through the exchange; is cancelled when the client is gone."""


class Exchange:
    """A request that is being answered, in the place where uvicorn's protocol keeps its own cycle.

    Attributes:
        gone: Whether the client has hung up.
        keep_alive: Whether the connection stays open when the answer has been sent.
        response_complete: Whether it has been sent.
    """

    __slots__ = ("_protocol", "gone", "keep_alive", "response_complete", "routine")

    def __init__(self, protocol: WholeRequestProtocol, *, keep_alive: bool) -> None:
        self._protocol = protocol
        self.gone = False
        self.keep_alive = keep_alive
        self.response_complete = False
        self.routine: Routine | None = None

    @property
    def held_up(self) -> bool:
        """Whether the client takes no more for now."""
        return self._protocol.flow.write_paused

    async def send(self, reply: Reply) -> None:
        """Send the answer; if it is large, wait until the client has taken it."""
        protocol = self._protocol
        if protocol.flow.write_paused:
            await protocol.flow.drain()
        if self.gone:
            return
        lines = [STATUS_LINE[reply.status]]
        closes = False
        for name, value in protocol.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
            closes |= name == b"connection" and value == b"close"
        for name, value in reply.headers:
            lines += (name, b": ", value, b"\r\n")
        if closes:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(b"\r\n")
        if len(reply.content) <= BUFFERED_BYTES:
            lines.append(reply.content)
            protocol.transport.write(b"".join(lines))
        else:  # not a second time in memory
            protocol.transport.write(b"".join(lines))
            protocol.transport.write(reply.content)
            await protocol.flow.drain()
        self.response_complete = True
        if not self.keep_alive:
            protocol.transport.close()
        protocol.on_response_complete()

    def lose(self) -> None:
        """The client is gone."""
        self.gone = True
        if self.routine is not None:
            self.routine.cancel()


class WholeRequestProtocol(PlainProtocol):
    """uvicorn's protocol with a short way for requests that come as a whole.

    Args:
        *args: uvicorn's.
        answerer: Answers them; without one all requests go uvicorn's way.
        **kwargs: uvicorn's.
    """

    def __init__(self, *args: Any, answerer: Answerer | None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._answerer = answerer
        self._head: Mapping[bytes, bytes] | None = None
        self._head_came_s = 0.0
        self._pieces: list[bytes] = []
        self._waits: asyncio.TimerHandle | None = None
        self._in_message = False
        self._known: _Known | None = None
        self._exchange: Exchange | None = None
        self._cycle_at_work: RequestResponseCycle | None = None

    def on_message_begin(self) -> None:
        """The first of a head is there."""
        self._in_message = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Wait for the body, which may be here already, if this is a request to be answered the short way."""
        self._unset_keepalive_if_required()  # set by the answer to one that came in one piece with this one
        if not self._takes_head():
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Keep a piece of body."""
        if self._head is None:
            super().on_body(body)
        else:
            self._pieces.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        self._in_message = False
        if self._head is None:
            super().on_message_complete()
        else:
            self._begin(self._head)

    def data_received(self, data: bytes) -> None:
        """Take what has come, and wait a moment for the rest of a request."""
        known = self._known
        if known is not None and len(data) == known.length and data.startswith(known.head) and self._is_free:
            self._take_again(known, data)
            return
        self._known = None
        before, begins = self._exchange, not self._in_message
        super().data_received(data)
        if self._head is not None and self._waits is None:
            self._waits = self.loop.call_later(_WAIT_S, self._wait_no_longer)
        elif begins and not self._in_message and self._exchange is not before:
            self._known = self._to_be_known(data)

    def shutdown(self) -> None:
        """The server is going to stop: a request that has begun is to be answered."""
        self._wait_no_longer()
        super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._forget()
        exchange = self._exchange
        if exchange is not None:
            if not exchange.response_complete:
                exchange.lose()
            if self.cycle is exchange:  # type: ignore[comparison-overlap] # it has its place
                self.cycle = None  # type: ignore[assignment] # as before the first request
            self._exchange = None
        cycle = self._cycle_at_work
        if cycle is not None and not cycle.response_complete:  # uvicorn tells the last of several alone
            cycle.disconnected = True
            cycle.message_event.set()
        super().connection_lost(exc)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        self._cycle_at_work = cycle
        super()._start_asgi_task(cycle, app)

    @property
    def waits_for_body(self) -> bool:
        """Whether the head of a request is here, and the rest is expected right after it."""
        return self._head is not None

    def _takes_head(self) -> bool:
        """Whether this head is one of a request that can be answered the short way; it is kept if so."""
        answerer = self._answerer
        if answerer is None or not self.url.startswith(answerer.path) or self.parser.get_method() != b"POST":
            return False
        path, _, query = self.url.partition(b"?")
        if path != answerer.path or b"#" in query or len(self.url) > _LONGEST_URL or not self._is_ordinary():
            return False
        head = first_values(self.headers)
        length = content_length(head)
        if length is None or length > _MOST_BYTES or not _OUT_OF_THE_ORDINARY.isdisjoint(head):
            return False
        self._head = head
        self._head_came_s = time.perf_counter()
        return True

    def _is_ordinary(self) -> bool:
        """Whether it is its turn, and nothing about it but its headers needs uvicorn's care."""
        if self.expect_100_continue or self.root_path or self.parser.should_upgrade():
            return False
        return self.parser.get_http_version() == "1.1" and self._is_free

    @property
    def _is_free(self) -> bool:
        """Whether no request before this one is still to be answered."""
        return self.cycle is None or self.cycle.response_complete

    def _to_be_known(self, data: bytes) -> _Known | None:
        """What to know of a request that has just come in one piece, if that is all of the piece."""
        exchange = self._exchange
        if exchange is None or self.cycle is not exchange or not exchange.keep_alive:  # type: ignore[comparison-overlap]
            return None
        headers = first_values(self.headers)
        ends = data.find(b"\r\n\r\n") + 4
        return _Known(data[:ends], headers, len(data)) if content_length(headers) == len(data) - ends else None

    def _take_again(self, known: _Known, data: bytes) -> None:
        """Take a request whose head is byte for byte that of the one before it, as most of a camera's are.

        The parser does not hear of it: it stays where it is, between two requests, and what it has said of the head
        before is true of this one.
        """
        self._unset_keepalive_if_required()
        self._head = known.headers
        self._head_came_s = time.perf_counter()
        self._pieces.append(data[len(known.head) :])
        self.on_message_complete()

    def _begin(self, head: Mapping[bytes, bytes]) -> None:
        pieces = self._forget()
        answerer = self._answerer
        if answerer is None:
            raise RuntimeError("expected somebody to answer what was kept for it")
        if self.transport.is_closing():  # with the answer to a request that came in one piece with this one
            return
        query = self.url.partition(b"?")[2]
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        request = Whole(head, query, self.client, body, self._head_came_s)
        exchange = Exchange(self, keep_alive=self.parser.should_keep_alive())
        self._exchange = self.cycle = exchange  # type: ignore[assignment] # uvicorn looks at what an exchange has
        try:
            exchange.routine = routine = start(answerer.answer(request, exchange), self.loop, self._ended)
        except Exception as error:  # noqa: BLE001 - the parser would take it for a fault of the client's
            self._failed(error)
            return
        if routine is not None:
            self.tasks.add(routine)  # type: ignore[arg-type] # uvicorn waits until it is gone, or cancels it

    def _wait_no_longer(self) -> None:
        """What is there of a request goes uvicorn's way."""
        if self._head is None:
            return
        pieces = self._forget()
        if not self.transport.is_closing():
            self.scope[ARRIVED] = self._head_came_s  # type: ignore[typeddict-unknown-key] # ours
            super().on_headers_complete()
            for piece in pieces:
                super().on_body(piece)

    def _forget(self) -> list[bytes]:
        """Keep no head any more; the pieces of body that came with it."""
        pieces, self._pieces, self._head = self._pieces, [], None
        if self._waits is not None:
            self._waits.cancel()
            self._waits = None
        return pieces

    def _ended(self, routine: Routine, error: BaseException | None) -> None:
        self.tasks.discard(routine)
        if isinstance(error, asyncio.CancelledError):
            self.transport.close()
        elif error is not None:
            self._failed(error)

    def _failed(self, error: BaseException) -> None:
        _log.error("a fault of this service", exc_info=error)
        self.transport.close()
