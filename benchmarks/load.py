"""A small HTTP/1.1 client for load: keep-alive connections, one fixed request, nothing parsed but status and length."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reply", "closed_loop", "closed_loop_until", "open_loop"]


class Reply(NamedTuple):
    """One answer.

    Attributes:
        status: Of HTTP; 0 if the connection broke.
        seconds: From when the request was due to be sent until its answer was whole.
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


def _request(path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def closed_loop(
    port: int, path: str, headers: Mapping[str, str], body: bytes, *, clients: int, seconds: float
) -> list[Reply]:
    """Clients that each send their next request when the last is answered, for a time."""
    over = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, over.set)
    return await closed_loop_until(over, port, path, headers, body, clients=clients)


async def closed_loop_until(
    over: asyncio.Event, port: int, path: str, headers: Mapping[str, str], body: bytes, *, clients: int
) -> list[Reply]:
    """Clients that each send their next request when the last is answered, until it is over."""
    request, pool = _request(path, headers, body), _Pool(port)
    replies: list[Reply] = []

    async def client() -> None:
        while not over.is_set():
            started = time.perf_counter()
            status = await pool.ask(request)
            replies.append(Reply(status, time.perf_counter() - started))

    await asyncio.gather(*(client() for _ in range(clients)))
    return replies


async def open_loop(
    port: int, path: str, headers: Mapping[str, str], body: bytes, *, rate: float, seconds: float
) -> list[Reply]:
    """Requests at even times whatever becomes of them, as cameras send them."""
    request, pool = _request(path, headers, body), _Pool(port)
    replies: list[Reply] = []
    tasks: set[asyncio.Task[None]] = set()
    start = time.perf_counter()

    async def one(due: float) -> None:
        status = await pool.ask(request)
        replies.append(Reply(status, time.perf_counter() - due))

    for number in range(int(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(due))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
    await asyncio.gather(*tasks)
    return replies
