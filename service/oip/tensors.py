"""The model's tensors as the Open Inference Protocol names them, and the checks that REST and gRPC share.

Source: KServe, "Open Inference Protocol" (V2), sections "Tensor Data" and "Inference Request JSON Object".
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from service.contract import FRAMES, OUTPUTS
from service.errors import ParameterInvalid, TensorInvalid, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from service.contract import TensorSpec
    from service.frames.limits import Limits

__all__ = [
    "DATATYPES",
    "FRAME_BYTES",
    "Inference",
    "WantedOutput",
    "check_input",
    "choose_outputs",
    "dimensions",
    "frames_from_bytes",
    "frames_from_numbers",
    "read_timeout_s",
    "refuse_shared_memory",
]

DATATYPES: Final = {"uint8": "UINT8", "float32": "FP32"}
"""The protocol's names of element types."""

FRAME_BYTES: Final = math.prod(size for size in FRAMES.shape if isinstance(size, int))
"""Bytes of one frame of the input, which are also its numbers."""

_FLOAT_BYTES: Final = 4
_JSON_BYTES: Final = 32
"""What a float costs at most while it becomes JSON: its text, and the object that it is before."""


class WantedOutput(NamedTuple):
    """An output that the client asked for, as bytes or as numbers in JSON."""

    spec: TensorSpec
    binary: bool


class Inference(NamedTuple):
    """A request for inference, whichever way it came.

    Attributes:
        frames: uint8 [N,64,64,3]; may be a view of the request's body.
        outputs: What to answer, in this order.
        request_id: The client's own name for it, to be given back; None if it has none.
        timeout_s: How long the client will wait, from arrival on; None for as long as it takes.
    """

    frames: NDArray[np.uint8]
    outputs: tuple[WantedOutput, ...]
    request_id: str | None
    timeout_s: float | None

    @property
    def latents(self) -> bool:
        """Whether latents are wanted."""
        return any(output.spec.name == "latents" for output in self.outputs)

    @property
    def answer_bytes(self) -> int:
        """Bound of the memory that its answer takes: tensors, and what is sent of them."""
        per_frame = sum(
            math.prod(dimensions(spec)[1:]) * (2 * _FLOAT_BYTES if binary else _JSON_BYTES)
            for spec, binary in self.outputs
        )
        return len(self.frames) * per_frame


def dimensions(spec: TensorSpec) -> list[int]:
    """A tensor's shape in the protocol's form: -1 where it is dynamic.

    >>> dimensions(FRAMES)
    [-1, 64, 64, 3]
    """
    return [size if isinstance(size, int) else -1 for size in spec.shape]


def check_input(name: object, datatype: object, shape: object, limits: Limits) -> int:
    """Check what a request says of its only input; returns the number of frames.

    Raises:
        TensorInvalid: It is not the model's input.
        TooLarge: There are too many frames.
    """
    if name != FRAMES.name:
        raise TensorInvalid(f"expected the input {FRAMES.name!r}, got {_shown(name)}")
    wanted = DATATYPES[FRAMES.dtype]
    if datatype != wanted:
        raise TensorInvalid(f"expected {FRAMES.name} as {wanted}, 0 to 255, got the datatype {_shown(datatype)}")
    sizes = list(shape) if isinstance(shape, list | tuple) else []
    # True is 1 for Python, and 64.0 is 64; neither is a size.
    if {type(size) for size in sizes} != {int} or sizes[1:] != dimensions(FRAMES)[1:] or sizes[0] < 1:
        raise TensorInvalid(f"expected {FRAMES.name} in the shape [N,64,64,3] with N from 1, RGB, got {_shown(shape)}")
    count: int = sizes[0]
    limits.check_frames(count)
    return count


def choose_outputs(names: Iterable[tuple[object, bool]], *, all_binary: bool) -> tuple[WantedOutput, ...]:
    """The outputs that a request names, each with whether it wants bytes; all of the model's if it names none.

    Raises:
        TensorInvalid: The model has no such output, or it is named twice.
    """
    specs = {spec.name: spec for spec in OUTPUTS}
    chosen: dict[str, WantedOutput] = {}
    for name, binary in names:
        if not isinstance(name, str) or name not in specs:
            raise TensorInvalid(f"expected outputs among {', '.join(specs)}, got {_shown(name)}")
        if name in chosen:
            raise TensorInvalid(f"expected every output once, got {name} twice")
        chosen[name] = WantedOutput(specs[name], binary)
    return tuple(chosen.values()) or tuple(WantedOutput(spec, all_binary) for spec in OUTPUTS)


def frames_from_bytes(data: bytes, count: int, offset: int = 0) -> NDArray[np.uint8]:
    """What follows the offset, as frames [N,64,64,3]; a view, nothing is copied.

    Raises:
        TensorInvalid: It is more or less than so many frames.
    """
    there = len(data) - offset
    if there != count * FRAME_BYTES:
        raise TensorInvalid(
            f"expected {count * FRAME_BYTES} bytes for {FRAMES.name} [{count},64,64,3], got {there}; "
            "raw bytes, row by row, without header"
        )
    return np.frombuffer(data, np.uint8, count * FRAME_BYTES, offset).reshape(count, *FRAMES.shape[1:])


def frames_from_numbers(numbers: Sequence[int], count: int) -> NDArray[np.uint8]:
    """Whole numbers as frames [N,64,64,3].

    Raises:
        TensorInvalid: They are too many or too few, or one is no pixel.
    """
    if len(numbers) != count * FRAME_BYTES:
        raise TensorInvalid(
            f"expected {count * FRAME_BYTES} numbers for {FRAMES.name} [{count},64,64,3], got {len(numbers)}"
        )
    try:
        pixels = bytes(numbers)
    except (ValueError, TypeError) as error:  # beyond 255 or below 0; no whole number
        raise TensorInvalid(f"expected {FRAMES.name} as whole numbers from 0 to 255: {error}") from error
    return frames_from_bytes(pixels, count)


def read_timeout_s(microseconds: object) -> float | None:
    """Triton's parameter `timeout`, in microseconds, as seconds; 0 is none.

    >>> read_timeout_s(1500), read_timeout_s(0)
    (0.0015, None)

    Raises:
        ParameterInvalid: It is no whole number, or less than 0.
    """
    if microseconds is None:
        return None
    if type(microseconds) is not int or not 0 <= microseconds < 1 << 64:
        raise ParameterInvalid(f"expected timeout as whole microseconds, 0 for no timeout, got {_shown(microseconds)}")
    return microseconds / 1e6 or None


def refuse_shared_memory(parameters: Mapping[str, object]) -> None:
    """Say no to a tensor that lies elsewhere, or is wanted as classes.

    Raises:
        ParameterInvalid: Its parameters say so.
    """
    for name in ("shared_memory_region", "classification"):
        if name in parameters:
            raise ParameterInvalid(
                f"expected tensors in the request and the answer themselves, got {name}, which this service does not "
                "have; see the extensions in /v2"
            )


def _shown(value: object) -> str:
    return quoted(value) if isinstance(value, str) else quoted(repr(value)).replace("'", "")
