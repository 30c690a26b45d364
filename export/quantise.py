"""From float32 to 8 bits: where the numbers are rounded, and how wide each range is.

Weights are int8 with a scale for each output channel, activations uint8 with a scale for each tensor, measured on
calibration frames. The products of activations with each other (attention), normalisations, the softmax, and the last
convolution, whose sums are the logits, stay in float32.

Source of the scheme: ONNX Runtime, "Quantize ONNX models", static quantisation in the QDQ form.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from onnxruntime.quantization import CalibrationDataReader, QDQQuantizer, QuantType
from onnxruntime.quantization.calibrate import create_calibrator
from tqdm import tqdm

from export.sessions import optimise
from export.to_onnx import ExportError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    import numpy as np
    from onnxruntime.quantization.calibrate import TensorsData

_TYPES = ["Conv", "MatMul", "Relu", "Transpose", "Reshape"]
_OPTIONS = {
    "OpTypesToExcludeOutputQuantization": ["MatMul"],  # their sums go on as float32: nothing is lost, nothing slower
}


class Quantiser:
    """A float32 graph with measured ranges, which can be written with any of its layers in 8 bits.

    Args:
        model: The content of an ONNX file made from `QuantisableGraph`.
        frames: Calibration frames uint8 [N,64,64,3], N >= 1.

    Attributes:
        layers: Names of the layers that can be 8-bit, in the order of the graph.
    """

    def __init__(self, model: bytes, frames: np.ndarray) -> None:
        self._model = optimise(model)
        self._groups = _layers(onnx.load_from_string(self._model))
        self._ranges = _measure(self._model, frames)
        self.layers = tuple(self._groups)

    def write(self, keep_float: Collection[str] = ()) -> bytes:
        """The content of an ONNX file in which all layers but some are 8-bit.

        Args:
            keep_float: Names out of `layers`.
        """
        nodes = [node for layer, group in self._groups.items() if layer not in keep_float for node in group]
        quantizer = QDQQuantizer(
            onnx.load_from_string(self._model),
            per_channel=True,
            reduce_range=False,  # 8-bit weights saturate on processors without dot products; those are served fp32
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=self._ranges,
            nodes_to_quantize=nodes,
            nodes_to_exclude=[],
            op_types_to_quantize=_TYPES,
            extra_options=_OPTIONS,
        )
        with _quiet():
            quantizer.quantize_model()
        return bytes(quantizer.model.model.SerializeToString())


class _Frames(CalibrationDataReader):  # type: ignore[misc]  # the library has no types
    """One frame at a time: the ranges are the same, the memory is not."""

    def __init__(self, frames: Iterable[np.ndarray]) -> None:
        self._frames = iter(frames)

    def get_next(self) -> dict[str, np.ndarray] | None:
        frame = next(self._frames, None)
        return None if frame is None else {"frames": frame[None]}


def _measure(model: bytes, frames: np.ndarray) -> TensorsData:
    """Smallest and largest value of every tensor that may be rounded."""
    with tempfile.TemporaryDirectory() as folder, _quiet():
        file = Path(folder) / "model.onnx"
        file.write_bytes(model)
        calibrator = create_calibrator(file, _TYPES, str(Path(folder) / "augmented.onnx"))
        calibrator.collect_data(_Frames(tqdm(frames, desc="calibrate", unit="frame", leave=False)))
        return calibrator.compute_data()


def _layers(model: onnx.ModelProto) -> dict[str, list[str]]:
    """Products with weights, by name, each with the nodes that pass its result on unchanged to the next.

    Raises:
        ExportError: There are none.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    products = [n for n in model.graph.node if n.op_type in {"Conv", "MatMul"} and n.input[1] in weights]
    if not products:
        raise ExportError("expected convolutions with constant weights to quantise, found none")
    logits = [n for n in products if n.op_type == "Conv"][-1]
    return {node.name: [node.name, *_passed_on(node, readers)] for node in products if node is not logits}


def _passed_on(node: onnx.NodeProto, readers: dict[str, list[onnx.NodeProto]]) -> list[str]:
    """Activation and rearrangement after a convolution without a norm, so that bytes are moved and not floats."""
    names: list[str] = []
    while len(after := readers.get(node.output[0], [])) == 1 and after[0].op_type in {"Relu", "Transpose", "Reshape"}:
        node = after[0]
        names.append(node.name)
    ends = readers.get(node.output[0], [])
    return names if ends and all(end.op_type == "Conv" for end in ends) else []


class _quiet:  # noqa: N801 - reads as a statement
    """Keeps the library's advice on pre-processing, which has been done, out of the log."""

    def __enter__(self) -> None:
        self._level = logging.root.level
        logging.root.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.root.setLevel(self._level)
