"""HTTP/1.1 as far as a load generator needs it: bytes made once and sent again, and where an answer ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Reply", "authority", "read_reply", "request_bytes"]


class Reply(NamedTuple):
    """A whole answer.

    Attributes:
        status: HTTP status.
        head: Status line and headers, as they came.
        closes: Whether the server is going to close the connection.
    """

    status: int
    head: bytes
    closes: bool


def authority(host: str, port: int) -> str:
    """Host and port as they stand in a URL and in `Host`; the colons of an IPv6 address in brackets.

    >>> authority("robots", 8000), authority("::1", 8000)
    ('robots:8000', '[::1]:8000')
    """
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def request_bytes(host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes:
    """A POST, ready to be sent.

    >>> request_bytes("h:1", "/segment", {"Content-Type": "image/png"}, b"...").splitlines()[0]
    b'POST /segment HTTP/1.1'
    """
    lines = [f"POST {path} HTTP/1.1", f"Host: {host}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def read_reply(data: bytes) -> Reply | None:
    r"""The answer that these bytes are; None while it is not whole.

    There is one request at a time on a connection, so nothing follows an answer. Of a body in chunks only its end is
    looked for.

    >>> read_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").status
    200
    >>> read_reply(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no")

    Raises:
        ValueError: They are no answer.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = data[:end]
    lower = head.lower()
    status = int(head[9:12])
    start = lower.find(b"\ncontent-length:")
    if start >= 0:
        stop = lower.find(b"\r", start)
        whole = len(data) >= end + 4 + int(lower[start + 16 : stop if stop >= 0 else None])
    elif b"transfer-encoding: chunked" in lower:
        whole = data.endswith(b"\r\n0\r\n\r\n")
    else:
        whole = status in {204, 304}
    return Reply(status, head, b"\nconnection: close" in lower) if whole else None
