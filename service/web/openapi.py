"""What `/openapi.json` says of `/segment`, whose body and parameters are read by hand."""

from __future__ import annotations

from typing import Any, Final, get_args

from service.frames.geometry import Fit
from service.web.answers import FORMS, SegmentAnswer
from service.web.problems import MEDIA_TYPE, Problem
from service.web.query import LatentsType, Size
from service.web.requests import JSON, MEDIA_TYPES, MULTIPART

__all__ = ["ERRORS", "SEGMENT", "SEGMENT_ANSWERS", "as_problems", "with_admin"]

_BINARY: Final[dict[str, Any]] = {"type": "string", "format": "binary"}


def _parameter(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": description, "schema": schema}


def _header(name: str, description: str, **schema: Any) -> dict[str, Any]:
    return _parameter(name, description, **schema) | {"in": "header"}


SEGMENT: Final[dict[str, Any]] = {
    "parameters": [
        _parameter(
            "threshold",
            "From which probability a pixel is robot; by default the bundle's own.",
            type="number",
            minimum=0,
            maximum=1,
        ),
        _parameter("latents", "Answer with latents too (JSON and npz).", type="boolean", default=False),
        _parameter(
            "latents_dtype",
            "Type of the latents; float16 halves their bytes. Only with latents=true.",
            type="string",
            enum=list(get_args(LatentsType)),
            default="float32",
        ),
        _parameter("probability", "Answer with probabilities too (npz).", type="boolean", default=False),
        _parameter(
            "size",
            "Masks at the frame's own size, or 64x64 as the model gives them.",
            type="string",
            enum=list(get_args(Size)),
            default="input",
        ),
        _parameter(
            "fit",
            "How a frame that is not square becomes 64x64: stretched, padded with grey, or its centre.",
            type="string",
            enum=list(get_args(Fit)),
            default="stretch",
        ),
        _parameter("model", "The model that has to answer.", type="string"),
        _parameter("version", "The version that has to answer.", type="integer", minimum=1),
        _parameter("width", "Width of a raw RGB24 frame.", type="integer", minimum=1),
        _parameter("height", "Height of a raw RGB24 frame.", type="integer", minimum=1),
        _header(
            "X-Deadline-Ms",
            "Milliseconds from the request's arrival within which its answer is wanted; what cannot make it is refused "
            "with 504 before the model runs.",
            type="number",
            exclusiveMinimum=0,
        ),
        _header("X-Captured-At", "When the frame was taken, in Unix seconds.", type="number"),
        _header(
            "X-Max-Age-Ms",
            "Greatest age of the frame when it is answered; one that is or would be older is refused with 504. Goes "
            "with X-Captured-At.",
            type="number",
            exclusiveMinimum=0,
        ),
        _header(
            "X-Stream-Id",
            "The camera. Its newest frame wins: an older one that waits, or comes late, is answered 409 `superseded`.",
            type="string",
            maxLength=128,
        ),
        _header("X-Request-Id", "Comes back with the answer; made up if it is missing.", type="string", maxLength=128),
    ],
    "requestBody": {
        "required": True,
        "description": (
            "One encoded picture (PNG, JPEG, WebP or BMP; transparency is ignored, EXIF orientation applied, the first "
            "frame of an animation counts), several as parts named `frame` or as base64, a .npy array uint8 [H,W,3] or "
            "[N,H,W,3], or raw RGB24 with `width` and `height`."
        ),
        "content": {
            **{media_type: {"schema": _BINARY} for media_type in MEDIA_TYPES},
            MULTIPART: {
                "schema": {
                    "type": "object",
                    "required": ["frame"],
                    "properties": {"frame": {"type": "array", "items": _BINARY}},
                }
            },
            JSON: {
                "schema": {
                    "type": "object",
                    "required": ["frames"],
                    "additionalProperties": False,
                    "properties": {
                        "frames": {
                            "type": "array",
                            "minItems": 1,
                            "items": {"type": "string", "contentEncoding": "base64"},
                        }
                    },
                }
            },
        },
    },
}

ERRORS: Final[dict[int | str, dict[str, Any]]] = {
    "4XX": {"model": Problem, "description": "What was expected, what came, and what to change."},
    "5XX": {"model": Problem, "description": "The service cannot answer now; 503 says when to come again."},
}

SEGMENT_ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "model": SegmentAnswer,
        "description": "The masks, in the form that `Accept` prefers.",
        "headers": {
            "X-Confidence": {
                "description": "How sure the model is of each mask, 0 to 1, in the order of the frames, as the JSON "
                "has it; with every other form of answer of up to 256 frames.",
                "schema": {"type": "array", "items": {"type": "number"}},
            }
        },
        "content": {form: {"schema": _BINARY} for form in FORMS[1:]},
    },
    **ERRORS,
}


def as_problems(document: dict[str, Any]) -> dict[str, Any]:
    """Say in a generated description that errors are problem details; the framework takes them for plain JSON."""
    for operations in document["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status[0] in "45" and "application/json" in response.get("content", {}):
                    response["content"] = {MEDIA_TYPE: response["content"]["application/json"]}
    return document


def with_admin(document: dict[str, Any]) -> dict[str, Any]:
    """Say in a generated description what the routes that change models need."""
    schemes = document.setdefault("components", {}).setdefault("securitySchemes", {})
    schemes["admin"] = {
        "type": "http",
        "scheme": "bearer",
        "description": "The service's ROBOMASK_ADMIN_TOKEN; where none is set, these routes are closed.",
    }
    return document
