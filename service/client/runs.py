"""COCO's compressed run lengths -> a mask, in numpy alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["decode_runs"]


def decode_runs(counts: str, height: int, width: int) -> NDArray[np.bool_]:
    """Decode run lengths that alternate between background and mask, column by column: bool [height,width].

    Each count is written in groups of five bits, least first, as characters from '0' on; a sixth bit says that more
    follow, the highest of the last group is the sign. From the fourth on a count is the difference to the one before
    the last.

    Source: rleFrString in COCO's maskApi.c.

    >>> decode_runs("22", 2, 2).astype(int)
    array([[0, 1],
           [0, 1]])

    Raises:
        ValueError: Not run lengths, or not those of so many pixels.
    """
    try:
        groups = np.frombuffer(counts.encode("ascii"), np.uint8).astype(np.int64) - 48
    except UnicodeEncodeError as error:
        raise ValueError(f"expected COCO run lengths, got {counts[:20]!r}...") from error
    lengths = _counts(groups)
    if (lengths < 0).any() or lengths.sum() != height * width:
        raise ValueError(f"expected run lengths of {height}x{width} pixels, got {lengths.sum()}")
    values = np.zeros(len(lengths), bool)
    values[1::2] = True
    return np.repeat(values, lengths).reshape(width, height).T


def _counts(groups: NDArray[np.int64]) -> NDArray[np.int64]:
    """Groups of five bits and a flag -> counts."""
    if groups.size == 0 or (groups < 0).any() or (groups > 63).any() or groups[-1] & 32:
        raise ValueError("expected COCO run lengths, got text that is none")
    ends = np.flatnonzero((groups & 32) == 0)
    starts = np.concatenate([[0], ends[:-1] + 1])
    sizes = ends - starts + 1
    if sizes.max() > 12:
        raise ValueError("expected COCO run lengths, got a count of more than 60 bits")
    place = np.arange(len(groups)) - np.repeat(starts, sizes)
    values = np.add.reduceat((groups & 31) << (5 * place), starts)
    negative = (groups[ends] & 16) != 0
    values -= np.where(negative, 1 << (5 * sizes), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
