"""Streams of frames: which frame is the newest of those in flight."""

from __future__ import annotations

from typing import TYPE_CHECKING

from service.errors import Superseded

if TYPE_CHECKING:
    from collections.abc import Hashable

__all__ = ["Streams", "superseded"]


def superseded() -> Superseded:
    """The error for a frame that a newer one has overtaken."""
    return Superseded("expected the newest frame of its stream, but a newer one came before the model was free for it")


class Streams:
    """The newest frame of every stream, as long as one is in flight: ids cost nothing once their frames are answered.

    Used from one event loop.
    """

    def __init__(self) -> None:
        self._newest: dict[Hashable, list[float]] = {}  # newness of the newest, and how many are in flight

    def __len__(self) -> int:
        return len(self._newest)

    def enter(self, stream: Hashable, newness: float) -> None:
        """A frame that is ready for the model.

        Raises:
            Superseded: A newer one got here first.
        """
        entry = self._newest.setdefault(stream, [newness, 0])
        if newness < entry[0]:
            raise superseded()
        entry[0] = newness
        entry[1] += 1

    def leave(self, stream: Hashable) -> None:
        """A frame that had entered is done, however it ended."""
        entry = self._newest[stream]
        entry[1] -= 1
        if not entry[1]:
            del self._newest[stream]
