"""Restart two replicas one after the other under load, as Kubernetes does, and count the requests that fail.

    python -m benchmarks.rolling                                  # a small stand-in model, 3 restarts of each replica
    python -m benchmarks.rolling --models models --model robot-arm
    python -m benchmarks.rolling --balancer haproxy               # requests balanced one by one, as an ingress does
    python -m benchmarks.rolling --pre-stop-s 0                   # without the sleep, which is the harder case

What kubelet and endpoint controller do about a pod is done here, with the numbers of `k8s/base/deployment.yaml`:

restart   the pod leaves the Service, which the balancer learns `--propagation-s` later; the sleep of preStop; SIGTERM;
          SIGKILL if it has not ended within the grace period; then a new process, which is `put in` as below
put in    when `/readyz` has said yes, looked at every period of the startup probe, and the balancer has learnt it
taken out when `/readyz` has said no as often as the readiness probe allows, and the balancer has learnt it

No replica is added beforehand (maxSurge 0, as on GPUs): meanwhile the other one has all the load. Neither balancer
sends anything twice; only a connection that was refused before a byte had been sent is tried at the other replica.

Clients keep their connections, send their next frame when the last is answered, and try nothing again. A request has
failed if its answer has another status than 200 or does not come. Ends with status 1 if one has failed, or if a replica
has ended with another status than 0.
"""

from __future__ import annotations

import argparse
import asyncio
import collections
import contextlib
import http
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.balancers import HAProxy, ServiceLike
from benchmarks.load import closed_loop_until
from benchmarks.standin import publish_standin
from service.bench.servers import free_port, is_ready

if TYPE_CHECKING:
    from collections.abc import Sequence

    from benchmarks.balancers import Balancer
    from benchmarks.load import Reply

__all__ = ["main"]

PROBE_S = 2.0
STARTUP_PERIOD_S = 2.0
READY_PERIOD_S = 5.0
READY_FAILURES = 2
PRE_STOP_S = 5.0
GRACE_S = 40.0
_START_LIMIT_S = 300.0


class Life(NamedTuple):
    """What Kubernetes gives a pod time for, in seconds."""

    pre_stop_s: float
    propagation_s: float
    grace_s: float


class Pod:
    """One replica: a process that is started, watched and stopped as kubelet does it.

    Args:
        options: Of `robomask serve`.
        balancer: Is told whether it can be used.
        port: Where it listens.
        life: Its times.
    """

    def __init__(self, options: Sequence[str], balancer: Balancer, port: int, life: Life) -> None:
        self._command = [sys.executable, "-m", "robomask", "serve", "--port", str(port), "--log-level", "error"]
        self._command += options
        self._balancer = balancer
        self._port = port
        self._life = life
        self._is_in = False
        self._watching: asyncio.Task[None] | None = None
        self.statuses: collections.Counter[int] = collections.Counter()

    async def start(self) -> None:
        """A new process; returns when the balancer uses it."""
        self._process = await asyncio.create_subprocess_exec(*self._command)
        until = time.monotonic() + _START_LIMIT_S
        while not await asyncio.to_thread(is_ready, self._port, PROBE_S):
            if self._process.returncode is not None or time.monotonic() > until:
                raise SystemExit("expected `robomask serve` to start and be ready; its own message says why not")
            await asyncio.sleep(STARTUP_PERIOD_S)
        await self._set(is_in=True)
        self._watching = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """Delete the pod; returns when its process has ended."""
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._set(is_in=False))
            tasks.create_task(self._terminate())

    def kill(self) -> None:
        """End it whatever it does."""
        with contextlib.suppress(ProcessLookupError, AttributeError):
            self._process.kill()

    async def _terminate(self) -> None:
        await asyncio.sleep(self._life.pre_stop_s)
        self._process.terminate()
        try:
            async with asyncio.timeout(self._life.grace_s - self._life.pre_stop_s):
                await self._process.wait()
        except TimeoutError:
            self._process.kill()
        self.statuses[await self._process.wait()] += 1

    async def _set(self, *, is_in: bool) -> None:
        await asyncio.sleep(self._life.propagation_s)
        if is_in != self._is_in:
            await (self._balancer.put_in if is_in else self._balancer.take_out)(self._port)
        self._is_in = is_in

    async def _watch(self) -> None:
        """The readiness probe."""
        failures = 0
        while True:
            await asyncio.sleep(READY_PERIOD_S)
            failures = 0 if await asyncio.to_thread(is_ready, self._port, PROBE_S) else failures + 1
            if (failures == 0) != self._is_in and failures in {0, READY_FAILURES}:
                await self._set(is_in=failures == 0)


async def roll(chosen: argparse.Namespace, options: Sequence[str]) -> int:
    """Restart each replica so many times under load; returns the exit status."""
    frame = await asyncio.to_thread(chosen.frame.read_bytes)
    ports = [free_port() for _ in range(2)]
    life = Life(chosen.pre_stop_s, chosen.propagation_s, GRACE_S)
    over = asyncio.Event()
    async with HAProxy(ports) if chosen.balancer == "haproxy" else ServiceLike() as balancer:
        pods = [Pod(options, balancer, port, life) for port in ports]
        try:
            await asyncio.gather(*(pod.start() for pod in pods))
            started = time.perf_counter()
            load = asyncio.create_task(
                closed_loop_until(
                    over, balancer.port, "/segment", {"Content-Type": "image/png"}, frame, clients=chosen.clients
                )
            )
            await asyncio.sleep(chosen.steady_s)
            for turn in range(1, chosen.restarts + 1):
                for number, pod in enumerate(pods):
                    began = time.perf_counter()
                    await pod.stop()
                    ended = time.perf_counter()
                    await pod.start()
                    again = time.perf_counter()
                    print(
                        f"restart {turn} of replica {number}: ended after {ended - began:.1f} s, "
                        f"in service again {again - ended:.1f} s later",
                        flush=True,
                    )
            await asyncio.sleep(chosen.steady_s)
            over.set()
            replies = await load
            took_s = time.perf_counter() - started
            for pod in pods:
                await pod.stop()
        finally:
            for pod in pods:
                pod.kill()
    statuses = sum((pod.statuses for pod in pods), collections.Counter())
    print(balancer.notes())
    return _report(replies, took_s, chosen.restarts * len(pods), statuses)


def _report(replies: Sequence[Reply], took_s: float, restarts: int, ended: collections.Counter[int]) -> int:
    failed = collections.Counter(reply.status for reply in replies if reply.status != http.HTTPStatus.OK)
    took_ms = sorted(reply.seconds * 1000 for reply in replies)
    shares = ", ".join(f"p{share:g} {took_ms[int(len(took_ms) * share / 100)]:.1f}" for share in (50, 95, 99, 99.9))
    print(
        f"{len(replies)} requests in {took_s:.0f} s over {restarts} restarts; ms: {shares}, longest {took_ms[-1]:.1f}"
    )
    named = {("no answer" if status == 0 else str(status)): count for status, count in sorted(failed.items())}
    print(f"failed: {failed.total()} {named or ''}".rstrip() + f"; exit statuses of replicas: {dict(ended)}")
    return 0 if not failed and set(ended) == {0} else 1


def main() -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--restarts", type=int, default=3, help="of each replica (default: 3)")
    parser.add_argument("--clients", type=int, default=16, help="at one time (default: 16)")
    parser.add_argument("--balancer", choices=["service", "haproxy"], default="service")
    parser.add_argument("--models", type=Path, help="model repository; by default a stand-in is made")
    parser.add_argument("--frame", type=Path, default=Path("examples/frame.png"), help="the picture that is sent")
    parser.add_argument("--pre-stop-s", type=float, default=PRE_STOP_S, help="sleep before SIGTERM (default: 5)")
    parser.add_argument("--propagation-s", type=float, default=1.0, help="until the balancer knows (default: 1)")
    parser.add_argument("--steady-s", type=float, default=3.0, help="of load before and after (default: 3)")
    chosen, options = parser.parse_known_args()
    with tempfile.TemporaryDirectory() as folder:
        models = chosen.models
        if models is None:
            models = Path(folder)
            publish_standin(models)
        return asyncio.run(roll(chosen, ["--models", str(models), "--provider", "cpu", *options]))


if __name__ == "__main__":
    sys.exit(main())
