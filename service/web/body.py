"""Take a request's body off the connection: bounded in bytes and time, and with an eye on whether anybody waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Self

from starlette.requests import ClientDisconnect

from service.connection.messages import content_length, first_values
from service.errors import BodySlow, TooLarge

if TYPE_CHECKING:
    from types import TracebackType

    from starlette.requests import Request
    from starlette.types import Receive

    from service.call import Call
    from service.stages import Stages

_LOOK_AFTER_S: Final = 0.02
_SHORT_BYTES: Final = 64 * 1024

__all__ = ["CancelledWithClient", "read_body", "read_short"]


async def read_body(receive: Receive, announced: int | None, stages: Stages, call: Call, limit_s: float) -> bytes:
    """The whole body, however it is transferred.

    Its bytes are held by the call, and are refused as soon as it is clear that they are too many: before the first if
    the client announces them.

    Args:
        receive: Gives the body's pieces.
        announced: The request's content length, if it has one.
        stages: Knows the limits.
        call: What holds the bytes.
        limit_s: Seconds that it may take.

    Raises:
        TooLarge: More bytes than a body may have.
        Busy: More bytes than all requests together may hold.
        BodySlow: It took too long.
        ClientDisconnect: The client hung up.
    """
    if announced is not None:
        stages.limits.check_bytes(announced)
    piece, more = await _piece(receive, stages, call, count=0, left_s=limit_s, limit_s=limit_s)
    if not more:  # a small body comes at once
        return piece
    pieces = [piece]
    count = len(piece)
    ends_s = asyncio.get_running_loop().time() + limit_s
    while more:
        left_s = ends_s - asyncio.get_running_loop().time()
        piece, more = await _piece(receive, stages, call, count=count, left_s=left_s, limit_s=limit_s)
        count += len(piece)
        pieces.append(piece)
    return b"".join(pieces)


async def read_short(request: Request, limit_s: float) -> bytes:
    """A body of a few words, from whoever may say anything at all; no memory is reserved for it.

    Args:
        request: The request.
        limit_s: Seconds that it may take.

    Raises:
        TooLarge: More bytes than anybody needs.
        BodySlow: It took too long.
        ClientDisconnect: The client hung up.
    """
    _check_short(content_length(first_values(request.headers.raw)) or 0)
    content = b""
    try:
        async with asyncio.timeout(limit_s):
            async for piece in request.stream():
                content += piece
                _check_short(len(content))
    except TimeoutError as error:
        raise _slow(limit_s, len(content)) from error
    return content


def _check_short(count: int) -> None:
    if count > _SHORT_BYTES:
        raise TooLarge(f"expected at most {_SHORT_BYTES} bytes about models, got {count} or more")


def _slow(limit_s: float, count: int) -> BodySlow:
    return BodySlow(f"expected the whole body within {limit_s:g} s, got {count} bytes of it; send less")


async def _piece(
    receive: Receive, stages: Stages, call: Call, *, count: int, left_s: float, limit_s: float
) -> tuple[bytes, bool]:
    """The next piece of a body of which so many bytes have come, and whether there is more."""
    try:
        async with asyncio.timeout(left_s):
            message = await receive()
    except TimeoutError as error:
        raise _slow(limit_s, count) from error
    if message["type"] == "http.disconnect":
        raise ClientDisconnect
    piece: bytes = message.get("body", b"")
    stages.limits.check_bytes(count + len(piece))
    stages.reserve(call, len(piece))
    return piece, message.get("more_body", False)


class CancelledWithClient:
    """Cancels what is inside when the client hangs up; the body has to be read before.

    Nobody looks in the first milliseconds: most requests are answered by then.
    """

    __slots__ = ("_call", "_handler", "_receive", "_timer", "_watcher")

    def __init__(self, receive: Receive, call: Call) -> None:
        self._receive = receive
        self._call = call
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._handler = asyncio.current_task(loop)
        self._timer = loop.call_later(_LOOK_AFTER_S, self._look)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _look(self) -> None:
        self._watcher = asyncio.create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._call.abandoned = True
        if self._handler is not None:
            self._handler.cancel()
