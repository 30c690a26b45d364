"""Hangs up on clients that do not take what they are sent: it would lie in memory for as long as they like."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

if TYPE_CHECKING:
    import asyncio

__all__ = ["PatientWebSocketProtocol", "Unread"]


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
            if waiting - left >= min(waiting, _LEAST_RATE * self._limit_s):
                self.begin(transport, loop)
            else:
                transport.abort()

        self._timer = loop.call_later(self._limit_s, look)

    def end(self) -> None:
        """The client has taken what there was, or is gone."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class PatientWebSocketProtocol(WebSocketsSansIOProtocol):
    """A websocket whose client has to take its answers.

    Args:
        *args: uvicorn's.
        unread_s: Seconds that it may take nothing.
        **kwargs: uvicorn's.
    """

    def __init__(self, *args: Any, unread_s: float, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._unread = Unread(unread_s)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Count the client as behind with the first byte that waits."""
        super().connection_made(transport)
        self.transport.set_write_buffer_limits(high=0)

    async def send(self, message: Any) -> None:
        """Send a message, and wait until the client has taken it."""
        await super().send(message)
        await self.writable.wait()

    def pause_writing(self) -> None:
        """The client is behind."""
        super().pause_writing()
        self._unread.begin(self.transport, self.loop)

    def resume_writing(self) -> None:
        """The client has caught up."""
        super().resume_writing()
        self._unread.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        self._unread.end()
        super().connection_lost(exc)
