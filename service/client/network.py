"""Connections of which every read and write ends with the try that it is part of.

httpx's timeouts begin anew with each operation on a socket: a body that is sent slowly, or headers that trickle, would
be waited for many times as long. asyncio can end a try as a whole; without it each operation has to know what is left.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Self

import httpcore

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterable

    import httpx

__all__ = ["Until", "end_with_their_tries"]

_PIECE: Final = 1 << 16
"""Bytes that are written before it is looked what time is left."""


class Until(float):
    """A timeout as httpx takes it, in seconds, which knows how many of them are left later on.

    Args:
        left_s: Tells.
    """

    left_s: Callable[[], float]

    def __new__(cls, left_s: Callable[[], float]) -> Self:  # noqa: D102 - as a constructor
        timeout = super().__new__(cls, max(0.0, left_s()))
        timeout.left_s = left_s
        return timeout


def end_with_their_tries(http: httpx.Client) -> None:
    """Let all connections of a client take an `Until` for what it says.

    httpx has no public way to the place where httpcore takes its sockets from. Where a later version has another one,
    and over transports that have no sockets, an `Until` is a timeout like any other.
    """
    for transport in (http._transport, *http._mounts.values()):  # noqa: SLF001 - see above
        pool = getattr(transport, "_pool", None)
        backend = getattr(pool, "_network_backend", None)
        if isinstance(backend, httpcore.NetworkBackend):
            pool._network_backend = _Backend(backend)  # type: ignore[union-attr] # noqa: SLF001


class _Backend(httpcore.NetworkBackend):
    """Opens connections that end with their tries."""

    def __init__(self, inner: httpcore.NetworkBackend) -> None:
        self._inner = inner

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        left_s = _left_s(timeout, httpcore.ConnectTimeout)
        return _Connection(self._inner.connect_tcp(host, port, left_s, local_address, socket_options))

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        left_s = _left_s(timeout, httpcore.ConnectTimeout)
        return _Connection(self._inner.connect_unix_socket(path, left_s, socket_options))

    def sleep(self, seconds: float) -> None:
        self._inner.sleep(seconds)


class _Connection(httpcore.NetworkStream):
    """A connection that ends with its try."""

    def __init__(self, inner: httpcore.NetworkStream) -> None:
        self._inner = inner

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._inner.read(max_bytes, _left_s(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if not isinstance(timeout, Until) or len(buffer) <= _PIECE:
            self._inner.write(buffer, _left_s(timeout, httpcore.WriteTimeout))
            return
        for start in range(0, len(buffer), _PIECE):
            self._inner.write(buffer[start : start + _PIECE], _left_s(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left_s = _left_s(timeout, httpcore.ConnectTimeout)
        return _Connection(self._inner.start_tls(ssl_context, server_hostname, left_s))

    def get_extra_info(self, info: str) -> Any:
        return self._inner.get_extra_info(info)


def _left_s(timeout: float | None, over: type[httpcore.TimeoutException]) -> float | None:
    """What is left of a timeout.

    Raises:
        httpcore.TimeoutException: Nothing is.
    """
    if not isinstance(timeout, Until):
        return timeout
    if (left_s := timeout.left_s()) <= 0:
        raise over
    return left_s
