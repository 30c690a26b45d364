"""What looks over the shoulder of every answer: trials and the sampling of hard frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from service.versions.slot import Slot

__all__ = ["Seen", "Watcher", "Watchers"]


class Seen(NamedTuple):
    """A request that has been answered.

    Attributes:
        slot: The model that answered.
        frames: uint8 [64,64,3] each, as the model saw them.
        probability: float32 [N,64,64].
        stream: Whose frames they are: what the client calls its stream, or its connection.
        moment_s: When, in seconds of `time.perf_counter`.
    """

    slot: Slot
    frames: Sequence[NDArray[np.uint8]]
    probability: NDArray[np.float32]
    stream: Hashable
    moment_s: float


class Watcher(Protocol):
    """Told of answers on the event loop: it has to be quick."""

    def answered(self, seen: Seen) -> None:
        """A request has been answered."""

    def failed(self, slot: Slot, frames: int) -> None:
        """A model failed on a request."""


class Watchers:
    """Those who watch now. Any thread may add or remove one."""

    def __init__(self) -> None:
        self._all: tuple[Watcher, ...] = ()

    def __bool__(self) -> bool:
        return bool(self._all)

    def add(self, watcher: Watcher) -> None:
        """Begin to tell it."""
        self._all = (*self._all, watcher)

    def remove(self, watcher: Watcher) -> None:
        """Cease to tell it."""
        self._all = tuple(other for other in self._all if other is not watcher)

    def answered(self, seen: Seen) -> None:
        """Tell all."""
        for watcher in self._all:
            watcher.answered(seen)

    def failed(self, slot: Slot, frames: int) -> None:
        """Tell all."""
        for watcher in self._all:
            watcher.failed(slot, frames)
