"""The fp16 model for GPUs: the fp32 graph in half precision, its large weights read out of the fp32 file.

The fp32 file stores every large weight as float16 already, so that the fp16 model needs no copy of its own: its
initialisers are ONNX "external data" whose location is the fp32 file and whose offset is where the bytes stand in it.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from export.to_onnx import ExportError

_IN_FILE = 1024
"""Smallest tensor, in bytes, whose bytes can be found in a file without doubt."""


def to_half(model: bytes, location: str) -> bytes:
    """A graph with the same inputs and outputs whose arithmetic is float16.

    Args:
        model: The content of the fp32 file, its large weights stored as float16.
        location: That file's name in the bundle.

    Raises:
        ExportError: A weight's bytes are not found in the file exactly once.
    """
    proto = onnx.load_from_string(model)
    graph = proto.graph
    halves = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.FLOAT16}
    unwrapped = {node.output[0]: node.input[0] for node in graph.node if _widens(node, halves)}
    nodes = [_halved(node, unwrapped) for node in graph.node if not _widens(node, halves)]
    initializers = [_stored(tensor, model, location) for tensor in graph.initializer]
    outputs = [output.name for output in graph.output]
    for node in nodes:
        for names in (node.input, node.output):
            names[:] = [f"{name}.half" if name in outputs else name for name in names]
    casts = [helper.make_node("Cast", [f"{name}.half"], [name], to=TensorProto.FLOAT) for name in outputs]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes + casts)
    graph.initializer.extend(initializers)
    return bytes(proto.SerializeToString())


def _widens(node: onnx.NodeProto, halves: set[str]) -> bool:
    """Whether a node makes float32 of a weight that is stored as float16."""
    return node.op_type == "Cast" and node.input[0] in halves


def _halved(node: onnx.NodeProto, unwrapped: dict[str, str]) -> onnx.NodeProto:
    """The node on float16: it reads stored weights as they are, and casts and constants give float16."""
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = [unwrapped.get(name, name) for name in node.input]
    for attribute in copy.attribute:
        if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
            attribute.i = TensorProto.FLOAT16
        elif attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type == TensorProto.FLOAT:
            attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(np.float16)))
    return copy


def _stored(tensor: TensorProto, model: bytes, location: str) -> TensorProto:
    """The initialiser as float16, as a reference into the fp32 file if it is large."""
    if tensor.data_type == TensorProto.FLOAT:
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
    if tensor.data_type != TensorProto.FLOAT16 or len(tensor.raw_data) < _IN_FILE:
        return tensor
    offset = model.find(tensor.raw_data)
    if offset < 0 or model.find(tensor.raw_data, offset + 1) >= 0:
        raise ExportError(f"expected the weights {tensor.name!r} to stand in the fp32 file once, found none or several")
    reference = TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims)
    reference.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", offset), ("length", len(tensor.raw_data))):
        reference.external_data.add(key=key, value=str(value))
    return reference
