"""Coroutines that begin at once, and go on in the callback that brings what they wait for, without a task.

What is refused is answered before anything else is read. `asyncio.eager_task_factory` begins as early, from Python 3.12
on; but where a request takes a third of a millisecond, making a task and telling asyncio of it is a part of that.
"""

from __future__ import annotations

import asyncio
import contextvars
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

__all__ = ["Routine", "start"]


class Routine:
    """A coroutine under way, in most respects as a task.

    asyncio does not know it: `asyncio.current_task` is None in it, so that it must not use what asks for its task, as
    `asyncio.timeout` does.

    Args:
        coroutine: What is under way.
        loop: The event loop that runs.
        on_end: Called with the routine and the error that it met, if any, when it is over after a wait.
    """

    __slots__ = ("_cancelled", "_context", "_coroutine", "_loop", "_on_end", "_waits_for")

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, object],
        loop: asyncio.AbstractEventLoop,
        on_end: Callable[[Routine, BaseException | None], object],
    ) -> None:
        self._coroutine = coroutine
        self._loop = loop
        self._on_end = on_end
        self._waits_for: asyncio.Future[Any] | None = None
        self._context = contextvars.copy_context()
        self._cancelled: asyncio.CancelledError | None = None

    def cancel(self, msg: object = None) -> None:
        """Raise `asyncio.CancelledError` where it waits, or is going to wait next."""
        if self._waits_for is None or not self._waits_for.cancel(msg):
            self._cancelled = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)

    def wait_for(self, awaited: Any) -> None:
        """Go on when this is there, which the coroutine has asked to wait for."""
        if awaited is None:  # to let others have a turn
            self._loop.call_soon(self._step, None, context=self._context)
            return
        awaited._asyncio_future_blocking = False  # noqa: SLF001 - the protocol of futures and whoever waits for them
        self._waits_for = awaited
        awaited.add_done_callback(self._told, context=self._context)
        if self._cancelled is not None and awaited.cancel():
            self._cancelled = None

    def _told(self, awaited: asyncio.Future[Any]) -> None:
        self._waits_for = None
        try:
            awaited.result()
        except BaseException as error:  # noqa: BLE001 - it is for the coroutine to decide what comes of it
            self._step(error)
        else:
            self._step(None)

    def _step(self, error: BaseException | None) -> None:
        if self._cancelled is not None:
            error, self._cancelled = self._cancelled, None
        try:
            awaited = self._coroutine.send(None) if error is None else self._coroutine.throw(error)
        except StopIteration:
            self._on_end(self, None)
        except BaseException as met:  # noqa: BLE001 - whoever has started it is told
            self._on_end(self, met)
        else:
            self.wait_for(awaited)
        finally:
            del error  # its traceback knows this frame


def start(
    coroutine: Coroutine[Any, Any, object],
    loop: asyncio.AbstractEventLoop,
    on_end: Callable[[Routine, BaseException | None], object],
) -> Routine | None:
    """Run a coroutine until it waits for something; what goes on with it, or None if it has ended.

    Args:
        coroutine: What to run; called from a callback of the event loop, not from a task.
        loop: The event loop that runs.
        on_end: Called with the routine and the error that it met, if any, when it is over after a wait.

    Raises:
        BaseException: Whatever the coroutine raises before it waits.
    """
    try:
        awaited = coroutine.send(None)
    except StopIteration:
        return None
    routine = Routine(coroutine, loop, on_end)
    routine.wait_for(awaited)
    return routine
