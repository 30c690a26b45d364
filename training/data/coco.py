"""Read COCO annotations, as annotation tools write them, and the images that belong to them."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from PIL import Image, ImageOps
from pycocotools.coco import COCO

from training.data.errors import DatasetError
from training.data.frames import FrameSet, small_frames, to_model_size
from training.data.scene_names import fingerprint, scene_among

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ANNOTATION_FILES", "read_coco"]

ANNOTATION_FILES: Final = (
    "_annotations.coco.json",  # Roboflow
    "annotations.coco.json",
    "annotations.json",
    "annotations/instances_default.json",  # CVAT
)
"""Where in a data set's folder its annotations are looked for."""
_ROBOT: Final = "robot"
_IMAGES: Final = (".", "images", "images/default")
"""Where in a data set's folder images are looked for, but for beside the annotations."""


def read_coco(folder: Path, annotations: Path) -> FrameSet:
    """Read COCO annotations (polygons or run lengths) and their images.

    The mask is the union of all instances of the category `robot`, in whatever case, or of the only one that has any.
    An image's `scene` and `quality` fields are used where there are any; else the scene in its file name, which
    `scene_among` tells apart from other folders' where it is one that tools give to any frame.

    Args:
        folder: The data set's.
        annotations: The file in it.

    Raises:
        DatasetError: Not COCO, categories none of which is `robot`, instances of anything but it, or of no image; an
            image that is missing, or a segmentation that is none.
    """
    coco, images, names = _open(annotations)
    wanted = _robot_categories(coco, annotations)
    frames, masks = [], []
    for image, name in zip(images, names, strict=True):
        frame = _picture([annotations.parent, *(folder / place for place in _IMAGES)], name)
        mask = np.zeros(frame.shape[:2], np.uint8)
        for annotation in coco.imgToAnns[image["id"]]:
            if annotation.get("category_id", next(iter(wanted), None)) in wanted or not wanted:
                mask |= _mask_of(coco, annotation, name, mask.shape)
        frame, mask = to_model_size(frame, mask)  # now: pictures as they are may be more than memory holds
        frames.append(frame)
        masks.append(mask)
    content = fingerprint(frames)
    scenes = [str(image.get("scene") or scene_among(name, content)) for image, name in zip(images, names, strict=True)]
    qualities = [str(image.get("quality", "")) for image in images]
    try:
        return small_frames(frames, masks, np.array(scenes), np.full(len(frames), ""), np.array(qualities))
    except ValueError as error:
        raise DatasetError(f"{annotations}: {error}") from error


def _open(annotations: Path) -> tuple[COCO, list[dict[str, Any]], list[str]]:
    """The annotations, their images and the names of those."""
    try:
        with redirect_stdout(io.StringIO()):  # pycocotools prints its timings
            coco = COCO(str(annotations))
        images = [coco.imgs[key] for key in sorted(coco.imgs)]
        names = [str(image["file_name"]) for image in images]
        lost = [annotation.get("id") for annotation in coco.anns.values() if annotation["image_id"] not in coco.imgs]
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise DatasetError(f"{annotations}: expected COCO annotations, found {error!r}") from error
    if lost:
        raise DatasetError(
            f"{annotations}: expected every annotation to be of an image in the file, found {len(lost)} with an "
            f"image_id that no image has, the first with the id {lost[0]}: add the images, or delete the annotations"
        )
    return coco, images, names


def _robot_categories(coco: COCO, annotations: Path) -> set[int]:
    names = {category["id"]: str(category.get("name", "")) for category in coco.dataset.get("categories", [])}
    wanted = {key for key, name in names.items() if name.lower() == _ROBOT}
    used = {annotation["category_id"] for annotation in coco.anns.values() if "category_id" in annotation}
    found = sorted(names.get(key, str(key)) for key in used)
    if not wanted and len(used) > 1:
        raise DatasetError(
            f"{annotations}: expected one category, or one that is named {_ROBOT!r}, found instances of {found}: "
            "rename the robot's, or delete the others"
        )
    if wanted and used and wanted.isdisjoint(used):
        raise DatasetError(
            f"{annotations}: expected instances of its category {_ROBOT!r}, found those of {found} alone: if they are "
            f"the robot, delete the empty category {_ROBOT!r}; if there is none in these pictures, delete them"
        )
    return wanted or used


def _picture(folders: list[Path], name: str) -> np.ndarray:
    """An image, upright: uint8 [H,W,3].

    Raises:
        DatasetError: There is none of the name, or a damaged one.
    """
    local = name.replace("\\", "/")
    file = next((file for folder in folders if (file := folder / local).is_file()), None)
    if file is None:
        raise DatasetError(
            f"{folders[0]}: expected the image {name!r} beside its annotations or in images/, found none"
        )
    try:
        return _rgb(ImageOps.exif_transpose(Image.open(file)))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's, of damaged files
        raise DatasetError(f"{file}: expected a picture that is whole, found {error}") from error


def _rgb(image: Image.Image) -> np.ndarray:
    """A picture as uint8 [H,W,3]; of 16-bit grey the high byte, as in the service."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    return np.asarray(image.convert("RGB"))


def _mask_of(coco: COCO, annotation: dict[str, Any], name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The mask of one instance: uint8 [H, W].

    Raises:
        DatasetError: It has none, or one of another size than its image.
    """
    if not annotation.get("segmentation"):
        raise DatasetError(
            f"{name}: expected a segmentation (polygons or run lengths) in annotation {annotation.get('id')}, found "
            "none: a box alone is no mask; draw one, or delete the annotation"
        )
    try:
        mask: np.ndarray = coco.annToMask(annotation).astype(np.uint8)
    except Exception as error:
        # pycocotools raises the bare class as well
        raise DatasetError(f"{name}: annotation {annotation.get('id')} cannot be read: {error!r}") from error
    if mask.shape != shape:
        raise DatasetError(
            f"{name}: expected masks of the picture's {shape[1]}x{shape[0]} pixels, found {mask.shape[1]}x"
            f"{mask.shape[0]}: the file was changed after it was annotated, or its width and height are wrong"
        )
    return mask
