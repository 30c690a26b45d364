"""What every clip reader gives: tracks of consecutive frames, any stretch of which can be read on its own.

Nothing here loads a data set at once: a source knows how long its tracks are, and reads the frames it is asked for.

Axis letters: T frames in time order, H height, W width.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, NamedTuple, Protocol, TypeVar

import numpy as np

from training.area import area_average

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

Key = TypeVar("Key")
Value = TypeVar("Value")

HASH_WHOLE_BYTES = 4 << 30
"""Sources up to this size are fingerprinted whole, larger ones by the ends of their files."""

END_BYTES = 1 << 20


class Track(NamedTuple):
    """Consecutive frames of one scene and one camera."""

    shard: int
    """Which file it is in: tracks of one file are cheap to read one after the other."""
    n_frames: int
    scene: str
    """Tracks of one scene never stand on both sides of a split."""
    split: str
    """The side that the data set itself proposes ("train", "val"), or "" where it proposes none."""


class ClipSource(Protocol):
    """A data set of clips."""

    @property
    def path(self) -> Path:
        """Where it is."""

    @property
    def files(self) -> Sequence[Path]:
        """The files it consists of, in order."""

    @property
    def tracks(self) -> Sequence[Track]:
        """All tracks, in the order of the files."""

    def read(self, track: int, start: int, n_frames: int) -> np.ndarray:
        """Frames `start` to `start + n_frames` of a track: RGB uint8 [T, H, W, 3] at the source's own size.

        Raises:
            DatasetError: The file does not hold what it promised.
        """


class Recent(Generic[Key, Value]):
    """Keeps the values used last, so that neighbours in reading order share the work of opening a file."""

    def __init__(self, make: Callable[[Key], Value], capacity: int) -> None:
        self._make = make
        self._capacity = capacity
        self._kept: OrderedDict[Key, Value] = OrderedDict()

    def __getitem__(self, key: Key) -> Value:
        if key not in self._kept:
            while len(self._kept) >= self._capacity:
                self._kept.popitem(last=False)
            self._kept[key] = self._make(key)
        self._kept.move_to_end(key)
        return self._kept[key]


def to_square(frames_u8: np.ndarray, size: int) -> np.ndarray:
    """Cut the middle square out of frames uint8 [T, H, W, 3] and average its areas down (or up) to `size`.

    Frames that already have that size keep their pixels.
    """
    height, width = frames_u8.shape[1:3]
    if (height, width) == (size, size):
        return frames_u8
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = frames_u8[:, top : top + side, left : left + side]
    if side == size:
        return square
    return np.stack([np.rint(area_average(frame, size, size)).astype(np.uint8) for frame in square])


class Fingerprint(NamedTuple):
    """Which bytes a source consisted of."""

    n_files: int
    n_bytes: int
    sha256: str
    whole: bool
    """Whether every byte counts; otherwise names, sizes and the first and last MiB of each file do."""


def fingerprint(files: Sequence[Path]) -> Fingerprint:
    """Hash names, sizes and contents of files, in order."""
    sizes = [file.stat().st_size for file in files]
    whole = sum(sizes) <= HASH_WHOLE_BYTES
    digest = hashlib.sha256()
    for file, size in zip(files, sizes, strict=True):
        digest.update(f"{file.name}\0{size}\0".encode())
        with file.open("rb") as stream:
            if whole or size <= 2 * END_BYTES:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
            else:
                digest.update(stream.read(END_BYTES))
                stream.seek(-END_BYTES, 2)
                digest.update(stream.read(END_BYTES))
    return Fingerprint(len(files), sum(sizes), digest.hexdigest(), whole)
