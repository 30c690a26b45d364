"""Swap models back and forth under load: what fails, which answers name a wrong version, how late they are, what stays.

And kill publishers at every step while the service looks for new versions.

    python -m benchmarks.swap                                  # a small stand-in
    python -m benchmarks.swap --bundle models/robot-arm/8      # a bundle, as two versions of itself
    python -m benchmarks.swap --kills 200 --swaps 0            # only the publishers

Steady load and swaps alternate in one run, so both are of the same minutes of the machine. `resident` swaps go to the
version that is kept open for going back; `opened` ones verify, open, test and warm up a model each time.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import io
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from benchmarks.standin import NAME, arm_frame, publish_standin
from service.bench.servers import serving
from service.contract import BundleInvalid, open_bundle, publish, versions

if TYPE_CHECKING:
    from service.bench.servers import Served

_TOKEN = "benchmark"  # noqa: S105 - of a service that lives as long as the measurement


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle to serve as two versions; by default a stand-in is made")
    parser.add_argument("--swaps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=4, help="how often steady load and swaps alternate")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--pause-s", type=float, default=0.1, help="between two swaps")
    parser.add_argument("--steady-s", type=float, default=5.0, help="of steady load, each round")
    parser.add_argument("--kills", type=int, default=0, help="publishers to kill")
    parser.add_argument("--port", type=int, default=8767)
    parser.add_argument("--opened", action="store_true", help="keep no version open, so that each swap opens one")
    parser.add_argument("options", nargs="*", help="further options of `robomask serve`, after --")
    chosen = parser.parse_args()
    os.environ["ROBOMASK_ADMIN_TOKEN"] = _TOKEN
    with tempfile.TemporaryDirectory() as folder:
        models = Path(folder)
        for _ in range(2):
            _publish(models, chosen.bundle)
        options = ["--models", str(models), "--provider", "cpu"]
        if chosen.swaps:
            own = ["--version", "1", *(["--keep-previous", "false"] if chosen.opened else [])]
            with serving([*options, *own, *chosen.options], chosen.port) as served:
                asyncio.run(_swap(chosen, served))
        if chosen.kills:
            with serving([*options, "--poll-s", "0.05", *chosen.options], chosen.port):
                asyncio.run(_kill(chosen, models))


def _publish(models: Path, source: Path | None) -> None:
    if source is None:
        publish_standin(models)
        return
    bundle = open_bundle(source)
    manifest = bundle.manifest
    publish(
        models,
        name=manifest.name,
        precisions={precision: source / file for precision, file in manifest.precisions.items()},
        default_precision=manifest.default_precision,
        threshold=manifest.threshold,
        golden=bundle.golden(),
        metrics=manifest.metrics,
        lineage=manifest.lineage,
        card=(source / "card.md").read_text("utf-8"),
        example_png=source / "example.png",
    )


@dataclass
class _Load:
    """Clients that each send their next frame when the last is answered; they check who says to have answered."""

    port: int
    hashes: dict[str, str]
    phase: str = "warm"
    over: bool = False
    took_ms: dict[str, list[float]] = field(default_factory=dict)
    failed: int = 0
    wrong: int = 0
    longest_ms: dict[str, float] = field(default_factory=dict)
    last_s: float = 0.0

    async def client(self, request: bytes) -> None:
        """Send frames until it is over."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        while not self.over:
            phase, started = self.phase, time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            headers = dict(line.split(": ", 1) for line in head.decode("latin-1").lower().split("\r\n")[1:-2])
            body = await reader.readexactly(int(headers["content-length"]))
            ended = time.perf_counter()
            self.took_ms.setdefault(phase, []).append((ended - started) * 1000)
            if self.last_s:
                self.longest_ms[phase] = max(self.longest_ms.get(phase, 0.0), (ended - self.last_s) * 1000)
            self.last_s = ended
            if b" 200 " not in head[:16]:
                self.failed += 1
                continue
            said = json.loads(body)["model"]
            version, sha256 = headers["x-model-version"], headers["x-model-sha256"]
            if (str(said["version"]), said["sha256"]) != (version, sha256) or self.hashes.get(version) not in {
                None,
                sha256,
            }:
                self.wrong += 1
        writer.close()


def _request() -> bytes:
    file = io.BytesIO()
    Image.fromarray(arm_frame(0)).save(file, "PNG")
    body = file.getvalue()
    head = (
        f"POST /segment HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _post(port: int, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=300)
    connection.request("POST", path, headers={"Authorization": f"Bearer {_TOKEN}"})
    return connection.getresponse().status


async def _swap(chosen: argparse.Namespace, served: Served) -> None:
    load = _Load(chosen.port, {})
    clients = [asyncio.create_task(load.client(_request())) for _ in range(chosen.clients)]
    await asyncio.sleep(2.0)
    version, refused, swap_s = 1, 0, []
    for _ in range(2):  # each version has been tried and opened once before memory is looked at
        version = 3 - version
        refused += await asyncio.to_thread(_post, chosen.port, f"/models/{version}/activate") != 200
    load.phase = "steady"
    memory = [served.resident_mib()]
    for turn in range(chosen.rounds):
        load.phase = "steady"
        await asyncio.sleep(chosen.steady_s)
        load.phase = "swaps"
        for _ in range(chosen.swaps // chosen.rounds):
            version, started = 3 - version, time.perf_counter()
            refused += await asyncio.to_thread(_post, chosen.port, f"/models/{version}/activate") != 200
            swap_s.append(time.perf_counter() - started)
            await asyncio.sleep(chosen.pause_s)
        memory.append(served.resident_mib())
        print(f"round {turn + 1}: {len(swap_s)} swaps, resident memory {memory[-1]:.0f} MB", flush=True)
    load.over = True
    await asyncio.gather(*clients)
    _report(load, chosen)
    print(f"{len(swap_s)} swaps, {refused} refused; median {statistics.median(swap_s) * 1000:.0f} ms each")
    print(f"memory {memory[0]:.0f} MB at the start, {memory[-1]:.0f} MB at the end: {memory[-1] / memory[0] - 1:+.1%}")


def _report(load: _Load, chosen: argparse.Namespace) -> None:
    p99 = {}
    for phase in ("steady", "swaps"):
        took = sorted(load.took_ms[phase])
        p99[phase] = took[int(len(took) * 0.99)]
        print(
            f"{phase}: {len(took)} answers to {chosen.clients} clients, median {took[len(took) // 2]:.2f} ms, "
            f"p99 {p99[phase]:.2f} ms, longest {took[-1]:.1f} ms, longest silence {load.longest_ms[phase]:.1f} ms"
        )
    print(f"p99 during swaps over steady: {p99['swaps'] / p99['steady']:.2f}; failed {load.failed}, wrong {load.wrong}")


async def _kill(chosen: argparse.Namespace, models: Path) -> None:
    """Publish in another process, kill it after a random time; each step of publishing is met sooner or later."""
    load = _Load(chosen.port, {})
    clients = [asyncio.create_task(load.client(_request())) for _ in range(2)]
    name = NAME if chosen.bundle is None else open_bundle(chosen.bundle).manifest.name
    await asyncio.to_thread(_kill_all, chosen, models)
    newest = versions(models, name)[-1]
    until_s = time.monotonic() + 60
    served_version = 0
    while served_version != newest and time.monotonic() < until_s:
        await asyncio.sleep(0.2)
        served_version = await asyncio.to_thread(_version, chosen.port)
    load.over = True
    await asyncio.gather(*clients)
    broken = 0
    for version in versions(models, name):
        try:
            open_bundle(models / name / str(version))
        except BundleInvalid:
            broken += 1
    left = len(list((models / name).glob(".*.tmp")))
    answers = sum(map(len, load.took_ms.values()))
    print(
        f"{chosen.kills} publishers killed: {newest - 2} had finished, {left} left a temporary folder, {broken} broken "
        f"versions are seen; version {served_version} of {newest} serves; {answers} answers, "
        f"failed {load.failed}, wrong {load.wrong}"
    )


def _version(port: int) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request("GET", "/readyz")
    return int(json.loads(connection.getresponse().read())["model"]["version"])


def _kill_all(chosen: argparse.Namespace, models: Path) -> None:
    """Kill publishers that were forked from one that has everything imported: only publishing is left to interrupt."""
    rng = random.Random(0)  # noqa: S311 - when to kill is no secret
    source = str(chosen.bundle or models / NAME / "1")
    program = "import sys; from benchmarks.swap import publish_on_demand; publish_on_demand(*sys.argv[1:])"
    with subprocess.Popen(  # noqa: S603 - this very program
        [sys.executable, "-c", program, str(models), source], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        if process.stdin is None or process.stdout is None:
            return
        process.stdin.write("0\n")  # the first is left alone: how long it takes says when to kill the others
        process.stdin.flush()
        whole_s = float(process.stdout.readline())
        for _ in range(chosen.kills):
            process.stdin.write(f"{rng.uniform(0, 1.2 * whole_s)}\n")
            process.stdin.flush()
            process.stdout.readline()
        process.stdin.close()


def publish_on_demand(models: str, source: str) -> None:
    """For each line of standard input publish in a fork, and kill that after so many seconds; 0 lets it finish."""
    for line in sys.stdin:
        started = time.perf_counter()
        child = os.fork()
        if child == 0:
            _publish(Path(models), Path(source))
            os._exit(0)
        if float(line):
            time.sleep(float(line))
            os.kill(child, signal.SIGKILL)  # one that has finished is there until it is waited for
        os.waitpid(child, 0)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main()
