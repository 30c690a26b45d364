"""Clients that ask until they are told that it is over, which nobody knows beforehand when replicas are restarted.

`service.bench.loads` measures for a time, in a process of its own, and cuts off what is under way at its end; here each
client has its last answer. Keep-alive connections, one fixed request, nothing parsed but status and length.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from service.bench.wire import request_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reply", "closed_loop_until"]


class Reply(NamedTuple):
    """One answer.

    Attributes:
        status: Of HTTP; 0 if the connection broke.
        seconds: From when the request was to be sent until its answer was whole.
    """

    status: int
    seconds: float


class _Connection(asyncio.Protocol):
    """One request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiter: asyncio.Future[int] | None = None
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if isinstance(transport, asyncio.Transport):
            self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the base class names it
        self.transport = None
        self._settle(0)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].lower()
        at = head.find(b"content-length:")
        length = int(head[at + 15 :].split(b"\r\n", 1)[0])
        if len(self._buffer) >= end + 4 + length:
            status = int(head[9:12])
            self._buffer = self._buffer[end + 4 + length :]
            if b"connection: close" in head and self.transport is not None:  # the server is on its way out
                self.transport.close()
                self.transport = None
            self._settle(status)

    async def ask(self, request: bytes) -> int:
        """Send and wait for the status."""
        self._waiter = asyncio.get_running_loop().create_future()
        if self.transport is None:
            return 0
        self.transport.write(request)
        return await self._waiter

    def _settle(self, status: int) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(status)


class _Pool:
    """Connections, opened as needed."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._free: deque[_Connection] = deque()

    async def ask(self, request: bytes) -> int:
        while self._free:
            connection = self._free.pop()
            if connection.transport is not None:
                break
        else:
            loop = asyncio.get_running_loop()
            _, connection = await loop.create_connection(_Connection, "127.0.0.1", self._port)
        status = await connection.ask(request)
        self._free.append(connection)
        return status


async def closed_loop_until(
    over: asyncio.Event, port: int, path: str, headers: Mapping[str, str], body: bytes, *, clients: int
) -> list[Reply]:
    """Clients that each send their next request when the last is answered, until it is over."""
    request, pool = request_bytes("127.0.0.1", path, headers, body), _Pool(port)
    replies: list[Reply] = []

    async def client() -> None:
        while not over.is_set():
            started = time.perf_counter()
            status = await pool.ask(request)
            replies.append(Reply(status, time.perf_counter() - started))

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies
