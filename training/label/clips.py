"""Clips as scenes for proposals: tracks of one scene together, on frames of one size."""

from __future__ import annotations

from itertools import chain, count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.data.readers import DatasetError
from training.label.motion import Scene

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from training.clips.source import ClipSource


class NamedScene(NamedTuple):
    """A scene and where its frames come from.

    Attributes:
        name: Of the scene.
        scene: Its frames.
        stems: For each frame a name of its own, which ends in its number.
        times: int [T], when each was taken, where the data set says so.
    """

    name: str
    scene: Scene
    stems: list[str]
    times: np.ndarray | None


class Reading(NamedTuple):
    """What was read of a data set, and what was not.

    Attributes:
        scenes: Of the tracks that were read.
        beyond: Tracks, by number, that were not read because they would be too many frames.
        other_splits: Tracks that were not read because they are not of the split asked for.
        n_beyond: Frames of `beyond`.
        n_frames: Frames of the split asked for, read or not.
    """

    scenes: list[NamedScene]
    beyond: list[int]
    other_splits: list[int]
    n_beyond: int
    n_frames: int


class Times(NamedTuple):
    """What a flat `.npz` file says of its frames beside their pixels.

    Attributes:
        scene: str [M].
        time: int [M].
        valid: bool [M, H, W], False where something was painted over the picture, if the file says so.
    """

    scene: np.ndarray
    time: np.ndarray
    valid: np.ndarray | None

    def keys(self) -> list[tuple[str, int]]:
        """Scene and time of each frame."""
        return list(zip(self.scene.astype(str).tolist(), self.time.tolist(), strict=True))


def read_times(path: Path) -> Times | None:
    """Scenes and times in a flat `.npz` file; none for data sets of another form."""
    if not path.is_file() or path.suffix != ".npz":
        return None
    with np.load(path, allow_pickle=False) as file:
        if not {"scene", "time"} <= set(file.files) or file["time"].shape != file["scene"].shape:
            return None
        return Times(file["scene"], file["time"], file["valid"] if "valid" in file.files else None)


def read_scenes(source: ClipSource, max_frames: int, split: str | None = None) -> Reading:
    """Read whole tracks, in order, up to `max_frames` frames; tracks of a scene share one background.

    Args:
        source: The clips.
        max_frames: Tracks are read until they would be more frames than this; one at least.
        split: Only tracks that the data set marks so; None for all.

    Raises:
        DatasetError: Frames of different sizes, or none.
    """
    marks = {track.split for track in source.tracks}
    if split is not None and split not in marks:
        raise DatasetError(
            f"{source.path}: expected tracks marked {split!r}, the data set marks {sorted(marks - {''})}"
        )
    chosen = [index for index, track in enumerate(source.tracks) if split in {None, track.split}]
    lengths = [source.tracks[index].n_frames for index in chosen]
    n_tracks = next((i for i in range(1, len(chosen)) if sum(lengths[: i + 1]) > max_frames), len(chosen))
    frames: dict[str, list[np.ndarray]] = {}
    for index in chosen[:n_tracks]:
        track = source.tracks[index]
        frames.setdefault(track.scene, []).append(np.asarray(source.read(index, 0, track.n_frames)))
    sizes = {part.shape[1:] for parts in frames.values() for part in parts}
    if len(sizes) != 1:
        raise DatasetError(f"{source.path}: expected frames of one size, found {sorted(sizes)}")
    known = read_times(source.path)
    stems = file_stems(frames)
    return Reading(
        [_named(name, stems[name], np.concatenate(parts), known) for name, parts in frames.items()],
        chosen[n_tracks:],
        sorted(set(range(len(source.tracks))) - set(chosen)),
        sum(lengths[n_tracks:]),
        sum(lengths),
    )


def unread_keys(source: ClipSource, reading: Reading, tracks: Iterable[int]) -> set[tuple[str, int]]:
    """Scene and time of the frames of tracks that were not read, where the data set says so."""
    known = read_times(source.path)
    if known is None:
        return set()
    read = {(named.name, int(t)) for named in reading.scenes if named.times is not None for t in named.times}
    scenes = {source.tracks[track].scene for track in tracks}
    return {key for key in {*known.keys()} - read if key[0] in scenes}


def file_stems(names: Iterable[str]) -> dict[str, str]:
    """For each scene what the names of its files begin with, each its own, also where capitals count for nothing.

    >>> file_stems(["day1/left", "day1-left", "Day1-left", "day2"])
    {'day1/left': 'day1-left', 'day1-left': 'day1-left-2', 'Day1-left': 'Day1-left-3', 'day2': 'day2'}
    """
    stems: dict[str, str] = {}
    taken: set[str] = set()
    for name in names:
        plain = name.replace("/", "-")
        numbered = (f"{plain}-{n}" for n in count(2))
        stems[name] = next(stem for stem in chain([plain], numbered) if stem.lower() not in taken)
        taken.add(stems[name].lower())
    return stems


def _named(name: str, stem: str, frames: np.ndarray, known: Times | None) -> NamedScene:
    valid, times = np.ones(frames.shape[:3], bool), None
    if known is not None:  # tracks are read in the order of the file
        rows = np.flatnonzero(known.scene == name)[: len(frames)]
        times = known.time[rows]
        valid = valid if known.valid is None else known.valid[rows]
    stems = [f"{stem}_{i:04d}" for i in range(len(frames))]
    return NamedScene(name, Scene(frames, valid), stems, times)
