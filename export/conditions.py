"""What other cameras, copies and mountings make of a frame: fixed changes, for measuring how well a model bears them.

Training draws such changes at random (`training.data.augment`); these are single ones of a known strength, most of them
at or beyond the edge of what it draws.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from PIL import Image

from training.data import changes
from training.data.frames import SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    Change = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
    """Frame uint8 [64,64,3] and mask uint8 [64,64] of 0 and 1 -> both as they would have been."""


def in_colour(change: Callable[[np.ndarray], np.ndarray]) -> Change:
    """A change of what pixels say: float64 [64,64,3] of 0..255 -> the same, clipped."""

    def apply(frame: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.clip(np.rint(change(frame.astype(np.float64))), 0, 255).astype(np.uint8), mask

    return apply


def in_picture(change: Callable[[Image.Image], Image.Image]) -> Change:
    """A change of the picture as a whole that moves nothing."""
    return lambda frame, mask: (np.asarray(change(Image.fromarray(frame)).convert("RGB")), mask)


def from_elsewhere(*, zoom: float = 1.0, turn_deg: float = 0.0, right: float = 0.0) -> Change:
    """Another view: magnified, turned, about a point so many pixels of the frame to the right of its centre."""
    return lambda frame, mask: changes.seen(frame, mask, changes.turn_of(turn_deg) / zoom, (-right * zoom, 0.0))


def _grain(strength: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, strength, (SIZE, SIZE, 3))


CONDITIONS: Final[dict[str, Change]] = {
    "as it is": lambda frame, mask: (frame, mask),
    "out of focus, 0.6 px": in_picture(lambda picture: changes.out_of_focus(picture, 0.6)),
    "out of focus, 1 px": in_picture(lambda picture: changes.out_of_focus(picture, 1)),
    "enlarged from 44x44": in_picture(lambda picture: changes.enlarged_from(picture, 44)),
    "enlarged from 32x32": in_picture(lambda picture: changes.enlarged_from(picture, 32)),
    "JPEG, quality 30": in_picture(lambda picture: changes.as_jpeg(picture, 30)),
    "JPEG, quality 10": in_picture(lambda picture: changes.as_jpeg(picture, 10)),
    "noise, 20 grey levels": in_colour(lambda x: x + _grain(20)),
    "bright, gamma 0.5": in_colour(lambda x: 255 * (x / 255) ** 0.5),
    "dark, gamma 2": in_colour(lambda x: 255 * (x / 255) ** 2),
    "half the contrast": in_colour(lambda x: 127.5 + (x - 127.5) / 2),
    "warm light": in_colour(lambda x: x * (1.2, 1.0, 0.8)),
    "cold light": in_colour(lambda x: x * (0.8, 1.0, 1.25)),
    "no colour": in_picture(lambda picture: picture.convert("L")),
    "mirrored": lambda frame, mask: (frame[:, ::-1].copy(), mask[:, ::-1].copy()),
    "turned by 5 degrees": from_elsewhere(turn_deg=5),
    "turned by -8 degrees": from_elsewhere(turn_deg=-8),
    "from nearer, 1.3 times": from_elsewhere(zoom=1.3),
    "from further off, 0.85 times": from_elsewhere(zoom=0.85),
    "from further off, 0.7 times": from_elsewhere(zoom=0.7),
    "nearer, the left of it": from_elsewhere(zoom=1.3, right=-7),
    "nearer, the right of it": from_elsewhere(zoom=1.3, right=7),
}
"""By name, for people."""


def _plain(level: float) -> np.ndarray:
    return np.full((SIZE, SIZE, 3), level, np.uint8)


NOTHING: Final[dict[str, np.ndarray]] = {
    "black": _plain(0),
    "nearly black, noise of 4 grey levels": np.clip(np.rint(8 + _grain(4)), 0, 255).astype(np.uint8),
    "grey": _plain(128),
    "white": _plain(255),
    "noise of 60 grey levels": np.clip(np.rint(128 + _grain(60)), 0, 255).astype(np.uint8),
}
"""Frames uint8 [64,64,3] of cameras that see nothing, by name: no pixel of them is robot."""
