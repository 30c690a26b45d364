"""Pictures averaged over areas, as the service averages what it is sent.

Pillow's BOX filter counts a pixel in whole or not at all, by its centre: from 100x100 to 64x64 that is off by 8 grey
levels (rms). Here a pixel that lies on an edge between two cells counts for both, each with its part.
"""

from __future__ import annotations

import math

import numpy as np
from PIL import Image

__all__ = ["area_average"]


def area_average(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """Divide a picture uint8 [H,W] or [H,W,3] evenly into cells and average each: float32 [height,width] or with 3.

    Along a side that has fewer pixels than cells, pixels are interpolated first.
    """
    finer_y, finer_x = math.ceil(height / picture.shape[0]), math.ceil(width / picture.shape[1])
    if (finer_y, finer_x) != (1, 1):
        size = picture.shape[1] * finer_x, picture.shape[0] * finer_y
        picture = np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))
    lines = np.tensordot(_shares(picture.shape[0], height), picture.astype(np.float32), axes=1)
    cells = np.tensordot(_shares(picture.shape[1], width), lines, axes=(1, 1))
    return np.ascontiguousarray(np.moveaxis(cells, 0, 1))


def _shares(pixels: int, cells: int) -> np.ndarray:
    """Which share of each cell each pixel is: float32 [cells,pixels]."""
    bounds = np.linspace(0, pixels, cells + 1)[:, None]
    pixel = np.arange(pixels)
    overlap = np.minimum(bounds[1:], pixel + 1) - np.maximum(bounds[:-1], pixel)
    return np.asarray(np.maximum(overlap, 0) * (cells / pixels), np.float32)
