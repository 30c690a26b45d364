"""From float32 to 8 bits: where the numbers are rounded, and how wide each range is.

Weights are int8 with a scale for each output channel, activations uint8 with a scale for each tensor, measured on
calibration frames. Normalisations, the softmax, what it weighs, residual sums of the encoder and the logits stay in
float32.

Source of the scheme: ONNX Runtime, "Quantize ONNX models", static quantisation in the QDQ form.
"""

from __future__ import annotations

import logging
import tempfile
from collections import defaultdict
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

    Readers = defaultdict[str, list[onnx.NodeProto]]

_TYPES = ["Conv", "MatMul", "Relu", "Concat", "Transpose", "Reshape"]
_PASSES_ON = (["Relu"], ["Concat"], ["Transpose"], ["Reshape"])
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
        proto = onnx.load_from_string(optimise(model))
        _drop_idle_relus(proto)
        self._model = bytes(proto.SerializeToString())
        self._groups = _layers(proto)
        self._ranges = _measure(self._model, frames)
        _share_ranges(proto, self._ranges)
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
            reduce_range=False,  # the service narrows weights where sums of all eight bits saturate
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
        model = quantizer.model.model
        _keep_sums_float(model, frozenset(nodes))
        return bytes(model.SerializeToString())


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
    """Products, by name, each with the nodes that pass its result on to the next without computing.

    Raises:
        ExportError: There are none.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    readers = _readers(model)
    products = [
        node
        for node in model.graph.node
        if (node.op_type in {"Conv", "MatMul"} and node.input[1] in weights) or _is_comparison(node, readers)
    ]
    if not products:
        raise ExportError("expected convolutions with constant weights to quantise, found none")
    return {node.name: [node.name, *_passed_on(node, readers)] for node in products}


def _is_comparison(node: onnx.NodeProto, readers: Readers) -> bool:
    """Whether a node is attention's product of queries and keys."""
    return node.op_type == "MatMul" and [after.op_type for after in readers[node.output[0]]] == ["Softmax"]


def _passed_on(node: onnx.NodeProto, readers: Readers) -> list[str]:
    """Activation and rearrangement after a convolution without a norm, so that bytes are moved and not floats."""
    names: list[str] = []
    while [after.op_type for after in readers[node.output[0]]] in _PASSES_ON:
        (node,) = readers[node.output[0]]
        names.append(node.name)
    ends = {after.op_type for after in readers[node.output[0]]}
    return names if ends and ends <= {"Conv", "MatMul", "Add"} else []


def _readers(model: onnx.ModelProto) -> Readers:
    readers: Readers = defaultdict(list)
    for node in model.graph.node:
        for name in node.input:
            readers[name].append(node)
    return readers


def _share_ranges(model: onnx.ModelProto, ranges: TensorsData) -> None:
    """Give what is put side by side the range of the whole, in place: it is then copied, not scaled anew."""
    made_by = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        if node.op_type != "Concat":
            continue
        for name in node.input:
            if name in ranges.keys():  # noqa: SIM118 - not a mapping, though it looks like one
                ranges[name] = ranges[node.output[0]]
                ranges[made_by[name].input[0]] = ranges[node.output[0]]


def _drop_idle_relus(model: onnx.ModelProto) -> None:
    """Take out, in place, the ReLUs of what cannot be negative: sums of two rectified tensors, in whatever order."""
    outputs = {output.name for output in model.graph.output}
    never_negative: set[str] = set()
    same_as: dict[str, str] = {}
    kept = []
    for node in model.graph.node:
        node.input[:] = [same_as.get(name, name) for name in node.input]
        if node.op_type == "Relu" and node.input[0] in never_negative and node.output[0] not in outputs:
            same_as[node.output[0]] = node.input[0]
            continue
        moves = node.op_type in {"Transpose", "Reshape"} and node.input[0] in never_negative
        if node.op_type == "Relu" or moves or (node.op_type == "Add" and never_negative.issuperset(node.input)):
            never_negative.add(node.output[0])
        kept.append(node)
    del model.graph.node[:]
    model.graph.node.extend(kept)


def _keep_sums_float(model: onnx.ModelProto, rounded: Collection[str]) -> None:
    """Let residual sums read what was not rounded, in place: it is there, and more exact.

    What a node with 8-bit results adds is not there: to have it, the node would have to be computed in float32.

    Args:
        model: The graph.
        rounded: Names of the nodes whose results are 8-bit.
    """
    made_by = {name: node for node in model.graph.node for name in node.output}

    def unrounded(name: str) -> str:
        dequantised = made_by.get(name)
        if dequantised is None or dequantised.op_type != "DequantizeLinear":
            return name
        quantised = made_by.get(dequantised.input[0])
        if quantised is None or quantised.op_type != "QuantizeLinear":
            return name
        source = made_by.get(quantised.input[0])
        return name if source is not None and source.name in rounded else quantised.input[0]

    for node in model.graph.node:
        if node.op_type == "Add":
            node.input[:] = [unrounded(name) for name in node.input]


class _quiet:  # noqa: N801 - reads as a statement
    """Keeps the library's advice on pre-processing, which has been done, out of the log."""

    def __enter__(self) -> None:
        self._level = logging.root.level
        logging.root.setLevel(logging.ERROR)

    def __exit__(self, *_: object) -> None:
        logging.root.setLevel(self._level)
