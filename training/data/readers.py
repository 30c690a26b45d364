"""Read labelled data sets: `.npz` files, folders of such shards, folders of images with COCO annotations."""

from __future__ import annotations

import io
import zipfile
import zlib
from contextlib import redirect_stdout
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageOps
from pycocotools.coco import COCO

from training.data.frames import FrameSet, concatenate, to_model_size
from training.data.scene_names import fingerprint, scene_among

if TYPE_CHECKING:
    from pathlib import Path

ANNOTATION_FILES = ("_annotations.coco.json", "annotations.coco.json", "annotations.json")
ROBOT = "robot"
_ARRAYS = ("frames", "masks", "scene", "split", "quality")


class DatasetError(ValueError):
    """A data set that cannot be read; the message says what was expected, what was found, and what to do."""


def read_frames(path: Path) -> FrameSet:
    """Read one labelled data set, whichever of the supported forms it has.

    Args:
        path: An `.npz` file, a folder of `.npz` shards, or a folder with images and a COCO annotation file.

    Raises:
        DatasetError: Nothing there that can be read as labelled frames.
    """
    if path.is_file() and path.suffix == ".npz":
        return read_npz(path)
    if path.is_dir():
        for name in ANNOTATION_FILES:
            if (path / name).is_file():
                return read_coco(path / name)
        shards = sorted(path.glob("*.npz"))
        if shards:
            return concatenate([read_npz(shard) for shard in shards])
    found = "no such file or folder" if not path.exists() else "something else"
    raise DatasetError(
        f"{path}: expected an .npz file, a folder of .npz shards or a folder with one of {list(ANNOTATION_FILES)}, "
        f"found {found}"
    )


def read_npz(path: Path) -> FrameSet:
    """Read `frames` [N,H,W,3] or clips [N,T,H,W,3] with `masks`; `scene`, `split` and `quality` where they are known.

    Each clip, and each frame of a file without scenes, counts as a scene of its own; its name tells the file's and what
    is in it, as unrelated files may have one name.

    Raises:
        DatasetError: An array that is missing or of the wrong type or shape.
    """
    names, arrays = _load(path)
    if not {"frames", "masks"} <= arrays.keys():
        raise DatasetError(f"{path}: expected arrays 'frames' and 'masks', found {names}")
    frames, masks = arrays["frames"], arrays["masks"]
    scene, split, quality = (
        arrays[name].astype(str) if name in arrays else None for name in ("scene", "split", "quality")
    )
    if frames.ndim not in (4, 5) or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise DatasetError(
            f"{path}: expected frames uint8 [N,H,W,3] or [N,T,H,W,3], found {frames.dtype} {list(frames.shape)}"
        )
    if masks.shape != frames.shape[:-1] or masks.dtype != np.uint8:
        raise DatasetError(
            f"{path}: expected masks uint8 {list(frames.shape[:-1])}, found {masks.dtype} {list(masks.shape)}"
        )
    if masks.max(initial=0) > 1:  # before they are shrunk, which makes 0 and 1 of anything
        raise DatasetError(
            f"{path}: expected mask values 0 and 1, found up to {masks.max()}: divide 0/255 masks by 255"
        )
    for told, found in (("scene", scene), ("split", split), ("quality", quality)):
        if found is not None and found.shape != frames.shape[:1]:
            raise DatasetError(f"{path}: expected {told} str [{len(frames)}], found {list(found.shape)}")
    scenes = _names(path, frames) if scene is None else scene
    splits = np.full(len(frames), "") if split is None else split
    qualities = np.full(len(frames), "") if quality is None else quality
    if frames.ndim == 5:
        steps = frames.shape[1]
        scenes, splits, qualities = (np.repeat(of_clip, steps) for of_clip in (scenes, splits, qualities))
        frames, masks = frames.reshape(-1, *frames.shape[2:]), masks.reshape(-1, *masks.shape[2:])
    return _frame_set(list(frames), list(masks), scenes, splits, qualities, path)


def _load(path: Path) -> tuple[list[str], dict[str, np.ndarray]]:
    """The names of all arrays of a file, and those of them that a data set may have.

    Raises:
        DatasetError: It is damaged, or no `.npz` file at all, or holds Python objects.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            return file.files, {name: file[name] for name in _ARRAYS if name in file.files}
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{path}: expected an .npz file of numbers and text that is whole, found {error}") from error


def _names(path: Path, frames: np.ndarray) -> np.ndarray:
    """Names for the scenes of a file that names none: str [N]."""
    content = fingerprint(frames)
    return np.array([f"{path.stem}-{content}/{i}" for i in range(len(frames))])


def read_coco(annotations: Path) -> FrameSet:
    """Read COCO annotations (polygons or run lengths) and the images beside them.

    The mask is the union of all instances of the category `robot`, in whatever case, or of the only one that has any.
    An image's `scene` and `quality` fields are used where there are any; else the scene in its file name, which
    `scene_among` tells apart from other folders' where it is one that tools give to any frame.

    Raises:
        DatasetError: Not COCO, several categories none of which is `robot`, an image that is missing, or a segmentation
            that is none.
    """
    try:
        with redirect_stdout(io.StringIO()):  # pycocotools prints its timings
            coco = COCO(str(annotations))
        images = [coco.imgs[key] for key in sorted(coco.imgs)]
        names = [str(image["file_name"]) for image in images]
    except (ValueError, KeyError, TypeError, AssertionError) as error:
        raise DatasetError(f"{annotations}: expected COCO annotations, found {error!r}") from error
    wanted = _robot_categories(coco, annotations)
    frames, masks = [], []
    for image, name in zip(images, names, strict=True):
        file = annotations.parent / name
        if not file.is_file():
            raise DatasetError(f"{annotations}: expected the image {name!r} beside it, found none")
        try:
            frame = _rgb(ImageOps.exif_transpose(Image.open(file)))
        except (OSError, SyntaxError, ValueError) as error:  # Pillow's, of damaged files
            raise DatasetError(f"{file}: expected a picture that is whole, found {error}") from error
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
    return _frame_set(frames, masks, np.array(scenes), np.full(len(frames), ""), np.array(qualities), annotations)


def _robot_categories(coco: COCO, annotations: Path) -> set[int]:
    names = {category["id"]: str(category.get("name", "")) for category in coco.dataset.get("categories", [])}
    wanted = {key for key, name in names.items() if name.lower() == ROBOT}
    used = {annotation["category_id"] for annotation in coco.anns.values() if "category_id" in annotation}
    if not wanted and len(used) > 1:
        raise DatasetError(
            f"{annotations}: expected one category, or one that is named {ROBOT!r}, found instances of "
            f"{sorted(names.get(key, str(key)) for key in used)}: rename the robot's, or delete the others"
        )
    return wanted or used


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


def _frame_set(
    frames: list[np.ndarray],
    masks: list[np.ndarray],
    scene: np.ndarray,
    split: np.ndarray,
    quality: np.ndarray,
    path: Path,
) -> FrameSet:
    if not frames:
        raise DatasetError(f"{path}: expected at least one frame, found none")
    small = [to_model_size(frame, mask) for frame, mask in zip(frames, masks, strict=True)]
    try:
        return FrameSet(np.stack([f for f, _ in small]), np.stack([m for _, m in small]), scene, split, quality)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error
