"""Watches a server while it is under load: its memory, its CPU time, and how much waits in it."""

from __future__ import annotations

import http.client
import os
import re
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Sample", "Watch", "cpu_seconds", "resident_bytes", "tree_of"]

_ENDED: Final = "ZX"  # states of a process whose end its parent has not yet asked for
_WANTED: Final = re.compile(
    rb"^(process_resident_memory_bytes|process_cpu_seconds_total|robomask_queue_depth) ([0-9.eE+-]+)$", re.MULTILINE
)


class Sample(NamedTuple):
    """How a server was at one moment; None where it cannot be known.

    Attributes:
        at_s: `time.monotonic`.
        resident_bytes: Memory of all its processes together.
        cpu_s: CPU time that they have used so far.
        queue_depth: Frames that wait for the model.
    """

    at_s: float
    resident_bytes: float | None
    cpu_s: float | None
    queue_depth: float | None


class Watch:
    """Takes samples in a thread of its own, one at the start, one at the end, and at an even pace in between.

    Args:
        pid: The server's process, if it runs on this machine; its children are watched too.
        metrics_url: Its `/metrics`, if it has them.
        pace_s: Seconds between two samples.
    """

    def __init__(self, pid: int | None, metrics_url: str | None, pace_s: float = 1.0) -> None:
        self.samples: list[Sample] = []
        self._pid = pid
        self._url = metrics_url
        self._pace_s = pace_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, name="bench-watch", daemon=True)

    def __enter__(self) -> Self:
        self.samples.append(self._sample())
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.samples.append(self._sample())

    def _work(self) -> None:
        while not self._stop.wait(self._pace_s):
            self.samples.append(self._sample())

    def _sample(self) -> Sample:
        told = _metrics(self._url) if self._url else {}
        memory, cpu = told.get("process_resident_memory_bytes"), told.get("process_cpu_seconds_total")
        if self._pid is not None:
            memory, cpu = _used_by(self._pid)
        return Sample(time.monotonic(), memory, cpu, told.get("robomask_queue_depth"))


def _used_by(pid: int) -> tuple[float | None, float | None]:
    """Memory and CPU time of a process and its children; None once it has ended, which would look like none used."""
    tree = tree_of(pid)
    used = resident_bytes(tree), cpu_seconds(tree)
    fields = _stat(pid)
    return (None, None) if fields is None or fields[0] in _ENDED else used


def tree_of(pid: int) -> list[int]:
    """A process and all that descend from it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found = [pid]
    for parent in found:
        found.extend(children.get(parent, []))
    return found


def cpu_seconds(pids: list[int]) -> float:
    """CPU time that these processes have used so far, in user and system mode."""
    ticks = sum(int(fields[11]) + int(fields[12]) for pid in pids if (fields := _stat(pid)))
    return ticks / os.sysconf("SC_CLK_TCK")


def resident_bytes(pids: list[int]) -> float:
    """Memory of these processes; what several of them share counts for each."""
    pages = 0
    for pid in pids:
        try:
            pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        except OSError:
            continue
    return float(pages * os.sysconf("SC_PAGE_SIZE"))


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat from the state on; None if the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None


def _metrics(url: str) -> dict[str, float]:
    """What a page of metrics says; it is asked for as the load is sent, past any proxy of the environment."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=5)
    try:
        connection.request("GET", parts.path)
        response = connection.getresponse()
        page = response.read() if response.status == http.HTTPStatus.OK else b""
    except (OSError, http.client.HTTPException):  # also of a server that ends in the middle of its answer
        return {}
    finally:
        connection.close()
    return {name.decode(): float(value) for name, value in _WANTED.findall(page)}
