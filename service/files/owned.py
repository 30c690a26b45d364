"""What robomask has not written is left alone, and what a person has changed since."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from service.files.errors import FrameFailed, NotOurs
from service.files.names import frame_of_video, mask_name
from service.files.whole import is_there
from service.frames.masks import describe
from service.frames.patch import Patch

if TYPE_CHECKING:
    from collections.abc import Sequence
    from collections.abc import Set as AbstractSet
    from pathlib import Path

    from service.files.journal import Entry
    from service.files.results import Writing
    from service.files.sources import Source

__all__ = ["refuse_other_annotations", "refuse_other_results", "refuse_results"]

_EXPECTED: Final = "expected no file but what robomask segment has written, found another"
_ADVICE: Final = "move it, or give another --out"


def refuse_results(sources: Sequence[Source], writing: Writing) -> None:
    """See that there are no results where no run has written any, before one begins.

    Args:
        sources: What is to be segmented.
        writing: What is to be written of it.

    Raises:
        NotOurs: There is a mask or an overlay.
    """
    for source in sources:
        for folder in writing.folders:
            for file in _there(source, folder):
                raise NotOurs(f"{file}: {_EXPECTED}; {_ADVICE}")


def refuse_other_results(name: str, writing: Writing, before: Entry | None) -> None:
    """See that what was prepared of a frame does not take the place of somebody's work.

    Args:
        name: The frame's name.
        writing: What was prepared of it.
        before: What was found in the frame when it was done before, in an earlier picture of its name perhaps.

    Raises:
        FrameFailed: A mask, an overlay or a picture is there that is neither the same nor the one from before.
    """
    mask = None if writing.masks is None else writing.masks / mask_name(name)
    for file in writing.files_of(name):
        if not file.exists() or is_there(file):  # the same: the journal may have lost what was written last
            continue
        if before is None:
            raise FrameFailed(f"{file}: {_EXPECTED}; {_ADVICE}")
        if file == mask and not _shows(file, before):
            raise FrameFailed(f"{file}: expected the mask as it was written, found one changed since; {_ADVICE}")


def refuse_other_annotations(path: Path, written: AbstractSet[str]) -> None:
    """See that no COCO file takes the place of somebody's work.

    Args:
        path: The file.
        written: SHA-256 of those that robomask has written.

    Raises:
        NotOurs: There is another one.
    """
    if path.exists() and hashlib.sha256(path.read_bytes()).hexdigest() not in written:
        raise NotOurs(
            f"{path}: expected annotations as robomask segment has written them, found others, which somebody may have "
            f"corrected; {_ADVICE}"
        )


def _there(source: Source, folder: Path) -> list[Path]:
    """The results of a source that are in a folder."""
    if source.is_video:
        frames = sorted((folder / source.name).glob("*.png"))
        return [file for file in frames if frame_of_video(f"{source.name}/{file.name}")]
    file = folder / mask_name(source.name)
    return [file] if file.exists() else []


def _shows(file: Path, entry: Entry) -> bool:
    """Whether a mask is as it was written."""
    try:
        pixels = np.asarray(Image.open(file))
    except (OSError, SyntaxError, ValueError):  # Pillow's, of what is no picture
        return False
    if pixels.shape != entry.size or not np.isin(pixels, (0, 255)).all():
        return False
    return describe(Patch.of((pixels == 255).astype(np.uint8))).mask["counts"] == entry.counts
