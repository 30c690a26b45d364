"""Area averages: every cell of the model's 64x64 is the mean of just that part of the frame that it covers.

Pillow's BOX filter counts a pixel in whole or not at all, by its centre: where a cell is a few pixels wide, its edges
are then wrong by up to half a pixel. Here a pixel that lies on an edge counts for both cells, each with its part.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from service.contract import FRAME_SIZE

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

__all__ = ["area_average", "averages"]

_FINE: Final = 5
"""So many pixels a cell are left when whole blocks of pixels have been averaged first, which is quicker."""


class _Shares(NamedTuple):
    """What each cell along one side is the mean of.

    Attributes:
        pixels: The pixels that it covers: [cells,most pixels of one cell]; unused places name any pixel.
        weights: Each one's share of the cell, 0..1; together 1, less where the cell reaches out of the frame.
    """

    pixels: NDArray[np.intp]
    weights: NDArray[np.float32]


def area_average(image: Image.Image, box: tuple[int, int, int, int], outside: int) -> NDArray[np.uint8]:
    """Average a rectangle of an RGB image: uint8 [64,64,3].

    Args:
        image: The frame.
        box: Left, top, right and bottom of the rectangle, in pixels; it may reach beyond the frame.
        outside: The grey of what lies beyond, 0..255.
    """
    left, top, right, bottom = box
    seen = max(0, left), max(0, top), min(image.width, right), min(image.height, bottom)
    blocks = _block(right - left), _block(bottom - top)
    if blocks != (1, 1) or seen != (0, 0, *image.size):
        image = image.reduce(blocks, seen)
    pixels = np.asarray(image)
    height, width, channels = pixels.shape
    down = _shares(top - seen[1], bottom - seen[1], FRAME_SIZE, seen[3] - seen[1], blocks[1])
    across = _shares(left - seen[0], right - seen[0], FRAME_SIZE, seen[2] - seen[0], blocks[0])
    lines = _mean(pixels.reshape(height, width * channels), down)
    columns = np.ascontiguousarray(lines.reshape(FRAME_SIZE, width, channels).swapaxes(0, 1))
    cells = _mean(columns.reshape(width, FRAME_SIZE * channels), across).reshape(FRAME_SIZE, FRAME_SIZE, channels)
    if box != seen:
        beyond = 1 - np.outer(across.weights.sum(axis=1), down.weights.sum(axis=1))
        cells += outside * beyond[..., None]
    np.rint(cells, out=cells)
    return cells.swapaxes(0, 1).astype(np.uint8, order="C")


def averages(rows: NDArray[np.float32], start: float, stop: float, count: int) -> NDArray[np.float32]:
    """Divide the rows from `start` to `stop` evenly and average each part: [rows,columns] -> [count,columns]."""
    return _mean(rows, _shares(start, stop, count, len(rows)))


def _block(pixels: int) -> int:
    return max(1, pixels // (FRAME_SIZE * _FINE))


@lru_cache(maxsize=256)
def _shares(start: float, stop: float, cells: int, pixels: int, block: int = 1) -> _Shares:
    """Shares of cells that divide `start` to `stop`, where pixels 0 to `pixels` are, averaged in blocks."""
    edges = np.minimum(np.arange(0, pixels + block, block), pixels)
    bounds = np.linspace(start, stop, cells + 1)
    lower, upper = bounds[:-1, None], bounds[1:, None]
    end = len(edges) - 2
    first = np.clip(np.searchsorted(edges, lower, side="right") - 1, 0, end)
    last = np.clip(np.searchsorted(edges, upper, side="left") - 1, 0, end)
    each = first + np.arange(int((last - first).max()) + 1)
    pixel = np.minimum(each, end)
    overlap = np.minimum(edges[pixel + 1], upper) - np.maximum(edges[pixel], lower)
    overlap = np.where(each <= last, np.maximum(overlap, 0), 0)
    return _Shares(pixel, (overlap * (cells / (stop - start))).astype(np.float32))


def _mean(rows: NDArray[np.uint8] | NDArray[np.float32], shares: _Shares) -> NDArray[np.float32]:
    """Weighted means of rows: [pixels,any] -> [cells,any]."""
    pixels, weights = shares
    total = rows[pixels[:, 0]] * weights[:, :1]
    for place in range(1, pixels.shape[1]):
        total += rows[pixels[:, place]] * weights[:, place : place + 1]
    return total
