"""What is written: masks and overlays as PNG, and one COCO file of all pictures."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
from PIL import Image

from service.files.errors import FrameFailed, NotWritten
from service.files.names import is_of_video, mask_name
from service.files.owned import refuse_other_annotations, refuse_other_results
from service.files.whole import discard, prepare, put
from service.frames.decode import pixels

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from service.files.journal import Entry, Journal
    from service.files.sources import Content

__all__ = ["ANNOTATIONS", "Writing", "coco_of", "note", "overlay", "pixels_of", "prepare_png", "write_coco"]

ANNOTATIONS: Final = "annotations.coco.json"
_GREEN: Final = (60, 220, 90)
_OPACITY: Final = 0.55


class Writing(NamedTuple):
    """What is written of each frame, and where; None for not at all.

    Attributes:
        masks: For masks.
        overlays: For frames with their masks over them.
        frames: For the frames of videos themselves.
    """

    masks: Path | None
    overlays: Path | None
    frames: Path | None = None

    @property
    def folders(self) -> list[Path]:
        """Where anything is written."""
        return [folder for folder in self if folder is not None]

    def files_of(self, name: str) -> list[Path]:
        """All that is written of a frame of this name."""
        folders = self.folders if is_of_video(name) else [self.masks, self.overlays]
        return [folder / mask_name(name) for folder in folders if folder is not None]


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


def prepare_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    """Write uint8 [H,W] or [H,W,3]; it is seen once `note` has written down that its frame is done.

    Raises:
        FrameFailed: Its name is longer than the file system allows.
        NotWritten: It cannot be written.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    try:
        prepare(path, lambda file: picture.save(file, "PNG", compress_level=1))
    except NotWritten as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        raise FrameFailed(
            f"expected a name that leaves room for .png, got one that makes {len(os.fsencode(path.name))} bytes with "
            "it, more than the file system allows; give the frame a shorter one"
        ) from error


def note(entry: Entry, journal: Journal, writing: Writing) -> None:
    """Write down that a frame is done, then let its results be seen.

    In this order, whenever it is interrupted, nothing is seen that is not written down; a frame that is written down
    and has no result is done again.

    Raises:
        FrameFailed: It would take the place of somebody's work.
        NotWritten: The journal cannot be written.
    """
    files = writing.files_of(entry.name)
    try:
        refuse_other_results(entry.name, writing, journal.forgotten.get(entry.name))
    except FrameFailed:
        for file in files:
            discard(file)
        raise
    for file in files:
        file.unlink(missing_ok=True)  # another picture's, which had this name: it would be taken for this one's
    journal.add(entry)
    for file in files:
        put(file)


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


def write_coco(path: Path, entries: Sequence[Entry], journal: Journal) -> None:
    """Write frames as one COCO file.

    Raises:
        NotOurs: There is one that was not written so, or that was changed since.
        NotWritten: It cannot be written.
    """
    content = json.dumps(coco_of(entries))
    refuse_other_annotations(path, journal.annotations)
    prepare(path, lambda file: file.write_text(content, "utf-8"))
    journal.add_annotations(hashlib.sha256(content.encode()).hexdigest())
    put(path)
