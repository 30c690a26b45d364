"""How well proposals agree with labels of the same frames."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from training.data.frames import SIZE
from training.data.readers import DatasetError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from training.clips.source import ClipSource
    from training.data.frames import FrameSet
    from training.label.clips import NamedScene


class Matched(NamedTuple):
    """Labelled frames that were found among the clips.

    Attributes:
        labels: The labelled frames that were found.
        proposed: bool [n, 64, 64], what was proposed for them.
        missing: Numbers of labelled frames that were not found.
    """

    labels: FrameSet
    proposed: np.ndarray
    missing: np.ndarray


def match(
    labelled: FrameSet,
    keys: Sequence[tuple[str, int]] | None,
    scenes: Sequence[NamedScene],
    proposals: Sequence[np.ndarray],
) -> Matched:
    """Find labelled frames among the clips by their pixels, otherwise by scene and time where both know them.

    Times are the weaker witness: two files may count them from different frames, and where the pixels of any frame of a
    scene show that they do, the times of that scene say nothing.

    Args:
        labelled: Frames with labels.
        keys: Scene and time of each labelled frame, where they are known; for copies of another picture quality.
        scenes: What masks were proposed for.
        proposals: bool [T, H, W] for each scene.

    Raises:
        DatasetError: Clips of another size than labels, or none of the labelled frames among them.
    """
    size = scenes[0].scene.frames.shape[1:3]
    if size != (SIZE, SIZE):
        raise DatasetError(f"expected clips of {SIZE}x{SIZE}, as labels are, to evaluate on, found {size[0]}x{size[1]}")
    where: dict[object, tuple[int, int]] = {}
    for s, named in enumerate(scenes):
        for t, frame in enumerate(named.scene.frames):
            where[_pixels(frame)] = (s, t)
            if named.times is not None:
                where[named.name, int(named.times[t])] = (s, t)
    places = [where.get(_pixels(frame)) for frame in labelled.frames]
    if keys is not None:
        timed = [where.get(key) for key in keys]
        doubted = {
            scene for (scene, _), place, other in zip(keys, places, timed, strict=True) if place and place != other
        }
        places = [
            place or (None if scene in doubted else other)
            for (scene, _), place, other in zip(keys, places, timed, strict=True)
        ]
    found = np.array([place is not None for place in places])
    if not found.any():
        raise DatasetError(
            "expected labelled frames among the clips that were read, found none of the same time or the same pixels: "
            "read more of them (max_frames, split), or evaluate on labels of these"
        )
    proposed = np.stack([proposals[s][t] for place in places if place is not None for s, t in [place]])
    return Matched(labelled.take(found), proposed, np.flatnonzero(~found))


def find_unread(
    labelled: FrameSet,
    keys: Sequence[tuple[str, int]] | None,
    missing: np.ndarray,
    source: ClipSource,
    tracks: Sequence[int],
    unread: Container[tuple[str, int]],
) -> np.ndarray:
    """Find labelled frames in tracks that nothing was proposed for, by scene and time or by their pixels.

    Args:
        labelled: Frames with labels.
        keys: Scene and time of each labelled frame, where they are known.
        missing: int [m], which of them to look for.
        source: The clips.
        tracks: Which of its tracks to look in; they are read as far as there is anything left to look for.
        unread: Scene and time of frames of these tracks, where they are known.

    Returns:
        int, those of `missing` that are there.
    """
    found = [i for i in missing.tolist() if keys is not None and keys[i] in unread]
    sought: dict[bytes, list[int]] = {}
    for i in sorted(set(missing.tolist()) - set(found)):
        sought.setdefault(_pixels(labelled.frames[i]), []).append(i)
    for track in tracks:
        if not sought:
            break
        for frame in source.read(track, 0, source.tracks[track].n_frames):
            found += sought.pop(_pixels(frame), [])
    return np.array(sorted(found), int)


def _pixels(frame: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(frame).tobytes()).digest()
