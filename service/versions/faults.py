"""When the model in service fails again and again, its golden frame decides whether to send requests here.

Some faults of a device last until the process ends, an illegal access to a GPU's memory for one: every request fails,
and nothing but a run tells. Frames of clients decide nothing, for they may be what is at fault.
"""

from __future__ import annotations

import logging
import threading
import weakref
from typing import TYPE_CHECKING, Final

from service.contract import BundleInvalid
from service.engine import self_test

if TYPE_CHECKING:
    from service.versions.models import Models
    from service.versions.slot import Slot

__all__ = ["Faults"]

_log = logging.getLogger(__name__)

_IN_A_ROW: Final = 3
_FIRST_S: Final = 1.0
_LONGEST_S: Final = 30.0
_LAST_RUN_S: Final = 5.0


class Faults:
    """Counts requests that the model in service failed on, and runs its golden frame on another thread after a few.

    It holds no model between two runs.

    Args:
        models: Know what is in service; told when it is at fault, and when it is not any more.

    Attributes:
        any: Whether a request failed, so that `answered` has to be told of those that do not.
    """

    def __init__(self, models: Models) -> None:
        self._models = models
        self.any = False
        self._in_a_row = 0
        self._of: weakref.ref[Slot] | None = None
        self._thread: threading.Thread | None = None
        self._closed = threading.Event()

    def failed(self, slot: Slot) -> None:
        """A model failed on a request; to be told on the event loop."""
        if slot is not self._models.lineup.serving:
            return
        if self._of is None or self._of() is not slot:
            self._of, self._in_a_row = weakref.ref(slot), 0
        self.any = True
        self._in_a_row += 1
        if self._in_a_row >= _IN_A_ROW and (self._thread is None or not self._thread.is_alive()):
            self._thread = threading.Thread(target=self._look, args=(self._of,), name="robomask-golden", daemon=True)
            self._thread.start()

    def answered(self, slot: Slot) -> None:
        """A model answered a request; to be told on the event loop."""
        if self._of is not None and self._of() is slot:
            self.any, self._in_a_row = False, 0

    def close(self) -> None:
        """Run golden frames no more; a device that hangs is not waited for."""
        self._closed.set()
        if self._thread is not None:
            self._thread.join(_LAST_RUN_S)

    def _look(self, of: weakref.ref[Slot]) -> None:
        """Run the golden frame until it comes out right or another model serves; at the end of each, rest a while."""
        rest_s, known = _FIRST_S, False
        while fault := self._fault(of):
            if not known:
                _log.error("the model in service fails its golden frame, so it is not ready: %s", fault)
            known = True
            if self._closed.wait(rest_s):
                return
            rest_s = min(2 * rest_s, _LONGEST_S)
        self._models.mark_faulty(None)
        if known:
            _log.warning("the model in service answers its golden frame again, or another serves: ready")
        self._closed.wait(_FIRST_S)  # clients that go on sending frames at fault have it run no more often than that

    def _fault(self, of: weakref.ref[Slot]) -> str | None:
        """What is wrong with a model, if it serves and anything is."""
        slot = of()
        if slot is None or slot is not self._models.lineup.serving:
            return None
        try:
            for engine in slot.engine.open_forms():
                self_test(engine, slot.golden)
        except BundleInvalid as error:
            self._models.mark_faulty(slot)
            return str(error)
        return None
