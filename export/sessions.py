"""ONNX Runtime on the content of files, for checks, calibration and evaluation."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnxruntime
from tqdm import tqdm

from service.contract.narrow import narrow
from service.machine.processor import dot_products

if TYPE_CHECKING:
    from collections.abc import Mapping

_LEVELS = onnxruntime.GraphOptimizationLevel


def session_options(beside: Mapping[str, bytes] | None = None, *, threads: int = 1) -> onnxruntime.SessionOptions:
    """Options of a session that leaves other cores alone.

    Args:
        beside: Files that the model keeps weights in, by name; they have to live until the session is open.
        threads: Threads within one run.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if beside:
        options.graph_optimization_level = _LEVELS.ORT_ENABLE_EXTENDED  # all of them crash on half precision (1.31)
        options.add_external_initializers_from_files_in_memory(
            list(beside), list(beside.values()), list(map(len, beside.values()))
        )
    return options


def open_session(
    model: bytes, beside: Mapping[str, bytes] | None = None, *, threads: int = 1, as_served: bool = False
) -> onnxruntime.InferenceSession:
    """A CPU session on the content of an ONNX file.

    On a processor without 8-bit dot products, ONNX Runtime's sums of 8-bit products saturate, and an 8-bit model says
    there what it says nowhere else. Its rounded numbers are then multiplied in float32: slow, and right.

    Args:
        model: The ONNX file.
        beside: As in `session_options`.
        threads: As in `session_options`.
        as_served: Take 8-bit products all the same, as the service does: where their sums saturate, of weights that
            have seven bits.

    Raises:
        OnnxInvalid: `as_served`, and the weights are kept in a way that cannot be narrowed.
    """
    options = session_options(beside, threads=threads)
    dots = dot_products()
    if as_served and dots.saturates:
        model = narrow(model)
    if not (as_served or dots.fast):
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def probabilities(session: onnxruntime.InferenceSession, frames: np.ndarray, what: str = "") -> np.ndarray:
    """Probabilities float32 [N,64,64] of frames uint8 [N,64,64,3], one by one; `what` names the progress bar."""
    bar = tqdm(frames, desc=what, unit="frame", disable=not what, leave=False)
    return np.concatenate([session.run(["probability"], {"frames": frame[None]})[0] for frame in bar])


def optimise(model: bytes) -> bytes:
    """Fold constants and drop what does nothing, so that what is quantised is what is run.

    Only ONNX Runtime's basic level: its result has standard operators and fits every provider and processor. The
    levels above choose layouts for the processor that they run on and make files for one version of the runtime; a
    session does that when it opens, in some 50 ms for the full network, of which such a file would spare it 15.
    Equal weights become one, so that a network cannot be rebuilt from the result by the names of its parameters.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = _LEVELS.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        options.optimized_model_filepath = str(file)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return file.read_bytes()
