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
from service.bench.watching import resident_bytes, tree_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Served", "bundle_options", "free_port", "is_ready", "serving"]

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

    def resident_mib(self) -> float:
        """Memory of all its processes now."""
        return resident_bytes(tree_of(self.pid)) / 2**20


def bundle_options(bundle: Path, precision: str | None = None) -> list[str]:
    """Options of `robomask serve` for `<repository>/<model>/<version>`.

    Args:
        bundle: Folder of the bundle.
        precision: Which of its models; by default the one that it recommends.
    """
    place = bundle.absolute()
    options = ["--models", str(place.parents[1]), "--model", place.parent.name, "--version", place.name]
    return [*options, *(["--precision", precision] if precision else [])]


@contextlib.contextmanager
def serving(options: Sequence[str], port: int | None = None) -> Iterator[Served]:
    """The service in a process of its own on this machine.

    Args:
        options: Of `robomask serve`, without the port.
        port: Where it listens; by default where nobody else does.

    Raises:
        BenchError: It does not start, for the reason that it gives.
    """
    port = port or free_port()
    command = module_command("service", "--port", str(port), *options)
    with tempfile.TemporaryFile() as log:
        started = time.monotonic()
        process = subprocess.Popen(command, stdout=log, stderr=log)  # noqa: S603 - this very program
        try:
            while not is_ready(port):
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


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_ready(port: int, timeout_s: float = 5.0) -> bool:
    """Whether the service at this port of this machine says so; it is asked past any proxy of the environment."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
