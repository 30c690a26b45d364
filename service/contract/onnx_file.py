"""Look into an ONNX file before a runtime does: is it all there, and of a size that a frame's model may have?

A runtime that is given a model follows the names of other files in it: from bytes, it takes them from the folder that
the process happens to run in. A model of a bundle may name none but those that its opener holds in memory.

Source: ONNX, `onnx.proto`; Protocol Buffers, "Encoding".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["MAX_PARTS", "GraphFacts", "OnnxInvalid", "fields", "inspect_onnx"]

MAX_PARTS: Final = 100_000
"""Most nodes, attributes and tensors: the largest network that could serve a camera has a hundredth of it."""
_MAX_DEPTH: Final = 32

_ORT_FORMAT: Final = b"ORTM"
_EXTERNAL_DATA: Final = 13
_DATA_LOCATION: Final = 14
_ELSEWHERE: Final = "expected all weights inside the model's file, found a tensor in another file"

# Which fields of a message are messages that may hold a tensor, and of which kind those are.
_INSIDE: Final[dict[str, dict[int, str]]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}


class OnnxInvalid(ValueError):  # noqa: N818 - as BundleInvalid
    """Bytes that are no ONNX model that may be opened; the message says what was expected and what was found."""


class GraphFacts(NamedTuple):
    """What a model is made of.

    Attributes:
        nodes: Number of nodes, those of inner graphs and functions included.
        parts: Number of nodes, attributes and tensors.
    """

    nodes: int
    parts: int


def inspect_onnx(content: bytes, in_memory: Container[str] = ()) -> GraphFacts:
    """Walk over an ONNX file without unpacking its weights.

    Args:
        content: The file.
        in_memory: Names of other files that its weights may be in, because the runtime is given their verified content.

    Raises:
        OnnxInvalid: It is none, is deeper or has more parts than it may, or has data in other files.
    """
    if content[4:8] == _ORT_FORMAT:
        raise OnnxInvalid("expected an ONNX model, found one in ONNX Runtime's own format")
    view = memoryview(content)
    nodes = parts = 0
    todo = [("model", 0, len(view), 0)]
    while todo:
        kind, start, end, depth = todo.pop()
        parts += 1
        nodes += kind == "node"
        if parts > MAX_PARTS or depth > _MAX_DEPTH:
            raise OnnxInvalid(f"expected at most {MAX_PARTS} parts, {_MAX_DEPTH} deep, found a graph beyond that")
        inside = _INSIDE[kind]
        for field, value in fields(view, start, end):
            if isinstance(value, tuple):
                if field in inside:
                    todo.append((inside[field], *value, depth + 1))
                elif kind == "tensor" and field == _EXTERNAL_DATA:
                    _check_entry(view, *value, in_memory)
            elif kind == "tensor" and field == _DATA_LOCATION and value != 0 and not in_memory:
                raise OnnxInvalid(_ELSEWHERE)
    return GraphFacts(nodes, parts)


def _check_entry(view: memoryview, start: int, end: int, in_memory: Container[str]) -> None:
    """A key and a value of where a tensor is: its `location` has to be known, whatever comes of the rest."""
    texts = {field: bytes(view[slice(*place)]) for field, place in fields(view, start, end) if isinstance(place, tuple)}
    if not in_memory or (texts.get(1) == b"location" and texts.get(2, b"").decode("latin-1") not in in_memory):
        raise OnnxInvalid(_ELSEWHERE)


def fields(view: memoryview, start: int, end: int) -> list[tuple[int, int | tuple[int, int]]]:
    """The fields of a message: its number, and a number or where its bytes are.

    Raises:
        OnnxInvalid: The bytes are no message.
    """
    found: list[tuple[int, int | tuple[int, int]]] = []
    place = start
    while place < end:
        key, place = _varint(view, place, end)
        wire, field = key & 7, key >> 3
        if wire == 0:
            value, place = _varint(view, place, end)
            found.append((field, value))
            continue
        if wire == 2:
            size, place = _varint(view, place, end)
            found.append((field, (place, place + size)))
        elif wire in {1, 5}:
            size = 8 if wire == 1 else 4
        else:
            raise OnnxInvalid("expected an ONNX model, found bytes that are none")
        place += size
        if place > end:
            raise OnnxInvalid("expected an ONNX model, found one that is cut off")
    return found


def _varint(view: memoryview, place: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while place < end and shift < 70:
        byte = view[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
        shift += 7
    raise OnnxInvalid("expected an ONNX model, found one that is cut off")
