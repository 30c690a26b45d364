"""Inference over gRPC: messages, with tensors in them or as bytes beside them.

Source: KServe, "Open Inference Protocol" (V2), gRPC; Triton, "Schedule Policy Extension" for `timeout`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from service.contract import FRAMES
from service.errors import TensorInvalid
from service.oip.tensors import (
    DATATYPES,
    Inference,
    check_input,
    choose_outputs,
    frames_from_bytes,
    frames_from_numbers,
    read_timeout_s,
    refuse_shared_memory,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from service.engine import Prediction
    from service.frames.limits import Limits
    from service.versions.note import ModelNote

__all__ = ["parameter_values", "read_inference", "write_inference"]

_FINAL: Final = "triton_final_response"
_ASKS_FINAL: Final = "triton_enable_empty_final_response"


def read_inference(request: Any, limits: Limits) -> Inference:
    """Read a `ModelInferRequest`.

    Raises:
        TensorInvalid: A tensor is not the model's.
        ParameterInvalid: A parameter is out of range, or of an extension that is not here.
        TooLarge: There are too many frames.
    """
    if len(request.inputs) != 1:
        raise TensorInvalid(f"expected one input, {FRAMES.name}, got {len(request.inputs)}")
    tensor = request.inputs[0]
    refuse_shared_memory(tensor.parameters)
    for output in request.outputs:
        refuse_shared_memory(output.parameters)
    count = check_input(tensor.name, tensor.datatype, list(tensor.shape), limits)
    return Inference(
        frames=_read_frames(request, tensor, count),
        outputs=choose_outputs(((output.name, True) for output in request.outputs), all_binary=True),
        request_id=request.id or None,
        timeout_s=read_timeout_s(parameter_values(request.parameters).get("timeout")),
    )


def write_inference(kind: type[Any], model: ModelNote, request: Any, inference: Inference, told: Prediction) -> Any:
    """Write a `ModelInferResponse`; its tensors are always raw, as Triton's are.

    Args:
        kind: The message's class.
        model: Which model answers.
        request: The `ModelInferRequest`.
        inference: What was read of it.
        told: What the model says.
    """
    response = kind(model_name=model.name, model_version=str(model.version), id=request.id)
    if _ASKS_FINAL in request.parameters:
        response.parameters[_FINAL].bool_param = True
    tensors = {"probability": told.probability, "latents": told.latents}
    for spec, _ in inference.outputs:
        tensor = tensors[spec.name]
        if tensor is None:
            raise RuntimeError(f"expected {spec} of the model, which was asked for")
        response.outputs.add(name=spec.name, datatype=DATATYPES[spec.dtype], shape=tensor.shape)
        response.raw_output_contents.append(tensor.astype(f"<{tensor.dtype.str[1:]}", order="C", copy=False).tobytes())
    return response


def parameter_values(parameters: Any) -> dict[str, object]:
    """The values of a message's parameters, whichever of their kinds they are; None for one without a value."""
    values = {}
    for name, parameter in parameters.items():
        choice = parameter.WhichOneof("parameter_choice")
        values[name] = getattr(parameter, choice) if choice else None
    return values


def _read_frames(request: Any, tensor: Any, count: int) -> NDArray[np.uint8]:
    typed = tensor.HasField("contents")
    if len(request.raw_input_contents) + typed != 1:
        raise TensorInvalid(
            f"expected {FRAMES.name} either in raw_input_contents or in its own contents, got "
            f"{len(request.raw_input_contents)} raw tensors and {'its contents' if typed else 'no contents'}"
        )
    if not typed:
        return frames_from_bytes(request.raw_input_contents[0], count)
    filled = [field.name for field, _ in tensor.contents.ListFields()]
    if filled != ["uint_contents"]:
        raise TensorInvalid(f"expected {FRAMES.name} in uint_contents, got {', '.join(filled) or 'none'}")
    return frames_from_numbers(tensor.contents.uint_contents, count)
