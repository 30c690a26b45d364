"""What a run of a load says in figures: rates, latencies, what came in time, what did not, and where the time went."""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

import numpy as np
from pydantic import BaseModel

from service.bench.connections import BROKEN, UNANSWERED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from service.bench.loads import Run
    from service.bench.watching import Sample

__all__ = [
    "ClosedSummary",
    "Generator",
    "OpenSummary",
    "Percentiles",
    "Server",
    "percentiles",
    "stages_of",
    "summarise_closed",
    "summarise_open",
    "summarise_server",
]

_STAGE: Final = re.compile(r"([\w-]+);dur=([0-9.]+)")
_TIMINGS: Final = re.compile(r"^server-timing:(.*)$", re.IGNORECASE | re.MULTILINE)
_MIB: Final = 1024 * 1024
_OK: Final = 200


class Percentiles(BaseModel):
    """Of some values, in milliseconds."""

    p50: float
    p90: float
    p99: float
    max: float


class Generator(BaseModel):
    """What the generator itself cost, and how late it sent.

    Attributes:
        cpu_share: CPU time for each second: 1.0 is a whole core.
        nice: Its priority.
        lag_ms: From when a request was due to when it left.
    """

    cpu_share: float
    nice: int
    lag_ms: Percentiles | None


class Server(BaseModel):
    """How the server was under the load; None for what cannot be known.

    Attributes:
        cpu_ms_per_request: CPU time of all its processes for each request, refused ones included.
        memory_mib: At the start, at the end, and at most.
        memory_growth_mib_per_min: Slope of a line through the second half of the samples.
        queue_frames: Mean of frames that wait in the first and in the last third, and the most.
    """

    cpu_ms_per_request: float | None
    memory_mib: tuple[float, float, float] | None
    memory_growth_mib_per_min: float | None
    queue_frames: tuple[float, float, float] | None


class ClosedSummary(BaseModel):
    """A closed loop.

    Attributes:
        clients: How many clients.
        rate: Answers with status 200 a second.
        latency_ms: Of those answers.
        refusals: Other answers, by status; 0 is a broken connection.
        lost: How many of the clients there were no more at the end: nobody took their connection again.
        stages_ms: Median of each stage, as the server tells it.
        generator: What the generator cost.
        server: How the server was.
    """

    clients: int
    rate: float
    latency_ms: Percentiles | None
    refusals: dict[int, int]
    lost: int
    stages_ms: dict[str, float]
    generator: Generator
    server: Server


class OpenSummary(BaseModel):
    """An open loop. Latency counts from when a frame was due to be sent.

    The rates are of a span as long as that of sending, which begins and ends later by the time of the quickest answer,
    as none can come sooner. So a server that keeps up is given all its answers, those to the last frames too, which
    come a little after the end of sending as the first came a little after its beginning; and no rate is above what the
    server can do, whatever the deadline, as it would be if the answers from a queue that it still works off were
    divided by the time of sending alone. Those are `drained`; a few are where latencies differ. The misses are a share
    of the frames, of all of them: an answer within its deadline is no miss, whenever it comes.

    Attributes:
        robots: How many robots.
        hz: Frames a second of each.
        offered: Frames a second of all.
        deadline_ms: Until when an answer is worth having.
        answered: Answers with status 200 a second.
        in_time: Of those, the ones within the deadline, a second.
        drained: Number of answers with status 200 that came after the span, and count in neither rate.
        misses: Share of all frames without an answer in time.
        late: Number of answers after the deadline.
        late_ms: By how much those were late.
        refusals: Other answers, by status; 0 is a broken connection, -1 none at all.
        refusal_ms: How long a refusal took.
        latency_ms: Of the answers with status 200.
        stages_ms: Median of each stage, as the server tells it.
        generator: What the generator cost.
        server: How the server was.
    """

    robots: int
    hz: float
    offered: float
    deadline_ms: float | None
    answered: float
    in_time: float
    drained: int
    misses: float
    late: int
    late_ms: Percentiles | None
    refusals: dict[int, int]
    refusal_ms: Percentiles | None
    latency_ms: Percentiles | None
    stages_ms: dict[str, float]
    generator: Generator
    server: Server


def percentiles(values_s: NDArray[np.float64]) -> Percentiles | None:
    """Percentiles in milliseconds of seconds; None of none.

    >>> percentiles(np.array([0.001, 0.002, 0.003]))
    Percentiles(p50=2.0, p90=2.8, p99=2.98, max=3.0)
    """
    if values_s.size == 0:
        return None
    p50, p90, p99, most = (round(float(ms), 4) for ms in np.percentile(values_s * 1000, (50, 90, 99, 100)))
    return Percentiles(p50=p50, p90=p90, p99=p99, max=most)


def stages_of(heads: Sequence[str]) -> dict[str, float]:
    r"""Median milliseconds of every stage in the `Server-Timing` of some answers.

    >>> stages_of(["HTTP/1.1 200 OK\r\nServer-Timing: decode;dur=1.0, infer;dur=4.5\r\n"])
    {'decode': 1.0, 'infer': 4.5}
    """
    stages: dict[str, list[float]] = {}
    for head in heads:
        for line in _TIMINGS.findall(head):
            for stage, duration in _STAGE.findall(line):
                stages.setdefault(stage, []).append(float(duration))
    return {stage: round(float(np.median(values)), 4) for stage, values in stages.items()}


def summarise_closed(run: Run, clients: int, samples: Sequence[Sample]) -> ClosedSummary:
    """Figures of a closed loop."""
    good = run.status == _OK
    return ClosedSummary(
        clients=clients,
        rate=np.count_nonzero(good) / run.seconds,
        latency_ms=percentiles((run.done_s - run.due_s)[good]),
        refusals=_refusals(run),
        lost=run.lost,
        stages_ms=stages_of(run.heads),
        generator=Generator(cpu_share=round(run.cpu_share, 4), nice=run.nice, lag_ms=None),
        server=summarise_server(samples, run.requests),
    )


def summarise_open(
    run: Run, robots: int, hz: float, deadline_ms: float | None, samples: Sequence[Sample]
) -> OpenSummary:
    """Figures of an open loop; without a deadline every answer is in time."""
    took, good = run.done_s - run.due_s, run.status == _OK
    refused = (run.status > BROKEN) & ~good
    limit_s = np.inf if deadline_ms is None else deadline_ms / 1000
    in_time = good & (took <= limit_s)
    late = good & ~in_time
    drained = good & (run.done_s >= run.ended_s + took[good].min(initial=np.inf))
    return OpenSummary(
        robots=robots,
        hz=hz,
        offered=len(run.status) / run.seconds,
        deadline_ms=deadline_ms,
        answered=np.count_nonzero(good & ~drained) / run.seconds,
        in_time=np.count_nonzero(in_time & ~drained) / run.seconds,
        drained=int(np.count_nonzero(drained)),
        misses=1 - np.count_nonzero(in_time) / len(run.status),
        late=int(np.count_nonzero(late)),
        late_ms=percentiles(took[late] - limit_s),
        refusals=_refusals(run),
        refusal_ms=percentiles(took[refused]),
        latency_ms=percentiles(took[good]),
        stages_ms=stages_of(run.heads),
        generator=Generator(
            cpu_share=round(run.cpu_share, 4),
            nice=run.nice,
            lag_ms=percentiles((run.sent_s - run.due_s)[run.status != UNANSWERED]),
        ),
        server=summarise_server(samples, run.requests),
    )


def summarise_server(samples: Sequence[Sample], requests: int) -> Server:
    """How the server was.

    Args:
        samples: Taken while the load ran, and a little around it.
        requests: Requests in all the time that they span: how long the load itself took of it does not matter so.
    """
    at = np.array([sample.at_s for sample in samples])
    memory, cpu, queue = (
        np.array([np.nan if value is None else value for value in values], float)
        for values in (
            [sample.resident_bytes for sample in samples],
            [sample.cpu_s for sample in samples],
            [sample.queue_depth for sample in samples],
        )
    )
    later = slice(len(at) // 2, None)
    third = max(1, len(at) // 3)
    return Server(
        cpu_ms_per_request=_number((cpu[-1] - cpu[0]) * 1000 / max(1, requests)),
        memory_mib=_numbers(memory[0] / _MIB, memory[-1] / _MIB, memory.max() / _MIB),
        memory_growth_mib_per_min=_number(_slope(at[later], memory[later]) * 60 / _MIB),
        queue_frames=_numbers(queue[:third].mean(), queue[-third:].mean(), queue.max()),
    )


def _refusals(run: Run) -> dict[int, int]:
    return dict(sorted(Counter(run.status[run.status != _OK].tolist()).items()))


def _slope(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Of a line through points by least squares; not a number if there are fewer than two."""
    if len(x) < 2 or np.isnan(y).any():
        return float("nan")
    centred = x - x.mean()
    return float((centred * y).sum() / (centred**2).sum())


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)


def _numbers(first: float, second: float, third: float) -> tuple[float, float, float] | None:
    return None if np.isnan(first + second + third) else (round(first, 2), round(second, 2), round(third, 2))
