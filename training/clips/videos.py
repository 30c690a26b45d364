"""Clips from folders of videos, decoded by FFmpeg through PyAV.

A video's packets are listed once, without decoding, to learn how many frames it has; a stretch is read by going to the
last key frame before it. Each video is a scene, named by its place in the folder.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import av
import numpy as np

from training.clips.source import Track
from training.data.readers import DatasetError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from training.clips.source import ClipSource

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
        wanted = set(times[start : start + n_frames])
        frames = []
        with av.open(file) as container:
            stream = container.streams.video[0]
            container.seek(times[start], stream=stream)
            for frame in container.decode(stream):
                if frame.pts in wanted:
                    # Upright, as a player shows it: phones film lying down and say by how much to turn.
                    frames.append(np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90)))
                if len(frames) == n_frames:
                    return np.stack(frames)
        raise DatasetError(
            f"{file}: expected {n_frames} frames from frame {start} on, found {len(frames)}: is the file whole?"
        )


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
