"""Requests a second over HTTP beside what the same model gives in process on the same cores, in one run.

    python -m benchmarks.http_rate                      # a quick stand-in: what is measured is the service
    python -m benchmarks.http_rate --models models      # the shipped model

For every form of frame and of answer, where `robomask bench` measures one. The ceiling is the best of one session with
a thread for each core and of as many callers sharing one single-threaded session, measured before and after; every line
is the median of its rounds.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from benchmarks.standin import publish_standin
from service.bench.ceiling import CeilingProcess
from service.bench.loads import Closed, run_load
from service.bench.payloads import payloads_of
from service.bench.servers import serving
from service.bench.summaries import summarise_closed
from service.bench.targets import segment_target
from service.bench.watching import Watch
from service.contract import model_names, versions
from service.machine.cores import usable_cores

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from service.bench.servers import Served

_CASES: Final = (
    ("raw -> npy", "raw", "application/x-npy"),
    ("PNG -> JSON", "png", "application/json"),
    ("PNG -> PNG", "png", "image/png"),
    ("720p JPEG -> PNG", "jpeg", "image/png"),
)
"""Name, what is sent, what is wanted."""

_CEILING_S: Final = 2.0


class Rate(NamedTuple):
    """What one closed loop found; times in ms, CPU time that of the service for each request."""

    requests_s: float
    median_ms: float
    p99_ms: float
    cpu_ms: float
    failed: int


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="model repository; by default a quick stand-in is made")
    parser.add_argument("--clients", type=int, nargs="*", default=[1, 16, 32])
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--port", type=int, default=8765)
    parser.add_argument("options", nargs="*", help="further options of `robomask serve`, after --")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models or Path(folder)
        if chosen.models is None:
            publish_standin(models)
        with CeilingProcess(_newest(models), None, usable_cores()) as process:
            ceilings = [process.measure(_CEILING_S).best]
            options = ["--models", str(models), "--provider", "cpu", *chosen.options]
            with serving(options, chosen.port) as served:
                print(f"ready {served.ready_s:.2f} s after start, {served.resident_mib():.0f} MiB resident")
                rates = _measure(chosen, served)
                print(f"{served.resident_mib():.0f} MiB resident after load")
            ceilings.append(process.measure(_CEILING_S).best)
    print("\n".join(_lines(rates, statistics.median(ceilings))))


def _measure(chosen: argparse.Namespace, served: Served) -> dict[tuple[str, int], list[Rate]]:
    rates: dict[tuple[str, int], list[Rate]] = {}
    for _ in range(chosen.rounds):
        for name, sent, wanted in _CASES:
            for clients in chosen.clients:
                rate = _rate(served, sent, wanted, Closed(clients, chosen.seconds))
                rates.setdefault((name, clients), []).append(rate)
    return rates


def _rate(served: Served, sent: str, wanted: str, load: Closed) -> Rate:
    target = segment_target(served.url, payloads_of([sent]), wanted)
    with Watch(served.pid, None) as watch:
        run = run_load(target.address, target.requests({}), load, nice=-10)
    found = summarise_closed(run, load.clients, watch.samples)
    cpu_ms = found.server.cpu_ms_per_request
    if found.latency_ms is None or cpu_ms is None:
        raise SystemExit(f"expected answers of status 200 to {sent} from a service that goes on, got {found.refusals}")
    return Rate(found.rate, found.latency_ms.p50, found.latency_ms.p99, cpu_ms, sum(found.refusals.values()))


def _lines(rates: dict[tuple[str, int], list[Rate]], ceiling: float) -> Iterator[str]:
    yield f"in-process ceiling {ceiling:.0f} frames/s on {usable_cores()} cores"
    for (name, clients), found in rates.items():
        rate, median, p99, cpu, failed = _medians(found)
        yield (
            f"{name:17} {clients:3} clients: {rate:7.0f}/s, median {median:6.2f} ms, p99 {p99:6.2f} ms, "
            f"{cpu:.3f} CPU ms each, {failed:.0f} failed = {rate / ceiling:.2f} of the ceiling"
        )


def _medians(found: Sequence[Rate]) -> list[float]:
    return [statistics.median(values) for values in zip(*found, strict=True)]


def _newest(models: Path) -> Path:
    name = model_names(models)[0]
    return models / name / str(versions(models, name)[-1])


if __name__ == "__main__":
    main()
