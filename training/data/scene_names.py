"""Names of scenes, where a data set does not say which frame is of which."""

from __future__ import annotations

import hashlib
import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME_THEM = (
    "say which frame is of which scene, with `scene` in the images of annotations.json or the array `scene` of an .npz "
    "file"
)
"""What to do where names of scenes are not what they should be; the end of a message."""

_NUMBER = re.compile(r"[\s.]*\(?[0-9]+\)?$")
_ROBOFLOW = re.compile(r"_(png|jpe?g|webp|bmp)\.rf\.[0-9A-Za-z]+$", re.IGNORECASE)
_GIVEN_BY_TOOLS = frozenset({
    "capture", "clip", "color", "colour", "data", "default", "dsc", "dscf", "dscn", "frame", "frames", "gopr", "image",
    "images", "img", "mov", "movie", "mvi", "out", "output", "photo", "pic", "picture", "pictures", "rgb", "scene",
    "screenshot", "snapshot", "still", "test", "thumb", "train", "untitled", "val", "valid", "vid", "video",
})  # fmt: skip
"""Words by which tools and cameras name the frames of any video whatever."""


class _Parts(NamedTuple):
    """A file's name in parts.

    Attributes:
        folder: It may be in one; "" if not.
        rest: What stands before the number of the frame; "" if nothing does.
        stem: All but folder and ending.
        by_roboflow: Whether it is from an export of Roboflow's, whose additions are left out.
    """

    folder: str
    rest: str
    stem: str
    by_roboflow: bool


def scene_of(name: str) -> str:
    """The scene in the name of a file, which may be in folders: all but the number of the frame.

    Roboflow's exports add the old ending and a hash to names; they say nothing.

    >>> scene_of("scene03_012.png"), scene_of("kitchen-left-7.jpg"), scene_of("alone.png"), scene_of("walk/0001.png")
    ('scene03', 'kitchen-left', 'alone', 'walk')
    >>> scene_of("frame0001.png"), scene_of("walk/frame12.png"), scene_of("left.0001.png"), scene_of("a (3).png")
    ('frame', 'walk/frame', 'left', 'a')
    >>> scene_of("scene03_012_png.rf.0a1b2c.jpg"), scene_of("day1/left_3.png")
    ('scene03', 'day1/left')
    """
    parts = _split(name)
    return "/".join(part for part in (parts.folder, parts.rest) if part) or parts.stem


def scene_among(name: str, content: str) -> str:
    """The scene in the name of a file, told apart from other data sets' where the name could be that of any frame.

    Files that have but a number are a scene each.

    >>> scene_among("frame_000012.PNG", "0a1b2c3d"), scene_among("0001.png", "0a1b2c3d")
    ('frame-0a1b2c3d', '0001-0a1b2c3d')
    >>> scene_among("walk/frame12.png", "0a1b2c3d"), scene_among("scene03_012.png", "0a1b2c3d")
    ('walk/frame', 'scene03')

    Args:
        name: The file's.
        content: The data set's `fingerprint`.
    """
    parts = _split(name)
    words = re.split(r"[\W_]+", f"{parts.folder}/{parts.rest}".lower())
    # Roboflow deals the frames of one video out to the folders train, valid and test: there one name is one scene.
    if parts.by_roboflow or not all(word in _GIVEN_BY_TOOLS for word in words if word):
        return scene_of(name)
    return f"{scene_of(name)}-{content}"


def fingerprint(frames: Iterable[np.ndarray]) -> str:
    """Eight characters that tell data sets apart by their pixels uint8, wherever they lie and whatever their masks."""
    digest = hashlib.sha256()
    for frame in frames:
        digest.update(np.ascontiguousarray(frame).data)
    return digest.hexdigest()[:8]


def _split(name: str) -> _Parts:
    path = PurePosixPath(name.replace("\\", "/"))
    stem = _ROBOFLOW.sub("", path.stem)
    cut = max(stem.rfind("_"), stem.rfind("-"))
    folder = "" if path.parent == PurePosixPath() else f"{path.parent}"
    return _Parts(folder, stem[:cut] if cut > 0 else _NUMBER.sub("", stem), stem, stem != path.stem)
