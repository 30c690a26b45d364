"""What `/segment` answers: the forms it can give, which of them a client accepts, and how each is written."""

from __future__ import annotations

import base64
import io
import json
import time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel

from service.contract import FRAME_SIZE
from service.errors import NotAcceptable, quoted
from service.frames.geometry import restore, restore_mask, visible_cells
from service.frames.masks import Verdict, decide, describe, judge, least, mask_confidence
from service.frames.patch import Patch
from service.frames.png import write_grey
from service.versions.note import ModelNote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from service.engine import Prediction
    from service.web.query import Query
    from service.web.requests import Frame

__all__ = [
    "FORMS",
    "Answer",
    "Form",
    "Result",
    "SegmentAnswer",
    "accepted",
    "choose",
    "is_quick",
    "pixels_of",
    "size_bound",
    "write",
]

Form = Literal["application/json", "image/png", "application/x-npy", "application/x-npz"]

_QUICK_PIXELS: Final = 128 * 128
_CELLS: Final = (FRAME_SIZE, FRAME_SIZE)
_FLOATS: Final[dict[str, np.dtype[Any]]] = {"float32": np.dtype("<f4"), "float16": np.dtype("<f2")}
_HALF_MOST: Final = 65504.0

_JSON: Final = json.JSONEncoder(separators=(",", ":"))

FORMS: Final[tuple[Form, ...]] = ("application/json", "image/png", "application/x-npy", "application/x-npz")


class MaskNote(BaseModel):
    """A mask as COCO's compressed run lengths: `pycocotools.mask.decode` reads it."""

    size: tuple[int, int]
    counts: str


class FrameNote(BaseModel):
    """What was found in one frame; `area` and `bbox` are in pixels of the mask, `name` is its part's file name."""

    name: str | None = None
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
    """The JSON answer of `/segment`. Encoding is timed up to where this text is written.

    `age_ms` is the frame's age when its answer was written, if its capture time came with it.
    """

    model: ModelNote
    frames: list[FrameNote]
    latents: LatentsNote | None = None
    age_ms: float | None = None
    timing_ms: dict[Literal["decode", "queue", "infer", "encode"], float]


class Answer(NamedTuple):
    """An answer, written.

    Attributes:
        content: The body.
        area_ratios: For every frame, which share of its mask is robot.
        confidences: For every frame, how sure the model is of its mask.
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
    first = None
    for form in forms:
        objection = _objection(form, frames, query)
        if objection is None:
            return form
        first = first or objection
    raise NotAcceptable(f"{first}")


def pixels_of(frames: Sequence[Frame], query: Query) -> int:
    """How many pixels all masks have."""
    if query.size == "model":
        return len(frames) * FRAME_SIZE * FRAME_SIZE
    return sum([frame.width * frame.height for frame in frames])


def is_quick(pixels: int, query: Query) -> bool:
    """Whether writing masks of so many pixels takes less than waking another thread to do it; latents never do."""
    return not query.latents and pixels <= _QUICK_PIXELS


def size_bound(form: Form, pixels: int, frames: int, query: Query) -> int:
    """Roughly how many bytes the answer is going to have, at most; what is small anyway is not counted.

    Args:
        form: Of the answer.
        pixels: Of all masks.
        frames: How many there are.
        query: What is asked for.
    """
    latents = frames * 16 * 16 * 240 * _FLOATS[query.latents_dtype].itemsize if query.latents else 0
    if form in {"application/x-npy", "application/x-npz"}:
        return pixels * (5 if query.probability else 1) + latents
    return latents * 4 // 3


class Result(NamedTuple):
    """All that an answer is written from.

    Attributes:
        frames: The frames of the request.
        prediction: What the model says of them.
        threshold: From which probability a pixel is robot.
        query: What was asked for.
        model: Which model answers.
        stages_s: What the stages before this one took, in seconds.
        captured_s: When the frames were taken, in seconds of `time.perf_counter`, if known.
    """

    frames: Sequence[Frame]
    prediction: Prediction
    threshold: float
    query: Query
    model: ModelNote
    stages_s: Mapping[str, float]
    captured_s: float | None = None

    def probability(self, index: int) -> NDArray[np.float32]:
        """Probabilities of a frame at the size that was asked for: [H,W]."""
        cells: NDArray[np.float32] = self.prediction.probability[index]
        frame = self.frames[index]
        if self.query.size == "model":
            return cells
        return restore(cells, frame.width, frame.height, self.query.fit)

    def mask(self, index: int, verdict: Verdict) -> Patch:
        """Mask of a frame at the size that was asked for; `judge` has been asked."""
        frame, query = self.frames[index], self.query
        if verdict.robot.shape == _CELLS == _mask_shape(frame, query):  # what it says of its own pixels is the mask
            return Patch(verdict.robot.view(np.uint8), 0, 0, *_CELLS, verdict.area)
        cells: NDArray[np.float32] = self.prediction.probability[index]
        if query.size == "model":
            return Patch.of(decide(cells, self.threshold))
        return restore_mask(cells, least(self.threshold), frame.width, frame.height, query.fit)

    def latents(self) -> NDArray[np.float32] | NDArray[np.float16] | None:
        """Latents of all frames in the type that was asked for; what is too large for float16 becomes its largest."""
        latents = self.prediction.latents
        if latents is None or self.query.latents_dtype == "float32":
            return latents
        return np.clip(latents, -_HALF_MOST, _HALF_MOST).astype(np.float16)

    def judge(self, index: int) -> Verdict:
        """What the model says of a frame, in its own 64x64 pixels; what only pads the frame does not count."""
        if self.query.fit == "stretch" and self.threshold == self.prediction.threshold:
            return self.prediction.verdicts[index]
        return judge(self._seen(index), self.threshold)

    def confidence(self, index: int, verdict: Verdict, *, present: bool) -> float:
        """How sure the model is of the mask of a frame, which has robot or not; `judge` has been asked."""
        if present == (verdict.area > 0):
            return verdict.confidence
        pixels = partial(self.probability, index)
        return mask_confidence(verdict, self._seen(index), pixels, self.threshold, present=present)

    def _seen(self, index: int) -> NDArray[np.float32]:
        """Those of the model's pixels that show some of a frame."""
        cells: NDArray[np.float32] = self.prediction.probability[index]
        if self.query.fit == "stretch":
            return cells
        frame = self.frames[index]
        return cells[visible_cells(frame.width, frame.height, self.query.fit)]


def write(form: Form, result: Result) -> Answer:
    """Write an answer in a form that `choose` has found able to hold it."""
    verdicts = [result.judge(index) for index in range(len(result.frames))]
    if form == "application/json":
        return _write_json(result, verdicts)
    if form == "application/x-npz":
        return _write_npz(result, verdicts)
    masks = [result.mask(index, verdict) for index, verdict in enumerate(verdicts)]
    shares = [mask.area_ratio for mask in masks]
    content = write_grey(masks[0]) if form == "image/png" else _npy([mask.whole() for mask in masks])
    return Answer(content, shares, _confidences(result, verdicts, shares))


def _confidences(result: Result, verdicts: Sequence[Verdict], shares: Sequence[float]) -> list[float]:
    return [
        result.confidence(index, verdict, present=share > 0)
        for index, (verdict, share) in enumerate(zip(verdicts, shares, strict=True))
    ]


def _write_json(result: Result, verdicts: Sequence[Verdict]) -> Answer:
    started = time.perf_counter()
    notes, ratios, confidences = [], [], []
    for index, frame in enumerate(result.frames):
        mask, area, bbox = describe(result.mask(index, verdicts[index]))
        height, width = mask["size"]
        ratios.append(area / (height * width))
        confidences.append(result.confidence(index, verdicts[index], present=area > 0))
        note: dict[str, object] = {} if frame.name is None else {"name": frame.name}
        notes.append(
            note
            | {
                "width": frame.width,
                "height": frame.height,
                "mask": mask,
                "area": area,
                "bbox": bbox,
                "confidence": round(confidences[index], 6),
                "present": area > 0,
            }
        )
    document: dict[str, object] = {"model": result.model.__dict__, "frames": notes}
    latents = result.latents()
    if latents is not None:
        dtype = result.query.latents_dtype
        data = base64.b64encode(latents.astype(_FLOATS[dtype], copy=False).tobytes()).decode("ascii")
        document["latents"] = {"dtype": dtype, "shape": latents.shape, "data": data}
    now = time.perf_counter()
    if result.captured_s is not None:
        document["age_ms"] = round(max(0.0, now - result.captured_s) * 1000, 3)
    stages_s = {**result.stages_s, "encode": now - started}
    document["timing_ms"] = {stage: round(seconds * 1000, 3) for stage, seconds in stages_s.items()}
    return Answer(_JSON.encode(document).encode(), ratios, confidences)


def _npy(masks: Sequence[NDArray[np.uint8]]) -> bytes:
    return b"".join([_npy_header((len(masks), *masks[0].shape)), *[mask.data for mask in masks]])


def _write_npz(result: Result, verdicts: Sequence[Verdict]) -> Answer:
    count, shape = len(result.frames), _mask_shape(result.frames[0], result.query)
    masks = np.zeros((count, *shape), np.uint8)
    arrays: dict[str, Any] = {"masks": masks}
    if result.query.probability:
        arrays["probability"] = np.empty((count, *shape), np.float32)
    latents = result.latents()
    if latents is not None:
        arrays["latents"] = latents
    shares = []
    for index in range(count):
        if result.query.probability:
            probability = result.probability(index)
            mask = Patch.of(decide(probability, result.threshold))
            np.clip(probability, 0, 1, out=arrays["probability"][index])  # interpolation may round to just outside
        else:
            mask = result.mask(index, verdicts[index])
        mask.paste(masks[index])
        shares.append(mask.area_ratio)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return Answer(file.getvalue(), shares, _confidences(result, verdicts, shares))


@lru_cache(maxsize=64)
def _npy_header(shape: tuple[int, ...]) -> bytes:
    """The start of a `.npy` file of bytes in row-major order."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return file.getvalue()


def _mask_shape(frame: Frame, query: Query) -> tuple[int, int]:
    """Height and width of a frame's mask."""
    return _CELLS if query.size == "model" else (frame.height, frame.width)


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
    if len(frames) > 1 and form in {"application/x-npy", "application/x-npz"}:
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
