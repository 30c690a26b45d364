"""Open a bundle in a process of its own first, bounded in memory and time: what kills that process kills no service.

A hash says that a model is the one that was published, not that a runtime survives it: a graph may ask for more memory
than there is, never end, or meet a fault in the runtime. That process is
`python -m service.versions.vetting FOLDER MAX_BATCH PRECISION PROVIDER SECONDS`.
"""

from __future__ import annotations

import contextlib
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, cast

from service.contract import BundleInvalid, BundleOutOfReach, open_bundle
from service.errors import NotReady
from service.machine.processor import dot_products

if TYPE_CHECKING:
    from collections.abc import Callable

    from service.contract import Precision
    from service.engine import Provider

__all__ = ["vet"]

_MEMORY_BYTES: Final = 4 * 1024**3
_LEAST_BYTES: Final = 512 * 1024**2
_CGROUP: Final = Path("/sys/fs/cgroup")
_NICE: Final = 10
_PATIENCE: Final = 10
"""Seconds on the clock for a second of processor time: others come first, and there may be many of them."""
_LOOK_S: Final = 0.2
_REFUSED: Final = 3
_OUT_OF_REACH: Final = 4
_FROM_OUTSIDE: Final = frozenset({"SIGKILL", "SIGTERM", "SIGINT", "SIGHUP"})
"""Signals that end a process without a fault of its own: the kernel is short of memory, or somebody stops what runs."""
_SAYS: Final = "refused: "


def vet(
    folder: Path,
    *,
    max_batch: int | None,
    precision: Precision | None,
    provider: Provider,
    limit_s: float,
    patience: int | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> None:
    """Open, test and run a bundle's model on the CPU in a process that may die of it.

    Args:
        folder: The bundle's.
        max_batch: Most frames in one run.
        precision: Which of its models; by default the one that suits the provider.
        provider: Where it is to run once it is believed; here it runs on the CPU in any case.
        limit_s: Seconds of processor time that it may take.
        patience: Seconds on the clock for each of them; by default many, as others come first.
        stopped: Whether nobody waits for it any more, as the service stops.

    Raises:
        NotReady: The service stops.
        BundleInvalid: It is refused there, or takes too much of the processor, or ends the process.
        BundleOutOfReach: The process found no time or could not be begun, or was ended from outside.
    """
    command = [sys.executable, "-m", "service.versions.vetting", str(folder.absolute()), str(max_batch or 1)]
    command += [precision or "", provider, str(math.ceil(limit_s))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    most_s = (patience or _PATIENCE) * limit_s
    ends_s = time.monotonic() + most_s
    with _begin(command, environment, folder) as result:
        stderr = None
        while stderr is None:
            try:
                _, stderr = result.communicate(timeout=_LOOK_S)
            except subprocess.TimeoutExpired as error:
                if stopped():
                    result.kill()
                    raise NotReady(
                        f"{folder}: expected to test the model, but the service stops; ask again", reason="stopping"
                    ) from error
                if time.monotonic() > ends_s:
                    result.kill()
                    # It had less of the processor than it may take: others were in its way.
                    raise BundleOutOfReach(
                        f"{folder}: expected a model that is opened and tested within {most_s:g} s, it was not"
                    ) from error
    if result.returncode != 0:
        raise _refusal(folder, result.returncode, stderr.strip().splitlines() or ["nothing"], limit_s)


def _begin(command: list[str], environment: dict[str, str], folder: Path) -> subprocess.Popen[str]:
    try:
        return subprocess.Popen(  # noqa: S603 - this very program
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace", env=environment
        )
    except OSError as error:
        raise BundleOutOfReach(
            f"{folder}: expected to begin a process that tests the model, which fails for now: {error}"
        ) from error


def _refusal(folder: Path, status: int, said: list[str], limit_s: float) -> BundleInvalid:
    """Why a process did not believe in a model, by how it ended and what it said."""
    refusals = [line.removeprefix(_SAYS) for line in said if line.startswith(_SAYS)]
    if refusals and status in {_REFUSED, _OUT_OF_REACH}:
        return BundleInvalid(refusals[-1]) if status == _REFUSED else BundleOutOfReach(refusals[-1])
    ended_by = next((one.name for one in signal.Signals if one == -status), "")
    if ended_by == "SIGXCPU":
        return BundleInvalid(
            f"{folder}: expected a model that is opened and tested within {limit_s:g} s of processor time, it was not"
        )
    if ended_by in _FROM_OUTSIDE:
        return BundleOutOfReach(
            f"{folder}: expected to test the model to the end, but the process that does was ended by {ended_by}, as "
            "where memory is short"
        )
    return BundleInvalid(
        f"{folder}: expected a model that can be opened and run, but a process that tried ended with "
        f"status {status}: {said[-1]}"
    )


def memory_bound(cgroup: Path) -> int:
    """Bytes that the process may take: 4 GiB, or most of what a container still has, for that is shared."""
    try:
        most, now = (int((cgroup / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):  # no control group, or "max": no limit
        return _MEMORY_BYTES
    return max(_LEAST_BYTES, min(_MEMORY_BYTES, (most - now) * 8 // 10))


def _main(folder: Path, max_batch: int, precision: str, provider: str, limit_s: int) -> int:
    # The runtime is for the process that tries.
    from service.engine.choice import choose_precision  # noqa: PLC0415
    from service.versions.slot import Opener  # noqa: PLC0415

    with contextlib.suppress(AttributeError, OSError):
        os.nice(_NICE)
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not everywhere

        most = memory_bound(_CGROUP)
        resource.setrlimit(resource.RLIMIT_DATA, (most, most))
        resource.setrlimit(resource.RLIMIT_CPU, (limit_s, limit_s + 5))
    wanted = cast("Precision", precision) if precision else None
    try:
        manifest = open_bundle(folder).manifest
        chosen, _ = choose_precision(
            wanted, cast("Provider", provider), manifest.precisions, manifest.default_precision, dot_products()
        )
        Opener(provider="cpu", precision=chosen, intra_op_threads=1, max_batch=max_batch).open(folder)
    except BundleInvalid as error:
        print(_SAYS + " ".join(str(error).split()), file=sys.stderr)  # beside what the runtime may say there
        return _OUT_OF_REACH if isinstance(error, BundleOutOfReach) else _REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4], int(sys.argv[5])))
