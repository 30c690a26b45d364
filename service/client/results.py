"""What the service answers, decoded into numpy."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from service.client.errors import AnswerUnreadable
from service.client.runs import decode_runs

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = [
    "JSON",
    "NPZ",
    "FrameResult",
    "ModelNote",
    "Segmentation",
    "read_answer",
    "read_arrays",
    "read_json",
    "read_model",
]

JSON: Final = "application/json"
NPZ: Final = "application/x-npz"
_STAGE: Final = re.compile(r"\s*([\w-]+)\s*;\s*dur=([0-9.]+)")


@dataclass(frozen=True, slots=True)
class ModelNote:
    """Which model answered; the hash is its bundle's identity."""

    name: str
    version: int
    sha256: str


@dataclass(frozen=True, slots=True, eq=False)
class FrameResult:
    """What was found in one frame.

    Attributes:
        mask: bool [H,W], true where the robot is.
        area: Robot pixels.
        bbox: Left, top, width and height of the box around them; zeros if there are none.
        confidence: How sure the model is of the mask: the mean probability of the robot's pixels, or, where there
            are none, one minus the highest probability.
        probability: float32 [H,W], if it was asked for.
        latents: float [16,16,240], if they were asked for.
    """

    mask: NDArray[np.bool_]
    area: int
    bbox: tuple[int, int, int, int]
    confidence: float
    probability: NDArray[np.float32] | None = None
    latents: NDArray[np.floating[Any]] | None = None

    @property
    def present(self) -> bool:
        """Whether there is any robot."""
        return self.area > 0


@dataclass(frozen=True, slots=True, eq=False)
class Segmentation:
    """An answer: one result for each frame, in order, and who gave it.

    Attributes:
        frames: The results.
        model: Which model answered.
        timing_ms: Milliseconds by stage: decode, queue, infer, encode.
        request_id: Under which the service's log has it.
        age_ms: Milliseconds from when the frames were taken to when the service had the answer, if it was told when
            that was; not of single requests for arrays.
    """

    frames: tuple[FrameResult, ...]
    model: ModelNote
    timing_ms: dict[str, float]
    request_id: str
    age_ms: float | None = None

    @property
    def masks(self) -> NDArray[np.bool_]:
        """Booleans [N,H,W].

        Raises:
            ValueError: The frames have several sizes; take `frames[i].mask` then.
        """
        return _stacked([frame.mask for frame in self.frames], "masks")

    @property
    def probability(self) -> NDArray[np.float32]:
        """float32 [N,H,W].

        Raises:
            ValueError: It was not asked for.
        """
        return _stacked([frame.probability for frame in self.frames], "probability")

    @property
    def latents(self) -> NDArray[np.floating[Any]]:
        """Floats [N,16,16,240].

        Raises:
            ValueError: They were not asked for.
        """
        return _stacked([frame.latents for frame in self.frames], "latents")

    @property
    def confidence(self) -> NDArray[np.float64]:
        """float64 [N], 0..1."""
        return np.array([frame.confidence for frame in self.frames])

    @property
    def bbox(self) -> NDArray[np.int64]:
        """int64 [N,4]: left, top, width, height in pixels of the mask."""
        return np.array([frame.bbox for frame in self.frames], np.int64)

    @property
    def present(self) -> NDArray[np.bool_]:
        """Booleans [N]: whether there is any robot."""
        return np.array([frame.present for frame in self.frames])


def read_answer(headers: Mapping[str, str], content: bytes) -> Segmentation:
    """Decode a successful answer of `/segment`.

    Raises:
        AnswerUnreadable: It is no such answer.
    """
    form = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if form not in {JSON, NPZ}:
        raise AnswerUnreadable(
            f"expected an answer of robomask in {JSON} or {NPZ}, got {form or 'no content type'}; is the address right?"
        )
    try:
        if form == JSON:
            return read_json(json.loads(content), headers.get("X-Request-Id", ""))
        return Segmentation(
            frames=read_arrays(content, _confidences(headers.get("X-Confidence"))),
            model=ModelNote(
                headers["X-Model-Name"], int(headers["X-Model-Version"]), headers.get("X-Model-Sha256", "")
            ),
            timing_ms={stage: float(ms) for stage, ms in _STAGE.findall(headers.get("Server-Timing", ""))},
            request_id=headers.get("X-Request-Id", ""),
        )
    except Exception as error:  # whatever json, zipfile, zlib and numpy raise of what is not ours
        raise AnswerUnreadable(
            f"expected an answer of robomask in {form}, got one that does not decode: {error!r}"
        ) from error


def read_json(document: Mapping[str, Any], request_id: str) -> Segmentation:
    """Decode the JSON answer.

    Raises:
        Exception: It is none; of which kind depends on what it is instead.
    """
    notes, age_ms = document["frames"], document.get("age_ms")
    latents = _latents(document["latents"]) if document.get("latents") else [None] * len(notes)
    frames = [
        FrameResult(
            mask=decode_runs(note["mask"]["counts"], *note["mask"]["size"]),
            area=int(note["area"]),
            bbox=_box(note["bbox"]),
            confidence=float(note["confidence"]),
            latents=of_frame,
        )
        for note, of_frame in zip(notes, latents, strict=True)
    ]
    return Segmentation(
        frames=tuple(frames),
        model=read_model(document["model"]),
        timing_ms={stage: float(ms) for stage, ms in document.get("timing_ms", {}).items()},
        request_id=request_id,
        age_ms=None if age_ms is None else float(age_ms),
    )


def read_model(note: Mapping[str, Any]) -> ModelNote:
    """Which model answered, as JSON says it."""
    return ModelNote(str(note["name"]), int(note["version"]), str(note["sha256"]))


def read_arrays(content: bytes, confidences: Sequence[float] | None = None) -> tuple[FrameResult, ...]:
    """The results in an `.npz`.

    Args:
        content: Its bytes.
        confidences: Of each frame, as the service says beside it; if it does not, the mean over the pixels stands in.

    Raises:
        Exception: They are none; of which kind depends on where the file is damaged.
    """
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        masks = arrays["masks"].astype(bool)
        probability = arrays["probability"] if "probability" in arrays else [None] * len(masks)
        latents = arrays["latents"] if "latents" in arrays else [None] * len(masks)
    confidence = map(_confidence, masks, probability) if confidences is None else confidences
    return tuple(
        FrameResult(
            mask=mask,
            area=int(np.count_nonzero(mask)),
            bbox=_box_around(mask),
            confidence=float(sure),
            probability=of_pixels,
            latents=of_frame,
        )
        for mask, sure, of_pixels, of_frame in zip(masks, confidence, probability, latents, strict=True)
    )


def _latents(note: Mapping[str, Any]) -> NDArray[np.floating[Any]]:
    dtype = np.dtype(note["dtype"])
    if dtype.kind != "f":
        raise ValueError(f"expected latents of floats, got {dtype}")
    data = np.frombuffer(base64.b64decode(note["data"]), dtype.newbyteorder("<"))
    latents: NDArray[np.floating[Any]] = data.reshape(note["shape"]).astype(dtype, copy=False)
    return latents


def _box(edges: Any) -> tuple[int, int, int, int]:
    left, top, width, height = map(int, edges)
    return left, top, width, height


def _box_around(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if rows.size == 0:
        return 0, 0, 0, 0
    left, top = int(columns[0]), int(rows[0])
    return left, top, int(columns[-1]) - left + 1, int(rows[-1]) - top + 1


def _confidences(header: str | None) -> list[float] | None:
    return None if header is None else [float(one) for one in header.split(",")]


def _confidence(mask: NDArray[np.bool_], probability: NDArray[np.float32] | None) -> float:
    if probability is None:
        return float("nan")
    robot = probability[mask]
    return float(robot.mean()) if robot.size else 1.0 - float(probability.max())


def _stacked(arrays: list[Any], what: str) -> NDArray[Any]:
    if any(array is None for array in arrays):
        raise ValueError(f"expected {what} to have been asked for: segment(..., {what}=True)")
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise ValueError(f"expected frames of one size, got {sorted(shapes)}; take them one by one from `frames`")
    stacked: NDArray[Any] = np.stack(arrays)
    return stacked
