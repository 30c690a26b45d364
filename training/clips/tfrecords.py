"""The clips of BAIR Robot Pushing, read from its own files without TensorFlow.

Ebert et al. 2017, "Self-Supervised Visual Planning with Temporal Skip Connections", `softmotion30_44k`: TFRecord files
of `tf.train.Example`; each example has 30 frames of two cameras as features `0/image_aux1/encoded` ..
`29/image_main/encoded`, which, whatever their name says, are raw RGB bytes of 64x64x3.

A TFRecord file is a row of records: length uint64, its masked CRC32C, data, its masked CRC32C. Walking over the
lengths gives every record's place without reading pixels, so records can be read in any order.
"""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, NamedTuple

import crc32c
import numpy as np
from google.protobuf.message import DecodeError
from tfrecord import example_pb2

from training.clips.source import Track
from training.data.readers import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.clips.source import ClipSource

SIZE = 64
FRAME_BYTES = SIZE * SIZE * 3
CAMERAS = ("image_aux1", "image_main")
SIDES = {"train": "train", "test": "val"}
"""The data set's own folders, and the sides of a split that they stand for."""


class _Record(NamedTuple):
    """Where one record's data is."""

    file: int
    offset: int
    n_bytes: int


class TFRecordClips:
    """Tracks of TFRecord files: one for each record and camera. A file's records count as one scene.

    Neighbouring records show the same toys in the same places, so a split by record would not be one by scene.

    Raises:
        DatasetError: A file that is no TFRecord file, or holds other examples.
    """

    def __init__(self, path: Path, files: Sequence[Path], cameras: Sequence[str] = CAMERAS) -> None:
        self.path = path
        self.files = tuple(files)
        self.tracks: list[Track] = []
        self._records: list[tuple[_Record, str]] = []
        for shard, file in enumerate(self.files):
            records = [_Record(shard, offset, n_bytes) for offset, n_bytes in index_records(file)]
            if not records:
                continue
            lengths = camera_lengths(read_record(file, *records[0][1:]))
            if not lengths:
                raise DatasetError(f"{file}: expected features such as '0/{CAMERAS[0]}/encoded', found none")
            side = SIDES.get(file.parent.name, "")
            for camera in (camera for camera in cameras if camera in lengths):
                track = Track(shard, lengths[camera], f"{side}/{file.stem}", side)
                self._records += [(record, camera) for record in records]
                self.tracks += [track] * len(records)

    def read(self, track: int, start: int, n_frames: int) -> np.ndarray:
        """Frames of a track, RGB uint8 [T, 64, 64, 3]."""
        record, camera = self._records[track]
        file = self.files[record.file]
        example = read_record(file, record.offset, record.n_bytes)
        frames = [_frame(example, f"{t}/{camera}/encoded", file) for t in range(start, start + n_frames)]
        return np.stack(frames)


def index_records(file: Path) -> list[tuple[int, int]]:
    """Offset and number of bytes of every record's data.

    Raises:
        DatasetError: A record that is cut off, or a length whose checksum is wrong.
    """
    end = file.stat().st_size
    places = []
    with file.open("rb") as stream:
        offset = 0
        while offset < end:
            stream.seek(offset)
            header = stream.read(12)
            if len(header) < 12 or not _intact(header[:8], header[8:]):
                raise DatasetError(
                    f"{file}: expected a TFRecord at byte {offset}, found something else: is the file whole, "
                    "unpacked, and not compressed?"
                )
            n_bytes: int = struct.unpack("<Q", header[:8])[0]
            if offset + 16 + n_bytes > end:
                raise DatasetError(
                    f"{file}: expected a record of {n_bytes} bytes at byte {offset}, found the end of the file after "
                    f"{end - offset}: unpack or copy it again"
                )
            places.append((offset + 12, n_bytes))
            offset += 16 + n_bytes
    return places


def read_record(file: Path, offset: int, n_bytes: int) -> example_pb2.Example:
    """Read one record.

    Raises:
        DatasetError: Its checksum is wrong, or it is no `tf.train.Example`.
    """
    with file.open("rb") as stream:
        stream.seek(offset)
        data, checksum = stream.read(n_bytes), stream.read(4)
    if not _intact(data, checksum):
        raise DatasetError(f"{file}: the record at byte {offset} does not match its checksum: copy the file again")
    try:
        return example_pb2.Example.FromString(data)
    except DecodeError as error:
        raise DatasetError(f"{file}: expected a tf.train.Example at byte {offset}, found {error}") from error


def camera_lengths(example: example_pb2.Example) -> dict[str, int]:
    """How many consecutive frames, from 0, an example has of each camera."""
    times: dict[str, set[int]] = {}
    for name in example.features.feature:
        if found := re.fullmatch(r"(\d+)/(\w+)/encoded", name):
            times.setdefault(found[2], set()).add(int(found[1]))
    return {camera: next(t for t in range(len(seen) + 1) if t not in seen) for camera, seen in times.items()}


def _frame(example: example_pb2.Example, name: str, file: Path) -> np.ndarray:
    """One frame uint8 [64, 64, 3]."""
    if name not in example.features.feature:
        raise DatasetError(f"{file}: expected a feature {name!r} in every record, found one without")
    values = example.features.feature[name].bytes_list.value
    if len(values) != 1 or len(values[0]) != FRAME_BYTES:
        raise DatasetError(
            f"{file}: expected {name!r} to be {FRAME_BYTES} bytes of {SIZE}x{SIZE}x3, "
            f"found {[len(value) for value in values]}"
        )
    return np.frombuffer(values[0], np.uint8).reshape(SIZE, SIZE, 3)


def _intact(data: bytes, checksum: bytes) -> bool:
    """Whether data matches its masked CRC32C, as TFRecord files write it."""
    crc = crc32c.crc32c(data)
    masked = (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF
    return checksum == struct.pack("<I", masked)


def find_tfrecords(path: Path) -> ClipSource | None:
    """The clips of a `.tfrecords` file, of a folder of them, or of the folder that holds `train` and `test`."""
    if path.is_file() and path.suffix in {".tfrecords", ".tfrecord"}:
        return TFRecordClips(path, [path])
    files = sorted(path.rglob("*.tfrecord*")) if path.is_dir() else []
    return TFRecordClips(path, files) if files else None
