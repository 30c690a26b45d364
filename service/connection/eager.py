"""Coroutines that begin at once, not in the event loop's next turn.

What is refused is answered before anything else is read, and without a task. `asyncio.eager_task_factory` does the same
for all tasks of a loop, from Python 3.12 on.
"""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Coroutine, Generator

__all__ = ["start"]

_T = TypeVar("_T")


def start(coroutine: Coroutine[Any, Any, _T], loop: asyncio.AbstractEventLoop) -> asyncio.Task[_T] | None:
    """Run a coroutine until it waits for something; the task that goes on with it, or None if it has ended.

    Before it waits it must not ask for its task, as `asyncio.timeout` does.

    Args:
        coroutine: What to run; called from a callback of the event loop, not from a task.
        loop: The event loop that runs.

    Raises:
        BaseException: Whatever the coroutine raises before it waits.
    """
    try:
        waits_for = coroutine.send(None)
    except StopIteration:
        return None
    rest = _rest(coroutine, waits_for)
    rest.send(None)  # as far as it has come: a task that is cancelled at once would never have begun
    return loop.create_task(rest)


async def _rest(coroutine: Coroutine[Any, Any, _T], waits_for: object) -> _T:
    """What a coroutine still has to do that has asked its task to wait for something."""
    return await _resumed(coroutine, waits_for)


@types.coroutine
def _resumed(coroutine: Coroutine[Any, Any, _T], waits_for: object) -> Generator[Any, Any, _T]:
    result: _T
    asked: object = None  # at first nothing, for `start`
    while True:
        try:
            yield asked
        except BaseException as error:  # noqa: BLE001 - it is for the coroutine to decide what comes of it
            try:
                asked = waits_for = coroutine.throw(error)
            except StopIteration as end:
                result = end.value
                return result
        else:
            if asked is waits_for:
                del asked, waits_for  # what it waited for is nobody's any more
                result = yield from coroutine
                return result
            asked = waits_for
