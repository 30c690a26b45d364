"""Start the service for a benchmark, as its users start it, and stop it again."""

from __future__ import annotations

import contextlib
import http.client
import socket
import subprocess
import tempfile
import time
from typing import TYPE_CHECKING, Final, NamedTuple

from service.bench.errors import BenchError
from service.bench.programs import module_command

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Served", "serving"]

_PATIENCE_S: Final = 60.0


class Served(NamedTuple):
    """A service that is ready.

    Attributes:
        url: Its address.
        pid: Its process.
        ready_s: Seconds from its start to its first readiness.
    """

    url: str
    pid: int
    ready_s: float


@contextlib.contextmanager
def serving(bundle: Path, precision: str | None, options: Sequence[str]) -> Iterator[Served]:
    """Serve `<repository>/<model>/<version>` on a free port of this machine.

    Args:
        bundle: Folder of the bundle.
        precision: Which of its models; by default the one that it recommends.
        options: More options of `robomask serve`.

    Raises:
        BenchError: It does not start, for the reason that it gives.
    """
    place = bundle.absolute()
    port = _free_port()
    command = module_command("service", "--port", str(port), "--models", str(place.parents[1]))
    command += ["--model", place.parent.name, "--version", place.name]
    command += [*(["--precision", precision] if precision else []), *options]
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - this very program
        try:
            while not _ready(port):
                if process.poll() is not None or time.monotonic() > started + _PATIENCE_S:
                    log.seek(0)
                    said = log.read().decode("utf-8", "replace").strip()[-2000:]
                    raise BenchError(f"expected the service to start for the benchmark, it said:\n{said}")
                time.sleep(0.02)
            yield Served(f"http://127.0.0.1:{port}", process.pid, time.monotonic() - started)
        finally:
            process.terminate()
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
