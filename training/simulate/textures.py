"""Procedural surfaces: wood grain, and the bold prints and furs of toys. Arrays are float RGB 0..1, [N,N,3]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.random import Generator


def smooth_noise(rng: Generator, size: int, cell: tuple[float, float]) -> np.ndarray:
    """Noise [size,size] of about unit variance whose blots are `cell` pixels high and wide."""
    coarse = rng.standard_normal([max(2, round(size / c)) + 1 for c in cell]).astype(np.float32)
    fine: np.ndarray = np.array(Image.fromarray(coarse).resize((size, size), Image.Resampling.BICUBIC))
    even: np.ndarray = fine / max(1e-6, float(fine.std()))
    return even


def wood(
    rng: Generator, colour: tuple[float, ...] | np.ndarray, contrast: float, *, across: bool = False
) -> np.ndarray:
    """Birch: long grain, broad clouds; blue varies most, as in yellowed lacquer."""
    size = 128
    grain = (0.6 * smooth_noise(rng, size, (64, 3)) + 0.4 * smooth_noise(rng, size, (24, 2))) + 0.7 * smooth_noise(
        rng, size, (40, 40)
    )
    if across:
        grain = grain.T
    board: np.ndarray = np.asarray(colour) * (1 + contrast * 0.7 * grain[..., None] * np.array([0.8, 1.0, 1.4]))
    return board


def fur(rng: Generator, contrast: float) -> np.ndarray:
    """Grey tufts with dark gaps between them, to be multiplied by a colour."""
    size = 64
    tufts = 0.8 * smooth_noise(rng, size, (5, 5)) + 0.6 * smooth_noise(rng, size, (12, 12))
    grey = np.clip(0.92 + 0.22 * contrast * tufts, 0.15, 1)
    return np.repeat(grey[..., None], 3, 2)


def blots(rng: Generator, dark: np.ndarray, bright: np.ndarray, cell: float, share: float) -> np.ndarray:
    """Two colours with hard edges: zebra where the cell is long, cow or leopard where it is not."""
    size = 64
    stretch = rng.choice([1.0, 1.0, 2.5])
    field = smooth_noise(rng, size, (cell / stretch**0.5, cell * stretch**0.5))
    inside = (field > np.quantile(field, 1 - share))[..., None]
    soft = 1 + 0.1 * rng.standard_normal((size, size, 1))
    return np.where(inside, dark, bright) * soft


def patchwork(rng: Generator, colours: np.ndarray, count: int) -> np.ndarray:
    """Straight bands and spots of several colours, as on printed boxes and toy food."""
    size = 64
    picture = np.broadcast_to(colours[0], (size, size, 3)).copy()
    for _ in range(count):
        colour = colours[rng.integers(len(colours))]
        y, x = rng.integers(0, size, 2)
        if rng.random() < 0.5:
            picture[y : y + int(rng.integers(4, 20))] = colour
        else:
            ys, xs = np.mgrid[:size, :size]
            picture[(ys - y) ** 2 + (xs - x) ** 2 < rng.integers(4, 14) ** 2] = colour
    return picture


def to_bytes(picture: np.ndarray) -> np.ndarray:
    """A float picture 0..1 as uint8."""
    scaled: np.ndarray = np.rint(np.clip(picture, 0, 1) * 255)
    return scaled.astype(np.uint8)
