"""What `/segment` answers: the forms it can give, which of them a client accepts, and how each is written."""

from __future__ import annotations

import base64
import io
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel

from service.contract import FRAME_SIZE
from service.errors import NotAcceptable, quoted
from service.geometry import restore, visible_cells
from service.masks import confidence, decide, describe, to_png

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.engine import Prediction
    from service.query import Query
    from service.requests import Frame

__all__ = [
    "FORMS",
    "Answer",
    "Form",
    "ModelNote",
    "Result",
    "SegmentAnswer",
    "accepted",
    "choose",
    "is_quick",
    "size_bound",
    "write",
]

Form = Literal["application/json", "image/png", "application/x-npy", "application/x-npz"]

_QUICK_PIXELS: Final = 128 * 128

FORMS: Final[tuple[Form, ...]] = ("application/json", "image/png", "application/x-npy", "application/x-npz")


class ModelNote(BaseModel):
    """Which model answered."""

    name: str
    version: int
    sha256: str


class MaskNote(BaseModel):
    """A mask as COCO's compressed run lengths: `pycocotools.mask.decode` reads it."""

    size: tuple[int, int]
    counts: str


class FrameNote(BaseModel):
    """What was found in one frame; `area` and `bbox` are in pixels of the mask."""

    width: int
    height: int
    mask: MaskNote
    area: int
    bbox: tuple[int, int, int, int]
    confidence: float
    present: bool


class LatentsNote(BaseModel):
    """Latents of all frames, little-endian, in base64."""

    dtype: str
    shape: tuple[int, int, int, int]
    data: str


class SegmentAnswer(BaseModel):
    """The JSON answer of `/segment`. Encoding is timed up to where this text is written."""

    model: ModelNote
    frames: list[FrameNote]
    latents: LatentsNote | None = None
    timing_ms: dict[Literal["decode", "queue", "infer", "encode"], float]


class Answer(NamedTuple):
    """An answer, written.

    Attributes:
        content: The body.
        area_ratios: For every frame, which share of its mask is robot.
        confidences: For every frame, how sure the model is.
    """

    content: bytes
    area_ratios: list[float]
    confidences: list[float]


def accepted(accept: str | None) -> tuple[Form, ...]:
    """The forms that an `Accept` header allows, best first; of equals, the order of `FORMS` decides.

    Source: RFC 9110, section 12.5.1.

    >>> accepted(None)[0], accepted("image/*;q=0.5, application/x-npy")
    ('application/json', ('application/x-npy', 'image/png'))

    Raises:
        NotAcceptable: It allows none of them.
    """
    if accept is None or accept.strip() in {"", "*/*"}:
        return FORMS
    ranges = [_media_range(text) for text in accept.split(",")]
    qualities: dict[Form, float] = {}
    for form in FORMS:
        fitting = [(len(pattern), quality) for pattern, quality in ranges if _matches(pattern, form)]
        qualities[form] = max(fitting)[1] if fitting else 0.0  # the longest pattern says most precisely what is meant
    forms = tuple(sorted((form for form in FORMS if qualities[form] > 0), key=lambda form: -qualities[form]))
    if not forms:
        raise NotAcceptable(f"expected to be asked for one of {', '.join(FORMS)}, got Accept: {quoted(accept)}")
    return forms


def choose(forms: Sequence[Form], frames: Sequence[Frame], query: Query) -> Form:
    """The first of the accepted forms that can hold the answer for these frames.

    Raises:
        NotAcceptable: None can; the reason is that of the first.
    """
    objections = [_objection(form, frames, query) for form in forms]
    for form, objection in zip(forms, objections, strict=True):
        if objection is None:
            return form
    raise NotAcceptable(f"{objections[0]}")


def is_quick(form: Form, frames: Sequence[Frame], query: Query) -> bool:
    """Whether writing the answer takes less than waking another thread to do it: a few pixels and no latents."""
    pixels = sum(height * width for height, width in (_mask_shape(frame, query) for frame in frames))
    return pixels <= _QUICK_PIXELS and form != "image/png" and not query.latents


def size_bound(form: Form, frames: Sequence[Frame], query: Query) -> int:
    """Roughly how many bytes the answer is going to have, at most; what is small anyway is not counted."""
    pixels = sum(height * width for height, width in (_mask_shape(frame, query) for frame in frames))
    latents = len(frames) * 16 * 16 * 240 * 4 if query.latents else 0
    if form in {"application/x-npy", "application/x-npz"}:
        return pixels * (5 if query.probability else 1) + latents
    return latents * 4 // 3


@dataclass(frozen=True, slots=True)
class Result:
    """All that an answer is written from.

    Attributes:
        frames: The frames of the request.
        prediction: What the model says of them.
        threshold: From which probability a pixel is robot.
        query: What was asked for.
        model: Which model answers.
        timing_ms: What the stages before this one took.
    """

    frames: Sequence[Frame]
    prediction: Prediction
    threshold: float
    query: Query
    model: ModelNote
    timing_ms: Mapping[str, float]

    def probability(self, index: int) -> NDArray[np.float32]:
        """Probabilities of a frame at the size that was asked for: [H,W]."""
        cells: NDArray[np.float32] = self.prediction.probability[index]
        frame = self.frames[index]
        if self.query.size == "model":
            return cells
        return restore(cells, frame.width, frame.height, self.query.fit)

    def confidence(self, index: int) -> float:
        """How sure the model is of a frame's mask; what only pads the frame does not count."""
        cells, frame = self.prediction.probability[index], self.frames[index]
        return confidence(cells[visible_cells(frame.width, frame.height, self.query.fit)], self.threshold)


def write(form: Form, result: Result) -> Answer:
    """Write an answer in a form that `choose` has found able to hold it."""
    sure = [result.confidence(index) for index in range(len(result.frames))]
    if form == "application/json":
        return _write_json(result, sure)
    if form == "image/png":
        mask = decide(result.probability(0), result.threshold)
        return Answer(to_png(mask), [float(mask.mean())], sure)
    return _write_arrays(form, result, sure)


def _write_json(result: Result, sure: list[float]) -> Answer:
    started = time.perf_counter()
    notes, ratios = [], []
    for index, frame in enumerate(result.frames):
        mask, area, bbox = describe(decide(result.probability(index), result.threshold))
        height, width = mask["size"]
        ratios.append(area / (height * width))
        notes.append(
            {
                "width": frame.width,
                "height": frame.height,
                "mask": mask,
                "area": area,
                "bbox": bbox,
                "confidence": round(sure[index], 6),
                "present": area > 0,
            }
        )
    document: dict[str, object] = {"model": result.model.model_dump(), "frames": notes}
    latents = result.prediction.latents
    if latents is not None:
        data = base64.b64encode(latents.astype("<f4", copy=False).tobytes()).decode("ascii")
        document["latents"] = {"dtype": "float32", "shape": latents.shape, "data": data}
    document["timing_ms"] = {**result.timing_ms, "encode": round((time.perf_counter() - started) * 1000, 3)}
    return Answer(json.dumps(document, separators=(",", ":")).encode(), ratios, sure)


def _write_arrays(form: Form, result: Result, sure: list[float]) -> Answer:
    count, shape = len(result.frames), _mask_shape(result.frames[0], result.query)
    masks = np.empty((count, *shape), np.uint8)
    arrays: dict[str, Any] = {"masks": masks}
    if result.query.probability:
        arrays["probability"] = np.empty((count, *shape), np.float32)
    if result.prediction.latents is not None:
        arrays["latents"] = result.prediction.latents
    for index in range(count):
        probability = result.probability(index)
        masks[index] = decide(probability, result.threshold)
        if result.query.probability:
            np.clip(probability, 0, 1, out=arrays["probability"][index])  # interpolation may round to just outside
    file = io.BytesIO()
    if form == "application/x-npy":
        np.save(file, masks)
    else:
        np.savez(file, **arrays)
    return Answer(file.getvalue(), [np.count_nonzero(mask) / mask.size for mask in masks], sure)


def _mask_shape(frame: Frame, query: Query) -> tuple[int, int]:
    """Height and width of a frame's mask."""
    return (FRAME_SIZE, FRAME_SIZE) if query.size == "model" else (frame.height, frame.width)


def _objection(form: Form, frames: Sequence[Frame], query: Query) -> str | None:
    """Why a form cannot hold the answer, if it cannot."""
    if query.probability and form != "application/x-npz":
        return f"expected Accept: application/x-npz with probability=true, got {form}, which holds none"
    if query.latents and form in {"image/png", "application/x-npy"}:
        return (
            f"expected Accept: application/json or application/x-npz with latents=true, got {form}, which holds masks"
        )
    if form == "image/png" and len(frames) > 1:
        return (
            f"expected one frame with Accept: image/png, got {len(frames)}; "
            "ask for application/json or application/x-npy, or send the frames one by one"
        )
    if form in {"application/x-npy", "application/x-npz"}:
        shapes = {_mask_shape(frame, query) for frame in frames}
        if len(shapes) > 1:
            return (
                f"expected frames of one size with {form}, got {len(shapes)} sizes; "
                "ask for application/json, or for size=model"
            )
    return None


def _media_range(text: str) -> tuple[str, float]:
    """`image/*;q=0.5` -> ("image/*", 0.5); what cannot be read as a quality counts as none at all."""
    pattern, *parameters = (part.strip().lower() for part in text.split(";"))
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return pattern, min(1.0, max(0.0, float(value)))
            except ValueError:
                return pattern, 0.0
    return pattern, 1.0


def _matches(pattern: str, form: Form) -> bool:
    return pattern in {"*/*", form} or (pattern.endswith("/*") and form.startswith(pattern[:-1]))
