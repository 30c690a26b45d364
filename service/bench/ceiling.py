"""What the model alone can do on these cores: ONNX Runtime called directly, with nothing around it.

Runs in a process of its own, `python -m service.bench.ceiling BUNDLE PRECISION CORES`, which measures for as many
seconds as a line on its standard input says, and answers with a line of JSON.
"""

from __future__ import annotations

import itertools
import json
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from service.bench.errors import BenchError
from service.bench.programs import module_command

if TYPE_CHECKING:
    from types import TracebackType

    from service.contract import Precision

__all__ = ["Ceiling", "CeilingProcess"]


class Ceiling(NamedTuple):
    """Frames a second without a service, and the time of one frame.

    Attributes:
        one_session: One caller, one session with as many threads as cores, batch 1.
        shared_session: As many callers as cores share one single-threaded session, batch 1.
        frame_ms: Median of one frame, one caller, in whichever session is the quicker for that.
        precision: Which of the bundle's models it was.
    """

    one_session: float
    shared_session: float
    frame_ms: float
    precision: str

    @property
    def best(self) -> float:
        """The better of both, frames a second."""
        return max(self.one_session, self.shared_session)


class CeilingProcess:
    """Measures the ceiling of a bundle whenever it is asked to; idle in between.

    Args:
        bundle: Folder of the bundle.
        precision: Which of its models; by default the one that the service would take on this CPU.
        cores: Cores to fill.

    Raises:
        BenchError: The bundle cannot be opened.
    """

    def __init__(self, bundle: Path, precision: str | None, cores: int) -> None:
        command = module_command("service.bench.ceiling", str(bundle), precision or "", str(cores))
        self._process = subprocess.Popen(  # noqa: S603 - this very program
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self._read()  # waits until it is ready

    def measure(self, seconds: float) -> Ceiling:
        """Measure each way for so long."""
        if self._process.stdin is not None:
            self._process.stdin.write(f"{seconds}\n")
            self._process.stdin.flush()
        return Ceiling(**self._read())

    def close(self) -> None:
        """End it, whatever it is measuring."""
        self._process.kill()
        self._process.communicate()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            said = self._process.communicate()[1].strip().splitlines()
            raise BenchError(f"expected the ceiling to be measured, got: {said[-1] if said else 'nothing'}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def _serve(folder: Path, precision: str | None, cores: int) -> None:
    import numpy as np  # noqa: PLC0415 - only the process that measures needs a runtime
    import onnxruntime as ort  # noqa: PLC0415

    from service.contract import INPUTS, PROBABILITY, open_bundle  # noqa: PLC0415
    from service.engine import precision_for  # noqa: PLC0415

    bundle = open_bundle(folder)
    chosen = precision_for(bundle, cast("Precision | None", precision), "cpu").precision
    content = bundle.model(chosen)
    frame = np.ascontiguousarray(bundle.golden().frames[:1])

    def session(threads: int) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        return ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])

    wide, narrow = session(cores), session(1)

    def run_until(one: Any, end_s: float, took_s: list[float]) -> None:
        before = time.perf_counter()
        while before < end_s:
            one.run([PROBABILITY.name], {INPUTS[0].name: frame})
            after = time.perf_counter()
            took_s.append(after - before)
            before = after

    def rate(one: Any, callers: int, seconds: float) -> tuple[float, float]:
        """Frames a second, and the median seconds of one."""
        took: list[list[float]] = [[] for _ in range(callers)]
        started = time.perf_counter()
        threads = [threading.Thread(target=run_until, args=(one, started + seconds, mine)) for mine in took]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passed = time.perf_counter() - started
        return sum(map(len, took)) / passed, statistics.median(itertools.chain(*took))

    def measure(seconds: float) -> Ceiling:
        one_session, wide_s = rate(wide, 1, seconds)
        shared, _ = rate(narrow, cores, seconds)
        _, narrow_s = rate(narrow, 1, seconds)
        return Ceiling(one_session, shared, min(wide_s, narrow_s) * 1000, chosen)

    measure(0.2)
    print("{}", flush=True)
    for line in sys.stdin:
        print(json.dumps(measure(float(line))._asdict()), flush=True)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2] or None, int(sys.argv[3]))
