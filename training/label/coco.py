"""Writes frames and masks as a COCO data set, which annotation tools open and `read_coco` reads back."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from training.label.contours import polygons

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ANNOTATIONS = "annotations.json"


class Written(NamedTuple):
    """What was written.

    Attributes:
        n_frames: Frames.
        n_filled: Pixels in holes of masks, over all frames, which polygons have filled.
    """

    n_frames: int
    n_filled: int


def write_coco(
    folder: Path, frames: Iterable[tuple[str, str, np.ndarray, np.ndarray]], *, as_polygons: bool = False
) -> Written:
    """Write one PNG a frame and, last, the annotations.

    Args:
        folder: Made if it is not there.
        frames: For each its file name without ending, its scene, its picture uint8 [H, W, 3] and its mask bool [H, W].
            A frame with an empty mask gets no annotation.
        as_polygons: Write outlines, which more tools read, in place of run lengths, which keep holes.

    Raises:
        FileExistsError: There are annotations already, which may have been corrected.
        ValueError: Two frames of one file name, of which one would take the other's place; no annotations are written.
    """
    refuse_annotated(folder)
    file = folder / ANNOTATIONS
    folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    written: set[str] = set()
    n_filled = 0
    for number, (stem, scene, picture, mask) in enumerate(frames, start=1):
        name = f"{stem}.png"
        if name.lower() in written:  # some file systems know no capitals
            raise ValueError(
                f"{folder / name}: expected a file name of its own for each frame, found a second frame of scene "
                f"{scene!r} with this one: name the clips' files or scenes so that they differ"
            )
        written.add(name.lower())
        Image.fromarray(picture).save(folder / name)
        height, width = mask.shape
        images.append({"id": number, "file_name": name, "width": width, "height": height, "scene": scene})
        if mask.any():
            segment = _outlines(mask) if as_polygons else _run_lengths(mask)
            n_filled += segment["area"] - int(mask.sum())
            annotations.append({"id": len(annotations) + 1, "image_id": number, "category_id": 1, **segment})
    content = {
        "info": {"description": "robot masks proposed by robomask label; to be corrected"},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "robot", "supercategory": "robot"}],
    }
    temporary = folder / f".{ANNOTATIONS}"
    temporary.write_text(json.dumps(content) + "\n")
    temporary.replace(file)
    return Written(len(images), n_filled)


def refuse_annotated(folder: Path) -> None:
    """Leave alone what a person may have corrected.

    Raises:
        FileExistsError: There are annotations in the folder.
    """
    if (folder / ANNOTATIONS).exists():
        raise FileExistsError(f"{folder / ANNOTATIONS} is there already and may have been corrected: name a new folder")


def _outlines(mask: np.ndarray) -> dict[str, Any]:
    """A mask as COCO polygons, with their area and box."""
    outlines = polygons(mask)
    filled = rle.merge(rle.frPyObjects(outlines, *mask.shape))
    return {
        "segmentation": outlines,
        "area": int(rle.area(filled)),
        "bbox": [float(x) for x in rle.toBbox(filled)],
        "iscrowd": 0,
    }


def _run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """A mask as an uncompressed COCO run length, with its area and box; `iscrowd` is how COCO marks run lengths."""
    flat = mask.ravel(order="F").astype(np.int8)
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff(np.concatenate([[0], changes, [len(flat)]])).tolist()
    if flat[0]:
        counts = [0, *counts]  # runs start with zeros
    encoded = rle.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {
        "segmentation": {"size": list(mask.shape), "counts": counts},
        "area": int(mask.sum()),
        "bbox": [float(x) for x in rle.toBbox(encoded)],
        "iscrowd": 1,
    }
