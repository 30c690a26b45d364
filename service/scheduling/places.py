"""Room for what lasts as long as its client likes, so that others find some too."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from service.errors import Busy

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Places"]


class Places:
    """A number of places, for one event loop.

    Args:
        count: How many.
        what: What takes one, for the error.
    """

    def __init__(self, count: int, what: str) -> None:
        self._left = self._count = count
        self._what = what

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Hold a place.

        Raises:
            Busy: There is none.
        """
        if not self._left:
            raise Busy(
                f"expected at most {self._count} {self._what} at one time, got one more; come again later",
                reason="streams",
            )
        self._left -= 1
        try:
            yield
        finally:
            self._left += 1
