"""Generates load in a process of its own: `python -m service.bench.generator`, told by standard input what to do.

It shares the cores with the server that it measures, so it has to be lean: one thread, epoll, requests made once, and
of an answer only status and end are read. What it costs all the same is measured and reported.

Closed loop: each of C connections sends its next request when it has its answer. Open loop: requests leave by a
timetable, however long the answers take, each on a free connection, or on a new one if none is free; latency counts
from the moment that the timetable says, so that a generator or a server that falls behind does not look fast.
"""

from __future__ import annotations

import contextlib
import gc
import itertools
import json
import os
import select
import sys
import time
from collections import deque
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from service.bench.alarm import Alarm
from service.bench.connections import UNANSWERED, Connections
from service.bench.errors import BenchError
from service.bench.wire import authority

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from service.bench.connections import Connection, Log

__all__ = ["Span", "Timetable", "closed_loop", "main", "open_loop", "timetable"]


class Span(NamedTuple):
    """What was noted.

    Attributes:
        log: What became of every request that counts.
        started_s: From when they do, by `time.monotonic`.
        ended_s: Until when.
        requests: How many were sent in all, those of the warm-up and those cut off at the end too.
        lost: How many clients of a closed loop there were no more at the end: nobody took their connection again.
    """

    log: Log
    started_s: float
    ended_s: float
    requests: int
    lost: int


def closed_loop(
    address: tuple[str, int], requests: Sequence[bytes], *, connections: int, warm_s: float, seconds: float
) -> Span:
    """Keep every connection busy for so long; requests are taken in turn. Noted is what ends in that time.

    Args:
        address: Host and port.
        requests: Requests, ready to be sent.
        connections: How many clients there are.
        warm_s: Seconds before it counts.
        seconds: Seconds that count.

    Raises:
        OSError: The server does not take the connections.
        BenchError: It went away, or there is no time to measure it in.
    """
    pool = Connections(address, connections)
    turns = itertools.cycle(requests)
    pool.on_free = lambda connection: pool.send(connection, next(turns), time.monotonic())
    for connection in pool.all():
        pool.on_free(connection)
    _run_for(pool, warm_s)
    pool.log.clear()
    started, ended = _run_for(pool, seconds)
    if not pool:
        raise _gone(address, connections)
    if ended <= started:
        raise BenchError(f"expected a time that a clock can tell from none, got {seconds:g} s")
    lost = connections - len(pool)
    pool.close(note=False)
    return Span(pool.log, started, ended, pool.sent, lost)


def _gone(address: tuple[str, int], connections: int) -> BenchError:
    return BenchError(
        f"expected the server at {authority(*address)} to go on answering, it went away: "
        f"none of {connections} connections could be opened again"
    )


def _run_for(pool: Connections, seconds: float) -> tuple[float, float]:
    started = now = time.monotonic()
    while now < started + seconds and pool:
        for fd, event in pool.epoll.poll(started + seconds - now):
            pool.handle(fd, event)
        now = time.monotonic()
    return started, now


class Timetable(NamedTuple):
    """When a frame is sent, in seconds from the start; and when it is over.

    Attributes:
        times: When, in order.
        seconds: When the next would be due: N frames at one rate take N periods, not the N - 1 between them.
    """

    times: Sequence[float]
    seconds: float


def timetable(robots: int, hz: float, seconds: float) -> Timetable:
    """All robots at one rate, their phases evenly spread, for the whole number of periods nearest to so many seconds.

    They send in turn.

    >>> timetable(robots=2, hz=1.0, seconds=2.0)
    Timetable(times=[0.0, 0.5, 1.0, 1.5], seconds=2.0)
    """
    turns = round(seconds * hz)
    times = [(turn + robot / robots) / hz for turn in range(turns) for robot in range(robots)]
    return Timetable(times, turns / hz)


def open_loop(
    address: tuple[str, int],
    requests: Sequence[bytes],
    plan: Timetable,
    *,
    connections: int,
    most_connections: int,
    drain_s: float,
) -> Span:
    """Send by the timetable, then wait for answers. The span is that of sending; answers may have come after it.

    Args:
        address: Host and port.
        requests: Requests, ready to be sent; they are taken in turn.
        plan: When they are sent.
        connections: How many to open before the start.
        most_connections: How many there may be; beyond that a request waits here, and its latency counts on.
        drain_s: How long to wait for answers after the end of the timetable.

    Raises:
        OSError: The server does not take the connections that are opened before the start.
        BenchError: It went away.
    """
    pool = Connections(address, connections)
    started = time.monotonic() + 0.01
    due = [(started + after, request) for after, request in zip(plan.times, itertools.cycle(requests), strict=False)]
    sender = _Sender(pool, due, most_connections)
    alarm = Alarm()
    pool.epoll.register(alarm.fileno(), select.EPOLLIN)
    alarm.set(started)
    now, ended = started, started + plan.seconds
    while now < ended + drain_s and not sender.finished() and pool:
        for fd, event in pool.epoll.poll(min(1.0, ended + drain_s - now)):
            if fd == alarm.fileno():
                alarm.clear()
            else:
                pool.handle(fd, event)
        now = time.monotonic()
        if (next_due := sender.send_due(now)) is not None:
            alarm.set(next_due)
    alarm.close()
    if not pool:
        raise _gone(address, connections)
    sender.give_up(now)
    pool.close(note=True)
    return Span(pool.log, started, ended, pool.sent, lost=0)


class _Sender:
    """Sends what is due, each request on a free connection."""

    def __init__(self, pool: Connections, due: Sequence[tuple[float, bytes]], most_connections: int) -> None:
        self._pool = pool
        self._due = due
        self._most = most_connections
        self._next = 0
        self._free = deque(pool.all())
        self._held: deque[tuple[float, bytes]] = deque()
        pool.on_free = self._go_on

    def finished(self) -> bool:
        """Whether every request has been sent and has ended."""
        return self._next == len(self._due) and len(self._pool.log.status) == len(self._due)

    def send_due(self, now: float) -> float | None:
        """Send all that is due by now; returns when the next is, if there is one."""
        while self._next < len(self._due) and self._due[self._next][0] <= now:
            due_s, request = self._due[self._next]
            self._next += 1
            connection = self._connection()
            if connection is None:
                self._held.append((due_s, request))
            else:
                self._pool.send(connection, request, due_s)
        return self._due[self._next][0] if self._next < len(self._due) else None

    def give_up(self, now: float) -> None:
        """Note what was never sent."""
        for due_s, _ in (*self._held, *self._due[self._next :]):
            self._pool.log.add(due_s, now, now, UNANSWERED)

    def _connection(self) -> Connection | None:
        """A free connection: of those there are the one used last, so that a few do the work; or a new one."""
        while self._free:
            connection = self._free.pop()
            if connection.open:
                return connection
        if len(self._pool) < self._most:
            with contextlib.suppress(OSError):
                return self._pool.add()
        return None

    def _go_on(self, connection: Connection) -> None:
        if self._held:
            due_s, request = self._held.popleft()
            self._pool.send(connection, request, due_s)
        else:
            self._free.append(connection)


def main(source: BinaryIO, sink: BinaryIO) -> None:
    """Read a specification (a line of JSON, then the requests), run it, write the log (a line of JSON, then arrays).

    Where there is no server to measure, or none any more, the line of JSON has nothing but a `failure`, in words.
    """
    spec: dict[str, Any] = json.loads(source.readline())
    requests = [source.read(size) for size in spec["sizes"]]
    gc.disable()  # nothing here is cyclic, and a pause would look like the server's
    with contextlib.suppress(OSError):  # its own waiting for a core must not look like the server's
        os.setpriority(os.PRIO_PROCESS, 0, spec["nice"])
    cpu_s, wall_s = time.process_time(), time.monotonic()
    try:
        span = _run(spec, requests)
    except (OSError, BenchError) as error:
        where = authority(spec["host"], spec["port"])
        failure = f"expected a server at {where}, got: {error}" if isinstance(error, OSError) else str(error)
        sink.write(json.dumps({"failure": failure}).encode() + b"\n")
        return
    log = span.log
    note = {
        "count": len(log.status),
        "started_s": span.started_s,
        "ended_s": span.ended_s,
        "cpu_share": (time.process_time() - cpu_s) / (time.monotonic() - wall_s),
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "requests": span.requests,
        "lost": span.lost,
        "heads": [head.decode("latin-1") for head in log.heads],
    }
    sink.write(json.dumps(note).encode() + b"\n")
    sink.writelines(values.tobytes() for values in (log.due_s, log.sent_s, log.done_s, log.status))


def _run(spec: Mapping[str, Any], requests: Sequence[bytes]) -> Span:
    address = (spec["host"], spec["port"])
    if "clients" in spec:
        return closed_loop(
            address, requests, connections=spec["clients"], warm_s=spec["warm_s"], seconds=spec["seconds"]
        )
    return open_loop(
        address,
        requests,
        timetable(spec["robots"], spec["hz"], spec["seconds"]),
        connections=spec["connections"],
        most_connections=spec["most_connections"],
        drain_s=spec["drain_s"],
    )


if __name__ == "__main__":
    main(sys.stdin.buffer, sys.stdout.buffer)
