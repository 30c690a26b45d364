"""A result that a task waits for, which goes on in the very turn of the event loop in which the result is told.

A future of asyncio lets its task go on in the next turn. Where the loop has much to do, that is another wait behind all
that has come in the meantime.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from contextvars import Context

__all__ = ["Promise"]

_T = TypeVar("_T")


class Promise(Generic[_T]):
    """What a single task awaits, in the place of an `asyncio.Future`.

    Args:
        loop: The event loop of the task.
    """

    __slots__ = ("_asyncio_future_blocking", "_callback", "_context", "_error", "_loop", "_result", "is_done")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._asyncio_future_blocking = False  # how a task knows what it can wait for
        self._loop = loop
        self._callback: Callable[[Any], object] | None = None
        self._context: Context | None = None
        self._error: BaseException | None = None
        self._result: _T | None = None
        self.is_done = False

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the task."""
        return self._loop

    def tell(self, result: _T) -> None:
        """Let the task go on with a result, if it has not been told another; from within a task, in the next turn."""
        if not self.is_done:
            self._result = result
            self._go_on()

    def fail(self, error: BaseException) -> None:
        """Let the task go on with an error, if it has not been told another; from within a task, in the next turn."""
        if not self.is_done:
            self._error = error
            self._go_on()

    def leave(self) -> None:
        """Nobody waits any more, whatever is told."""
        self.is_done = True

    def cancel(self, msg: object = None) -> bool:
        """Called by its task when that is cancelled, which goes on in the next turn."""
        if self.is_done:
            return False
        self._error = asyncio.CancelledError() if msg is None else asyncio.CancelledError(msg)
        self.is_done = True
        self._loop.call_soon(self._run)
        return True

    def add_done_callback(self, callback: Callable[[Any], object], *, context: Context) -> None:
        """Called by the task that waits."""
        self._callback, self._context = callback, context
        if self.is_done:
            self._loop.call_soon(self._run)

    def result(self) -> None:
        """Called by the task before it goes on: of a future it would hear of errors here."""

    def __await__(self) -> Generator[Promise[_T], None, _T]:
        """Wait.

        An error is raised here alone: its traceback knows all frames above, and here there are but those that wait.
        Raised in `result` it would know, and keep, whoever tells it.

        Raises:
            BaseException: What has been told.
        """
        if not self.is_done:
            self._asyncio_future_blocking = True
            yield self
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                del error
        return self._result  # type: ignore[return-value] # told before

    def _go_on(self) -> None:
        self.is_done = True
        if asyncio.current_task(self._loop) is None:
            self._run()
        else:  # a task cannot begin within another
            self._loop.call_soon(self._run)

    def _run(self) -> None:
        callback, self._callback = self._callback, None
        if callback is not None and self._context is not None:
            self._context.run(callback, self)
