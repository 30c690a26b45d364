"""A camera's stream over `WS /stream`: a frame is sent whenever there is a credit, answers are taken as they come."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import httpx

from service.client.address import cause_of, shown, untrusted
from service.client.errors import (
    AddressInvalid,
    AnswerUnreadable,
    BadRequest,
    ClientError,
    Unreachable,
    refusal,
)
from service.client.pictures import Frame, one_frame
from service.client.stream_protocol import (
    Bounds,
    Protocol,
    StreamResult,
    bounds_of,
    note_of,
    stream_address,
    stream_headers,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator, Mapping
    from datetime import datetime

    from websockets.asyncio.client import ClientConnection as AsyncConnection
    from websockets.http11 import Response
    from websockets.sync.client import ClientConnection

    from service.client.options import Options
    from service.client.results import ModelNote

__all__ = ["AsyncStream", "Captured", "Stream", "open_async_stream", "open_stream"]

_TOO_LARGE: Final = 1009
_LIBRARY_LOG: Final = logging.Logger(f"{__name__}.websockets", logging.CRITICAL)  # noqa: LOG001 - nobody sets it up
"""For nobody: websockets logs with a traceback what is raised here as an error that one can catch."""
_LOOK_S: Final = 0.2
"""How often it is looked whether a stream has ended, or something has become late, while nothing comes."""


class Captured(NamedTuple):
    """A frame and when it was taken: an aware datetime, or Unix seconds."""

    frame: Frame
    at: datetime | float


class Stream:
    """A stream that is open; one thread may send while another receives.

    Args:
        socket: Its connection.
        address: Where it leads, for the errors.
        bounds: Until when answers are worth having, for all its frames.
    """

    def __init__(self, socket: ClientConnection, address: str, bounds: Bounds = Bounds()) -> None:  # noqa: B008
        self._socket = socket
        self._address = address
        self._protocol = Protocol(bounds)
        self._sends = threading.Lock()  # a run that was left may still be sending its last frame
        self._is_read = False  # whether a thread waits for a message
        self._changed = threading.Condition()

    @property
    def model(self) -> ModelNote | None:
        """Which model answers, as the service said in its hello; each answer names its own."""
        return self._protocol.model

    def run(self, frames: Iterable[Frame | Captured], *, in_flight: int | None = None) -> Iterator[StreamResult]:
        """Send frames, and give what becomes of each as soon as it is known, for as long as the stream lasts.

        The frames are taken in a thread of their own, each when there is a credit for it: a source that always gives
        its newest frame loses nothing of that here. It is to be another one for each run, as one frame more may be
        taken from it after the run has been left. With a bound on age each frame has to be `Captured`.

        Results are of the stream, not of the run: after one that was left, the next begins with what became of the
        frames of the other, which `seq` tells apart.

        Who is slow to take results gets the newest answer first; those that had been waiting by then are `Superseded`.
        What nothing is heard of within its deadline is a `DeadlineExceeded`. A stream that has ended does not begin
        again by itself: open another.

        Args:
            frames: The frames.
            in_flight: Most frames that are sent and not settled; by default as many as there are credits. A service
                with few cores runs a single one on all of them: with 1 answers are the freshest, with more there are
                more of them.

        Raises:
            ClientError: The stream has ended; why is said by its kind.
            ValueError: No frame may be in flight.
        """
        _check_in_flight(in_flight)
        sending = _Sending(self, frames, in_flight)
        state = self._protocol
        over: ClientError | None = None
        try:
            while True:
                over = over or self._take_what_is_there()
                with self._changed:
                    result = state.take_newest()
                    self._changed.notify_all()  # there is room for another
                if result is not None:
                    yield result
                elif state.pending and over is None:
                    over = self._take_one()
                elif not state.pending and sending.is_over(_LOOK_S if over is not None else 0.0):
                    return
                elif over is not None:
                    raise over
                else:  # the only message that can come is that the stream ends
                    self.wait_for_frames(sending)
        finally:
            sending.leave()

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
            deadline_ms: For this frame alone; infinity for none.
            max_age_ms: For this frame alone; infinity for none.

        Raises:
            ClientError: The stream has ended.
            TypeError, ValueError: Not a frame, or more than one; or a bound that is no number.
            OSError: A path that cannot be read.
        """
        bounds = Bounds(captured_at, deadline_ms, max_age_ms)
        content, note = one_frame(frame), note_of(bounds, self._protocol.bounds)
        with self._sends:
            self._take_until(lambda: self._protocol.credits > 0)
            with self._changed:  # before the answer can come
                seq = self._protocol.sent(bounds)
                self._changed.notify_all()
            try:
                with _ended(self._address):
                    if note is not None:
                        self._socket.send(note)
                    self._socket.send(content)
            except Unreachable:
                self._take_until(lambda: False)  # up to the last message, which says why
        return seq

    def receive(self) -> StreamResult:
        """What becomes known next of a frame that was sent; after its deadline, that nothing has.

        Raises:
            ClientError: The stream has ended.
        """
        self._take_until(lambda: bool(self._protocol.settled))
        return self._protocol.settled.popleft()

    def greet(self, patience_s: float) -> None:
        """Wait for the service's hello.

        Args:
            patience_s: For how long.

        Raises:
            ClientError: There is none.
        """
        until_s = time.monotonic() + patience_s
        while self._protocol.model is None:
            if (left_s := until_s - time.monotonic()) <= 0:
                raise _no_hello(self._address, patience_s)
            self._read(left_s)

    def close(self) -> None:
        """End the stream; frames that are not settled are forgotten."""
        self.hang_up_if_unheard()
        self._socket.close()

    def hang_up_if_unheard(self) -> None:
        """Break the connection to a service of which nothing is heard: it would not say goodbye either."""
        with self._changed:  # a run that was left may still be reading
            is_unheard = self._protocol.is_unheard
        if is_unheard:
            with contextlib.suppress(OSError):  # closed already
                self._socket.socket.shutdown(socket.SHUT_RDWR)  # wakes a `send` that waits for room, too

    def wait_for_room(self, in_flight: int | None, left: threading.Event) -> None:
        """Wait until another frame is to be sent; or for `left`."""
        while True:
            with self._changed:
                if left.is_set() or self._protocol.has_room(in_flight):
                    return
                if not self._protocol.pending or self._protocol.is_full:
                    self._changed.wait(_LOOK_S)
                    continue
            self._read(self._protocol.patience_s(_LOOK_S))
            with self._changed:
                self._protocol.supersede()  # who takes results may be busy with one

    def wait_for_frames(self, sending: _Sending, timeout_s: float = _LOOK_S) -> None:
        """Wait for a moment until a frame is sent, or there are no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._protocol.pending or sending.has_ended, timeout_s)

    def tell(self) -> None:
        """Let who waits look again."""
        with self._changed:
            self._changed.notify_all()

    def _take_what_is_there(self) -> ClientError | None:
        """Take all messages that have come; why there will be none any more, if so."""
        try:
            while self._read(0.0):
                pass
        except ClientError as error:
            return error
        return None

    def _take_one(self) -> ClientError | None:
        """Wait for a message for as long as one may be expected; why there will be none any more, if so."""
        try:
            self._read(self._protocol.patience_s(_LOOK_S))
        except ClientError as error:
            return error
        return None

    def _take_until(self, there: Callable[[], bool]) -> None:
        """Take messages until something is there, perhaps by what another thread takes."""
        while not there():
            self._read(self._protocol.patience_s(_LOOK_S))

    def _read(self, timeout_s: float) -> bool:
        """Take a message, or wait until another thread has; False if none has come in time.

        Who waits for the other thread hears of each message that it takes: a lock might go back to that thread again
        and again, while what this one waits for has long been there.
        """
        with self._changed:
            if self._is_read:
                has_changed = self._changed.wait(timeout_s)
                self._protocol.expire()  # who reads may have begun before there was anything to expire
                return has_changed
            if self._protocol.ended is not None:
                raise self._protocol.ended
            self._is_read = True
        message: str | bytes | None = None
        try:
            with _ended(self._address), contextlib.suppress(TimeoutError):
                message = self._socket.recv(timeout_s)
            with self._changed:
                if message is not None:
                    self._protocol.receive(message)
                else:  # nothing lies there unread
                    self._protocol.expire()
        finally:
            with self._changed:
                self._is_read = False
                self._changed.notify_all()
        return message is not None


class _Sending:
    """Takes a run's frames and sends them, in a thread of its own."""

    def __init__(self, stream: Stream, frames: Iterable[Frame | Captured], in_flight: int | None) -> None:
        self._stream = stream
        self._in_flight = in_flight
        self._frames = iter(frames)
        self._left = threading.Event()
        self._error: BaseException | None = None
        self.has_ended = False
        threading.Thread(target=self._send_all, name="robomask-stream", daemon=True).start()

    def is_over(self, wait_s: float) -> bool:
        """Whether there are no more frames, or will be none in a moment.

        Raises:
            BaseException: What the source of frames has raised, or why the stream has ended.
        """
        if wait_s:
            self._stream.wait_for_frames(self, wait_s)
        if self.has_ended and self._error is not None:
            raise self._error
        return self.has_ended

    def leave(self) -> None:
        """Send no more."""
        self._left.set()
        self._stream.tell()

    def _send_all(self) -> None:
        try:
            while True:
                self._stream.wait_for_room(self._in_flight, self._left)
                if self._left.is_set():
                    return
                try:
                    frame = next(self._frames)
                except StopIteration:
                    return
                if self._left.is_set():
                    return
                if isinstance(frame, Captured):
                    self._stream.send(frame.frame, captured_at=frame.at)
                else:
                    self._stream.send(frame)
        except BaseException as error:  # noqa: BLE001 - raised again where the results are taken
            self._error = error
        finally:
            self.has_ended = True
            self._stream.tell()


class AsyncStream:
    """The same for asyncio; one task may send while another receives."""

    def __init__(self, socket: AsyncConnection, address: str, bounds: Bounds = Bounds()) -> None:  # noqa: B008
        self._socket = socket
        self._address = address
        self._protocol = Protocol(bounds)
        self._reading = asyncio.Lock()
        self._changed = asyncio.Event()

    @property
    def model(self) -> ModelNote | None:
        """Which model answers, as the service said in its hello; each answer names its own."""
        return self._protocol.model

    async def run(
        self, frames: AsyncIterable[Frame | Captured], *, in_flight: int | None = None
    ) -> AsyncIterator[StreamResult]:
        """As `Stream.run`; the frames are taken in a task of their own."""
        _check_in_flight(in_flight)
        state = self._protocol
        sending, reading = asyncio.create_task(self._send_all(frames, in_flight)), asyncio.create_task(self._read_all())
        for task in (sending, reading):
            task.add_done_callback(lambda _: self._changed.set())
        try:
            while True:
                if (result := state.take_newest()) is not None:
                    self._changed.set()  # there is room for another
                    yield result
                    await asyncio.sleep(0)  # let what has come meanwhile be read
                elif reading.done():
                    if not state.pending:
                        await asyncio.wait({sending}, timeout=_LOOK_S)
                    if not sending.done() or state.pending:  # also what was sent in this moment, into the void
                        reading.result()
                    sending.result()
                    return
                elif sending.done() and not state.pending:
                    sending.result()
                    return
                else:
                    self._changed.clear()
                    await self._changed.wait()
        finally:
            for task in (sending, reading):
                task.cancel()
            await asyncio.gather(sending, reading, return_exceptions=True)

    async def send(
        self,
        frame: Frame,
        *,
        captured_at: datetime | float | None = None,
        deadline_ms: float | None = None,
        max_age_ms: float | None = None,
    ) -> int:
        """As `Stream.send`."""
        bounds = Bounds(captured_at, deadline_ms, max_age_ms)
        content, note = one_frame(frame), note_of(bounds, self._protocol.bounds)
        await self._take_until(lambda: self._protocol.credits > 0)
        seq = self._protocol.sent(bounds)
        self._changed.set()
        try:
            with _ended(self._address):
                if note is not None:
                    await self._socket.send(note)
                await self._socket.send(content)
        except Unreachable:
            await self._take_until(lambda: False)  # up to the last message, which says why
        return seq

    async def receive(self) -> StreamResult:
        """As `Stream.receive`."""
        await self._take_until(lambda: bool(self._protocol.settled))
        return self._protocol.settled.popleft()

    async def greet(self, patience_s: float) -> None:
        """As `Stream.greet`."""
        try:
            async with asyncio.timeout(patience_s):
                await self._take_until(lambda: self._protocol.model is not None)
        except TimeoutError as error:
            raise _no_hello(self._address, patience_s) from error

    async def close(self) -> None:
        """As `Stream.close`."""
        self.hang_up_if_unheard()
        await self._socket.close()

    def hang_up_if_unheard(self) -> None:
        """As `Stream.hang_up_if_unheard`."""
        if self._protocol.is_unheard:
            self._socket.transport.abort()

    async def _send_all(self, frames: AsyncIterable[Frame | Captured], in_flight: int | None) -> None:
        state, source = self._protocol, aiter(frames)
        while True:
            while not state.has_room(in_flight):
                self._changed.clear()
                await self._changed.wait()
            try:
                frame = await anext(source)
            except StopAsyncIteration:
                return
            if isinstance(frame, Captured):
                await self.send(frame.frame, captured_at=frame.at)
            else:
                await self.send(frame)

    async def _read_all(self) -> None:
        while True:
            await self._read(lambda: False)
            self._protocol.supersede()

    async def _take_until(self, there: Callable[[], bool]) -> None:
        while not there():
            await self._read(there)

    async def _read(self, there: Callable[[], bool]) -> None:
        """Take a message, unless something has become there meanwhile; or give up what has not come in time."""
        async with self._reading:
            if there():
                return
            if self._protocol.ended is not None:
                raise self._protocol.ended
            message: str | bytes | None = None
            with _ended(self._address), contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._protocol.patience_s(_LOOK_S)):
                    message = await self._socket.recv()
            if message is not None:
                self._protocol.receive(message)
            else:  # nothing lies there unread
                self._protocol.expire()
            self._changed.set()


@contextlib.contextmanager
def open_stream(url: str, options: Options, headers: Mapping[str, str], timeout_s: float) -> Iterator[Stream]:
    """Connect and wait for the service's hello; closed again when left.

    Raises:
        ClientError: There is no stream; which of its kinds says why.
    """
    from websockets.sync.client import connect  # noqa: PLC0415 - only streams need it

    address = stream_address(url, options)
    arguments = _arguments(options, headers, timeout_s)
    with contextlib.ExitStack() as stack:
        with _opening(url):
            connection = stack.enter_context(connect(address, **arguments))
        _give_up_writing_after(connection.socket, _patience_s(options, timeout_s))
        stream = Stream(connection, url, bounds_of(options))
        stack.callback(stream.hang_up_if_unheard)
        stream.greet(_patience_s(options, timeout_s))
        yield stream


@contextlib.asynccontextmanager
async def open_async_stream(
    url: str, options: Options, headers: Mapping[str, str], timeout_s: float
) -> AsyncIterator[AsyncStream]:
    """As `open_stream`."""
    from websockets.asyncio.client import connect  # noqa: PLC0415 - only streams need it

    address = stream_address(url, options)
    arguments = _arguments(options, headers, timeout_s)
    async with contextlib.AsyncExitStack() as stack:
        with _opening(url):
            connection = await stack.enter_async_context(connect(address, **arguments))
        _give_up_writing_after(connection.transport.get_extra_info("socket"), _patience_s(options, timeout_s))
        stream = AsyncStream(connection, url, bounds_of(options))
        stack.callback(stream.hang_up_if_unheard)
        await stream.greet(_patience_s(options, timeout_s))
        yield stream


def _check_in_flight(in_flight: int | None) -> None:
    if in_flight is not None and in_flight < 1:
        raise ValueError(f"expected at least one frame in flight, got in_flight={in_flight}")


def _give_up_writing_after(connection: socket.socket, timeout_s: float) -> None:
    """End a connection whose other side takes nothing: pings and `close` would wait behind the frame for ever."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        with contextlib.suppress(OSError):  # closed again already
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))


def _patience_s(options: Options, timeout_s: float) -> float:
    """For how long a connection that stands still is waited for: for as long as one answer, or a few deadlines."""
    return min(timeout_s, bounds_of(options)._replace(captured_at=0.0).silence_s(0.0))  # of a frame taken just now


def _arguments(options: Options, headers: Mapping[str, str], timeout_s: float) -> dict[str, Any]:
    """How a connection is opened, and that one which is dead is noticed within about the time that it may take."""
    patience_s = _patience_s(options, timeout_s)
    return {
        "additional_headers": stream_headers(options, headers),
        "open_timeout": timeout_s,
        "ping_interval": min(patience_s, timeout_s / 2),
        "ping_timeout": min(patience_s, timeout_s / 2),
        "close_timeout": min(patience_s, 10.0),
        "max_size": None,
        "compression": None,
        "logger": _LIBRARY_LOG,
    }


@contextlib.contextmanager
def _opening(address: str) -> Iterator[None]:
    """What websockets raises while it connects, as this client's own errors; redirects it follows itself, if it can."""
    from websockets.exceptions import InvalidStatus  # noqa: PLC0415 - only streams need it

    try:
        with _ended(address):
            yield
    except Unreachable as error:
        refused = cause_of(error, InvalidStatus)
        if refused is None:
            raise
        raise _no_stream(address, refused.response) from error
    except ImportError as error:
        raise AddressInvalid(
            f"expected a way to {shown(address)} through the environment's proxy, got: {error}"
        ) from error


def _no_stream(address: str, response: Response) -> ClientError:
    """What an answer means that opens no stream."""
    status = response.status_code
    if status < 300:
        return AnswerUnreadable(
            f"expected a stream of robomask at {shown(address)}, got status {status}; is the address right?"
        )
    headers = httpx.Headers(list(response.headers.raw_items()), encoding="latin-1")  # some may be there twice
    return refusal(status, headers, bytes(response.body or b""), time.time(), "/stream")


def _no_hello(address: str, patience_s: float) -> Unreachable:
    return Unreachable(
        f"expected robomask's hello on a stream at {shown(address)} within {patience_s:g} s, got none; is the address "
        "right?"
    )


@contextlib.contextmanager
def _ended(address: str) -> Iterator[None]:
    """What websockets raises, as this client's own errors."""
    from websockets.exceptions import ConnectionClosed, WebSocketException  # noqa: PLC0415 - only streams need it

    try:
        yield
    except ConnectionClosed as error:
        if error.rcvd is not None and error.rcvd.code == _TOO_LARGE:
            raise BadRequest("expected a smaller frame, the service hung up on this one", status=413) from error
        raise Unreachable(f"expected the stream to {shown(address)} to go on, it has ended ({error})") from error
    except (WebSocketException, OSError) as error:
        raise untrusted(address, error) or Unreachable(
            f"expected a stream at {shown(address)}, got none ({error}); does the service run?"
        ) from error
