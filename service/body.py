"""Take a request's body off the connection: bounded in bytes and time, and with an eye on whether anybody waits."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Final

from service.errors import BodySlow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request

    from service.pipeline import Call, Pipeline

_LOOK_AFTER_S: Final = 0.02

__all__ = ["cancelled_with_client", "read_body"]


async def read_body(request: Request, pipeline: Pipeline, call: Call, timeout_s: float) -> bytes:
    """The whole body, however it is transferred.

    Its bytes are held by the call, and are refused as soon as it is clear that they are too many: before the first if
    the client announces them.

    Raises:
        TooLarge: More bytes than a body may have.
        Busy: More bytes than all requests together may hold.
        BodySlow: It took too long.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdigit():
        pipeline.limits.check_bytes(int(announced))
    pieces: list[bytes] = []
    count = 0
    try:
        async with asyncio.timeout(timeout_s):
            async for piece in request.stream():
                count += len(piece)
                pipeline.limits.check_bytes(count)
                pipeline.reserve(call, len(piece))
                pieces.append(piece)
    except TimeoutError as error:
        raise BodySlow(f"expected the whole body within {timeout_s:g} s, got {count} bytes of it; send less") from error
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@contextlib.asynccontextmanager
async def cancelled_with_client(request: Request, call: Call) -> AsyncIterator[None]:
    """Cancel what is inside when the client hangs up; the body has to be read before.

    Nobody looks in the first milliseconds: most requests are answered by then.
    """
    handler = asyncio.current_task()
    watchers: list[asyncio.Task[None]] = []

    async def watch() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass
        call.abandoned = True
        if handler is not None:
            handler.cancel()

    timer = asyncio.get_running_loop().call_later(_LOOK_AFTER_S, lambda: watchers.append(asyncio.create_task(watch())))
    try:
        yield
    finally:
        timer.cancel()
        for watcher in watchers:
            watcher.cancel()
