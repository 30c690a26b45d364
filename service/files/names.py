"""What the files that are written are called."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Final

__all__ = ["JOURNAL", "RESULTS", "mask_name"]

JOURNAL: Final = "segment.jsonl"
RESULTS: Final = ("masks", "overlays")
"""Folders beside it."""


def mask_name(name: str) -> str:
    """Name of a frame's mask: its own, and .png unless it has that already.

    >>> mask_name("a/b.png"), mask_name("a/b.jpg")
    ('a/b.png', 'a/b.jpg.png')
    """
    return name if PurePosixPath(name).suffix == ".png" else f"{name}.png"
