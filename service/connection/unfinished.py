"""Messages of websockets count against the shared memory as they come, not only when they are whole.

A message may be as large as a body, and a client may leave off in the middle of it: many of them together would hold
what no request is ever told of. Who has no place left is told so and hung up on.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from service.connection.handshake import HandshakeProtocol
from service.connection.messages import REFUSED
from service.errors import Busy

if TYPE_CHECKING:
    from service.frames.limits import MemoryBudget

__all__ = ["MeteredWebSocketProtocol"]

_PIECE_BYTES: Final = 64
"""What a piece of a message takes beside its content, which may be nothing at all."""


class MeteredWebSocketProtocol(HandshakeProtocol):
    """uvicorn's protocol for websockets, whose messages hold memory of the budget until they are taken.

    A message that came whole is handed over in any case: who takes it reserves memory for it or says no to it alone.

    Args:
        *args: uvicorn's.
        budget: Memory that all requests share.
        **kwargs: uvicorn's.
    """

    def __init__(self, *args: Any, budget: MemoryBudget, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._budget = budget
        self._held_bytes = 0
        self._whole: deque[int] = deque()  # bytes of each message that waits to be taken
        self._whole_bytes = 0
        self._pieces = self.frames
        self._pieces_counted = 0
        self._pieces_bytes = 0
        self._refused = False

    def data_received(self, data: bytes) -> None:
        """Take bytes from the client, or drop them if there has been no place for what they belong to."""
        if self._refused:
            return
        super().data_received(data)
        unfinished = self._unfinished_bytes()
        more = unfinished + self._whole_bytes - self._held_bytes
        if more <= 0:
            self._give_back(unfinished)
            return
        try:
            self._budget.reserve(more)
        except Busy as error:
            if unfinished:
                self._refuse(error)
        else:
            self._held_bytes += more

    def send_receive_event_to_app(self) -> None:
        """A message is whole."""
        count = sum(map(len, self.frames))
        super().send_receive_event_to_app()
        if not self.close_sent:  # else it has been dropped
            self._whole.append(count)
            self._whole_bytes += count

    async def receive(self) -> Any:
        """The next message; from here on it is up to who takes it to hold memory for it."""
        message = await super().receive()
        if message["type"] == "websocket.receive" and self._whole:
            self._whole_bytes -= self._whole.popleft()
            self._give_back(self._unfinished_bytes())
        return message

    async def send(self, message: Any) -> None:
        """Send a message; no answer to a close is seen among bytes that are dropped, so the client is to end it."""
        await super().send(message)
        if self._refused and self.close_sent and self.transport.can_write_eof():
            self.transport.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over."""
        super().connection_lost(exc)
        self._drop_unfinished()
        self._whole.clear()
        self._whole_bytes = 0
        self._give_back(0)

    def _refuse(self, error: Busy) -> None:
        """Drop what is not whole and all that comes after it, and let the client be told."""
        self._refused = True
        self._drop_unfinished()
        self._give_back(0)
        if self.close_sent:
            self.transport.close()
        else:
            self.queue.put_nowait({"type": "websocket.receive", "bytes": None, REFUSED: error})  # type: ignore[arg-type] # with a key of ours

    def _drop_unfinished(self) -> None:
        self.conn.reader.discard()
        self.frames = []

    def _unfinished_bytes(self) -> int:
        """Bytes of a message that is not whole: those of its pieces, each looked at once, and what is there of one."""
        if self.frames is not self._pieces:
            self._pieces, self._pieces_counted, self._pieces_bytes = self.frames, 0, 0
        if len(self._pieces) > self._pieces_counted:
            new = self._pieces[self._pieces_counted :]
            self._pieces_bytes += sum(map(len, new)) + _PIECE_BYTES * len(new)
            self._pieces_counted += len(new)
        return self._pieces_bytes + len(self.conn.reader.buffer)

    def _give_back(self, unfinished: int) -> None:
        """Hold no more than what is there."""
        spare = self._held_bytes - unfinished - self._whole_bytes
        if spare > 0:
            self._budget.release(spare)
            self._held_bytes -= spare
