"""What cameras, mountings and files do to a picture, each with its strength given: nothing here is drawn at random.

Training draws strengths (`training.data.augment`, `training.simulate.camera_effects`), measuring fixes them
(`export.conditions`).
"""

from __future__ import annotations

import io
from typing import Final

import numpy as np
from PIL import Image, ImageFilter

from training.data.frames import SIZE

MARGIN: Final = 24
"""Pixels of edge replication around a frame, so that shifts and turns hardly ever show an empty corner."""


def seen(
    frame: np.ndarray, mask: np.ndarray, matrix: np.ndarray, shift: np.ndarray | tuple[float, float] = (0.0, 0.0)
) -> tuple[np.ndarray, np.ndarray]:
    """A frame and its mask from another place, edges repeated.

    The first row and column are cut off before edges are replicated: in BAIR's pictures they are black.

    Args:
        frame: uint8 [64,64,3].
        mask: uint8 [64,64] of 0 and 1.
        matrix: float [2,2], maps places (x, y) of the new picture to those of the old, both measured from the centre.
        shift: Pixels (x, y) of the new picture by which all of it moves right and down.
    """
    pad = ((MARGIN + 1, MARGIN), (MARGIN + 1, MARGIN))
    wide = Image.fromarray(np.pad(frame[1:, 1:], (*pad, (0, 0)), mode="edge"))
    wide_mask = Image.fromarray(np.pad(mask[1:, 1:] * np.uint8(255), pad, mode="edge"))
    offset = SIZE / 2 + MARGIN - matrix @ (np.full(2, SIZE / 2) + shift)
    data = (*matrix[0], offset[0], *matrix[1], offset[1])
    moved = wide.transform((SIZE, SIZE), Image.Transform.AFFINE, data, Image.Resampling.BICUBIC)
    moved_mask = wide_mask.transform((SIZE, SIZE), Image.Transform.AFFINE, data, Image.Resampling.BILINEAR)
    return np.asarray(moved), (np.asarray(moved_mask) >= 128).astype(np.uint8)


def turn_of(degrees: float) -> np.ndarray:
    """The matrix [2,2] of a turn."""
    turn = np.deg2rad(degrees)
    return np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])


def black_border(picture: np.ndarray) -> np.ndarray:
    """The picture with its first row and column black, as all of BAIR's are."""
    framed = picture.copy()
    framed[0], framed[:, 0] = 0, 0
    return framed


def out_of_focus(picture: Image.Image, sigma: float) -> Image.Image:
    """Blurred by a Gaussian of so many pixels."""
    return picture.filter(ImageFilter.GaussianBlur(sigma))


def enlarged_from(picture: Image.Image, side: int) -> Image.Image:
    """As if it had been kept at `side` x `side` pixels meanwhile."""
    small = picture.resize((side, side), Image.Resampling.BOX)
    return small.resize(picture.size, Image.Resampling.BICUBIC)


def as_jpeg(picture: Image.Image, quality: int, subsampling: int = 2) -> Image.Image:
    """Through a JPEG file; `subsampling` 0, 1, 2 keeps all, half or a quarter of the colour."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return Image.open(buffer).convert("RGB")
