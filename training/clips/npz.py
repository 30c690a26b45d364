"""Clips in `.npz` files, or in folders of them.

Two forms, which a folder may mix:

* clips: `frames` uint8 [N, T, H, W, 3] and, if known, `scene` and `split` str [N];
* flat: `frames` uint8 [M, H, W, 3] with `scene` str [M] and `time` int [M]; frames of one scene whose times follow one
  another without a gap make a track. `split` str [M] and `valid` bool [M, H, W] may stand beside them; pixels that are
  not valid (something was painted over the picture) take the colour of the nearest valid ones in their column.

Arrays that were saved without compression are mapped, not loaded; compressed files are decompressed one at a time and
the last few are kept.
"""

from __future__ import annotations

import itertools
import struct
import zipfile
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from training.clips.source import Recent, Track
from training.data.readers import DatasetError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from training.clips.source import ClipSource

OPEN_FILES = 5
"""Decompressed files that are kept at once: one more than the shuffled order walks through together."""


class NpzClips:
    """Tracks of one or several `.npz` files.

    Raises:
        DatasetError: A file of neither form.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        self.files = tuple(files)
        self.tracks: list[Track] = []
        self._first_rows: list[int] = []
        for shard, file in enumerate(self.files):
            for first_row, track in _tracks(file, shard):
                self._first_rows.append(first_row)
                self.tracks.append(track)
        self._open: Recent[int, np.ndarray] = Recent(lambda shard: _frames(self.files[shard]), OPEN_FILES)

    def read(self, track: int, start: int, n_frames: int) -> np.ndarray:
        """Frames of a track, RGB uint8 [T, H, W, 3]."""
        first = self._first_rows[track] + start
        return self._open[self.tracks[track].shard][first : first + n_frames]


def _tracks(file: Path, shard: int) -> list[tuple[int, Track]]:
    """The first row and the description of every track in a file; pixels are not read."""
    with _load(file) as content:
        names = set(content.files)
        shape = _frames_shape(content, file)
        n = shape[0]
        scene = _labels(content, "scene", n, file)
        split = _labels(content, "split", n, file)
        splits = np.full(n, "") if split is None else split
        if len(shape) == 5:
            scenes = np.array([f"{file.stem}/{i}" for i in range(n)]) if scene is None else scene
            return [(i * shape[1], Track(shard, shape[1], str(scenes[i]), str(splits[i]))) for i in range(n)]
        if scene is None or "time" not in names:
            raise DatasetError(
                f"{file}: frames {list(shape)} are not yet clips: expected 'scene' and 'time' beside them, "
                f"found {sorted(names)}"
            )
        time = content["time"]
    if time.shape != (n,):
        raise DatasetError(f"{file}: expected time [{n}], found {list(time.shape)}")
    follows = (scene[1:] == scene[:-1]) & (splits[1:] == splits[:-1]) & (time[1:] == time[:-1] + 1)
    starts = np.concatenate([[0], np.flatnonzero(~follows) + 1, [n]]).tolist() if n else [0]
    return [(a, Track(shard, b - a, str(scene[a]), str(splits[a]))) for a, b in itertools.pairwise(starts)]


def _frames(file: Path) -> np.ndarray:
    """All frames of a file, uint8 [rows, H, W, 3]; not loaded where they can be mapped."""
    with _load(file) as content:
        if "valid" in content.files:
            frames, valid = content["frames"], content["valid"]
            if valid.shape != frames.shape[:-1] or valid.dtype != np.bool_:
                raise DatasetError(
                    f"{file}: expected valid bool {list(frames.shape[:-1])}, found {valid.dtype} {list(valid.shape)}"
                )
            return fill_columns(frames.reshape(-1, *frames.shape[-3:]), valid.reshape(-1, *valid.shape[-2:]))
    mapped = _mapped(file, "frames.npy")
    if mapped is None:
        with _load(file) as content:
            mapped = content["frames"]
    return mapped.reshape(-1, *mapped.shape[-3:])


def fill_columns(frames: np.ndarray, valid: np.ndarray) -> np.ndarray:
    """Give pixels that are not valid the colour of the nearest valid one in their column; of two, the upper.

    Args:
        frames: uint8 [N, H, W, 3].
        valid: bool [N, H, W]; columns without any valid pixel keep what they have.

    >>> fill_columns(np.array([[[[9]], [[7]], [[5]]]], np.uint8), np.array([[[False], [False], [True]]])).ravel()
    array([5, 5, 5], dtype=uint8)
    """
    frames = frames.copy()
    rows = np.arange(frames.shape[1])
    for i in np.flatnonzero(~valid.all((1, 2))):
        for column in np.flatnonzero(~valid[i].all(0) & valid[i].any(0)):
            good = np.flatnonzero(valid[i, :, column])
            nearest = good[np.abs(rows[:, None] - good).argmin(1)]
            frames[i, :, column] = frames[i, nearest, column]
    return frames


@contextmanager
def _load(file: Path) -> Iterator[np.lib.npyio.NpzFile]:
    """Open a file; arrays are read when they are asked for, and may turn out to be damaged as late as that."""
    try:
        content = np.load(file, allow_pickle=False)
        if isinstance(content, np.lib.npyio.NpzFile):
            with content:
                yield content
            return
    except DatasetError:
        raise
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise DatasetError(f"{file}: expected an .npz file of arrays that is whole, found {error}") from error
    raise DatasetError(f"{file}: expected an .npz file of arrays, found a single array")


def _frames_shape(content: np.lib.npyio.NpzFile, file: Path) -> tuple[int, ...]:
    """Shape of the frames, from the array's header alone."""
    if "frames" not in content.files:
        raise DatasetError(f"{file}: expected an array 'frames', found {content.files}")
    with zipfile.ZipFile(file) as archive, archive.open("frames.npy") as member:
        version = np.lib.format.read_magic(member)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read_header(member)
    if len(shape) not in (4, 5) or shape[-1] != 3 or dtype != np.uint8:
        raise DatasetError(
            f"{file}: expected frames uint8 [N,T,H,W,3], or [M,H,W,3] with 'scene' and 'time', "
            f"found {dtype} {list(shape)}"
        )
    return tuple(shape)


def _labels(content: np.lib.npyio.NpzFile, name: str, n: int, file: Path) -> np.ndarray | None:
    """An array of n strings, if there is one."""
    if name not in content.files:
        return None
    values = content[name].astype(str)
    if values.shape != (n,):
        raise DatasetError(f"{file}: expected {name} [{n}], one for each row of frames, found {list(values.shape)}")
    return np.asarray(values)


def _mapped(file: Path, member: str) -> np.ndarray | None:
    """Map an array that the archive holds uncompressed and in row order; none where it does not."""
    with zipfile.ZipFile(file) as archive:
        info = archive.getinfo(member)
    if info.compress_type != zipfile.ZIP_STORED:
        return None
    with file.open("rb") as stream:
        stream.seek(info.header_offset + 26)  # of the local header: lengths of the name and of the extra field
        name_length, extra_length = struct.unpack("<HH", stream.read(4))
        stream.seek(name_length + extra_length, 1)
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran_order, dtype = read_header(stream)
        if fortran_order:
            return None
        return np.memmap(file, dtype, "r", stream.tell(), shape)


def find_npz(path: Path) -> ClipSource | None:
    """The clips of an `.npz` file or of a folder of them; none where there is no such file."""
    if path.is_file() and path.suffix == ".npz":
        return NpzClips(path, [path])
    shards = sorted(path.glob("*.npz")) if path.is_dir() else []
    return NpzClips(path, shards) if shards else None
