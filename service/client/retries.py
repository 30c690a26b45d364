"""When to ask again, and how long to wait before; knows nothing of HTTP, clocks and sleep."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.client.errors import ClientError, ServiceRefused, Unavailable, Unreachable, Untrusted

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Retries"]


@dataclass(frozen=True)
class Retries:
    """Ask again after what may pass: no connection, 429, 502 and 503. Segmenting changes nothing, so it is safe.

    The wait is drawn evenly from 0 to a bound that doubles, so that clients refused together do not come back
    together; it is never shorter than what the service asks for with `Retry-After`.

    Attributes:
        tries: How often to ask at most, the first time included.
        base_s: Bound of the first wait in seconds.
        longest_s: Most seconds between two tries; a service that asks for more gets none.
        draw: A number of 0..1.
    """

    tries: int = 4
    base_s: float = 0.1
    longest_s: float = 10.0
    draw: Callable[[], float] = field(default=random.random)

    def wait_s(self, error: ClientError, tried: int, remaining_s: float | None) -> float | None:
        """Seconds to wait before asking again; None for giving up.

        Args:
            error: What came of the last try.
            tried: How often it was tried.
            remaining_s: Seconds that are left of the deadline, if there is one.

        >>> retries = Retries(draw=lambda: 0.5)
        >>> [retries.wait_s(Unreachable(), tried, None) for tried in (1, 2, 3, 4)]
        [0.05, 0.1, 0.2, None]
        >>> retries.wait_s(Unavailable("", status=503, retry_after_s=2.0), 1, remaining_s=1.0)  # too late by then
        """
        if tried >= self.tries or not _passes(error):
            return None
        wait: float = self.draw() * min(self.longest_s, self.base_s * 2 ** (tried - 1))
        asked = error.retry_after_s if isinstance(error, ServiceRefused) else None
        if asked is not None:
            wait = min(asked + wait, max(asked, self.longest_s))
        if wait > self.longest_s or (remaining_s is not None and wait >= remaining_s):
            return None
        return wait


def _passes(error: ClientError) -> bool:
    """Whether the same request may be answered a little later."""
    if isinstance(error, ServiceRefused):
        return isinstance(error, Unavailable) or error.status == 502
    return isinstance(error, Unreachable) and not isinstance(error, Untrusted)
