"""Close models that have been replaced: when nobody holds them any more, on a thread that has the time for it."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Final

from service.machine.allocator import give_back_memory

if TYPE_CHECKING:
    from service.versions.models import Lineup, Slot

__all__ = ["gone", "let_go"]

_LET_GO_S: Final = 5.0
_LOOK_AGAIN_S: Final = 0.02


def gone(before: Lineup, now: Lineup) -> list[Slot]:
    """The models that were open and are not any more."""

    def slots(lineup: Lineup) -> dict[int, Slot]:
        candidate = None if lineup.trial is None else lineup.trial.candidate
        return {id(slot): slot for slot in (lineup.serving, lineup.previous, candidate) if slot is not None}

    still = slots(now)
    return [slot for key, slot in slots(before).items() if key not in still]


def let_go(slots: list[Slot]) -> None:
    """Wait until nobody else holds these models, so that they end on this thread, and give their memory back.

    Requests that a model has begun hold it. Ending a session takes milliseconds that no event loop should spend. The
    list is emptied; the caller must hold nothing that holds them.
    """
    if not slots:
        return
    until_s = time.monotonic() + _LET_GO_S
    while slots:
        slot = slots.pop()
        while time.monotonic() < until_s and (sys.getrefcount(slot) > 2 or sys.getrefcount(slot.engine) > 2):
            time.sleep(_LOOK_AGAIN_S)
        del slot
    give_back_memory()
