"""Where an enlarged mask is robot, without enlarging probabilities: only pixels between two that differ are computed.

Bilinear enlargement goes along one axis, then the other. Along the second it is linear from one row of cells to the
next, so between two rows that agree about a column every pixel of that column agrees with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["enlarged_mask"]

_MANY: Final = 8
"""From one column in so many that changes between two rows on, computing every pixel is quicker."""


def enlarged_mask(
    values: NDArray[np.float32], threshold: float, width: int, height: int, box: tuple[float, float, float, float]
) -> NDArray[np.uint8] | None:
    """What bilinear enlargement gives, decided: uint8 [height,width] of 0 and 1, 1 from the threshold on.

    Args:
        values: [rows,columns], at least two of each.
        threshold: From which value on.
        width: Of the result: not less than the columns within `box`.
        height: Of the result: not less than the rows within `box`.
        box: Left, top, right and bottom of the part that is enlarged, in columns and rows.

    Returns:
        None if so much changes that enlarging everything is quicker.
    """
    left, top, right, bottom = box
    column, across = _between(left, right, width, values.shape[1])
    row, down = _between(top, bottom, height, values.shape[0])
    values = values[row[0] : row[-1] + 2, column[0] : column[-1] + 2]  # no other cells have a part in it
    counts = np.bincount(row - row[0])  # rows of pixels between each two rows of cells
    lines = _across(values, np.bincount(column - column[0]), across)
    reach = lines >= np.float32(threshold)
    changes = reach[:-1] != reach[1:]
    # np.nonzero of so few in two dimensions takes three times as long
    cells, columns = np.divmod(np.flatnonzero(changes), width)
    if _MANY * len(cells) > changes.size:
        return None
    mask = np.repeat((reach[:-1] & reach[1:]).view(np.uint8), counts, axis=0)
    # Each change is a run of pixels in one column, empty where no row lies between the two: number them all through.
    lengths = counts[cells]
    before = np.cumsum(lengths) - lengths
    rows = np.arange(lengths.sum()) + np.repeat((np.cumsum(counts) - counts)[cells] - before, lengths)
    above, below = (np.repeat(lines[cell, columns], lengths) for cell in (cells, cells + 1))
    share = down[rows]
    inside = above * (1 - share) + below * share
    mask.reshape(-1)[rows * width + np.repeat(columns, lengths)] = inside >= np.float32(threshold)
    return mask


def _across(values: NDArray[np.float32], counts: NDArray[np.intp], share: NDArray[np.float32]) -> NDArray[np.float32]:
    """Enlarge along the rows: [rows,columns] -> [rows,pixels], so many pixels between each two columns."""
    lines = np.repeat(values[:, :-1], counts, axis=1)
    lines *= 1 - share
    further = np.repeat(values[:, 1:], counts, axis=1)
    further *= share
    lines += further
    return lines


def _between(start: float, stop: float, pixels: int, cells: int) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """For each pixel the cell whose centre lies before its own, and how far on it is to the next: 0..1.

    Beyond the outermost centres the outermost cells go on.
    """
    centres = start + (np.arange(pixels) + 0.5) * ((stop - start) / pixels) - 0.5
    centres = np.clip(centres, 0, cells - 1)
    before = np.minimum(centres.astype(np.intp), cells - 2)
    return before, (centres - before).astype(np.float32)
