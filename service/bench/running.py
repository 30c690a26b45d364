"""Runs a benchmark: the ceiling and the closed loops in turn, round by round, then the open loop."""

from __future__ import annotations

import contextlib
import shlex
import statistics
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from pydantic import BaseModel

from service.bench.ceiling import Ceiling, CeilingProcess
from service.bench.errors import BenchError
from service.bench.loads import Closed, Open, run_load
from service.bench.payloads import payloads_of
from service.bench.servers import bundle_options, serving
from service.bench.summaries import ClosedSummary, OpenSummary, summarise_closed, summarise_open
from service.bench.targets import Target, probe, segment_target, v2_target
from service.bench.watching import Watch
from service.machine.cores import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from service.bench.config import BenchConfig

__all__ = ["INTERRUPTED", "Report", "bench"]

INTERRUPTED: Final = "interrupted"
"""Failure of a benchmark that somebody has stopped."""


class Round(BaseModel):
    """What was measured in one round, as near in time as can be: machines that others use too change within seconds.

    Attributes:
        ceilings: The model alone, before the first closed loop and after each; none without a bundle.
        closed: The closed loops.
    """

    ceilings: list[Ceiling]
    closed: list[ClosedSummary]

    def beside(self, index: int) -> Ceiling | None:
        """The model alone around one of the closed loops: means of just before and just after."""
        pair = self.ceilings[index : index + 2]
        return _each(statistics.mean, pair) if pair else None


class Report(BaseModel):
    """All figures of a benchmark.

    Attributes:
        url: What was measured.
        reply_bytes: Size of an answer.
        ready_s: Seconds that the service took to be ready, if it was started here.
        cores: Cores of this machine that may be used.
        rounds: The rounds.
        open: The open loop, if there was one.
        open_ceiling: The model alone around it, as in a round; None without a bundle. A machine that others use too may
            be another one by then than in the closed loops that tell its capacity.
        failure: What kept the rest from being measured, if anything did; of its round there are the loops before it.
    """

    url: str
    reply_bytes: int
    ready_s: float | None
    cores: int
    rounds: list[Round]
    open: OpenSummary | None
    open_ceiling: Ceiling | None
    failure: str | None

    def clients(self) -> list[int]:
        """The closed loops, by their clients."""
        return [closed.clients for closed in self.rounds[0].closed]

    def rate(self, clients: int) -> float:
        """Median of the rates of one closed loop."""
        return statistics.median(self._of(clients, lambda closed, _: closed.rate))

    def capacity(self) -> float:
        """The best of the closed loops' rates."""
        return max((self.rate(clients) for clients in self.clients()), default=0.0)

    def ceiling(self) -> Ceiling | None:
        """Medians of the ceiling."""
        found = [ceiling for each in self.rounds for ceiling in each.ceilings]
        return _each(statistics.median, found) if found else None

    def of_ceiling(self, clients: int) -> float | None:
        """Median over the rounds of a closed loop's rate as a share of the ceiling around it."""
        shares = self._of(clients, lambda closed, ceiling: closed.rate / ceiling.best if ceiling else None)
        return statistics.median(shares) if shares else None

    def over_model_ms(self, clients: int) -> float | None:
        """Median over the rounds of the median latency without the model's own time around the loop."""

        def over(closed: ClosedSummary, ceiling: Ceiling | None) -> float | None:
            return closed.latency_ms.p50 - ceiling.frame_ms if closed.latency_ms and ceiling else None

        values = self._of(clients, over)
        return statistics.median(values) if values else None

    def _of(self, clients: int, value: Callable[[ClosedSummary, Ceiling | None], float | None]) -> list[float]:
        found = (
            value(closed, each.beside(index))
            for each in self.rounds
            for index, closed in enumerate(each.closed)
            if closed.clients == clients
        )
        return [number for number in found if number is not None]


def bench(config: BenchConfig, say: Callable[[str], None]) -> Report:
    """Run it.

    Args:
        config: What to run.
        say: Told what is being done.

    Raises:
        BenchError: Something keeps it from being measured, from the first closed loop on. What comes between later is
            in the report, beside what was measured by then.
    """
    with contextlib.ExitStack() as stack:
        ready_s, pid, url = None, config.pid, config.url or ""
        if config.serve and config.bundle is not None:
            say(f"starting the service with {config.bundle}")
            options = bundle_options(config.bundle, config.precision) + shlex.split(config.serve_options)
            served = stack.enter_context(serving(options))
            url, pid, ready_s = served
        target = _target(config, url)
        reply = probe(target)
        cores = config.cores or usable_cores()
        ceiling = None
        if config.bundle is not None:
            ceiling = stack.enter_context(CeilingProcess(config.bundle, config.precision, cores))
        bound = _Bench(config, target, pid, _metrics_url(url, config), say)
        report = Report(
            url=url,
            reply_bytes=len(reply),
            ready_s=ready_s,
            cores=cores,
            rounds=[],
            open=None,
            open_ceiling=None,
            failure=None,
        )
        try:
            bound.fill(report, ceiling)
        except (BenchError, KeyboardInterrupt) as error:
            if not any(each.closed for each in report.rounds):
                raise
            report.failure = str(error) if isinstance(error, BenchError) else INTERRUPTED
        return report


class _Bench:
    """Runs single loads."""

    def __init__(
        self, config: BenchConfig, target: Target, pid: int | None, metrics_url: str | None, say: Callable[[str], None]
    ) -> None:
        self._config = config
        self._target = target
        self._pid = pid
        self._metrics_url = metrics_url
        self._say = say
        self._ceiling_s = max(0.5, config.seconds / 3)

    def fill(self, report: Report, ceiling: CeilingProcess | None) -> None:
        """Measure round by round, then the open loop; what has been measured is in the report at once."""
        config = self._config
        for number in range(config.rounds):
            self._say(f"round {number + 1} of {config.rounds}")
            report.rounds.append(Round(ceilings=[], closed=[]))
            self.round(report.rounds[-1], ceiling)
        if config.robots:
            report.open = self.open(config.robots, config.hz)
        elif config.load:
            offered = config.load * report.capacity()
            if not offered:
                raise BenchError("expected answers in the closed loops, to know what --load is a multiple of, got none")
            robots = max(1, round(offered / config.hz))
            report.open = self.open(robots, offered / robots)  # near the rate asked for, and the load exactly
        if report.open is not None and ceiling is not None:
            before = report.rounds[-1].ceilings[-1]
            report.open_ceiling = _each(statistics.mean, [before, ceiling.measure(self._ceiling_s)])

    def round(self, into: Round, ceiling: CeilingProcess | None) -> None:
        into.ceilings += [ceiling.measure(self._ceiling_s)] if ceiling else []
        for clients in self._config.clients:
            into.closed.append(self.closed(clients))
            into.ceilings += [ceiling.measure(self._ceiling_s)] if ceiling else []

    def closed(self, clients: int) -> ClosedSummary:
        self._say(f"closed loop, {clients} clients, {self._config.seconds:g} s")
        requests = self._target.requests({})
        load = Closed(clients, self._config.seconds)
        with Watch(self._pid, self._metrics_url) as watch:
            run = run_load(self._target.address, requests, load, self._config.nice)
        return summarise_closed(run, clients, watch.samples)

    def open(self, robots: int, hz: float) -> OpenSummary:
        config = self._config
        if round(hz * config.open_seconds) < 1:
            raise BenchError(
                f"expected --open-seconds long enough for a frame at {hz:.2g} Hz, got {config.open_seconds:g}"
            )
        self._say(f"open loop, {robots} robots at {hz:.1f} Hz, {config.open_seconds:g} s")
        told = config.deadline_ms if config.send_deadline else None
        extra = {} if told is None else {"X-Deadline-Ms": f"{told:g}"}
        requests = self._target.requests(extra, robots if config.streams else 0)
        load = Open(robots, hz, config.open_seconds)
        with Watch(self._pid, self._metrics_url) as watch:
            run = run_load(self._target.address, requests, load, config.nice)
        return summarise_open(run, robots, hz, config.deadline_ms, watch.samples)


def _each(middle: Callable[[Sequence[float]], float], ceilings: Sequence[Ceiling]) -> Ceiling:
    """Each figure's mean or median."""
    one_session, shared_session, frame_ms = (middle(values) for values in zip(*(c[:3] for c in ceilings), strict=True))
    return Ceiling(one_session, shared_session, frame_ms, ceilings[0].precision)


def _target(config: BenchConfig, url: str) -> Target:
    if config.protocol == "v2":
        return v2_target(url, config.v2_model, config.v2_input, config.v2_output)
    return segment_target(url, payloads_of(config.payload), config.accept)


def _metrics_url(url: str, config: BenchConfig) -> str | None:
    """Where `/metrics` are: beside `/segment`, also behind a path. None if only the process is to be watched."""
    parts = urlsplit(url)
    before = parts.path.removesuffix("/segment") if parts.path.endswith("/segment") else ""
    return f"{parts.scheme}://{parts.netloc}{before}/metrics" if config.protocol == "segment" or config.serve else None
