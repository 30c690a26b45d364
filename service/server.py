"""The server process: from the moment it is told to stop it is not ready, and it stops without losing a request.

uvicorn closes at once every connection on which no request has been read yet, and the listener with what waits to be
accepted: requests on their way get a reset instead of an answer. Here those are answered first.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import socket
import struct
import sys
from typing import TYPE_CHECKING, Final

import uvicorn

if TYPE_CHECKING:
    from types import FrameType

    from service.models import Models

__all__ = ["Server"]

_ACCEPT_S: Final = 0.3
"""How long what waits to be accepted is still accepted, once nothing more comes in."""
_LAST_WORD_S: Final = 2.0
"""How long an idle connection is kept for the request that may be on its way."""
_POLL_S: Final = 0.02

_SO_ATTACH_FILTER: Final = 26
_BPF_RETURN: Final = 0x06


class Server(uvicorn.Server):
    """Serves an application until it is told to stop, then drains.

    Args:
        config: uvicorn's.
        models: Is told first, so that `/readyz` says so while requests are still answered.
    """

    def __init__(self, config: uvicorn.Config, models: Models) -> None:
        super().__init__(config)
        self._models = models

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
        for listener in [listener for server in self.servers for listener in server.sockets]:
            refuse_new_connections(listener.fileno())
        await asyncio.sleep(_ACCEPT_S)
        for server in self.servers:
            server.close()
        loop = asyncio.get_running_loop()
        until = loop.time() + _LAST_WORD_S
        while (  # noqa: ASYNC110 - uvicorn has no event for it
            self.server_state.connections and loop.time() < until and not self.force_exit
        ):
            await asyncio.sleep(_POLL_S)


def refuse_new_connections(listener: int) -> None:
    """Let a listening socket drop whoever knocks, while those who wait already can still be accepted. Linux only.

    Closing the listener would reset those that the kernel has accepted for us. A socket filter that lets nothing
    through leaves them, and the others try again until they meet a listener that is not going away.

    Args:
        listener: File descriptor of the socket.
    """
    if sys.platform != "linux":
        return
    code = ctypes.create_string_buffer(struct.pack("HBBI", _BPF_RETURN, 0, 0, 0))
    program = struct.pack("HP", 1, ctypes.addressof(code))
    with socket.socket(fileno=os.dup(listener)) as own:
        own.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
