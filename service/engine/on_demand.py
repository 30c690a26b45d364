"""Second forms of a model that are opened when they are first asked for: not every service needs them."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OnDemand"]

_log = logging.getLogger(__name__)

_T = TypeVar("_T")


class OnDemand(Generic[_T]):
    """Opens something in the background.

    Args:
        open_it: Opens and tests it.
        without: What is done as long as it is not there, for the log.
    """

    def __init__(self, open_it: Callable[[], _T], without: str) -> None:
        self._open_it = open_it
        self._without = without
        self._opened: _T | None = None
        self._asked = False

    def get(self) -> _T | None:
        """What was opened, or nothing as long as it is not open. Returns at once; for one thread."""
        if not self._asked:
            self._asked = True
            # A thread of the usual priority, which those that the session starts take over; the process waits for it.
            threading.Thread(target=self._open, name="robomask-on-demand").start()
        return self._opened

    @property
    def opened(self) -> _T | None:
        """It, if it is open; for any thread, and without asking for it."""
        return self._opened

    def _open(self) -> None:
        try:
            self._opened = self._open_it()
        except Exception as error:  # noqa: BLE001 - whatever it is, the service does without
            _log.warning("%s: %s", self._without, error)
