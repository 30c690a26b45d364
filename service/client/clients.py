"""`Client` and `AsyncClient`: the same calls, blocking or awaited."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Self

import httpx

from service.client.address import check_address, connections_to, shown, untrusted
from service.client.errors import ClientError, DeadlineExceeded, Unreachable, refusal
from service.client.network import Until, end_with_their_tries
from service.client.options import GRACE_S, Options, deadline_s, headers_of, query_of
from service.client.pictures import Body, Frames, body_of
from service.client.results import Segmentation, read_answer
from service.client.retries import Retries
from service.client.streams import AsyncStream, Stream, open_async_stream, open_stream

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from contextlib import AbstractAsyncContextManager, AbstractContextManager
    from types import TracebackType
    from typing import Unpack

__all__ = ["AsyncClient", "Client"]

_ROUTE: Final = "/segment"


class Client:
    """A service, asked from any number of threads.

    Args:
        url: Its address, `http://host:port`.
        retries: When to ask again.
        timeout_s: Seconds to wait for an answer to one try when no deadline is given.
        headers: Sent with every request, `Authorization` for a proxy for instance.
        transport: Another way to reach it, for tests.
        clock: Seconds from any fixed moment.
        sleep: Waits so many seconds.

    Raises:
        AddressInvalid: The URL is no address of a service.
        HeaderInvalid: A header that cannot be sent.
    """

    def __init__(
        self,
        url: str,
        *,
        retries: Retries | None = None,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._url = check_address(url)
        self._http = connections_to(self._url, httpx.Client, timeout=timeout_s, headers=headers, transport=transport)
        end_with_their_tries(self._http)
        self._headers = dict(headers or {})
        self._retries = retries or Retries()
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep

    def segment(self, frames: Frames, **options: Unpack[Options]) -> Segmentation:
        """Tell robot from everything else, in one frame or many.

        Args:
            frames: uint8 [H,W,3] or [N,H,W,3] RGB, bytes of a picture, a path, or a list of such.
            **options: See `Options`.

        Raises:
            ClientError: No answer; which of its kinds says why.
            TypeError, ValueError: Not frames.
            OSError: A path that cannot be read.
        """
        call = _Call(self._url, body_of(frames), options, self._retries, self._timeout_s, self._clock)
        while True:
            try:
                with self._http.stream(**call.request()) as response:
                    content = b"".join(map(call.in_time, response.iter_bytes()))
                return call.read(response, content)
            except httpx.HTTPError as error:
                wait = call.after(call.failure(error), error)
            except ClientError as error:
                wait = call.after(error, error)
            self._sleep(wait)

    def stream(self, **options: Unpack[Options]) -> AbstractContextManager[Stream]:
        """A stream for the frames of one camera, of which the newest always wins. Needs websockets.

            with client.stream(deadline_ms=100) as stream:
                for result in stream.run(camera):
                    if result.answer is not None:
                        result.answer.masks  # bool [1,H,W]

        Args:
            **options: What is true of all frames; `captured_at` is given with each.

        Raises:
            ClientError: There is no stream.
        """
        return open_stream(self._url, options, self._headers, self._timeout_s)

    def ready(self) -> bool:
        """Whether a model is in service and has answered a golden frame right."""
        until_s = self._clock() + self._timeout_s
        timeout = httpx.Timeout(Until(lambda: until_s - self._clock()))
        try:
            return self._http.get("/readyz", timeout=timeout).status_code == 200
        except httpx.HTTPError:
            return False

    def close(self) -> None:
        """Close its connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncClient:
    """The same for asyncio. Arguments as for `Client`; `sleep` is awaited."""

    def __init__(
        self,
        url: str,
        *,
        retries: Retries | None = None,
        timeout_s: float = 30.0,
        headers: Mapping[str, str] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._url = check_address(url)
        self._http = connections_to(
            self._url, httpx.AsyncClient, timeout=timeout_s, headers=headers, transport=transport
        )
        self._headers = dict(headers or {})
        self._retries = retries or Retries()
        self._timeout_s = timeout_s
        self._clock = clock
        self._sleep = sleep

    async def segment(self, frames: Frames, **options: Unpack[Options]) -> Segmentation:
        """As `Client.segment`."""
        call = _Call(self._url, body_of(frames), options, self._retries, self._timeout_s, self._clock)
        while True:
            try:
                request = call.request()
                async with asyncio.timeout(call.whole_s()), self._http.stream(**request) as response:
                    content = b"".join([call.in_time(part) async for part in response.aiter_bytes()])
                return call.read(response, content)
            except (httpx.HTTPError, TimeoutError) as error:
                wait = call.after(call.failure(error), error)
            except ClientError as error:
                wait = call.after(error, error)
            await self._sleep(wait)

    def stream(self, **options: Unpack[Options]) -> AbstractAsyncContextManager[AsyncStream]:
        """As `Client.stream`, for `async with`."""
        return open_async_stream(self._url, options, self._headers, self._timeout_s)

    async def ready(self) -> bool:
        """As `Client.ready`."""
        try:
            async with asyncio.timeout(self._timeout_s):
                return (await self._http.get("/readyz")).status_code == 200
        except (httpx.HTTPError, TimeoutError):
            return False

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


@dataclass
class _Call:
    """One call of `segment` through all its tries; does no input or output itself."""

    address: str
    body: Body
    options: Options
    retries: Retries
    timeout_s: float
    clock: Callable[[], float]
    tried: int = 0
    started_s: float = field(init=False)
    try_started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.query = query_of(self.options)
        self.allowed_s = deadline_s(self.options)
        self.started_s = self.try_started_s = self.clock()

    def remaining_s(self) -> float | None:
        """What is left of the deadline; None if there is none."""
        return None if self.allowed_s is None else self.allowed_s - (self.clock() - self.started_s)

    def patience_s(self) -> float:
        """For how long anything is waited for: the service's refusal after a deadline, or the end of this try."""
        remaining = self.remaining_s()
        return self.timeout_s - (self.clock() - self.try_started_s) if remaining is None else remaining + GRACE_S

    def whole_s(self) -> float:
        """Seconds for a whole try; without a deadline httpx's timeouts, which say what they waited for, come first."""
        return self.patience_s() + (GRACE_S if self.allowed_s is None else 0.0)

    def request(self) -> dict[str, Any]:
        """Arguments of `httpx.Client.request` for the next try.

        Raises:
            DeadlineExceeded: There is no time left for one.
        """
        remaining = self.remaining_s()
        if remaining is not None and remaining <= 0:
            raise self._too_late("got none")
        self.tried += 1
        self.try_started_s = self.clock()
        return {
            "method": "POST",
            "url": _ROUTE,
            "params": self.query,
            "content": self.body.content,
            "headers": {"Content-Type": self.body.content_type} | headers_of(self.options, remaining),
            "timeout": self._timeout(),
        }

    def in_time(self, part: bytes) -> bytes:
        """A part of an answer; httpx's own timeout is for each part anew, and would never end one that trickles.

        Raises:
            DeadlineExceeded: Not even a refusal is waited for any more.
        """
        if self.patience_s() < 0:
            raise self._too_late("got it later")
        return part

    def read(self, response: httpx.Response, content: bytes) -> Segmentation:
        """The answer.

        Raises:
            DeadlineExceeded: It is there, but too late.
            ClientError: It is a refusal, or none that can be read.
        """
        if not response.is_success:
            raise refusal(response.status_code, response.headers, content, time.time(), _ROUTE)
        remaining = self.remaining_s()
        if remaining is not None and remaining < 0:
            raise self._too_late("got it later")
        return read_answer(response.headers, content)

    def failure(self, error: httpx.HTTPError | TimeoutError) -> ClientError:
        """What it means that a try got no answer."""
        if isinstance(error, httpx.TimeoutException | TimeoutError) and not isinstance(error, httpx.ConnectTimeout):
            return self._too_late("got none")
        why = str(error) or type(error).__name__
        return untrusted(self.address, error) or Unreachable(
            f"expected a service at {shown(self.address)}, got no answer ({why}); does it run?"
        )

    def after(self, error: ClientError, cause: BaseException) -> float:
        """Seconds to wait before the next try.

        Raises:
            ClientError: There is to be none.
        """
        wait = self.retries.wait_s(error, self.tried, self.remaining_s())
        if wait is None or self.options.get("stream_id") is not None:  # by then a newer frame of it is on its way
            raise error from (cause if cause is not error else None)
        return wait

    def _timeout(self) -> httpx.Timeout:
        """How long the next try may take. Who cannot be connected to sends no refusal to wait for, so it has less."""
        if self.allowed_s is None:
            return httpx.Timeout(Until(self.patience_s))
        return httpx.Timeout(Until(self.patience_s), connect=Until(lambda: self.remaining_s() or 0.0))

    def _too_late(self, instead: str) -> DeadlineExceeded:
        allowed_s = self.timeout_s if self.allowed_s is None else self.allowed_s
        return DeadlineExceeded(f"expected an answer within {allowed_s * 1000:g} ms, {instead}", status=504)
