"""Opens a data set of clips, whichever of the supported forms it has, and puts its tracks on two sides."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

from training.clips.npz import find_npz
from training.clips.tfrecords import find_tfrecords
from training.clips.videos import find_videos
from training.data.readers import DatasetError

if TYPE_CHECKING:
    from pathlib import Path

    from training.clips.source import ClipSource


class Sides(NamedTuple):
    """Which tracks of a source are learnt from and which are held out; those that are too short are in neither."""

    train: list[int]
    val: list[int]
    n_short: int


def open_clips(path: Path) -> ClipSource:
    """Open a data set of clips.

    Args:
        path: TFRecord files of BAIR, `.npz` files or videos, or a folder of one of these.

    Raises:
        DatasetError: Nothing there that can be read as clips.
    """
    for find in (find_tfrecords, find_npz, find_videos):
        source = find(path)
        if source is not None:
            return source
    found = "nothing of the kind" if path.exists() else "no such file or folder"
    raise DatasetError(f"{path}: expected .tfrecords, .npz or video files, or a folder of one of these, found {found}")


def put_on_sides(source: ClipSource, n_frames: int, *, val_fraction: float, seed: int) -> Sides:
    """Follow the data set's own marks, or hold out scenes drawn by the seed.

    Marks are followed where all tracks have one, and not all are to be learnt from. Whether a scene is held out by the
    seed depends on its name, not on what else is there; where that holds out none, one is all the same.

    Raises:
        DatasetError: No track of `n_frames`, none left to learn from, or marks that put a scene on both sides.
    """
    long_enough = [i for i, track in enumerate(source.tracks) if track.n_frames >= n_frames]
    sides = Sides([], [], len(source.tracks) - len(long_enough))
    held_out = _held_out_scenes({source.tracks[i].scene for i in long_enough}, val_fraction, seed)
    marked = all(track.split for track in source.tracks) and any(track.split != "train" for track in source.tracks)
    for index in long_enough:
        track = source.tracks[index]
        in_val = track.split != "train" if marked else track.scene in held_out
        (sides.val if in_val else sides.train).append(index)
    if not sides.train:
        longest = max((track.n_frames for track in source.tracks), default=0)
        raise DatasetError(
            f"{source.path}: expected clips of {n_frames} frames to learn from, found {len(source.tracks)} tracks of "
            f"at most {longest} frames, {len(sides.val)} of them held out"
        )
    _refuse_shared(source, sides)
    return sides


def _refuse_shared(source: ClipSource, sides: Sides) -> None:
    """See that marks put no scene on both sides."""
    learnt, held = ({source.tracks[index].scene for index in side} for side in (sides.train, sides.val))
    if both := sorted(learnt & held):
        raise DatasetError(
            f"{source.path}: expected each scene on one side, found {len(both)} marked both to be learnt from and to "
            f"be held out, such as {both[0]!r}: mark all frames of a scene alike"
        )


def _held_out_scenes(scenes: set[str], val_fraction: float, seed: int) -> set[str]:
    """Scenes whose number is below the fraction; the lowest one where none is but there are others to learn from."""
    drawn = {scene: _draw(scene, seed) for scene in scenes}
    below = {scene for scene, number in drawn.items() if number < val_fraction}
    return below or (set(sorted(scenes, key=drawn.__getitem__)[:1]) if len(scenes) > 1 else set())


def _draw(scene: str, seed: int) -> float:
    """A number in [0, 1) that depends on the scene's name and the seed."""
    digest = hashlib.sha256(f"{seed}/{scene}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
