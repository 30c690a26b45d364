"""Read labelled data sets: `.npz` files, folders of such shards, folders of images with COCO annotations."""

from __future__ import annotations

import zipfile
import zlib
from typing import TYPE_CHECKING

import numpy as np

from training.data.coco import ANNOTATION_FILES, read_coco
from training.data.errors import DatasetError
from training.data.frames import FrameSet, concatenate, small_frames
from training.data.scene_names import fingerprint

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["DatasetError", "read_frames", "read_npz"]

_ARRAYS = ("frames", "masks", "scene", "split", "quality")


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
                return read_coco(path, path / name)
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
    try:
        return small_frames(list(frames), list(masks), scenes, splits, qualities)
    except ValueError as error:
        raise DatasetError(f"{path}: {error}") from error


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
