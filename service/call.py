"""What is known of one request while it is answered."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.scheduling.freshness import Freshness

if TYPE_CHECKING:
    from collections.abc import Hashable

    from service.scheduling.streams import Turn
    from service.versions.slot import Slot

__all__ = ["Call"]


@dataclass(slots=True)
class Call:
    """What is known of one request while it is answered: for its headers, its line in the log, and the metrics.

    Attributes:
        request_id: The client's own, or a new one.
        stages_s: Seconds spent in each stage so far.
        frames: Frames decoded.
        stream: Whose frames they are: the client's stream or its connection.
        turn: Their part in their stream, where frames of one supersede each other.
        held_bytes: Bytes of the memory budget that it holds.
        slot: The model that answers it.
        arrived_s: When its head had come, in seconds of `time.perf_counter`.
        freshness: How long its answer is wanted; by default it may take its time.
        problem: Code of the error that ended it.
        abandoned: Whether the client has hung up.
        counted: Whether it has been counted what became of its frames.
        runs: Runs of the model that its answer took; of one for several requests, its share.
    """

    request_id: str
    stages_s: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    held_bytes: int = 0
    slot: Slot | None = None
    stream: Hashable = None
    turn: Turn | None = None
    arrived_s: float = field(default_factory=time.perf_counter)
    freshness: Freshness = Freshness()  # noqa: RUF009 - it cannot change
    problem: str | None = None
    abandoned: bool = False
    counted: bool = False
    runs: float = 0.0
