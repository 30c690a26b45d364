"""The server process: from the moment it is told to stop it is not ready, and it stops without losing a request.

uvicorn closes at once every connection on which no request has been read yet, and the listener with what waits to be
accepted: requests on their way get a reset instead of an answer. Here those are answered first.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

import uvicorn

if TYPE_CHECKING:
    from types import FrameType

    from service.versions.models import Models

__all__ = ["Server"]

_HANDLES: Final = 8
"""On each socket that listens: so many connections are accepted in a turn of the event loop."""
_ACCEPT_S: Final = 0.3
"""How long what waits to be accepted is still accepted, once nothing more comes in: at least."""
_ACCEPT_MOST_S: Final = 2.0
"""And at most, on a machine that has too much else to do."""
_LAST_WORD_S: Final = 2.0
"""How long an idle connection is kept for the request that may be on its way."""
_POLL_S: Final = 0.02

_SO_ATTACH_FILTER: Final = 26
_FIRST_PACKETS: Final = (
    # Code, jump if true, jump if false, operand; offsets count from the TCP header.
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # of them SYN and ACK
    (0x15, 0, 1, 0x02),  # SYN alone?
    (0x06, 0, 0, 0),  # then drop it
    (0x06, 0, 0, 0xFFFF_FFFF),  # else take it whole
)
"""A classic BPF program that drops the packets with which connections begin."""
_TCP_INFO_WAITING: Final = 24
"""Where Linux's `struct tcp_info` has, of a listener, the number of connections that wait to be accepted."""


class Server(uvicorn.Server):
    """Serves an application until it is told to stop, then drains.

    Args:
        config: uvicorn's.
        models: Is told first, so that `/readyz` says so while requests are still answered.
    """

    def __init__(self, config: uvicorn.Config, models: Models) -> None:
        super().__init__(config)
        self._models = models

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, with several handles on each socket.

        libuv accepts one connection for each handle in a turn of the event loop. When a turn takes long, those that
        knock would wait for as many turns as there are others before them, the cluster's probes among them.
        """
        await super().startup(sockets)
        loop = asyncio.get_running_loop()
        for listener in [listener for server in self.servers for listener in server.sockets]:
            for _ in range(_HANDLES - 1):
                with contextlib.suppress(OSError):  # too many open files: it goes without
                    same = socket.socket(fileno=os.dup(listener.fileno()))
                    self.servers.append(
                        await loop.create_server(
                            self._connection, sock=same, ssl=self.config.ssl, backlog=self.config.backlog
                        )
                    )

    def _connection(self) -> asyncio.Protocol:
        """As uvicorn makes it."""
        return self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begin to stop."""
        self._models.drain()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer what is on its way, then stop as uvicorn does."""
        if not self.force_exit:
            await self._answer_the_last()
        await super().shutdown(sockets)

    async def _answer_the_last(self) -> None:
        # In place: requests that have begun share this list. Every answer from now on ends its connection.
        self.server_state.default_headers.append((b"connection", b"close"))
        listeners = [listener.fileno() for server in self.servers for listener in server.sockets]
        for listener in listeners:
            refuse_new_connections(listener)
        loop = asyncio.get_running_loop()
        until = loop.time() + _ACCEPT_MOST_S
        await asyncio.sleep(_ACCEPT_S)
        while any(map(waiting_connections, listeners)) and loop.time() < until:  # noqa: ASYNC110 - as below
            await asyncio.sleep(_POLL_S)
        for server in self.servers:
            server.close()
        until = loop.time() + _LAST_WORD_S
        while (  # noqa: ASYNC110 - uvicorn has no event for it
            self.server_state.connections and loop.time() < until and not self.force_exit
        ):
            await asyncio.sleep(_POLL_S)


def refuse_new_connections(listener: int) -> None:
    """Let a listening socket drop whoever knocks, while those who are in or half in can still be accepted. Linux only.

    Closing the listener would reset those that the kernel has accepted for us. A socket filter that drops first packets
    leaves them, and what comes after those: a client may think that it is connected, and have sent its request, before
    the kernel has the last packet of its handshake. The others try again until they meet a listener that is not going
    away.

    Args:
        listener: File descriptor of the socket.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *step) for step in _FIRST_PACKETS))
    program = struct.pack("HP", len(_FIRST_PACKETS), ctypes.addressof(code))
    with socket.socket(fileno=os.dup(listener)) as own:
        own.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def waiting_connections(listener: int) -> int:
    """Connections of a listening TCP socket that the kernel has made and nobody has accepted. 0 where it cannot tell.

    Args:
        listener: File descriptor of the socket.
    """
    if sys.platform != "linux":
        return 0
    with socket.socket(fileno=os.dup(listener)) as own:
        if own.family not in {socket.AF_INET, socket.AF_INET6}:
            return 0
        info = own.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO_WAITING + 4)
    count: int = struct.unpack_from("I", info, _TCP_INFO_WAITING)[0]
    return count
