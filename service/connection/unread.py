"""Hangs up on clients that do not take what they are sent: it would lie in memory for as long as they like."""

from __future__ import annotations

import asyncio
from typing import Any, Final

from service.connection.unfinished import MeteredWebSocketProtocol

__all__ = ["PatientProtocol", "PatientWebSocketProtocol", "Unread"]


_LEAST_RATE: Final = 32 * 1024
"""Bytes a second that a client has to take of what waits for it."""


class Unread:
    """Watches a connection while its client is behind; one that takes next to nothing for some time is hung up on.

    Args:
        limit_s: Seconds after which it is looked at what has been taken.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._timer: asyncio.TimerHandle | None = None

    def begin(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        """The client is behind, or the connection is to be closed when it has taken what waits."""
        self.end()
        waiting = transport.get_write_buffer_size()

        def look() -> None:
            left = transport.get_write_buffer_size()
            if waiting and waiting - left >= min(waiting, _LEAST_RATE * self._limit_s):
                self.begin(transport, loop)
            else:
                transport.abort()

        self._timer = loop.call_later(self._limit_s, look)

    def end(self) -> None:
        """The client has taken what there was, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PatientProtocol(asyncio.Protocol):
    """What uvicorn's protocols for HTTP and websockets have in common here: their clients have to take their answers.

    Args:
        *args: uvicorn's.
        patience_s: Seconds that a client may take next to nothing.
        **kwargs: uvicorn's.
    """

    transport: asyncio.Transport
    loop: asyncio.AbstractEventLoop

    def __init__(self, *args: Any, patience_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unread = Unread(patience_s)

    def pause_writing(self) -> None:
        """The client is behind."""
        super().pause_writing()
        self._unread.begin(self.transport, self.loop)

    def resume_writing(self) -> None:
        """The client has caught up, or nearly so: a connection that is to be closed waits for the rest as well."""
        super().resume_writing()
        if not self.transport.is_closing():
            self._unread.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._unread.end()
        super().connection_lost(exc)


class PatientWebSocketProtocol(PatientProtocol, MeteredWebSocketProtocol):
    """A websocket; its arguments are those of `PatientProtocol` and `MeteredWebSocketProtocol`."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client as behind with the first byte that waits."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)

    async def send(self, message: Any) -> None:
        """Send a message, and wait until the client has taken it."""
        await super().send(message)
        await self.writable.wait()
