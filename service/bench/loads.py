"""Loads, and how they are run: the generator in a process of its own, its log back as arrays."""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from service.bench.errors import BenchError
from service.bench.programs import module_command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Closed", "Open", "Run", "run_load"]


@dataclass(frozen=True)
class Closed:
    """So many clients, each of which asks again when it has its answer.

    Attributes:
        clients: How many.
        seconds: How long it is measured.
        warm_s: How long it runs before that.
    """

    clients: int
    seconds: float
    warm_s: float = 1.0


@dataclass(frozen=True)
class Open:
    """So many robots, each of which sends a frame at its camera's rate, whatever becomes of them.

    Attributes:
        robots: How many.
        hz: Frames a second of each.
        seconds: How long they send, to a whole number of frames of each.
        connections: Connections opened before the start.
        most_connections: Most connections at one time.
        drain_s: How long to wait for answers after the end of that.
    """

    robots: int
    hz: float
    seconds: float
    connections: int = 32
    most_connections: int = 2048
    drain_s: float = 5.0


@dataclass(frozen=True, eq=False)
class Run:
    """What became of every request of a load; times in seconds of `time.monotonic`.

    Attributes:
        due_s: float64 [N], when it was to be sent.
        sent_s: float64 [N], when it was sent.
        done_s: float64 [N], when its answer was whole.
        status: int16 [N], HTTP status; 0 for a connection that broke, -1 for no answer.
        started_s: From when the load was measured.
        ended_s: Until when; in an open loop until the next frame would have been due, so that N frames take N periods.
        cpu_share: CPU time of the generator for each second that passed: 1.0 is a whole core.
        nice: Priority that the generator ran at.
        requests: How many requests were sent in all, those of the warm-up and those cut off at the end too.
        lost: How many clients of a closed loop there were no more at the end: nobody took their connection again.
        heads: Headers of some of the answers with status 200.
    """

    due_s: NDArray[np.float64]
    sent_s: NDArray[np.float64]
    done_s: NDArray[np.float64]
    status: NDArray[np.int16]
    started_s: float
    ended_s: float
    cpu_share: float
    nice: int
    requests: int
    lost: int
    heads: list[str]

    @property
    def seconds(self) -> float:
        """How long it was measured."""
        return self.ended_s - self.started_s


def run_load(address: tuple[str, int], requests: Sequence[bytes], load: Closed | Open, nice: int = 0) -> Run:
    """Run a load to its end.

    Args:
        address: Host and port.
        requests: Requests, ready to be sent.
        load: The load.
        nice: Priority that the generator asks for; below 0 needs the right to it, without which it goes on as it is.

    Raises:
        BenchError: There is no server, or none any more, or the generator itself failed.
    """
    spec = {"host": address[0], "port": address[1], "nice": nice, "sizes": [len(r) for r in requests], **asdict(load)}
    given = json.dumps(spec).encode() + b"\n" + b"".join(requests)
    done = subprocess.run(  # noqa: S603 - this very program
        module_command("service.bench.generator"),
        input=given,
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        raise BenchError(f"expected a load to run, the generator failed:\n{done.stderr.decode('utf-8', 'replace')}")
    line, _, arrays = done.stdout.partition(b"\n")
    note: dict[str, Any] = json.loads(line)
    if "failure" in note:
        raise BenchError(note["failure"])
    count = note.pop("count")
    times = np.frombuffer(arrays, np.float64, 3 * count).reshape(3, count)
    status = np.frombuffer(arrays, np.int16, count, offset=times.nbytes)
    return Run(times[0], times[1], times[2], status, **note)
