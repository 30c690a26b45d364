"""Where a run of a model spends its time, by ONNX Runtime's own profiler."""

from __future__ import annotations

import json
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING

import onnxruntime

from export.sessions import session_options

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np

RUNS = 20

SHOWN = 0.05
"""Operators that take fewer milliseconds are summed up as `other`."""


def time_split(model: bytes, beside: Mapping[str, bytes], frames: np.ndarray) -> dict[str, float]:
    """Mean milliseconds of each kind of operator in a run on one thread, the longest first.

    Args:
        model: The content of an ONNX file.
        beside: Files that it keeps weights in, by name.
        frames: uint8 [N,64,64,3].
    """
    with tempfile.TemporaryDirectory() as folder:
        options = session_options(beside)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        for _ in range(RUNS):
            session.run(["probability"], {"frames": frames})
        events = json.loads(Path(session.end_profiling()).read_text())
    took: dict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("kernel_time"):
            took[event["args"]["op_name"]] += event["dur"] / 1000 / RUNS
    shown = {name: ms for name, ms in sorted(took.items(), key=lambda item: -item[1]) if ms >= SHOWN}
    return shown | {"other": sum(took.values()) - sum(shown.values())}
