"""Scenarios on both kinds of event loop: asyncio's own, and the one that the service runs on."""

import asyncio
import gc
from collections.abc import Awaitable, Callable

import uvloop

__all__ = ["run", "run_without_collector"]


def run(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it on each."""
    for runner in (asyncio.run, uvloop.run):
        runner(scenario())  # type: ignore[arg-type]


def run_without_collector(scenario: Callable[[], Awaitable[None]]) -> None:
    """Run it where only what nobody knows any more is freed, and no cycle."""
    gc.disable()
    try:
        run(scenario)
    finally:
        gc.enable()
