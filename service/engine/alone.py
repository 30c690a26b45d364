"""A second session of a model, with several threads inside a run, for when there is one frame at a time to run.

Several sessions' worth of frames on one thread each give the most frames; a lone camera would wait for one core while
the others have nothing to do.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.engine.running import Engine

__all__ = ["Alone"]

_log = logging.getLogger(__name__)


class Alone:
    """Opens the engine for one frame at a time in the background, when it is first asked for.

    Args:
        open_engine: Opens and tests it.
    """

    def __init__(self, open_engine: Callable[[], Engine]) -> None:
        self._open_engine = open_engine
        self._engine: Engine | None = None
        self._asked = False

    def engine(self) -> Engine | None:
        """The engine, or nothing as long as it is not open. Returns at once; for one thread."""
        if not self._asked:
            self._asked = True
            # A thread of the usual priority, which those that the session starts take over; the process waits for it.
            threading.Thread(target=self._open, name="robomask-alone").start()
        return self._engine

    @property
    def opened(self) -> Engine | None:
        """The engine if it is open; for any thread, and without asking for it."""
        return self._engine

    def _open(self) -> None:
        try:
            self._engine = self._open_engine()
        except Exception as error:  # noqa: BLE001 - whatever it is, the service does without
            _log.warning("one frame at a time goes on with as many threads as several: %s", error)
