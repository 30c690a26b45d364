"""Twice as many frames as the service can do, each with a deadline: how many are answered in time, and how late others.

python -m benchmarks.overload --models models --seconds 60 --deadline-ms 100

What the service can do is measured before and after by eight clients that ask again when they have their answer.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from benchmarks.standin import publish_standin
from service.bench.loads import Closed, Open, run_load
from service.bench.payloads import payloads_of
from service.bench.reports import open_lines
from service.bench.servers import serving
from service.bench.summaries import summarise_open
from service.bench.targets import segment_target
from service.bench.watching import Watch

if TYPE_CHECKING:
    from service.bench.servers import Served
    from service.bench.targets import Target

_HZ: Final = 30.0
_NICE: Final = -10


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, help="model repository; by default a small stand-in is made")
    parser.add_argument("--scale", type=int, default=32, help="how heavy the stand-in is; 1 is a quick model")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--deadline-ms", type=float, default=100.0)
    parser.add_argument("--factor", type=float, default=2.0, help="offered load as a multiple of the capacity")
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("options", nargs="*", help="further options of `robomask serve`, after --")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models or Path(folder)
        if chosen.models is None:
            publish_standin(models, chosen.scale)
        with serving(["--models", str(models), "--provider", "cpu", *chosen.options], chosen.port) as served:
            _measure(chosen, served)


def _measure(chosen: argparse.Namespace, served: Served) -> None:
    target = segment_target(served.url, payloads_of(["png"]), "application/json")
    before = _capacity(target)
    offered = chosen.factor * before
    robots = max(1, round(offered / _HZ))
    load = Open(robots, offered / robots, chosen.seconds)
    requests = target.requests({"X-Deadline-Ms": f"{chosen.deadline_ms:g}"})
    with Watch(served.pid, f"{served.url}/metrics") as watch:
        run = run_load(target.address, requests, load, _NICE)
    after = _capacity(target)
    result = summarise_open(run, load.robots, load.hz, chosen.deadline_ms, watch.samples)
    print(f"capacity before {before:.1f}/s, after {after:.1f}/s")
    print("\n".join(open_lines(result, (before + after) / 2, None)))


def _capacity(target: Target) -> float:
    run = run_load(target.address, target.requests({}), Closed(clients=8, seconds=3.0), _NICE)
    good = np.count_nonzero(run.status == 200)
    if not good:
        raise SystemExit(f"expected answers to 8 clients, got none of status 200 in {run.seconds:.1f} s")
    return good / run.seconds


if __name__ == "__main__":
    main()
