"""Requests and answers as they stand between the wire and what answers, and what is read from their headers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["ARRIVED", "BUFFERED_BYTES", "REFUSED", "Reply", "Whole", "content_length", "first_values"]

ARRIVED: Final = "robomask.arrived_s"
"""Where an ASGI scope says when the request's head had come, if it was kept for a moment."""
REFUSED: Final = "robomask.refused"
"""Where a message of a websocket says, with the error, that there was no place for it."""
BUFFERED_BYTES: Final = 64 * 1024
"""Larger answers hold their memory until the client has taken them."""
_DIGITS: Final = 20
"""Of a content length, beside zeros in front; more of them are no number that Python reads, and too much anyway."""


class Whole(NamedTuple):
    """A request with all its body.

    Attributes:
        headers: As `first_values` gives them.
        query: What stood behind the question mark.
        client: Who asks: address and port.
        body: The body.
        arrived_s: When its head had come, in seconds of `time.perf_counter`.
    """

    headers: Mapping[bytes, bytes]
    query: bytes
    client: tuple[str, int] | None
    body: bytes
    arrived_s: float


class Reply(NamedTuple):
    """An answer. Its headers hold the length of its content."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    content: bytes


def first_values(headers: Sequence[tuple[bytes, bytes]]) -> dict[bytes, bytes]:
    """Headers by name; of one that comes twice the first counts.

    >>> first_values([(b"accept", b"image/png"), (b"accept", b"*/*")])
    {b'accept': b'image/png'}
    """
    return dict(reversed(headers))


def content_length(headers: Mapping[bytes, bytes]) -> int | None:
    """The length that a request announces; None if it does not, or not in digits.

    >>> content_length({b"content-length": b"00012"}), content_length({})
    (12, None)
    """
    text = headers.get(b"content-length", b"")
    return int(text.lstrip(b"0")[:_DIGITS] or b"0") if text.isdigit() else None
