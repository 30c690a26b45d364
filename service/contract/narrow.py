"""8-bit weights of which one bit is not used, for processors whose sums of 8-bit products saturate.

Where there are no dot products, ONNX Runtime multiplies bytes in pairs and adds each pair up in 16 bits. Two products
of 255 and 127 are too much for those, two of 255 and 64 are not. So every weight is halved and its scale doubled, and
biases likewise, as their scale is taken for that of the weights times that of the activations. What is lost is the last
bit of every weight.

Source: ONNX Runtime, "Quantize ONNX models", on `reduce_range`; ONNX, `onnx.proto`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from service.contract.onnx_file import OnnxInvalid, fields

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["narrow"]

_GRAPH: Final = 7  # of a model
_NODE, _TENSOR = 1, 5  # of a graph
_INPUT, _OPERATOR = 1, 4  # of a node
_TYPE, _FLOATS, _INTEGERS, _NAME, _RAW = 2, 4, 5, 8, 9  # of a tensor
_FLOAT32, _INT8, _INT32 = 1, 3, 6
_DTYPES: Final = {_FLOAT32: "<f4", _INT8: "<i1", _INT32: "<i4"}


class _Tensor(NamedTuple):
    """A constant of the graph: its type, and where its values are, as they are in memory or, if few, packed."""

    kind: int
    values: tuple[int, int] | None
    packed: tuple[int, int] | None


def narrow(content: bytes) -> bytes:
    """The content of an ONNX file with 8-bit weights -> the same with weights of at most 64, and scales to match.

    Args:
        content: A model quantised in the QDQ form with int8 weights around zero.

    Raises:
        OnnxInvalid: Its weights or their scales are kept in another way than this.
    """
    view = memoryview(content)
    tensors: dict[bytes, _Tensor] = {}
    nodes: list[list[bytes]] = []
    for graph in _inside(view, (0, len(view)), _GRAPH):
        tensors |= dict(_tensor(view, place) for place in _inside(view, graph, _TENSOR))
        nodes += [_texts(view, place, _INPUT) for place in _inside(view, graph, _NODE) if _dequantises(view, place)]
    ours = [inputs for inputs in nodes if inputs[0] in tensors and tensors[inputs[0]].kind in {_INT8, _INT32}]
    if any(_any(view, tensors.get(zero)) for _, _, *zeros in ours for zero in zeros):
        raise OnnxInvalid("expected 8-bit weights around zero, found others")
    scales = {scale for _, scale, *_ in ours}
    if any(inputs[1] in scales for inputs in nodes if inputs not in ours):
        raise OnnxInvalid("expected scales of their own for 8-bit weights, found one that activations have as well")
    edited = bytearray(content)
    for weights in {inputs[0] for inputs in ours}:
        values = _values(edited, weights, tensors)
        np.copyto(values, np.rint(values / 2), casting="unsafe")
    for scale in scales:
        values = _values(edited, scale, tensors)
        values *= 2
    return bytes(edited)


def _inside(view: memoryview, message: tuple[int, int], field: int) -> list[tuple[int, int]]:
    """Where the values of one field of a message are, if it has them."""
    return [place for number, place in fields(view, *message) if number == field and isinstance(place, tuple)]


def _texts(view: memoryview, message: tuple[int, int], field: int) -> list[bytes]:
    """The same, of a field with texts."""
    return [bytes(view[slice(*place)]) for place in _inside(view, message, field)]


def _dequantises(view: memoryview, node: tuple[int, int]) -> bool:
    return _texts(view, node, _OPERATOR) == [b"DequantizeLinear"]


def _tensor(view: memoryview, place: tuple[int, int]) -> tuple[bytes, _Tensor]:
    found = dict(fields(view, *place))
    places = {field: at for field, at in found.items() if isinstance(at, tuple)}
    kind = found.get(_TYPE)
    name = bytes(view[slice(*places.get(_NAME, (0, 0)))])
    values = places.get(_RAW) or (places.get(_FLOATS) if kind == _FLOAT32 else None)
    return name, _Tensor(kind if isinstance(kind, int) else 0, values, places.get(_INTEGERS))


def _any(view: memoryview, tensor: _Tensor | None) -> bool:
    """Whether a constant has any value but 0, or is none."""
    place = None if tensor is None else tensor.values or tensor.packed
    return place is None or any(view[slice(*place)])


def _values(edited: bytearray, name: bytes, tensors: dict[bytes, _Tensor]) -> NDArray[Any]:
    """The values of a constant, to be changed in place."""
    tensor = tensors.get(name)
    if tensor is None or tensor.values is None or tensor.kind not in _DTYPES:
        raise OnnxInvalid(f"expected the values of {name!r} in the model, as they are in memory")
    start, end = tensor.values
    dtype = np.dtype(_DTYPES[tensor.kind])
    return np.frombuffer(edited, dtype, (end - start) // dtype.itemsize, start)
