"""The service in a process of its own, as people run it, for as long as a measurement takes."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Served", "serve"]


class Served(NamedTuple):
    """A server that is ready.

    Attributes:
        port: Where it listens.
        pid: Its process.
        ready_s: From starting the interpreter until it was ready.
    """

    port: int
    pid: int
    ready_s: float

    def resident_mb(self) -> float:
        """Resident memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text("ascii")
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def cpu_s(self) -> float:
        """Processor time that it has used, user and system."""
        words = Path(f"/proc/{self.pid}/stat").read_text("ascii").rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / 100


@contextmanager
def serve(models: Path, port: int, *options: str) -> Iterator[Served]:
    """Serve a model repository; the log, one line a request as by default, goes nowhere."""
    command = [sys.executable, "-m", "service", "--models", str(models), "--port", str(port), "--provider", "cpu"]
    started = time.perf_counter()
    with subprocess.Popen([*command, "--log-format", "json", *options], stderr=subprocess.DEVNULL) as process:  # noqa: S603 - this repository's own
        try:
            _wait(process, port)
            yield Served(port, process.pid, time.perf_counter() - started)
        finally:
            process.terminate()


def _wait(process: subprocess.Popen[bytes], port: int) -> None:
    while process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=10):
                return
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    raise SystemExit("expected the service to start; it ended: run `python -m service` to see why")
