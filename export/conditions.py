"""What other cameras, copies and mountings make of a frame: fixed changes, for measuring how well a model bears them.

Training draws such changes at random (`training.data.augment`); these are single ones of a known strength, most of them
at or beyond the edge of what it draws.
"""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image, ImageFilter

from training.data.frames import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Frame uint8 [64,64,3] and mask uint8 [64,64] of 0 and 1 -> both as they would have been."""

MARGIN: Final = 24
"""Pixels by which edges are repeated where a change looks beyond them."""


def in_colour(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """A change of what pixels say: float64 [64,64,3] of 0..255 -> the same, clipped."""

    def apply(frame: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.clip(np.rint(change(frame.astype(np.float64))), 0, 255).astype(np.uint8), mask

    return apply


def in_picture(change: Callable[[Image.Image], Image.Image]) -> Change:
    """A change of the picture as a whole that moves nothing."""
    return lambda frame, mask: (np.asarray(change(Image.fromarray(frame)).convert("RGB")), mask)


def seen(*, zoom: float = 1.0, turn_deg: float = 0.0, right: float = 0.0, down: float = 0.0) -> Change:
    """Another view: magnified about the centre, turned, and moved by so many pixels of the frame, edges repeated.

    The first row and column are cut off before they are repeated: in BAIR's pictures they are black.
    """
    turn = np.deg2rad(turn_deg)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]) / zoom
    offset = SIZE / 2 + MARGIN + np.array([right, down]) - matrix @ np.full(2, SIZE / 2)
    data = (*matrix[0], offset[0], *matrix[1], offset[1])
    pad = ((MARGIN + 1, MARGIN), (MARGIN + 1, MARGIN))

    def moved(pixels: np.ndarray, resampling: Image.Resampling) -> np.ndarray:
        picture = Image.fromarray(np.pad(pixels[1:, 1:], (*pad, *((0, 0),) * (pixels.ndim - 2)), mode="edge"))
        return np.asarray(picture.transform((SIZE, SIZE), Image.Transform.AFFINE, data, resampling))

    def apply(frame: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        soft = moved(mask * np.uint8(255), Image.Resampling.BILINEAR)
        return moved(frame, Image.Resampling.BICUBIC), (soft >= 128).astype(np.uint8)

    return apply


def _jpeg(picture: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=quality)
    return Image.open(file)


def _from_smaller(picture: Image.Image, side: int) -> Image.Image:
    small = picture.resize((side, side), Image.Resampling.BOX)
    return small.resize((SIZE, SIZE), Image.Resampling.BICUBIC)


def _grain(strength: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, strength, (SIZE, SIZE, 3))


CONDITIONS: Final[dict[str, Change]] = {
    "as it is": lambda frame, mask: (frame, mask),
    "out of focus, 0.6 px": in_picture(lambda picture: picture.filter(ImageFilter.GaussianBlur(0.6))),
    "out of focus, 1 px": in_picture(lambda picture: picture.filter(ImageFilter.GaussianBlur(1))),
    "enlarged from 44x44": in_picture(lambda picture: _from_smaller(picture, 44)),
    "enlarged from 32x32": in_picture(lambda picture: _from_smaller(picture, 32)),
    "JPEG, quality 30": in_picture(lambda picture: _jpeg(picture, 30)),
    "JPEG, quality 10": in_picture(lambda picture: _jpeg(picture, 10)),
    "noise, 20 grey levels": in_colour(lambda x: x + _grain(20)),
    "bright, gamma 0.5": in_colour(lambda x: 255 * (x / 255) ** 0.5),
    "dark, gamma 2": in_colour(lambda x: 255 * (x / 255) ** 2),
    "half the contrast": in_colour(lambda x: 127.5 + (x - 127.5) / 2),
    "warm light": in_colour(lambda x: x * (1.2, 1.0, 0.8)),
    "cold light": in_colour(lambda x: x * (0.8, 1.0, 1.25)),
    "no colour": in_picture(lambda picture: picture.convert("L")),
    "mirrored": lambda frame, mask: (frame[:, ::-1].copy(), mask[:, ::-1].copy()),
    "turned by 5 degrees": seen(turn_deg=5),
    "turned by -8 degrees": seen(turn_deg=-8),
    "from nearer, 1.3 times": seen(zoom=1.3),
    "from further off, 0.85 times": seen(zoom=0.85),
    "from further off, 0.7 times": seen(zoom=0.7),
    "nearer, the left of it": seen(zoom=1.3, right=-7),
    "nearer, the right of it": seen(zoom=1.3, right=7),
}
"""By name, for people."""
