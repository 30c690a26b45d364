"""What comes of jobs, and how whoever waits for them is told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeAlias

from service.scheduling.jobs import Done, Job

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Iterable, Sequence

__all__ = ["Result", "hopeless", "settle", "settle_from"]

Result: TypeAlias = tuple[Job, Done | Exception]


def hopeless(jobs: Iterable[Job]) -> list[Result]:
    """What comes of jobs that were taken too late."""
    return [(job, job.freshness.missed("by now it would be late")) for job in jobs]


def settle_from(loop: asyncio.AbstractEventLoop, results: Sequence[Result]) -> None:
    """Hand over results from the event loop that runs now."""
    _set_all([(job, result) for job, result in results if job.promise.get_loop() is loop])
    if elsewhere := [(job, result) for job, result in results if job.promise.get_loop() is not loop]:
        settle(elsewhere)


def settle(results: Sequence[Result]) -> None:
    """Hand results to the event loops that wait for them, each woken once, from any thread."""
    loops: dict[asyncio.AbstractEventLoop, list[Result]] = {}
    for job, result in results:
        loops.setdefault(job.promise.get_loop(), []).append((job, result))
    for loop, own in loops.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: the process is on its way out
            loop.call_soon_threadsafe(_set_all, own)


def _set_all(results: Sequence[Result]) -> None:
    for job, result in results:
        if isinstance(result, Done):
            job.promise.tell(result)
        else:
            job.promise.fail(result)
