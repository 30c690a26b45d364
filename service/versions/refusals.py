"""Versions that have been refused, each with its reason: as long as their files are the same, or only for a while."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

from service.contract import BundleOutOfReach

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from service.contract import BundleInvalid

__all__ = ["Refusal", "Refusals"]

_FIRST_S: Final = 1.0
_LONGEST_S: Final = 300.0


class Refusal(NamedTuple):
    """Why a version is refused, and for how long.

    Attributes:
        reason: Why.
        fingerprint: Of the files that were refused.
        pause_s: How long it is left alone, in seconds, though nothing changes; infinity for what is not going to pass.
        until_s: When that is over, by the clock.
    """

    reason: str
    fingerprint: Hashable
    pause_s: float
    until_s: float

    @property
    def passes(self) -> bool:
        """Whether the same files may be as good as any: a store, a disk or a process failed."""
        return self.pause_s < math.inf


class Refusals:
    """Remembers what has been refused.

    What may pass is worth another try after a pause, twice as long after each that was in vain, and never shorter than
    the try itself took: no more than half of the time goes into trying.

    Args:
        clock: Seconds of a clock that only goes forward.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._all: dict[int, Refusal] = {}

    @property
    def all(self) -> dict[int, Refusal]:
        """By version, as of now."""
        return dict(self._all)

    def add(self, version: int, error: BundleInvalid, fingerprint: Hashable, took_s: float) -> Refusal:
        """Remember a refusal.

        Args:
            version: The version.
            error: Why.
            fingerprint: Of its files as they were before the try.
            took_s: How long the try took, in seconds.
        """
        pause_s = math.inf
        if isinstance(error, BundleOutOfReach):
            before = self._all.get(version)
            pause_s = min(2 * before.pause_s, _LONGEST_S) if before is not None and before.passes else _FIRST_S
            pause_s = max(pause_s, took_s)
        refusal = self._all[version] = Refusal(str(error), fingerprint, pause_s, self._clock() + pause_s)
        return refusal

    def forget(self, version: int) -> None:
        """It has been opened."""
        self._all.pop(version, None)

    def allow(self, version: int, fingerprint: Callable[[], Hashable]) -> bool:
        """Whether a version is worth a try: not refused, not for longer than now, or with other files since.

        Args:
            version: The version.
            fingerprint: Looks at its files as they are now; None if they cannot be looked at, and so not be read.
        """
        refusal = self._all.get(version)
        if refusal is None or self._clock() >= refusal.until_s:
            return True
        now = fingerprint()
        return now is not None and now != refusal.fingerprint
