"""What is written: masks and overlays as PNG, and one COCO file of all."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image

from service.files.errors import FrameFailed
from service.frames.decode import pixels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.files.journal import Entry
    from service.files.sources import Content

__all__ = ["ANNOTATIONS", "coco_of", "overlay", "pixels_of", "write_coco", "write_png"]

ANNOTATIONS: Final = "annotations.coco.json"
_GREEN: Final = (60, 220, 90)
_OPACITY: Final = 0.55


def pixels_of(frame: Content) -> NDArray[np.uint8]:
    """A frame's pixels, upright, uint8 [H,W,3]; it has been decoded before, so it can be."""
    if not isinstance(frame, bytes):
        return frame
    return pixels(frame)


def overlay(frame: NDArray[np.uint8], mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Tint the pixels of a frame uint8 [H,W,3] where a mask [H,W] is 1.

    >>> overlay(np.zeros((1, 2, 3), np.uint8), np.array([[0, 1]], np.uint8)).tolist()
    [[[0, 0, 0], [33, 121, 50]]]
    """
    inside = mask.astype(bool)
    out = frame.copy()
    out[inside] = np.rint((1 - _OPACITY) * frame[inside] + _OPACITY * np.array(_GREEN)).astype(np.uint8)
    return out


def write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 [H,W] or [H,W,3]; whoever looks sees all of it or nothing.

    Raises:
        FrameFailed: Its name is longer than the file system allows.
    """
    name = os.fsencode(path.name)
    temporary = path.with_name(f".{hashlib.sha256(name).hexdigest()[:16]}.tmp")  # a longer one could be too long
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(pixels)).save(temporary, "PNG", compress_level=1)
        temporary.replace(path)
    except OSError as error:  # the disk is full, most likely: half a picture would only take more of it
        temporary.unlink(missing_ok=True)
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise FrameFailed(
            f"expected a name that leaves room for .png, got one that makes {len(name)} bytes with it, more than the "
            "file system allows; give the frame a shorter one"
        ) from error


def coco_of(entries: Sequence[Entry]) -> dict[str, Any]:
    """A COCO document: an image for each frame, and an annotation for each that shows robot."""
    images = [
        {"id": index, "file_name": entry.name, "height": entry.size[0], "width": entry.size[1]}
        for index, entry in enumerate(entries, 1)
    ]
    annotations = [
        {
            "id": index,
            "image_id": index,
            "category_id": 1,
            "segmentation": {"size": list(entry.size), "counts": entry.counts},
            "area": entry.area,
            "bbox": list(entry.bbox),
            "iscrowd": 0,
            "score": round(entry.confidence, 6),
        }
        for index, entry in enumerate(entries, 1)
        if entry.area
    ]
    models = sorted({entry.model for entry in entries})
    return {
        "info": {"description": f"masks proposed by {', '.join(models)}"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "robot"}],
    }


def write_coco(path: Path, entries: Sequence[Entry]) -> None:
    """Write all that is done as one COCO file."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(json.dumps(coco_of(entries)), "utf-8")
    temporary.replace(path)
