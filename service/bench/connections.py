"""Connections of the load generator: one thread, epoll, one request at a time on each."""

from __future__ import annotations

import contextlib
import select
import socket
import time
from array import array
from typing import TYPE_CHECKING, Final

from service.bench.wire import Reply, read_reply

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BROKEN", "UNANSWERED", "Connection", "Connections", "Log"]

BROKEN: Final = 0
"""Status of a request whose connection broke before its answer was whole."""

UNANSWERED: Final = -1
"""Status of a request without an answer when the time for answers had passed."""

_OK: Final = 200
_SAMPLE: Final = 8  # of so many answers the headers of one are kept
_CHUNK: Final = 256 * 1024


class Log:
    """What became of every request.

    Attributes:
        due_s: When it was to be sent, by `time.monotonic`.
        sent_s: When it was sent.
        done_s: When its answer was whole.
        status: HTTP status, `BROKEN` or `UNANSWERED`.
        heads: Headers of some of the answers with status 200; a refusal has other stages, or none.
    """

    def __init__(self) -> None:
        self.due_s = array("d")
        self.sent_s = array("d")
        self.done_s = array("d")
        self.status = array("h")
        self.heads: list[bytes] = []
        self._good = 0

    def clear(self) -> None:
        """Forget all of it."""
        for notes in (self.due_s, self.sent_s, self.done_s, self.status, self.heads):
            del notes[:]
        self._good = 0

    def add(self, due_s: float, sent_s: float, done_s: float, status: int, head: bytes = b"") -> None:
        """Note one request."""
        self.due_s.append(due_s)
        self.sent_s.append(sent_s)
        self.done_s.append(done_s)
        self.status.append(status)
        if status == _OK:
            if self._good % _SAMPLE == 0:
                self.heads.append(head)
            self._good += 1


class Connection:
    """A connection that has at most one request under way.

    Args:
        address: Host and port.
        epoll: Where it is registered.

    Attributes:
        fd: Its number in epoll.
        open: Whether it is connected.
        busy: Whether a request is under way.
        due_s: When that was due, by `time.monotonic`.
        sent_s: When it was sent.
    """

    def __init__(self, address: tuple[str, int], epoll: select.epoll) -> None:
        self._address = address
        self._epoll = epoll
        self._unsent = memoryview(b"")
        self._parts: list[bytes] = []
        self.due_s = 0.0
        self.sent_s = 0.0
        self.busy = False
        self.open = False
        self._open()

    def _open(self) -> None:
        self._socket = socket.create_connection(self._address, timeout=10)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setblocking(False)
        self.fd = self._socket.fileno()
        self._epoll.register(self.fd, select.EPOLLIN)
        self.open = True

    def reopen(self) -> None:
        """Take the place of a connection that has ended."""
        self.close()
        self._open()

    def close(self) -> None:
        """End it."""
        with contextlib.suppress(OSError, ValueError):
            self._epoll.unregister(self.fd)
        self._socket.close()
        self.open = self.busy = False

    def send(self, request: bytes, due_s: float) -> None:
        """Begin to send a request.

        Raises:
            OSError: The connection has broken.
        """
        self.due_s, self.sent_s, self.busy = due_s, time.monotonic(), True
        self._parts.clear()
        try:
            sent = self._socket.send(request)
        except BlockingIOError:
            sent = 0
        if sent < len(request):
            self._unsent = memoryview(request)[sent:]
            self._epoll.modify(self.fd, select.EPOLLIN | select.EPOLLOUT)

    def flush(self) -> None:
        """Send on.

        Raises:
            OSError: The connection has broken.
        """
        with contextlib.suppress(BlockingIOError):
            self._unsent = self._unsent[self._socket.send(self._unsent) :]
        if not self._unsent:
            self._epoll.modify(self.fd, select.EPOLLIN)

    def receive(self) -> Reply | None:
        """Take what has come; the answer if it is whole.

        Raises:
            OSError: The connection has broken, or the server has ended it.
            ValueError: What has come is no HTTP.
        """
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionResetError("expected an answer, the server ended the connection")
        if self._parts:
            self._parts.append(data)
            data = b"".join(self._parts)
            self._parts[:] = [data]
        reply = read_reply(data)
        if reply is None:
            self._parts[:] = [data]
        return reply


class Connections:
    """All connections, and what became of their requests.

    Args:
        address: Host and port.
        count: How many to open.

    Attributes:
        log: What became of every request.
        epoll: Waits for them; what else is registered there is for the caller to handle.
        on_free: Called with a connection when its request has ended.
        sent: How many requests there have been, those not noted too.
    """

    def __init__(self, address: tuple[str, int], count: int) -> None:
        self.epoll = select.epoll()
        self.log = Log()
        self.on_free: Callable[[Connection], None] = lambda _: None
        self.sent = 0
        self._address = address
        self._by_fd: dict[int, Connection] = {}
        for _ in range(count):
            self.add()

    def __len__(self) -> int:
        return len(self._by_fd)

    def all(self) -> list[Connection]:
        """Those that are open."""
        return list(self._by_fd.values())

    def add(self) -> Connection:
        """Open one more.

        Raises:
            OSError: The server does not take it.
        """
        connection = Connection(self._address, self.epoll)
        self._by_fd[connection.fd] = connection
        return connection

    def send(self, connection: Connection, request: bytes, due_s: float) -> None:
        """Begin to send a request that was due at this moment."""
        self.sent += 1
        try:
            connection.send(request, due_s)
        except OSError:
            self._broke(connection)

    def handle(self, fd: int, event: int) -> None:
        """Do what an event of epoll asks for."""
        connection = self._by_fd.get(fd)
        if connection is None:  # ended by another event of the same poll
            return
        try:
            if event & select.EPOLLOUT:
                connection.flush()
            reply = connection.receive() if event & ~select.EPOLLOUT else None
        except (OSError, ValueError):
            self._broke(connection)
            return
        if reply is None:
            return
        self.log.add(connection.due_s, connection.sent_s, time.monotonic(), reply.status, reply.head)
        connection.busy = False
        if not reply.closes or self._renew(connection):
            self.on_free(connection)

    def close(self, *, note: bool) -> None:
        """Close all; what is under way has no answer, or, if it is not to be noted, belongs to no measurement."""
        now = time.monotonic()
        for connection in self.all():
            if connection.busy and note:
                self.log.add(connection.due_s, connection.sent_s, now, UNANSWERED)
            connection.close()
        self.epoll.close()

    def _broke(self, connection: Connection) -> None:
        was_busy, connection.busy = connection.busy, False
        if was_busy:
            self.log.add(connection.due_s, connection.sent_s, time.monotonic(), BROKEN)
        if self._renew(connection) and was_busy:
            self.on_free(connection)

    def _renew(self, connection: Connection) -> bool:
        """Connect again; whether that was possible."""
        del self._by_fd[connection.fd]
        try:
            connection.reopen()
        except OSError:
            return False
        self._by_fd[connection.fd] = connection
        return True
