"""Rates of other serving systems beside this service: the same compute, raw frames, the same cores, in one run.

    python -m benchmarks.peers --peers FOLDER --installed FOLDER [NAME ...]

`--peers` is a folder with the peers' servers (`setup.sh`, `bench.py`); `--installed` is where its `setup.sh` puts them,
which is done first if they are not there. Every server runs alone, one after the other, round by round and every other
round in reverse; the figures are medians over the rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from benchmarks.standin import publish_standin
from service.bench.loads import Closed, run_load
from service.bench.payloads import payloads_of
from service.bench.servers import bundle_options, serving
from service.bench.summaries import percentiles
from service.bench.targets import segment_target
from service.bench.watching import cpu_seconds, tree_of
from service.bench.wire import request_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import ModuleType

OURS: Final = "robomask"
MODEL: Final = "tiny"

WANTED: Final = {"triton": 1, "mosec": 1, "litserve": 4, "bentoml": 10, "ray": 10, "kserve": 10}
"""How many times a peer's rate this service is to reach, by the start of the peer's name."""

INSTALLS: Final = {"triton": "pytriton", "mosec": "mosec", "litserve": "litserve", "kserve": "kserve"}
"""The name that `setup.sh` has for a peer, where it is another."""


class Point(NamedTuple):
    """What one server did in one round.

    Attributes:
        rate: Answers with status 200 a second.
        p50_ms: Median latency.
        p99_ms: Latency that one in a hundred exceeds.
        cpu_ms: CPU time of all the server's processes for each request.
        failed: Requests that got another answer, or none.
        generator: Share of a core that the load generator took.
    """

    rate: float
    p50_ms: float
    p99_ms: float
    cpu_ms: float
    failed: int
    generator: float


class Server(NamedTuple):
    """A server that runs: where, what it is sent, and the CPU seconds that it has used so far."""

    address: tuple[str, int]
    request: bytes
    cpu_s: Callable[[], float]


def main(argv: Sequence[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.peers", description=__doc__)
    parser.add_argument("names", nargs="*", default=["triton-py-2", "mosec-2", "litserve-2"], metavar="NAME")
    parser.add_argument("--peers", type=Path, required=True, help="folder with the peers' servers and setup.sh")
    parser.add_argument("--installed", type=Path, required=True, help="folder that setup.sh installs them into")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path, help="file to write all figures to")
    options = parser.parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # by way of what stops the servers
    peers = load_peers(options.peers, options.installed.absolute(), options.names)
    points: dict[str, list[Point]] = {name: [] for name in (OURS, *options.names)}
    with tempfile.TemporaryDirectory() as models:
        bundle = publish_standin(Path(models)).folder
        for turn in range(options.rounds):
            for name in list(points)[:: 1 if turn % 2 == 0 else -1]:
                running = our_server(bundle) if name == OURS else peer_server(peers, name, 9100 + 10 * turn)
                with running as server:
                    point = measure(server, options.clients, options.seconds)
                points[name].append(point)
                print(f"round {turn + 1} {name:18} {point.rate:8.1f}/s", file=sys.stderr, flush=True)
    print(table(points))
    if options.json is not None:
        options.json.write_text(json.dumps({name: [p._asdict() for p in found] for name, found in points.items()}))
        print(options.json)
    return 0


def load_peers(source: Path, installed: Path, names: Sequence[str]) -> ModuleType:
    """The peers' own `bench.py`, which knows how each is started; installs what is not there."""
    wanted = dict.fromkeys(INSTALLS.get(start, start) for start in (name.split("-")[0] for name in names))
    missing = [peer for peer in ("base", *wanted) if not (installed / peer / "venv").exists()]
    if missing or not (installed / "bench" / "bench.py").exists():
        print(f"installing {', '.join(missing)} into {installed} ...", file=sys.stderr, flush=True)
        subprocess.run(["bash", str(source / "setup.sh"), str(installed), "base", *wanted], check=True)  # noqa: S603, S607
    sys.path.insert(0, str(installed / "bench"))  # it imports its neighbour `extra`
    spec = importlib.util.spec_from_file_location("peers_bench", installed / "bench" / "bench.py")
    if spec is None or spec.loader is None:
        raise SystemExit(f"expected {installed / 'bench' / 'bench.py'} to be a Python file")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@contextlib.contextmanager
def our_server(bundle: Path) -> Iterator[Server]:
    """This service with the stand-in bundle; raw pixels in, an array of bytes out, as with the peers."""
    with serving(bundle_options(bundle)) as served:
        target = segment_target(served.url, payloads_of(["raw"]), "application/x-npy")
        request = target.requests({})[0]
        yield Server(target.address, request, lambda: cpu_seconds(tree_of(served.pid)))


@contextlib.contextmanager
def peer_server(peers: Any, name: str, port: int) -> Iterator[Server]:
    """A peer's server with the peers' own copy of the model."""
    how = peers.SERVERS[name]
    process = peers.start(name, MODEL, port, {"OMP_NUM_THREADS": "1"})
    try:
        peers.ready(name, port, process)
        body = Path(how["body"].replace("{MODEL}", MODEL)).read_bytes()
        request = request_bytes(f"127.0.0.1:{port}", how["path"], how["hdrs"], body)
        yield Server(("127.0.0.1", port), request, lambda: float(peers.cpu(process.pid)))
    finally:
        peers.stop(process)


def measure(server: Server, clients: int, seconds: float) -> Point:
    """One closed loop."""
    warm_s = 1.0
    run_load(server.address, [server.request], Closed(clients, warm_s, warm_s=0.1), nice=-10)
    before = server.cpu_s()
    run = run_load(server.address, [server.request], Closed(clients, seconds, warm_s=0.0), nice=-10)
    used = server.cpu_s() - before
    good = run.status == 200
    spread = percentiles((run.done_s - run.due_s)[good])
    if spread is None:
        raise SystemExit(f"expected answers, got {dict(zip(*np.unique(run.status, return_counts=True), strict=True))}")
    return Point(
        rate=np.count_nonzero(good) / run.seconds,
        p50_ms=spread.p50,
        p99_ms=spread.p99,
        cpu_ms=used * 1000 / len(run.status),
        failed=int(np.count_nonzero(~good)),
        generator=run.cpu_share,
    )


def table(points: dict[str, list[Point]]) -> str:
    """Medians, and how many times each peer's rate this service reached in the same round."""
    lines = [
        f"{os.cpu_count()} cores",
        "| server | answers/s | p50 ms | p99 ms | CPU ms/request | failed | generator | ours is | wanted |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, found in points.items():
        rate, p50, p99, cpu, _, generator = (statistics.median(column) for column in zip(*found, strict=True))
        ratio = statistics.median(ours.rate / peer.rate for ours, peer in zip(points[OURS], found, strict=True))
        wanted = next((times for start, times in WANTED.items() if name.startswith(start)), None)
        verdict = "" if wanted is None else f"{wanted}x: {'yes' if ratio >= wanted else 'no'}"
        failed = sum(point.failed for point in found)
        lines.append(
            f"| {name} | {rate:.0f} | {p50:.2f} | {p99:.1f} | {cpu:.3f} | {failed} | {generator:.0%} "
            f"| {ratio:.2f}x | {verdict} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
