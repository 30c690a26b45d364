"""Requests a second over HTTP beside what the same model gives in process on the same cores, in one run.

    python -m benchmarks.http_rate                      # a quick stand-in: what is measured is the service
    python -m benchmarks.http_rate --models models      # the shipped model

Needs `wrk` on the path. The ceiling is the best of one session with a thread for each core and of as many callers
sharing one single-threaded session, measured before and after; every line is the median of its rounds.
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np
import onnxruntime as ort
from PIL import Image

from benchmarks.server import Served, serve
from benchmarks.standin import arm_frame, publish_standin
from service.contract import Bundle, model_names, open_bundle, versions
from service.engine import precision_for
from service.machine.cores import usable_cores

if TYPE_CHECKING:
    from collections.abc import Callable

_LUA: Final = """
local file = io.open(os.getenv("BODY"), "rb"); wrk.body = file:read("*a"); file:close()
wrk.method = "POST"; wrk.headers["Content-Type"] = os.getenv("SENT"); wrk.headers["Accept"] = os.getenv("WANTED")
function done(summary, latency)
  local failed = summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.timeout
  io.write(string.format("RATE %f %f %f %d\\n", summary.requests / (summary.duration / 1e6),
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, failed))
end
"""


class Case(NamedTuple):
    """One kind of request."""

    name: str
    sent: str
    wanted: str
    query: str
    body: bytes


class Rate(NamedTuple):
    """What one run of the load client found; times in ms."""

    requests_s: float
    median_ms: float
    p99_ms: float
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
    wrk = shutil.which("wrk")
    if wrk is None:
        raise SystemExit("expected wrk on the path, found none: apt-get install wrk")
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models or Path(folder) / "models"
        if chosen.models is None:
            publish_standin(models)
        bundle = _newest(models)
        ceilings = [_ceiling(bundle)]
        with serve(models, chosen.port, *chosen.options) as served:
            print(f"ready {served.ready_s:.2f} s after start, {served.resident_mb():.0f} MB resident")
            lines = _measure(chosen, served, wrk, Path(folder))
            print(f"{served.resident_mb():.0f} MB resident after load")
        ceilings.append(_ceiling(bundle))
    ceiling = statistics.median(ceilings)
    print(f"in-process ceiling {ceiling:.0f} frames/s on {usable_cores()} cores")
    for line, rate in lines:
        print(f"{line} = {rate / ceiling:.2f} of the ceiling")


def _measure(chosen: argparse.Namespace, served: Served, wrk: str, folder: Path) -> list[tuple[str, float]]:
    frame = arm_frame(0)
    cases = [
        Case("raw -> npy", "application/octet-stream", "application/x-npy", "?width=64&height=64", frame.tobytes()),
        Case("PNG -> JSON", "image/png", "application/json", "", _encoded(frame, "PNG")),
        Case("PNG -> PNG", "image/png", "image/png", "", _encoded(frame, "PNG")),
        Case("720p JPEG -> PNG", "image/jpeg", "image/png", "", _encoded(arm_frame(0, 1280, 720), "JPEG")),
    ]
    script = folder / "post.lua"
    script.write_text(_LUA)
    rates: dict[tuple[str, int], list[Rate]] = {}
    cpu_ms: dict[tuple[str, int], list[float]] = {}
    for number in range(chosen.rounds + 1):  # the first warms up
        for case in cases:
            for clients in chosen.clients:
                seconds = chosen.seconds if number else 0.5
                before = served.cpu_s()
                rate = _wrk(wrk, script, case, served.port, clients=clients, seconds=seconds)
                spent = (served.cpu_s() - before) / (rate.requests_s * seconds)
                if number:
                    rates.setdefault((case.name, clients), []).append(rate)
                    cpu_ms.setdefault((case.name, clients), []).append(spent * 1000)
    return [
        (_line(name, clients, found, cpu_ms[name, clients]), statistics.median(rate.requests_s for rate in found))
        for (name, clients), found in rates.items()
    ]


def _line(name: str, clients: int, found: list[Rate], cpu_ms: list[float]) -> str:
    middle = Rate(*(statistics.median(values) for values in zip(*found, strict=True)))
    return (
        f"{name:17} {clients:3} clients: {middle.requests_s:7.0f}/s, median {middle.median_ms:6.2f} ms, "
        f"p99 {middle.p99_ms:6.2f} ms, {statistics.median(cpu_ms):.3f} CPU ms each, {middle.failed:.0f} failed"
    )


def _wrk(wrk: str, script: Path, case: Case, port: int, *, clients: int, seconds: float) -> Rate:
    body = script.with_name("body")
    body.write_bytes(case.body)
    environment = os.environ | {"BODY": str(body), "SENT": case.sent, "WANTED": case.wanted}
    address = f"http://127.0.0.1:{port}/segment{case.query}"
    command = [
        wrk,
        "-t1",
        f"-c{clients}",
        f"-d{max(1, round(seconds))}s",
        "--timeout",
        "30s",
        "-s",
        str(script),
        address,
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)  # noqa: S603
    found = re.search(r"RATE (\S+) (\S+) (\S+) (\d+)", done.stdout)
    if found is None:
        raise SystemExit(f"expected wrk to report, got {done.stdout}{done.stderr}")
    return Rate(float(found[1]), float(found[2]), float(found[3]), int(found[4]))


def _ceiling(bundle: Bundle) -> float:
    """Frames a second without any service."""
    cores = usable_cores()
    content = bundle.model(precision_for(bundle, None, "cpu").precision)
    one, wide = _session(content, 1), _session(content, cores)
    frames = arm_frame(0)[np.newaxis]

    def run(session: ort.InferenceSession) -> Callable[[], object]:
        return lambda: session.run(["probability"], {"frames": frames})

    return max(_frames_per_second(run(one), cores), _frames_per_second(run(wide), 1))


def _frames_per_second(run: Callable[[], object], callers: int, seconds: float = 2.0) -> float:
    run()
    counts = [0] * callers
    ends = time.perf_counter() + seconds

    def call(index: int) -> None:
        while time.perf_counter() < ends:
            run()
            counts[index] += 1

    threads = [threading.Thread(target=call, args=(index,)) for index in range(callers)]
    started = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / (time.perf_counter() - started)


def _session(content: bytes, threads: int) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def _newest(models: Path) -> Bundle:
    name = model_names(models)[0]
    return open_bundle(models / name / str(versions(models, name)[-1]))


def _encoded(pixels: np.ndarray, form: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


if __name__ == "__main__":
    main()
