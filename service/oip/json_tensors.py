"""Inference over REST: JSON, with tensors in it or as bytes behind it.

Source: KServe, "Open Inference Protocol" (V2), REST; Triton, "Binary Tensor Data Extension".
"""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from service.contract import FRAME_SIZE, FRAMES
from service.errors import BodyMalformed, BodyMissing, TensorInvalid, TooLarge, quoted
from service.oip.tensors import (
    DATATYPES,
    FRAME_BYTES,
    Inference,
    check_input,
    choose_outputs,
    frames_from_bytes,
    frames_from_numbers,
    read_timeout_s,
    refuse_shared_memory,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    from numpy.typing import NDArray

    from service.engine import Prediction
    from service.frames.limits import Limits
    from service.versions.note import ModelNote

__all__ = ["Written", "parse_object", "read_header_length", "read_inference", "write_inference"]

_SLACK: Final = 1000
"""Commas and brackets of a request beyond those of its pixels."""

_LISTS_PER_FRAME: Final = FRAME_SIZE * FRAME_SIZE + FRAME_SIZE + 1
_DIGITS: Final = 10
_WANTED: Final = "expected a JSON object as the Open Inference Protocol has it"


class Written(NamedTuple):
    """An answer's body, and the length of the JSON at its beginning if bytes follow."""

    content: bytes
    header_length: int | None


def read_header_length(text: str | None, body_bytes: int) -> int | None:
    """The header `Inference-Header-Content-Length`: how much of a body is JSON.

    Raises:
        BodyMalformed: It is no length within the body.
    """
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS and int(text) <= body_bytes):
        raise BodyMalformed(
            f"expected Inference-Header-Content-Length as a number of bytes up to {body_bytes}, the whole body, "
            f"got {quoted(text)}"
        )
    return int(text)


def read_inference(body: bytes, header_length: int | None, limits: Limits) -> Inference:
    """Read a request.

    Args:
        body: JSON, then the bytes of its tensors.
        header_length: Bytes of JSON; None if all of it is, 0 if the body is the input tensor and nothing else.
        limits: What it may ask for.

    Raises:
        BodyMissing: Nothing came.
        BodyMalformed: It is not what the protocol asks for.
        TensorInvalid: A tensor is not the model's.
        ParameterInvalid: A parameter is out of range, or of an extension that is not here.
        TooLarge: There are too many frames, or numbers.
    """
    if not body:
        raise BodyMissing(f"{_WANTED}, got no bytes")
    if header_length == 0:
        return _read_raw(body, limits)
    document = parse_object(body if header_length is None else body[:header_length], limits)
    inputs = document.get("inputs")
    if not isinstance(inputs, list) or len(inputs) != 1 or not isinstance(inputs[0], dict):
        raise TensorInvalid(f"expected `inputs` with one object, {FRAMES.name}, got {_kind(inputs)}")
    tensor: dict[str, Any] = inputs[0]
    parameters = _parameters(document)
    count = check_input(tensor.get("name"), tensor.get("datatype"), tensor.get("shape"), limits)
    return Inference(
        frames=_read_frames(tensor, count, body, header_length),
        outputs=choose_outputs(
            _read_outputs(document, parameters), all_binary=_flag(parameters, "binary_data_output", default=False)
        ),
        request_id=_read_id(document),
        timeout_s=read_timeout_s(parameters.get("timeout")),
    )


def write_inference(model: ModelNote, inference: Inference, prediction: Prediction) -> Written:
    """Write an answer: numbers into the JSON, bytes behind it."""
    tensors = {"probability": prediction.probability, "latents": prediction.latents}
    head: dict[str, Any] = {"model_name": model.name, "model_version": str(model.version)}
    if inference.request_id is not None:
        head["id"] = inference.request_id
    outputs, tail = [], []
    for spec, binary in inference.outputs:
        tensor = tensors[spec.name]
        if tensor is None:
            raise RuntimeError(f"expected {spec} of the model, which was asked for")
        note: dict[str, Any] = {"name": spec.name, "datatype": DATATYPES[spec.dtype], "shape": list(tensor.shape)}
        if binary:
            tail.append(tensor.astype(f"<{tensor.dtype.str[1:]}", order="C", copy=False).tobytes())
            note["parameters"] = {"binary_data_size": len(tail[-1])}
            outputs.append(json.dumps(note))
        else:
            outputs.append(f'{json.dumps(note)[:-1]}, "data": [{",".join(_numbers(tensor))}]}}')
    text = f'{json.dumps(head)[:-1]}, "outputs": [{", ".join(outputs)}]}}'.encode()
    return Written(b"".join([text, *tail]), len(text) if tail else None)


def parse_object(text: bytes, limits: Limits) -> dict[str, Any]:
    """A JSON object of a size that a request may need; what is larger never becomes Python objects.

    Raises:
        BodyMalformed: It is none.
        TooLarge: It holds more numbers than the frames of a request have.
    """
    most = limits.max_frames * FRAME_BYTES
    if text.count(b",") > most + _SLACK or text.count(b"[") + text.count(b"{") > (
        limits.max_frames * _LISTS_PER_FRAME + _SLACK
    ):
        raise TooLarge(
            f"expected at most {most} numbers, {limits.max_frames} frames of 64x64x3, got more; send the frames in "
            "several requests, or as bytes with the binary tensor data extension"
        )
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BodyMalformed(f"{_WANTED}, got a body that is no JSON: {error}") from error
    if not isinstance(document, dict):
        raise BodyMalformed(f"{_WANTED}, got {_kind(document)}")
    return document


def _read_raw(body: bytes, limits: Limits) -> Inference:
    """Triton's raw binary request: the body is the input, and the answer's tensors are bytes too."""
    count = max(1, len(body) // FRAME_BYTES)
    limits.check_frames(count)
    return Inference(frames_from_bytes(body, count), choose_outputs((), all_binary=True), None, None)


def _read_frames(tensor: dict[str, Any], count: int, body: bytes, header_length: int | None) -> NDArray[np.uint8]:
    parameters = _parameters(tensor)
    refuse_shared_memory(parameters)
    behind = 0 if header_length is None else len(body) - header_length
    size = parameters.get("binary_data_size")
    if size is None:
        if behind:
            raise BodyMalformed(
                f"expected `binary_data_size` in the parameters of {FRAMES.name}, as {behind} bytes follow the JSON"
            )
        return frames_from_numbers(_flat(tensor.get("data")), count)
    if tensor.get("data") is not None:
        raise BodyMalformed(f"expected {FRAMES.name} as bytes or as numbers, got both; leave `data` out")
    if header_length is None:
        raise BodyMalformed(
            "expected the header Inference-Header-Content-Length, as the tensor is said to follow the JSON as bytes"
        )
    if type(size) is not int or size != behind:
        raise BodyMalformed(
            f"expected binary_data_size to be {behind}, the bytes that follow the JSON, got {quoted(repr(size))}"
        )
    return frames_from_bytes(body, count, header_length)


def _read_outputs(document: dict[str, Any], parameters: dict[str, Any]) -> Iterator[tuple[object, bool]]:
    outputs = _given(document, "outputs", [])
    if not isinstance(outputs, list):
        raise TensorInvalid(f"expected `outputs` as a list of objects, got {_kind(outputs)}")
    all_binary = _flag(parameters, "binary_data_output", default=False)
    for output in outputs:
        if not isinstance(output, dict):
            raise TensorInvalid(f"expected `outputs` as a list of objects, got {_kind(output)} in it")
        own = _parameters(output)
        refuse_shared_memory(own)
        yield output.get("name"), _flag(own, "binary_data", default=all_binary)


def _read_id(document: dict[str, Any]) -> str | None:
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise BodyMalformed(f"expected `id` as text, got {_kind(request_id)}")
    return request_id


def _given(holder: dict[str, Any], name: str, default: Any) -> Any:
    """What stands there, or the default: many clients write null for what is not given."""
    value = holder.get(name)
    return default if value is None else value


def _parameters(holder: dict[str, Any]) -> dict[str, Any]:
    parameters = _given(holder, "parameters", {})
    if not isinstance(parameters, dict):
        raise BodyMalformed(f"expected `parameters` as an object, got {_kind(parameters)}")
    return parameters


def _flag(parameters: dict[str, Any], name: str, *, default: bool) -> bool:
    value = _given(parameters, name, default)
    if not isinstance(value, bool):
        raise BodyMalformed(f"expected {name} as true or false, got {quoted(repr(value))}")
    return value


def _flat(data: object) -> list[int]:
    """The numbers of a tensor, which may be nested like its shape or not at all."""
    level = data
    for _ in FRAMES.shape:
        if not isinstance(level, list):
            break
        kinds = set(map(type, level))
        if kinds == {int}:
            return level
        if kinds != {list}:
            raise _no_pixels(" and ".join(sorted(kind.__name__ for kind in kinds)) or "an empty list")
        level = list(itertools.chain.from_iterable(level))
    raise _no_pixels("deeper lists" if isinstance(data, list) else _kind(data))


def _no_pixels(got: str) -> TensorInvalid:
    return TensorInvalid(f"expected `data` as whole numbers from 0 to 255, flat or nested as [N,64,64,3], got {got}")


def _numbers(tensor: NDArray[np.float32]) -> Iterator[str]:
    """A tensor's numbers as JSON, piece by piece: the whole at once would keep other threads from running for long."""
    for row in tensor.reshape(-1, math.prod(tensor.shape[2:])):
        yield json.dumps(row.tolist(), separators=(",", ":"))[1:-1]


def _kind(value: object) -> str:
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return "none" if value is None else f"{type(value).__name__}"
