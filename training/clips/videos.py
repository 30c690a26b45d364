"""Clips from folders of videos, decoded by FFmpeg through PyAV.

A video's packets are listed once, without decoding, to learn how many frames it has; a stretch is read by going to the
last key frame before it, further back where that does not give the whole of it. Each video is a scene, named by its
place in the folder.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import av
import numpy as np

from training.clips.source import Track
from training.data.readers import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.clips.source import ClipSource

_STEP_BACK = 8
"""Frames. FFmpeg may land behind the time that it was told, or at a frame that needs others before it: a stretch that
is not found whole is looked for from so many frames before it, then from four times as many."""
_REORDERED = 16
"""So many frames may be stored between one and the next that is shown, as H.264 and HEVC limit it."""

ENDINGS = (".mp4", ".mkv", ".mov", ".avi", ".webm", ".gif")


class VideoClips:
    """Tracks of videos, one each.

    Raises:
        DatasetError: A file that FFmpeg cannot read as a video.
    """

    def __init__(self, path: Path, files: Sequence[Path]) -> None:
        self.path = path
        self.files = tuple(files)
        self._times = [presentation_times(file) for file in self.files]
        self.tracks = [
            Track(shard, len(times), _scene_of(path, file), "")
            for shard, (file, times) in enumerate(zip(self.files, self._times, strict=True))
        ]

    def read(self, track: int, start: int, n_frames: int) -> np.ndarray:
        """Frames of a track, RGB uint8 [T, H, W, 3]."""
        file, times = self.files[track], self._times[track]
        wanted = times[start : start + n_frames]
        enough = times[min(start + n_frames + _REORDERED, len(times)) - 1]
        back = 0
        while True:
            first = max(0, start - back)
            frames = _frames_at(file, wanted, times[first] if first else None, enough)
            if frames is None:
                frames, first = _frames_by_count(file, start, n_frames), 0
            if len(frames) == n_frames:
                return np.stack(frames)
            if not first:
                raise DatasetError(
                    f"{file}: expected {n_frames} frames from frame {start} on, found {len(frames)}: is the file whole?"
                )
            back = max(_STEP_BACK, 4 * back)


def _frames_at(file: Path, times: Sequence[int], begin: int | None, end: int) -> list[np.ndarray] | None:
    """The frames shown at these times, in order, as far as decoding from `begin` to `end` finds them: RGB [H,W,3].

    Returns:
        None if the file's times cannot be right, as they go back: H.264 in AVI says when a frame is decoded, not shown.
    """
    wanted, frames = set(times), []
    with av.open(file) as container:
        stream = container.streams.video[0]
        if begin is not None:
            container.seek(begin, stream=stream)
        before = None
        for frame in container.decode(stream):
            if frame.pts is None:
                continue
            if before is not None and frame.pts < before:
                return None
            before = frame.pts
            if frame.pts in wanted:
                frames.append(_upright(frame))
            if len(frames) == len(wanted) or frame.pts > end:
                break
    return frames


def _frames_by_count(file: Path, start: int, n_frames: int) -> list[np.ndarray]:
    """As many frames as there are of a stretch, decoded from the file's first on: RGB uint8 [H,W,3]."""
    with av.open(file) as container:
        frames = container.decode(container.streams.video[0])
        return [_upright(frame) for frame in itertools.islice(frames, start, start + n_frames)]


def _upright(frame: av.VideoFrame) -> np.ndarray:
    """Pixels as a player shows them: phones film lying down and say by how much to turn. RGB uint8 [H,W,3]."""
    return np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))


def _scene_of(path: Path, file: Path) -> str:
    return file.stem if file == path else file.relative_to(path).with_suffix("").as_posix()


def presentation_times(file: Path) -> list[int]:
    """When each frame of a video is shown, in its own unit of time, in order.

    Raises:
        DatasetError: FFmpeg cannot read it, or it has no video.
    """
    try:
        with av.open(file) as container:
            if not container.streams.video:
                raise DatasetError(f"{file}: expected a video, found a file without pictures")
            stream = container.streams.video[0]
            return sorted({packet.pts for packet in container.demux(stream) if packet.pts is not None})
    except av.FFmpegError as error:
        raise DatasetError(f"{file}: expected a video that FFmpeg reads, found {error}") from error


def find_videos(path: Path) -> ClipSource | None:
    """The clips of a video or of a folder of videos; none where there is none."""
    if path.is_file() and path.suffix.lower() in ENDINGS:
        return VideoClips(path, [path])
    files = sorted(f for f in path.rglob("*") if f.suffix.lower() in ENDINGS) if path.is_dir() else []
    return VideoClips(path, files) if files else None
