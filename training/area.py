"""Pictures averaged over areas, as the service averages what it is sent.

Pillow's BOX filter counts a pixel in whole or not at all, by its centre: from 100x100 to 64x64 that is off by 8 grey
levels (rms). Here a pixel that lies on an edge between two cells counts for both, each with its part. What the service
does besides, interpolate frames smaller than 64x64, is left out: labels would have to be interpolated as well.
"""

from __future__ import annotations

import numpy as np

__all__ = ["area_average"]


def area_average(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Divide a picture [H,W] or [H,W,C] evenly into cells and average each: float32 [height,width] or with C."""
    lines = np.tensordot(_shares(picture.shape[0], height), picture.astype(np.float32), axes=1)
    cells = np.tensordot(_shares(picture.shape[1], width), lines, axes=(1, 1))
    return np.ascontiguousarray(np.moveaxis(cells, 0, 1))


def _shares(pixels: int, cells: int) -> np.ndarray:
    """Which share of each cell each pixel is: float32 [cells,pixels]."""
    bounds = np.linspace(0, pixels, cells + 1)[:, None]
    pixel = np.arange(pixels)
    overlap = np.minimum(bounds[1:], pixel + 1) - np.maximum(bounds[:-1], pixel)
    return np.asarray(np.maximum(overlap, 0) * (cells / pixels), np.float32)
