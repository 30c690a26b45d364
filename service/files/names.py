"""What the files that are written are called."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

__all__ = ["JOURNAL", "RESULTS", "VIDEOS", "frame_name", "frame_of_video", "is_of_video", "mask_name"]

JOURNAL: Final = "segment.jsonl"
RESULTS: Final = ("masks", "overlays", "video-frames")
"""Folders beside it."""
VIDEOS: Final = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".gif"})
_DIGITS: Final = 6
_FRAME: Final = re.compile(rf"(?P<video>.+)/(?P<index>\d{{{_DIGITS},}})\.png", re.DOTALL)


def mask_name(name: str) -> str:
    """Name of a frame's mask: its own, and .png unless it has that already.

    >>> mask_name("a/b.png"), mask_name("a/b.jpg")
    ('a/b.png', 'a/b.jpg.png')
    """
    return name if PurePosixPath(name).suffix == ".png" else f"{name}.png"


def frame_name(video: str, index: int) -> str:
    """Name of a frame of a video.

    >>> frame_name("deep/clip.mp4", 12)
    'deep/clip.mp4/000012.png'
    """
    return f"{video}/{index:0{_DIGITS}}.png"


def frame_of_video(name: str) -> tuple[str, int] | None:
    """The video and the index of a frame of this name; None if no frame of a video has it.

    >>> frame_of_video("deep/clip.mp4/000012.png"), frame_of_video("deep/a.png")
    (('deep/clip.mp4', 12), None)
    """
    parts = _FRAME.fullmatch(name)
    return (parts["video"], int(parts["index"])) if parts else None


def is_of_video(name: str) -> bool:
    """Whether this is the name of a frame of a video, and not that of a picture in a folder.

    >>> is_of_video("clip.mp4/000012.png"), is_of_video("folder/000012.png")
    (True, False)
    """
    parts = frame_of_video(name)
    return parts is not None and PurePosixPath(parts[0]).suffix.lower() in VIDEOS
