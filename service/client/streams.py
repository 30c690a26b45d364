"""A camera's stream over `WS /stream`: a frame is sent whenever there is a credit, answers are taken as they come."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from service.client.errors import BadRequest, Unreachable
from service.client.pictures import Frame, body_of
from service.client.stream_protocol import Protocol, StreamResult, note_of, stream_address

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from websockets.asyncio.client import ClientConnection as AsyncConnection
    from websockets.sync.client import ClientConnection

    from service.client.options import Options
    from service.client.results import ModelNote

__all__ = ["AsyncStream", "Captured", "Stream", "open_async_stream", "open_stream"]

_TOO_LARGE: Final = 1009


class Captured(NamedTuple):
    """A frame and when it was taken: an aware datetime, or Unix seconds."""

    frame: Frame
    at: datetime | float


class Stream:
    """A stream that is open; one thread may send while another receives.

    Args:
        socket: Its connection.
        address: Where it leads, for the errors.
    """

    def __init__(self, socket: ClientConnection, address: str) -> None:
        self._socket = socket
        self._address = address
        self._protocol = Protocol()
        self._is_read = False  # whether a thread waits for a message
        self._changed = threading.Condition()

    @property
    def model(self) -> ModelNote | None:
        """Which model answers, as the service said in its hello."""
        return self._protocol.model

    def run(self, frames: Iterable[Frame | Captured]) -> Iterator[StreamResult]:
        """Send frames, and give what becomes of each as soon as it is known.

        The frames are taken in a thread of their own, each when there is a credit for it: a source that always gives
        its newest frame loses nothing of that here. With a bound on age each has to be `Captured`.

        Raises:
            ClientError: The stream has ended; why is said by its kind.
        """
        ended: list[BaseException | None] = []
        left = threading.Event()

        def send_all() -> None:
            try:
                for frame in frames:
                    if left.is_set():
                        return
                    self._send(frame)
            except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
                ended.append(error)
            finally:
                with self._changed:
                    ended.append(None)
                    self._changed.notify_all()

        threading.Thread(target=send_all, name="robomask-stream", daemon=True).start()
        state = self._protocol
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: state.settled or state.pending or ended)
                    if ended and ended[0] is not None:
                        raise ended[0]
                    if not state.settled and not state.pending:
                        return
                yield self.receive()
        finally:
            left.set()

    def send(
        self,
        frame: Frame,
        *,
        captured_at: datetime | float | None = None,
        deadline_ms: float | None = None,
        max_age_ms: float | None = None,
    ) -> int:
        """Send a frame as soon as there is a credit for it; returns which it is, counted from 0 on.

        Args:
            frame: uint8 [H,W,3] RGB, bytes of a picture, or a path.
            captured_at: When it was taken: an aware datetime, or Unix seconds.
            deadline_ms: For this frame alone.
            max_age_ms: For this frame alone.

        Raises:
            ClientError: The stream has ended.
        """
        content, note = body_of(frame).content, note_of(captured_at, deadline_ms, max_age_ms)
        self._take_until(lambda: self._protocol.credits > 0)
        with self._changed:  # before the answer can come
            seq = self._protocol.sent()
            self._changed.notify_all()
        try:
            with _ended(self._address):
                if note is not None:
                    self._socket.send(note)
                self._socket.send(content)
        except Unreachable:
            self._take_until(lambda: False)  # up to the last message, which says why
        return seq

    def _send(self, frame: Frame | Captured) -> int:
        return self.send(frame.frame, captured_at=frame.at) if isinstance(frame, Captured) else self.send(frame)

    def receive(self) -> StreamResult:
        """What becomes known next of a frame that was sent.

        Raises:
            ClientError: The stream has ended.
        """
        self._take_until(lambda: bool(self._protocol.settled))
        return self._protocol.settled.popleft()

    def greet(self) -> None:
        """Wait for the service's hello."""
        self._take_until(lambda: self._protocol.model is not None)

    def close(self) -> None:
        """End the stream; frames that are not settled are forgotten."""
        self._socket.close()

    def _take_until(self, there: Callable[[], bool]) -> None:
        """Take messages until something is there, perhaps by what another thread takes.

        Who waits for the other thread hears of each message that it takes: a lock might go back to that thread again
        and again, while what this one waits for has long been there.
        """
        while True:
            with self._changed:
                self._changed.wait_for(lambda: there() or not self._is_read)
                if there():
                    return
                if self._protocol.ended is not None:
                    raise self._protocol.ended
                self._is_read = True
            try:
                with _ended(self._address):
                    message = self._socket.recv()
                with self._changed:
                    self._protocol.receive(message)
            finally:
                with self._changed:
                    self._is_read = False
                    self._changed.notify_all()


class AsyncStream:
    """The same for asyncio; one task may send while another receives."""

    def __init__(self, socket: AsyncConnection, address: str) -> None:
        self._socket = socket
        self._address = address
        self._protocol = Protocol()
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def model(self) -> ModelNote | None:
        """Which model answers, as the service said in its hello."""
        return self._protocol.model

    async def run(self, frames: AsyncIterable[Frame | Captured]) -> AsyncIterator[StreamResult]:
        """As `Stream.run`; the frames are taken in a task of their own."""

        async def send_all() -> None:
            try:
                async for frame in frames:
                    await self._send(frame)
            finally:
                self._changed.set()

        sending = asyncio.create_task(send_all())
        state = self._protocol
        try:
            while True:
                while not (state.settled or state.pending or sending.done()):
                    self._changed.clear()
                    await self._changed.wait()
                    await asyncio.sleep(0)  # lets a task that has ended be seen as such
                if sending.done():
                    sending.result()
                if not state.settled and not state.pending:
                    return
                yield await self.receive()
        finally:
            sending.cancel()

    async def send(
        self,
        frame: Frame,
        *,
        captured_at: datetime | float | None = None,
        deadline_ms: float | None = None,
        max_age_ms: float | None = None,
    ) -> int:
        """As `Stream.send`."""
        content, note = body_of(frame).content, note_of(captured_at, deadline_ms, max_age_ms)
        await self._take_until(lambda: self._protocol.credits > 0)
        seq = self._protocol.sent()
        self._changed.set()
        try:
            with _ended(self._address):
                if note is not None:
                    await self._socket.send(note)
                await self._socket.send(content)
        except Unreachable:
            await self._take_until(lambda: False)  # up to the last message, which says why
        return seq

    async def _send(self, frame: Frame | Captured) -> int:
        if isinstance(frame, Captured):
            return await self.send(frame.frame, captured_at=frame.at)
        return await self.send(frame)

    async def receive(self) -> StreamResult:
        """As `Stream.receive`."""
        await self._take_until(lambda: bool(self._protocol.settled))
        return self._protocol.settled.popleft()

    async def greet(self) -> None:
        """As `Stream.greet`."""
        await self._take_until(lambda: self._protocol.model is not None)

    async def close(self) -> None:
        """As `Stream.close`."""
        await self._socket.close()

    async def _take_until(self, there: Callable[[], bool]) -> None:
        while not there():
            async with self._reading:
                if there():
                    return
                if self._protocol.ended is not None:
                    raise self._protocol.ended
                with _ended(self._address):
                    message = await self._socket.recv()
                self._protocol.receive(message)
                self._changed.set()


@contextlib.contextmanager
def open_stream(url: str, options: Options, headers: Mapping[str, str], timeout_s: float) -> Iterator[Stream]:
    """Connect and wait for the service's hello; closed again when left.

    Raises:
        ClientError: There is no stream; which of its kinds says why.
    """
    from websockets.sync.client import connect  # noqa: PLC0415 - only streams need it

    address = stream_address(url, options)
    arguments: dict[str, Any] = {
        "additional_headers": dict(headers),
        "open_timeout": timeout_s,
        "max_size": None,
        "compression": None,
    }
    with contextlib.ExitStack() as stack:
        with _ended(url):
            socket = stack.enter_context(connect(address, **arguments))
        stream = Stream(socket, url)
        stream.greet()
        yield stream


@contextlib.asynccontextmanager
async def open_async_stream(
    url: str, options: Options, headers: Mapping[str, str], timeout_s: float
) -> AsyncIterator[AsyncStream]:
    """As `open_stream`."""
    from websockets.asyncio.client import connect  # noqa: PLC0415 - only streams need it

    address = stream_address(url, options)
    arguments: dict[str, Any] = {
        "additional_headers": dict(headers),
        "open_timeout": timeout_s,
        "max_size": None,
        "compression": None,
    }
    async with contextlib.AsyncExitStack() as stack:
        with _ended(url):
            socket = await stack.enter_async_context(connect(address, **arguments))
        stream = AsyncStream(socket, url)
        await stream.greet()
        yield stream


@contextlib.contextmanager
def _ended(address: str) -> Iterator[None]:
    """What websockets raises, as this client's own errors."""
    from websockets.exceptions import ConnectionClosed, WebSocketException  # noqa: PLC0415 - only streams need it

    try:
        yield
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code == _TOO_LARGE:
            raise BadRequest("expected a smaller frame, the service hung up on this one", status=413) from error
        raise Unreachable(f"expected the stream to {address} to go on, it has ended ({error})") from error
    except (WebSocketException, OSError) as error:
        raise Unreachable(f"expected a stream at {address}, got none ({error}); does the service run?") from error
